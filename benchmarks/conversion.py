"""What converting costs beside the converters themselves: EfficientNet-B0 to every format, through the real farm.

`benchfarm run` with every runtime and every recipe of the default matrix. A converter's *own time* is what its
libraries take to import and to convert; ours is all else: process starts, our own imports, artifacts fetched, packed,
hashed, stored and counted, polls, and the queue. Two ratios to the sum of own times:

- *wall*: from the submission to the end of the last conversion, without the time in which something was measured.
  Several conversions run at once, so this is below 1 where there are cores; the bar is 1.1.
- *attempts*: the sum of all conversions' times from claim to result, as if one ran at a time; the bar is 1.1, too.

Peak memory of each is listed, and what a second run converts again is counted.

And what is converted: with half its channels pruned the model is really faster (ratio of medians over processes, with
its interval; the bar of at least two runtimes is 1), and int8 with static activations is right about the digits like
fp32 (share of test digits lost, with the interval of paired answers; the bar is 0.01).
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from common import Figure, arguments, at_least, at_most, counted, finish, ratio_interval, say
from farm import benchfarm_run, command, farm_database, own_environment
from sqlalchemy import func, select

from device_registry.database import reading
from scheduler.queue import artifacts, sweep_runs
from scheduler.states import attempts, jobs

MODEL = "torchvision/efficientnet_b0"
QUICK_MODEL = "torchvision/mobilenet_v3_small"
BAR = 1.1
PRUNED = "prune-structured(0.5)"
PRUNED_RUNTIMES = ("torch", "onnxruntime", "openvino", "litert")
DIGITS = "digits/cnn"
INT8_RUNTIMES = ("onnxruntime", "openvino", "litert")
MOST_LOST = 0.01


@dataclass(frozen=True)
class Conversion:
    """One conversion that was made."""

    format: str
    recipe: str
    began: datetime
    ended: datetime
    #: The converter's own: conversion, and import of its libraries.
    convert_s: float
    imports_s: float
    peak_rss_bytes: int | None
    nodes: int | None
    bytes: int

    @property
    def own_s(self) -> float:
        """What is not ours."""
        return self.convert_s + self.imports_s

    @property
    def attempt_s(self) -> float:
        """From its claim to its result."""
        return (self.ended - self.began).total_seconds()


def main() -> int:
    """Convert, look, run again; `--quick` takes MobileNetV3-Small in fp32 only."""
    wanted = arguments(__doc__)
    model = QUICK_MODEL if wanted.quick else MODEL
    # Measured as short as can be: the conversions are what is looked at.
    options = [model, "--max-seconds", "0.2", "--no-gate", *(["--recipe", "fp32"] if wanted.quick else [])]
    with tempfile.TemporaryDirectory(prefix="benchfarm-bench-") as folder:
        home = Path(folder)
        say(f"converting {model}")
        benchfarm_run(home, *options)
        made = conversions(home)
        wall_s = conversion_wall_s(home)
        say("running again")
        benchfarm_run(home, *options)
        again = len(conversions(home)) - len(made)
        tried = _convert_attempts(home)
        compressed = [*pruned(home, model, quick=wanted.quick), *int8_accuracy(home, quick=wanted.quick)]
    own_s = sum(one.own_s for one in made)
    figures: list[Figure] = [
        counted("wall of all conversions / own times", wall_s / own_s, BAR, "ratio", wall_s=wall_s, own_s=own_s),
        counted(
            "sum of conversions from claim to result / own times",
            sum(one.attempt_s for one in made) / own_s,
            BAR,
            "ratio",
            ours_s_each=[round(one.attempt_s - one.own_s, 2) for one in made],
        ),
        counted("artifacts converted twice", again + tried - len(made), 0, "count"),
        counted("conversions without peak memory", sum(one.peak_rss_bytes is None for one in made), 0, "count"),
        *compressed,
    ]
    return finish("conversion", wanted.quick, figures, model=model, conversions=[_row(one) for one in made])


def conversions(home: Path) -> list[Conversion]:
    """Every conversion that a farm has made, in the order they began."""
    told = (
        select(attempts.c.started_at, attempts.c.finished_at, artifacts)
        .join(jobs, jobs.c.id == attempts.c.job_id)
        .join(artifacts, artifacts.c.key == jobs.c.makes_key)
        .where(jobs.c.kind == "convert", jobs.c.state == "succeeded", attempts.c.state == "finished")
        .order_by(attempts.c.started_at)
    )
    with reading(farm_database(home)) as connection:
        rows = connection.execute(told).all()
    return [
        Conversion(
            format=row.format,
            recipe=row.recipe,
            began=row.started_at,
            ended=row.finished_at,
            convert_s=row.provenance["seconds"],
            imports_s=row.provenance["imports_ms"] / 1e3,
            peak_rss_bytes=row.provenance["peak_rss_bytes"],
            nodes=row.provenance["facts"].get("nodes"),
            bytes=row.bytes,
        )
        for row in rows
    ]


def conversion_wall_s(home: Path) -> float:
    """From the first run's submission to the end of its last conversion, less what was measured meanwhile."""
    told = select(attempts.c.started_at, attempts.c.finished_at, jobs.c.kind).join(jobs, jobs.c.id == attempts.c.job_id)
    with reading(farm_database(home)) as connection:
        rows = connection.execute(told.where(attempts.c.finished_at.is_not(None))).all()
        began = connection.execute(select(func.min(sweep_runs.c.created_at))).scalar_one()
    ended = max(row.finished_at for row in rows if row.kind == "convert")
    measured = [(row.started_at, min(row.finished_at, ended)) for row in rows if row.kind != "convert"]
    whole_s: float = (ended - began).total_seconds()
    return whole_s - covered_s(measured)


