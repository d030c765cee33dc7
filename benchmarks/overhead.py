"""What does measuring with benchfarm cost over measuring with nothing at all?

(a) a timed iteration over a bare loop, (b) the spread between processes over that of a bare timing loop, (c) Ray and
the agent's sampling beside a measurement, (d) a measurement and a whole `benchfarm run` over the work in them.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from common import (
    Figure,
    alternate,
    arguments,
    at_most,
    bootstrap_interval,
    counted,
    finish,
    middle_interval,
    say,
)
from farm import Run, benchfarm_run, farm_database, order_for, run_child, runner_timings
from idle import idle_cost
from sqlalchemy import func, select

from device_registry.database import reading
from scheduler.ingest import results
from scheduler.states import attempts, jobs
from workers.measure import _block

MODEL = "torchvision/mobilenet_v3_small"
RUNTIMES = ("litert", "onnxruntime", "torch")
OPTIONS = [MODEL, "--recipe", "fp32", "--no-gate", "--max-seconds", "3"]
OPTIONS += [word for name in RUNTIMES for word in ("--runtime", name)]

ITERATION_NS = 150
SPREAD_RATIO = 1.2
PER_MEASUREMENT_S = 1.5
PER_RUN_S = 10
DISPATCHER_MB = 300


def main() -> int:
    """All figures, the cheap ones first."""
    wanted = arguments(__doc__, processes=10, runs=6)
    figures = [iteration_cost(500 if wanted.quick else 2000)]
    with tempfile.TemporaryDirectory(prefix="benchfarm-bench-") as folder:
        home = Path(folder)
        windows = 6 if wanted.quick else 15
        figures += idle_cost(home / "idle", windows)
        say("converting (half a minute)")
        rows = benchfarm_run(home / "farm", *OPTIONS).document["results"]
        figures += run_cost(home / "farm", wanted.runs)
        litert = next(row for row in rows if row["runtime"] == "litert")
        figures.append(spread_between_processes(home / "farm", litert, wanted.processes, 0.5 if wanted.quick else 2.0))
    return finish("overhead", wanted.quick, figures, model=MODEL)


def iteration_cost(repeats: int, iterations: int = 5_000) -> Figure:
    """Nanoseconds that a timed iteration adds to a bare loop around a call that does nothing.

    Short stretches of this thread's own CPU time: a neighbour on the core costs neither side anything.
    """

    def nothing() -> None:
        return None

    def bare(count: int) -> None:
        for _ in range(count):
            nothing()

    loops: dict[str, Callable[[int], object]] = {"timed": _block(nothing, 1), "bare": bare}
    clock = time.thread_time_ns
    added = []
    for index in range(repeats):
        taken = {}
        for name in list(loops) if index % 2 == 0 else list(loops)[::-1]:
            began = clock()
            loops[name](iterations)
            taken[name] = (clock() - began) / iterations
        added.append(taken["timed"] - taken["bare"])
    interval = middle_interval(added)
    return at_most("timed iteration over a bare one", statistics.median(added), interval, ITERATION_NS, "ns")


def spread_between_processes(home: Path, row: dict[str, Any], processes: int, seconds: float) -> Figure:
    """A/A: coefficient of variation of our p50 over that of a bare loop; pairs that ran together are drawn together."""
    order = order_for(home, row, 1, seconds)
    script = str(Path(__file__).with_name("bare_loop.py"))
    pair = alternate(
        processes,
        lambda: float(runner_timings(order)["p50_ms"]),
        lambda: float(run_child(order, script)[1]),
        "A/A",
    )

    def ratio(drawn: Any) -> Any:
        variation = drawn.std(axis=1, ddof=1) / drawn.mean(axis=1)
        return variation[:, 0] / variation[:, 1]

    rows = np.column_stack(pair)
    effect, interval = float(ratio(rows[None])[0]), bootstrap_interval(ratio, rows)
    return at_most(
        "CV between processes, runner / bare loop", effect, interval, SPREAD_RATIO, "ratio", ours=pair[0], bare=pair[1]
    )


def run_cost(home: Path, runs: int) -> list[Figure]:
    """With a warm store: cost of a measurement, of the run around it, conversions, memory of the dispatcher."""
    done: list[Run] = []
    for index in range(runs):
        say(f"warm run {index + 1} of {runs}")
        done.append(benchfarm_run(home, *OPTIONS))
    run_ids = [run.document["run"] for run in done]
    with reading(farm_database(home)) as connection:
        rows = connection.execute(select(results.c.document).where(results.c.sweep_run_id.in_(run_ids)))
        documents = list(rows.scalars())
        converts = connection.execute(
            select(func.count())
            .select_from(attempts.join(jobs, jobs.c.id == attempts.c.job_id))
            .where(jobs.c.sweep_run_id.in_(run_ids), jobs.c.kind == "convert")
        ).scalar_one()
    figures = []
    for runtime in RUNTIMES:
        rest = [_rest_s(d) for d in documents if d["result"]["measurement"]["runtime"]["name"] == runtime]
        interval = middle_interval(rest)
        name = f"measurement less its parts, {runtime}"
        figures.append(at_most(name, statistics.median(rest), interval, PER_MEASUREMENT_S, "s", all_s=rest))
    around = [
        run.wall_s - sum(process["wall_s"] for row in run.document["results"] for process in row["processes"])
        for run in done
    ]
    interval = middle_interval(around)
    peak_mb = max(run.peak_rss_bytes for run in done) / 1e6
    return [
        *figures,
        at_most("run less its attempts", statistics.median(around), interval, PER_RUN_S, "s", all_s=around),
        counted("conversions of a second run", converts, 0, "attempts"),
        counted("peak memory of the dispatcher", peak_mb, DISPATCHER_MB, "MB"),
    ]


def _rest_s(document: dict[str, Any]) -> float:
    """Seconds of an attempt that were neither import, load, first inference, warm-up nor timing."""
    measured = document["result"]["measurement"]
    loads_ms = sum(measured[name] for name in ("imports_ms", "load_cold_ms", "load_warm_ms", "first_inference_ms"))
    parts_s = loads_ms / 1e3 + measured["warm_up"]["seconds"] + measured["timings"]["elapsed_s"]
    return float(document["wall_s"] - parts_s)


if __name__ == "__main__":
    sys.exit(main())
