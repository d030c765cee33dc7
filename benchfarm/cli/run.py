"""`benchfarm run`: from models to a table of comparison on this machine."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from benchfarm.cli import requests
from benchfarm.cli.output import Json, print_json
from device_registry.errors import UsageError


def run(
    models: requests.Models,
    runtime: requests.Runtimes = None,
    recipe: Annotated[list[str] | None, typer.Option(help="Only this recipe; repeat for more. Default: all.")] = None,
    device: requests.Device = "",
    batch: requests.Batch = 1,
    threads: requests.Threads = "1",
    affinity: requests.Affinity = None,
    option: requests.Own = None,
    repeats: Annotated[
        int, typer.Option(min=1, help="Fresh processes per case; 5 or more give intervals and ranks.")
    ] = 1,
    mode: Annotated[
        Literal["burst", "sustained", "offline"],
        typer.Option(
            help="burst: as an app calls; sustained: 10 min, first minute against last; offline: by throughput."
        ),
    ] = "burst",
    rate: Annotated[
        float | None, typer.Option(metavar="HZ", help="Inferences per second; default: back to back.")
    ] = None,
    max_seconds: Annotated[
        float | None, typer.Option(metavar="S", help="Cap on the timed part of each measurement.")
    ] = None,
    percentile: Annotated[
        int, typer.Option(help="Highest percentile wanted: 90, 95 or 99 (99 needs 662 iterations).")
    ] = 90,
    weights: requests.Weights = "random",
    seed: requests.Seed = 0,
    calibration: requests.Calibration = None,
    allow_code: requests.AllowCode = False,
    no_gate: requests.NoGate = False,
    strict_gate: requests.StrictGate = False,
    executor: requests.Executor = "ray",
    json: Json = False,
) -> None:
    """Convert models for every runtime, measure them on this machine, and compare.

    An interrupted run resumes when the same command is given again. Exit codes: 0 done, 1 something failed, 2 wrong
    usage or something named that cannot be, 130 interrupted.
    """
    from device_registry.database import reading
    from exporters.tables import console_width, results_view, show
    from scheduler.comparisons import run_results
    from scheduler.plan import Request
    from workers.contract import Options

    requests.above_zero("--rate", rate)
    requests.above_zero("--max-seconds", max_seconds)
    if rate is not None and mode == "offline":
        raise UsageError("--rate has no place in --mode offline, which runs back to back")
    if percentile not in (90, 95, 99):
        raise UsageError(f"--percentile {percentile}: choose 90, 95 or 99")
    request = Request(
        models=tuple(dict.fromkeys(models)),
        runtimes=tuple(dict.fromkeys(runtime)) if runtime else None,
        recipes=tuple(dict.fromkeys(recipe)) if recipe else None,
        selector=device,
        threads=requests.thread_counts(threads),
        runtime_options=requests.own_options(option),
        options=Options(
            batch=batch,
            mode=mode,
            rate_hz=rate,
            max_seconds=max_seconds,
            percentile=percentile,
            affinity=requests.cpus(affinity),
        ),
        repeats=repeats,
        weights=weights,
        seed=seed,
        calibration=str(calibration.absolute()) if calibration is not None else None,
        allow_code=allow_code,
        search_path=(str(Path.cwd()),) if allow_code else (),
        gate=requests.gate_policy(no_gate, strict_gate),
    )
    farm, run_id = requests.submit_and_wait(request, executor)
    with reading(farm.engine) as connection:
        outcome = run_results(connection, run_id)
    if json:
        print_json(
            {"run": run_id, "results": outcome.results, "failed": outcome.failed, "unsupported": outcome.unsupported}
        )
    else:
        rerun = None if repeats >= 5 else f"benchfarm {shlex.join(_with_repeats(sys.argv[1:]))}"
        show(results_view(outcome.results, outcome.failed, outcome.unsupported, rerun=rerun, width=console_width()))
    if outcome.failed:
        raise typer.Exit(1)
    named = set(request.runtimes or ()) | set(request.recipes or ())
    if any({entry["runtime"], entry["recipe"]} & named for entry in outcome.unsupported) and not outcome.results:
        raise typer.Exit(2)


def _with_repeats(arguments: list[str]) -> list[str]:
    kept: list[str] = []
    skip = False
    for argument in arguments:
        if skip:
            skip = False
        elif argument == "--repeats":
            skip = True
        elif not argument.startswith("--repeats="):
            kept.append(argument)
    return [*kept, "--repeats", "5"]
