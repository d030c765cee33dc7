"""Outputs of benchmark tools in every form that is known: lines as the tools print them, numbers of our own."""

# ruff: noqa: E501 (tools print long lines)

from __future__ import annotations

TFLITE_2019 = """\
STARTING!
Num runs: [50]
Num threads: [2]
Graph: [/data/local/tmp/m.tflite]
Use nnapi : [0]
Use gpu : [0]
Loaded model /data/local/tmp/m.tflite
resolved reporter
Initialized session in 9.5ms
Running benchmark for at least 1 iterations and at least 0.5 seconds
count=7 first=130500 curr=65200 min=65200 max=130500 avg=77001.5 std=21000

Running benchmark for at least 50 iterations and at least 1 seconds
count=15 first=65310 curr=65400 min=65200 max=65900 avg=65432.5 std=39

Average inference timings in us: Warmup: 77001.5, Init: 9500, no stats: 65432.5
"""

TFLITE_2020 = """\
STARTING!
Log parameter values verbosely: [0]
Num threads: [4]
Graph: [m.tflite]
Loaded model m.tflite
INFO: Created TensorFlow Lite XNNPACK delegate for CPU.
The input model file size (MB): 3.6
Initialized session in 19.25ms.
Running benchmark for at least 1 iterations and at least 0.5 seconds but terminate if exceeding 150 seconds.
count=9 first=61000 curr=55900 min=54100 max=62000 avg=56600.5 std=3100

Running benchmark for at least 50 iterations and at least 1 seconds but terminate if exceeding 150 seconds.
count=50 first=57000 curr=53000 min=52900 max=59900 avg=54321.5 std=1400

Inference timings in us: Init: 19250, First inference: 61000, Warmup (avg): 56600.5, Inference (avg): 54321.5
Note: as the benchmark tool itself affects memory footprint, the following is only APPROXIMATE to the actual memory
Peak memory footprint (MB): init=6.5 overall=12.5
"""

TFLITE = """\
INFO: STARTING!
INFO: Log parameter values verbosely: [0]
INFO: Num threads: [4]
INFO: Graph: [m.tflite]
INFO: Signature to run: []
INFO: #threads used for CPU inference: [4]
INFO: Use xnnpack: [1]
INFO: Loaded model m.tflite
INFO: Initialized TensorFlow Lite runtime.
INFO: Created TensorFlow Lite XNNPACK delegate for CPU.
VERBOSE: Replacing 60 out of 64 node(s) with delegate (TfLiteXNNPackDelegate) node, yielding 3 partitions for subgraph 0.
INFO: XNNPACK delegate created.
INFO: Explicitly applied XNNPACK delegate, and the model graph will be partially executed by the delegate w/ 3 delegate kernels.
INFO: The input model file size (MB): 2.5
INFO: Initialized session in 7.003ms.
INFO: Running benchmark for at least 3 iterations and at least 0.5 seconds but terminate if exceeding 20 seconds.
INFO: count=96 first=9056 curr=5190 min=5101 max=9056 avg=5230.4 std=402 p5=5110 median=5190 p95=5420

INFO: Running benchmark for at least 5 iterations and at least 1 seconds but terminate if exceeding 20 seconds.
INFO: count=190 first=5200 curr=5210 min=5098 max=6001 avg=5219.8 std=88 p5=5120 median=5200 p95=5400

INFO: Inference timings in us: Init: 7003, First inference: 9056, Warmup (avg): 5230.4, Inference (avg): 5219.8
INFO: Note: as the benchmark tool itself affects memory footprint, the following is only APPROXIMATE to the actual memory
INFO: Memory footprint delta from the start of the tool (MB): init=8.25 overall=10.5
INFO: Overall peak memory footprint (MB) via periodic monitoring: 21.5
"""

GPU_FULL = """\
INFO: STARTING!
INFO: Use gpu: [1]
INFO: Allow lower precision in gpu: [0]
INFO: Loaded model m.tflite
INFO: Created TensorFlow Lite delegate for GPU.
INFO: GPU delegate created.
VERBOSE: Replacing 64 out of 64 node(s) with delegate (TfLiteGpuDelegateV2) node, yielding 1 partitions for subgraph 0.
INFO: Initialized OpenCL-based API.
INFO: Created 1 GPU delegate kernels.
INFO: Explicitly applied GPU delegate, and the model graph will be completely executed by the delegate.
INFO: Initialized session in 350.25ms.
INFO: count=50 first=41000 curr=8100 min=8050 max=41000 avg=9100.5 std=4000 p5=8070 median=8300 p95=8600

INFO: count=108 first=8010 curr=8020 min=7900 max=8990 avg=8120.25 std=150 p5=7950 median=8100 p95=8400

INFO: Inference timings in us: Init: 350250, First inference: 41000, Warmup (avg): 9100.5, Inference (avg): 8120.25
"""

