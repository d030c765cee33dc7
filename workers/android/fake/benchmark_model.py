"""What the stand-in of benchmark_model does after its first lines: run the program in LiteRT, print as the tool does.

The times are those of this host, whatever the phone is said to be.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from workers.android.fake.stand_ins import APPROXIMATE
from workers.contract import MeasureTask, Options
from workers.runtimes.runtime import LoadedModel


def main() -> int:
    """The command line of the tool; flags that change nothing here are taken and forgotten."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--graph", required=True)
    parser.add_argument("--num_threads", type=int, default=1)
    parser.add_argument("--num_runs", type=int, default=50)
    parser.add_argument("--min_secs", type=float, default=1.0)
    parser.add_argument("--max_secs", type=float, default=150.0)
    parser.add_argument("--warmup_runs", type=int, default=1)
    parser.add_argument("--warmup_min_secs", type=float, default=0.5)
    parser.add_argument("--enable_op_profiling", default="false")
    given, _ = parser.parse_known_args()

    from ai_edge_litert.interpreter import Interpreter

    before_kb = _peak_kb()
    began = time.perf_counter()
    try:
        interpreter = Interpreter(model_path=given.graph, num_threads=max(1, given.num_threads))
        interpreter.allocate_tensors()
    except (RuntimeError, ValueError) as error:
        print(f"ERROR: {str(error).splitlines()[0]}\nERROR: Benchmarking failed.")
        return 1
    random = np.random.default_rng(0)
    for tensor in interpreter.get_input_details():
        interpreter.set_tensor(tensor["index"], random.random(tensor["shape"]).astype(tensor["dtype"]))
    init_us = (time.perf_counter() - began) * 1e6
    init_kb = _peak_kb() - before_kb
    print(f"INFO: Initialized session in {init_us / 1e3:.3f}ms.")
    warm_up = _run(interpreter.invoke, given.warmup_runs, given.warmup_min_secs, given.max_secs)
    runs = _run(interpreter.invoke, given.num_runs, given.min_secs, given.max_secs)
    print(
        f"INFO: Inference timings in us: Init: {init_us:.0f}, First inference: {warm_up[0]:.0f}, "
        f"Warmup (avg): {np.mean(warm_up):g}, Inference (avg): {np.mean(runs):g}"
    )
    print(f"INFO: {APPROXIMATE}")
    overall_kb = _peak_kb() - before_kb
    print(
        "INFO: Memory footprint delta from the start of the tool (MB): "
        f"init={init_kb / 1024:.4f} overall={overall_kb / 1024:.4f}"
    )
    if given.enable_op_profiling == "true":
        _profile(given.graph, max(1, given.num_threads), given.num_runs)
    Path("/fake/busy", str(os.getpid())).unlink(missing_ok=True)
    return 0


def _run(invoke: Callable[[], None], least: int, min_s: float, max_s: float) -> list[float]:
    """One stretch of runs, and its line; microseconds of each."""
    print(
        f"INFO: Running benchmark for at least {least} iterations and at least {min_s:g} seconds but terminate if "
        f"exceeding {max_s:g} seconds."
    )
    taken: list[float] = []
    began = time.perf_counter()
    while (elapsed := time.perf_counter() - began) < max_s and (len(taken) < least or elapsed < min_s):
        start = time.perf_counter()
        invoke()
        taken.append((time.perf_counter() - start) * 1e6)
    line = f"count={len(taken)} curr={taken[-1]:.0f}"
    if len(taken) > 1:
        low, middle, high = np.percentile(taken, [5, 50, 95])
        line = (
            f"count={len(taken)} first={taken[0]:.0f} curr={taken[-1]:.0f} min={min(taken):.0f} max={max(taken):.0f} "
            f"avg={np.mean(taken):g} std={np.std(taken):.0f} p5={low:.0f} median={middle:.0f} p95={high:.0f}"
        )
    print(f"INFO: {line}\n")
    return taken


def _profile(graph: str, threads: int, runs: int) -> None:
    """The table of operations, by LiteRT's own profiler."""
    from workers.runtimes.lite_rt import LiteRt

    task = MeasureTask(
        runtime="litert",
        entry="workers.runtimes.lite_rt:LiteRt",
        format="tflite",
        recipe="original",
        model=graph,
        weights="random",
        compute_unit="cpu",
        options=Options(threads=threads),
    )
    loaded: LoadedModel = LiteRt().load(Path(graph), task)
    from ai_edge_litert.interpreter import Interpreter

    details = Interpreter(model_path=graph).get_signature_runner().get_input_details()
    inputs = {name: np.zeros(tensor["shape"], dtype=tensor["dtype"]) for name, tensor in details.items()}
    ops = loaded.profile(inputs, runs).ops
    whole_us = sum(op.time_us for op in ops) or 1.0
    print("Profiling Info for Benchmark Initialization:")
    print("Operator-wise Profiling Info for Regular Benchmark Runs:")
    print(f"{'=' * 30} Run Order {'=' * 30}")
    print("\t             [node type]\t  [first]\t [avg ms]\t     [%]\t  [cdf%]\t  [mem KB]\t[times called]\t[Name]")
    so_far_us = 0.0
    for op in ops:
        so_far_us += op.time_us
        millis = f"{op.time_us / 1e3:9.3f}"
        shares = f"{op.time_us / whole_us:8.3%}\t{so_far_us / whole_us:8.3%}"
        print(f"\t{op.type:>24}\t{millis}\t{millis}\t{shares}\t{0:10.3f}\t{1:9d}\t[{op.name}]:{0}")
    print(f"\nTimings (microseconds): count={runs} curr={whole_us:.0f} avg={whole_us:g} std=0")


def _peak_kb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    sys.exit(main())
