"""Do we tell the same time as the runtimes' own tools? Same artifact, same threads, fresh processes in ABBA order.

LiteRT: our p50 against the median of `litert-benchmark`. ONNX Runtime: our mean against the average latency of
`onnxruntime_test`, at the threads that it takes by default (one per physical core). OpenVINO: our p50 against the
median of `benchmark_app`, told to do as we do: one synchronous request, fp32, no pinning. The ratio of medians over
processes must lie in 0.97 to 1.03.
"""

from __future__ import annotations

import json
import math
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import psutil
from common import Figure, alternate, arguments, finish, ratio_interval, say, within
from farm import benchfarm_run, command, order_for, own_environment, runner_timings

from workers.bundle import unpack
from workers.contract import Order

#: Convolutions of at least 10 ms on a present-day core, even on two of them.
MODEL = "torchvision/resnet50"
BAND = (0.97, 1.03)
#: Length of the timed part of either side.
SECONDS = 4.0
QUICK_SECONDS = 1.5


def main() -> int:
    """Convert once through the CLI, then alternate each of ours with each of theirs."""
    wanted = arguments(__doc__, alternations=10)
    seconds = QUICK_SECONDS if wanted.quick else SECONDS
    with tempfile.TemporaryDirectory(prefix="benchfarm-bench-") as folder:
        home = Path(folder)
        say(f"converting {MODEL} (half a minute)")
        options = ["--runtime", "litert", "--runtime", "onnxruntime", "--runtime", "openvino", "--recipe", "fp32"]
        rows = benchfarm_run(home, MODEL, *options, "--no-gate", "--max-seconds", "1").document["results"]
        by_runtime = {row["runtime"]: row for row in rows}
        cores = psutil.cpu_count(logical=False) or 1
        figures = [
            _litert(home, by_runtime["litert"], wanted.alternations, seconds),
            _onnxruntime(home, by_runtime["onnxruntime"], cores, wanted.alternations, seconds),
            _openvino(home, by_runtime["openvino"], wanted.alternations, seconds),
        ]
    return finish("agreement", wanted.quick, figures, model=MODEL, seconds=seconds, alternations=wanted.alternations)


def _litert(home: Path, row: dict[str, Any], alternations: int, seconds: float) -> Figure:
    order = order_for(home, row, 1, seconds)
    runs = _runs(order, seconds)

    def theirs() -> float:
        report = home / "litert.json"
        flags = {"model": order.paths["artifact"], "num_threads": 1, "num_runs": runs, "result_json": report}
        _tool(home, "litert-benchmark", *(f"--{name}={value}" for name, value in flags.items()))
        return float(json.loads(report.read_bytes())["latency"]["median_ms"])

    def ours() -> float:
        return float(runner_timings(order)["p50_ms"])

    pair = alternate(alternations, ours, theirs, "litert")
    return _compared("litert p50 / litert-benchmark median", *pair, threads=1, their_iterations=runs)


def _onnxruntime(home: Path, row: dict[str, Any], cores: int, alternations: int, seconds: float) -> Figure:
    order = order_for(home, row, cores, seconds)
    runs = _runs(order, seconds)

    def theirs() -> float:
        printed = _tool(home, "onnxruntime_test", order.paths["artifact"], str(runs))
        found = re.search(r"avg latency: ([\d.e+-]+) ms", printed)
        assert found is not None, printed
        return float(found[1])

    def ours() -> float:
        return float(runner_timings(order)["mean_ms"])

    pair = alternate(alternations, ours, theirs, "onnxruntime")
    return _compared("onnxruntime mean / onnxruntime_test average", *pair, threads=cores, their_iterations=runs)


def _openvino(home: Path, row: dict[str, Any], alternations: int, seconds: float) -> Figure:
    order = order_for(home, row, 1, seconds)
    unpack(Path(order.paths["artifact"]), home / "openvino")
    alike = ["-d", "CPU", "-api", "sync", "-hint", "none", "-nthreads", "1", "-nstreams", "1"]
    alike += ["-infer_precision", "f32", "-pin", "NO", "-t", str(math.ceil(seconds))]

    def theirs() -> float:
        printed = _tool(home, "benchmark_app", "-m", str(home / "openvino" / "model.xml"), *alike)
        found = re.search(r"Median:\s+([\d.]+) ms", printed)
        assert found is not None, printed
        return float(found[1])

    def ours() -> float:
        return float(runner_timings(order)["p50_ms"])

    pair = alternate(alternations, ours, theirs, "openvino")
    return _compared("openvino p50 / benchmark_app median", *pair, threads=1)


def _runs(order: Order, seconds: float) -> int:
    """How many undisturbed iterations fit the timed part: as many as their tool is told to do."""
    return math.ceil(seconds * 1e3 / float(runner_timings(order)["min_ms"]))


def _tool(home: Path, name: str, *flags: str) -> str:
    done = subprocess.run(
        [command(name), *flags], capture_output=True, text=True, env=own_environment(home), cwd=home, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"{name} exited with {done.returncode}: {done.stderr[-2000:]}")
    return done.stdout


def _compared(name: str, ours: list[float], theirs: list[float], **more: Any) -> Figure:
    ratio = statistics.median(ours) / statistics.median(theirs)
    return within(name, ratio, ratio_interval(ours, theirs), BAND, ours_ms=ours, theirs_ms=theirs, **more)


if __name__ == "__main__":
    sys.exit(main())