#: NNAPI claims nodes, the tool takes it back, and XNNPACK does the work: CPU times, and exit status 0.
NNAPI_FELL_BACK = """\
INFO: STARTING!
INFO: Use NNAPI: [1]
INFO: NNAPI accelerators available: [google-edgetpu,nnapi-reference]
INFO: Created TensorFlow Lite delegate for NNAPI.
VERBOSE: Replacing 31 out of 31 node(s) with delegate (TfLiteNnapiDelegate) node, yielding 1 partitions for the whole graph.
INFO: NNAPI delegate created.
INFO: Though NNAPI delegate is explicitly applied, the model graph will not be executed by the delegate.
VERBOSE: Replacing 31 out of 31 node(s) with delegate (TfLiteXNNPackDelegate) node, yielding 1 partitions for the whole graph.
INFO: count=30 first=22000 curr=21100 min=21000 max=22000 avg=21150 std=100
INFO: count=50 first=21100 curr=21100 min=21000 max=21500 avg=21140 std=50
INFO: Inference timings in us: Init: 50000, First inference: 22000, Warmup (avg): 21150, Inference (avg): 21140
"""

NNAPI_PARTIAL = """\
INFO: Use NNAPI: [1]
VERBOSE: Replacing 6 out of 70 node(s) with delegate (TfLiteNnapiDelegate) node, yielding 5 partitions for the whole graph.
INFO: Explicitly applied NNAPI delegate, and the model graph will be partially executed by the delegate w/ 5 delegate kernels.
VERBOSE: Replacing 60 out of 66 node(s) with delegate (TfLiteXNNPackDelegate) node, yielding 5 partitions for the whole graph.
INFO: count=3 first=22000 curr=21100 min=21000 max=22000 avg=21150 std=100
INFO: count=50 first=21100 curr=21100 min=21000 max=21500 avg=21140 std=50
"""

QNN_NONE = """\
INFO: External delegate path: [/data/local/tmp/libQnnTFLiteDelegate.so]
INFO: EXTERNAL delegate created.
INFO: [Qnn Delegate] QNN delegate: 0 nodes delegated out of 47 nodes with 0 partitions.
INFO: count=3 first=22000 curr=21100 min=21000 max=22000 avg=21150 std=100
INFO: count=50 first=21100 curr=21100 min=21000 max=21500 avg=21140 std=50
"""

QNN_PARTIAL = QNN_NONE.replace("0 nodes delegated out of 47 nodes with 0", "40 nodes delegated out of 47 nodes with 2")

LITERT_2 = """\
INFO: [environment.cc:30] Creating LiteRT environment with options
INFO: [gpu_registry.cc:109] Dynamically loaded GPU accelerator(libLiteRtClGlAccelerator.so) registered.
VERBOSE: Replacing 64 out of 64 node(s) with delegate (LITERT_CL) node, yielding 1 partitions for subgraph 0.
INFO: [benchmark_litert_model.h:90]
========== BENCHMARK RESULTS ==========
INFO: [benchmark_litert_model.h:94] Model initialization: 200.5 ms
INFO: [benchmark_litert_model.h:96] Warmup (first):       60.25 ms
INFO: [benchmark_litert_model.h:98] Warmup (avg):         7.5 ms (21 runs)
INFO: [benchmark_litert_model.h:100] Inference (avg):      7.25 ms (135 runs)
INFO: [benchmark_litert_model.h:104] Inference (min):      7.0 ms
INFO: [benchmark_litert_model.h:106] Inference (max):      8.5 ms
INFO: [benchmark_litert_model.h:108] Inference (std):      0.12
INFO: [benchmark_litert_model.h:115] Throughput:           30.00 MB/s
INFO: [benchmark_litert_model.h:124]
Memory Usage:
INFO: [benchmark_litert_model.h:126] Init footprint:       63.75 MB
INFO: [benchmark_litert_model.h:128] Overall footprint:    64.50 MB
INFO: [benchmark_litert_model.h:135] Peak memory usage not available. (peak_mem_mb <= 0)
INFO: [benchmark_litert_model.h:138] ======================================
"""

_LOGCAT = "11-20 10:15:44.{at:03d}  3380  3380 I tflite  : "
#: The same from the APK: each line behind what logcat puts before it.
TFLITE_LOGCAT = "".join(
    _LOGCAT.format(at=at) + line.removeprefix("INFO: ") + "\n" for at, line in enumerate(TFLITE.splitlines())
)