def covered_s(spans: Iterable[tuple[datetime, datetime]]) -> float:
    """Seconds that lie in at least one span."""
    total, reached = 0.0, None
    for begin, end in sorted(spans):
        since = begin if reached is None else max(begin, reached)
        if end > since:
            total += (end - since).total_seconds()
            reached = end
    return total


def pruned(home: Path, model: str, *, quick: bool) -> list[Figure]:
    """How much faster a model is with half its channels, on each runtime."""
    say(f"pruning {model}")
    runtimes = PRUNED_RUNTIMES[:2] if quick else PRUNED_RUNTIMES
    named = [word for name in runtimes for word in ("--runtime", name)]
    recipes = ["--recipe", "fp32", "--recipe", PRUNED]
    shown = benchfarm_run(home, model, *named, *recipes, "--repeats", "6", "--max-seconds", "1" if quick else "3")
    times = {
        (row["runtime"], row["recipe"]): [process["p50_ms"] for process in row["processes"]]
        for row in shown.document["results"]
    }
    figures = []
    for runtime in runtimes:
        whole, cut = times[runtime, "fp32"], times[runtime, PRUNED]
        ratio = sorted(whole)[len(whole) // 2] / sorted(cut)[len(cut) // 2]
        figures.append(
            at_least(f"speed-up of {PRUNED}, {runtime}", ratio, ratio_interval(whole, cut), 1.0, "ratio", model=model)
        )
    return figures


def int8_accuracy(home: Path, *, quick: bool) -> list[Figure]:
    """Share of the test digits that int8 loses, on each runtime."""
    say(f"evaluating {DIGITS}")
    runtimes = INT8_RUNTIMES[:1] if quick else INT8_RUNTIMES
    named = [word for name in runtimes for word in ("--runtime", name)]
    made = _benchfarm(home, "evaluate", DIGITS, *named, "--recipe", "fp32", "--recipe", "int8-static")["evaluations"]
    numbers = {(row["runtime"], row["recipe"]): str(row["evaluation"]) for row in made}
    figures = []
    for runtime in runtimes:
        pair = numbers[runtime, "fp32"], numbers[runtime, "int8-static"]
        told = _benchfarm(home, "evaluate", "compare", *pair)
        low, high = told["difference_ci"]
        figures.append(
            at_most(
                f"accuracy lost by int8-static, {runtime}",
                0.0 - told["difference"],
                (-high, -low),
                MOST_LOST,
                "share",
                examples=told["examples"],
                top1=[told[side]["top1"] for side in ("before", "after")],
                p=told["p"],
            )
        )
    return figures


def _benchfarm(home: Path, *words: str) -> dict[str, Any]:
    """The JSON of a command that succeeds."""
    done = subprocess.run(
        [command("benchfarm"), *words, "--json"], stdout=subprocess.PIPE, env=own_environment(home), check=True
    )
    return dict(json.loads(done.stdout))


def _convert_attempts(home: Path) -> int:
    told = select(func.count()).select_from(attempts).join(jobs, jobs.c.id == attempts.c.job_id)
    with reading(farm_database(home)) as connection:
        found: int = connection.execute(
            told.where(jobs.c.kind == "convert", attempts.c.failure_cause.is_(None))
        ).scalar_one()
    return found


def _row(one: Conversion) -> dict[str, Any]:
    return {
        "format": one.format,
        "recipe": one.recipe,
        "convert_s": round(one.convert_s, 2),
        "imports_s": round(one.imports_s, 2),
        "attempt_s": round(one.attempt_s, 2),
        "peak_rss_bytes": one.peak_rss_bytes,
        "nodes": one.nodes,
        "bytes": one.bytes,
    }


if __name__ == "__main__":
    sys.exit(main())
