"""Where the time of one LiteRT inference goes: what its profiler saw, told by operation and layer."""

from __future__ import annotations

import time
from pathlib import Path

from workers.contract import Op
from workers.runtimes.lite_rt_graph import Operation, operations
from workers.runtimes.lite_rt_kernels import Event, computed, family_of, precision_of, precision_run
from workers.runtimes.lite_rt_profiler import Tensors, compiled
from workers.runtimes.runtime import OpTimes, median_times, time_runs

#: The profiled copy is cold, however warm the model is.
_WARM_UP_RUNS = 5


def profile(artifact: Path, threads: int, xnnpack_flags: int | None, tensors: Tensors, runs: int) -> OpTimes:
    """Time the operations of a file, compiled as the one that is measured but for the profiler.

    Raises:
        UnsupportedError: this version of the wheel was not tried, or its profiler lost operations.
    """
    seen = []
    run_ms = []
    with compiled(artifact, threads, xnnpack_flags) as model:
        run = model.bound(tensors)
        time_runs(run, _WARM_UP_RUNS)
        for _ in range(runs):
            model.reset()
            began = time.perf_counter_ns()
            run()
            run_ms.append((time.perf_counter_ns() - began) / 1e6)
            seen.append(model.events())
    times = median_times([[float(event.time_us) for event in events] for events in seen])
    graph = operations(artifact.read_bytes())
    found = computed(seen[0], graph)
    fp16 = bool(xnnpack_flags)
    return OpTimes(
        method="LiteRT's own profiler, with XNNPACK's kernels in whole microseconds rounded down",
        ops=tuple(
            _op(event, time_us, None if number is None else graph[number], fp16=fp16)
            for event, time_us, number in zip(seen[0], times, found, strict=True)
        ),
        run_ms=tuple(run_ms),
    )


def _op(event: Event, time_us: float, operation: Operation | None, *, fp16: bool) -> Op:
    family = family_of(event.kernel)
    if operation is None:
        return Op(name=event.kernel, type=family, time_us=time_us, compute_unit="cpu", precision=precision_of(event))
    precision = precision_run(event, operation, forced_fp16=fp16)
    # A fused activation that has a kernel of its own is the layer's, but not the layer's multiplications again.
    macs = operation.macs if family != "Clamp" else None
    halved = operation.fp32_bytes // 2 if precision == "fp16" else 0
    return Op(
        name=event.kernel,
        type=operation.type,
        time_us=time_us,
        layers=operation.layers,
        compute_unit="cpu",
        precision=precision,
        flops=None if macs is None else 2 * macs,
        bytes=operation.bytes - halved,
    )
