"""Stand-ins of benchmark_model that a played phone can run: one that runs LiteRT, one that sleeps.

They take the real tool's flags, and print what its builds of 2025 print. What a delegate takes is the phone's
description, not the model's truth: those lines try who reads them, and nothing else.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

APPROXIMATE = (
    "Note: as the benchmark tool itself affects memory footprint, the following is only APPROXIMATE to the actual "
    "memory footprint of the model at runtime. Take the information at your discretion."
)
_FLAGS = (
    "graph num_threads num_runs min_secs max_secs warmup_runs warmup_min_secs use_xnnpack xnnpack_force_fp16 use_gpu "
    "gpu_precision_loss_allowed use_nnapi disable_nnapi_cpu nnapi_allow_fp16 external_delegate_path "
    "external_delegate_options require_full_delegation enable_op_profiling"
)

#: Reads the flags, says what the tool would run, and who would execute it.
_PROLOGUE = f"""#!/system/bin/sh
graph= num_threads=-1 num_runs=50 min_secs=1 use_gpu=false use_nnapi=false use_xnnpack=true
gpu_precision_loss_allowed=true xnnpack_force_fp16=false external_delegate_path= require_full_delegation=false
for word; do
  case $word in
    --help)
      echo "usage: benchmark_model <flags>" >&2
      for flag in {_FLAGS}; do echo "	--$flag=	optional" >&2; done
      exit 1 ;;
  esac
  flag=${{word#--}}
  value=${{flag#*=}}
  case ${{flag%%=*}} in
    graph) graph=$value ;; num_threads) num_threads=$value ;; num_runs) num_runs=$value ;;
    min_secs) min_secs=$value ;; use_gpu) use_gpu=$value ;; use_nnapi) use_nnapi=$value ;;
    use_xnnpack) use_xnnpack=$value ;; gpu_precision_loss_allowed) gpu_precision_loss_allowed=$value ;;
    xnnpack_force_fp16) xnnpack_force_fp16=$value ;; external_delegate_path) external_delegate_path=$value ;;
    require_full_delegation) require_full_delegation=$value ;;
  esac
done
# No command substitutions: each would cost a process, and racks of phones run many of these.
is() {{ case $1 in true|1) bit=1 ;; *) bit=0; return 1 ;; esac; }}
echo "INFO: STARTING!"
echo "INFO: Log parameter values verbosely: [0]"
echo "INFO: Min num runs: [$num_runs]"
echo "INFO: Min runs duration (seconds): [$min_secs]"
echo "INFO: Num threads: [$num_threads]"
echo "INFO: Graph: [$graph]"
echo "INFO: #threads used for CPU inference: [$num_threads]"
name=
if is "$use_gpu"; then
  name=GPU kind=gpu class=TfLiteGpuDelegateV2
  echo "INFO: Use gpu: [1]"
  is "$gpu_precision_loss_allowed"
  echo "INFO: Allow lower precision in gpu: [$bit]"
elif is "$use_nnapi"; then
  name=NNAPI kind=nnapi class=TfLiteNnapiDelegate
  echo "INFO: Use NNAPI: [1]"
elif [ -n "$external_delegate_path" ]; then
  name=EXTERNAL kind=external class=TfLiteQnnDelegate
  echo "INFO: External delegate path: [$external_delegate_path]"
else
  is "$use_xnnpack"
  echo "INFO: Use xnnpack: [$bit]"
  ! is "$xnnpack_force_fp16" || echo "INFO: XNNPACK force fp16: [1]"
fi
if ! [ -r "$graph" ]; then
  echo "ERROR: Could not open '$graph'."
  echo "ERROR: Failed to mmap model $graph"
  echo "ERROR: Benchmarking failed."
  exit 1
fi
echo "INFO: Loaded model $graph"
echo "INFO: Initialized TensorFlow Lite runtime."
share=missing
while read -r each takes; do [ "$each" != "$kind" ] || share=$takes; done < /fake/delegates
if [ -n "$name" ]; then
  said="Explicitly applied $name delegate, and the model graph will be"
  case $share in
    full)
      echo "VERBOSE: Replacing 64 out of 64 node(s) with delegate ($class) node, yielding 1 partitions for subgraph 0."
      echo "INFO: $said completely executed by the delegate." ;;
    partial)
      echo "VERBOSE: Replacing 48 out of 64 node(s) with delegate ($class) node, yielding 3 partitions for subgraph 0."
      echo "INFO: $said partially executed by the delegate w/ 2 delegate kernels." ;;
    none)
      echo "INFO: Though $name delegate is explicitly applied, the model graph will not be executed by the delegate." ;;
    *) echo "WARN: $name acceleration is unsupported on this platform." ;;
  esac
  if [ "$share" != full ] && is "$require_full_delegation"; then
    echo "ERROR: Disallowed CPU fallback detected."
    echo "ERROR: Benchmarking failed."
    exit 1
  fi
fi
if [ "$share" != full ]; then
  echo "INFO: Created TensorFlow Lite XNNPACK delegate for CPU."
fi
# The phone gets warm while this is there, and its process lives.
echo > /fake/busy/$$
"""

#: Its times are not measured: the run lasts as long as it was told to, and that is all.
_SLEEP = f"""
echo "INFO: Initialized session in 12.5ms."
limit="but terminate if exceeding 150 seconds."
echo "INFO: Running benchmark for at least 1 iterations and at least 0.5 seconds $limit"
echo "INFO: count=3 first=1500 curr=1010 min=1005 max=1500 avg=1171.7 std=232"
echo
echo "INFO: Running benchmark for at least $num_runs iterations and at least $min_secs seconds $limit"
sleep "$min_secs"
echo "INFO: count=$num_runs first=1004 curr=1001 min=995 max=1020 avg=1002.5 std=4 p5=996 median=1002 p95=1015"
echo
echo "INFO: Inference timings in us: Init: 12500, First inference: 1500, Warmup (avg): 1171.7, Inference (avg): 1002.5"
echo "INFO: {APPROXIMATE}"
echo "INFO: Memory footprint delta from the start of the tool (MB): init=4.1 overall=6.2"
"""


def write_sleeping(path: Path) -> Path:
    """A tool that sleeps for `--min_secs` and reports times that are always the same; costs next to nothing."""
    return _write(path, _PROLOGUE + _SLEEP)


def write_running(path: Path) -> Path:
    """A tool that runs the program in LiteRT of this Python environment, and reports what it measured."""
    # exec keeps the process: whoever kills the tool kills what runs.
    run = f'exec {shlex.quote(sys.executable)} -B -m workers.android.fake.benchmark_model "$@"\n'
    return _write(path, _PROLOGUE + run)


def _write(path: Path, script: str) -> Path:
    path.write_text(script)
    path.chmod(0o755)
    return path