OPS_OLD = """\
Profiling Info for Benchmark Initialization:
============================== Run Order ==============================
\t             [node type]\t          [start]\t  [first]\t [avg ms]\t     [%]\t  [cdf%]\t  [mem KB]\t[times called]\t[Name]
\t         AllocateTensors\t            0.000\t    0.080\t    0.040\t 100.0%\t 100.0%\t     0.000\t        2\tAllocateTensors/0

Operator-wise Profiling Info for Regular Benchmark Runs:
============================== Run Order ==============================
\t             [node type]\t          [start]\t  [first]\t [avg ms]\t     [%]\t  [cdf%]\t  [mem KB]\t[times called]\t[Name]
\t                 CONV_2D\t            0.000\t    4.300\t    4.250\t 80.107%\t 80.107%\t     0.000\t        1\t[net/conv, part 1]:0
\t                 SOFTMAX\t            4.270\t    1.150\t    1.050\t 19.893%\t100.000%\t     0.000\t        1\t[net/softmax]:1

============================== Top by Computation Time ==============================
\t             [node type]\t          [start]\t  [first]\t [avg ms]\t     [%]\t  [cdf%]\t  [mem KB]\t[times called]\t[Name]
\t                 CONV_2D\t            0.000\t    4.300\t    4.250\t 80.107%\t 80.107%\t     0.000\t        1\t[net/conv, part 1]:0

Number of nodes executed: 2
============================== Summary by node type ==============================
\t             [Node type]\t  [count]\t  [avg ms]\t    [avg %]\t    [cdf %]\t  [mem KB]\t[times called]
\t                 CONV_2D\t        1\t     4.250\t    80.107%\t    80.107%\t     0.000\t        1
\t                 SOFTMAX\t        1\t     1.050\t    19.893%\t   100.000%\t     0.000\t        1

Timings (microseconds): count=50 first=5419 curr=5300 min=5200 max=5500 avg=5300 std=20
Memory (bytes): count=0
2 nodes observed
"""

OPS_NEW = """\
INFO: Operator-wise Profiling Info for Regular Benchmark Runs:
============================== Run Order ==============================
            [node type]  [first]  [avg ms]      [%]    [cdf%]  [mem KB] [times called] [Name]
    TfLiteNnapiDelegate    3.900     4.000  60.000%   60.000%     0.000         1      []:64
RESIZE_NEAREST_NEIGHBOR    0.050     0.060   1.000%   61.000%     0.000         1      [up/resize]:38
    TfLiteNnapiDelegate    2.500     2.600  39.000%  100.000%     0.000         1      []:65

============================== Top by Computation Time ==============================
            [node type]  [first]  [avg ms]      [%]    [cdf%]  [mem KB] [times called] [Name]
    TfLiteNnapiDelegate    3.900     4.000  60.000%   60.000%     0.000         1      []:64
"""

OPS_INNER = """\
Operator-wise Profiling Info for Regular Benchmark Runs:
============================== Run Order ==============================
\t             [node type]\t  [first]\t [avg ms]\t     [%]\t  [cdf%]\t  [mem KB]\t[times called]\t[Name]
\t                QUANTIZE\t    0.010\t    0.010\t  1.000%\t  1.000%\t     0.000\t        1\t[in]:0
\t   TfLiteXNNPackDelegate\t    0.990\t    0.980\t 98.000%\t 99.000%\t     0.000\t        1\t[out]:9
\t              DEQUANTIZE\t    0.010\t    0.010\t  1.000%\t100.000%\t     0.000\t        1\t[out]:10

Timings (microseconds): count=50 first=1000 curr=1000 min=990 max=1010 avg=1000 std=2
Delegate internal:
============================== Run Order ==============================
\t             [node type]\t  [first]\t [avg ms]\t     [%]\t  [cdf%]\t  [mem KB]\t[times called]\t[Name]
\tConvolution (NHWC, F16) IGEMM\t    0.700\t    0.690\t 70.000%\t 70.000%\t     0.000\t        1\tDelegate/Convolution (NHWC, F16) IGEMM:0
\tFully Connected (NC, F16) GEMM\t    0.290\t    0.280\t 30.000%\t100.000%\t     0.000\t        1\tDelegate/Fully Connected (NC, F16) GEMM:1
"""

OPS_CSV = """\
Operator-wise Profiling Info for Regular Benchmark Runs:
============================== Run Order ==============================
node type, first, avg_ms, %, cdf%, mem KB, times called, name
CONV_2D, 4.300, 4.250125, 80.107%, 80.107%, 0, 1, [net/conv\t part 1]:0
SOFTMAX, 1.15, 1.05, 19.893%, 100%, 0, 1, [net/softmax]:1

============================== Top by Computation Time ==============================
node type, first, avg_ms, %, cdf%, mem KB, times called, name
CONV_2D, 4.300, 4.250125, 80.107%, 80.107%, 0, 1, [net/conv\t part 1]:0
"""

EXECUTORCH_OLDEST = """\
I 00:00:00.300100 executorch:executor_runner.cpp:133] Model file ./m.pte is loaded.
I 00:00:00.300200 executorch:executor_runner.cpp:142] Using method forward
I 00:00:00.437000 executorch:executor_runner.cpp:213] Method loaded.
I 00:00:00.437500 executorch:executor_runner.cpp:219] Inputs prepared.
I 00:00:00.480000 executorch:executor_runner.cpp:228] Model executed successfully.
I 00:00:00.481000 executorch:executor_runner.cpp:232] 1 outputs:
Output 0: tensor(sizes=[1, 4], [0., 1., 2., 3.])
"""

EXECUTORCH = """\
I 00:00:00.000382 executorch:cpuinfo_utils.cpp:62] Reading file /sys/devices/soc0/image_version
I 00:00:00.001397 executorch:executor_runner.cpp:204] Model file m.pte is loaded.
I 00:00:00.002272 executorch:executor_runner.cpp:271] Method loaded.
I 00:00:00.201000 executorch:executor_runner.cpp:320] Model executed successfully 20 time(s) in 190.500000 ms.
"""

EXECUTORCH_ITERATIONS = """\
I 00:00:00.000382 executorch:executor_runner.cpp:204] Resetting threadpool with num threads = 4
I 00:00:00.002272 executorch:executor_runner.cpp:271] Model loaded in 12.250000 ms.
I 00:00:00.012272 executorch:executor_runner.cpp:371] Iteration 1 of 6: 20.000000 ms
I 00:00:00.022272 executorch:executor_runner.cpp:371] Iteration 2 of 6: 11.000000 ms
I 00:00:00.032272 executorch:executor_runner.cpp:371] Iteration 3 of 6: 10.500000 ms
I 00:00:00.042272 executorch:executor_runner.cpp:371] Iteration 4 of 6: 10.250000 ms
I 00:00:00.052272 executorch:executor_runner.cpp:371] Iteration 5 of 6: 10.000000 ms
I 00:00:00.062272 executorch:executor_runner.cpp:371] Iteration 6 of 6: 10.500000 ms
I 00:00:00.201000 executorch:executor_runner.cpp:390] Model executed successfully 6 time(s) in 72.250000 ms.
"""

EXECUTORCH_QNN = """\
[INFO] [Qnn ExecuTorch]: create QNN Logger with log_level 2
I 00:00:00.214101 executorch:qnn_executor_runner.cpp:298] Start inference (0)
I 00:00:01.835706 executorch:qnn_executor_runner.cpp:298] 100 inference took 1100.500000 ms, avg 11.005000 ms
[INFO] [Qnn ExecuTorch]: Destroy Qnn backend
"""

ORT = """\
Setting intra_op_num_threads to 2
Session creation time cost: 0.25 s
First inference time cost: 180 ms
Total inference time cost: 0.5 s
Total inference requests: 5
Average inference time cost total: 100.5 ms
Total inference run time: 0.51 s
Number of inferences per second: 9.8
Avg CPU usage: 11 %
Peak working set size: 262144000 bytes
Avg CPU usage:11
Peak working set size:262144000
Runs:5
Min Latency: 0.098 s
Max Latency: 0.104 s
P50 Latency: 0.1 s
P90 Latency: 0.104 s
P95 Latency: 0.104 s
P99 Latency: 0.104 s
P999 Latency: 0.104 s
"""

ORT_2019 = """\
Total time cost:60.5
Total iterations:1000
Average time cost:60.5 ms
Min Latency is 0.058sec
Max Latency is 0.064sec
P50 Latency is 0.06sec
P90 Latency is 0.062sec
"""

ORT_PLACED = (
    """\
2026-01-08 11:14:46.904 [V:onnxruntime:, session_state.cc:1148 VerifyEachNodeIsAssignedToAnEp] Node placements
2026-01-08 11:14:46.904 [V:onnxruntime:, session_state.cc:1154 VerifyEachNodeIsAssignedToAnEp]  Node(s) placed on [CPUExecutionProvider]. Number of nodes: 10
2026-01-08 11:14:46.904 [V:onnxruntime:, session_state.cc:1154 VerifyEachNodeIsAssignedToAnEp]  Node(s) placed on [NnapiExecutionProvider]. Number of nodes: 30
"""
    + ORT
)
