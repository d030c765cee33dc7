"""`benchfarm run`: from models to a table of comparison on this machine."""

from __future__ import annotations

import math
import os
import shlex
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Annotated, Literal

import typer

from benchfarm.cli.output import Json, print_json
from device_registry.errors import UsageError


def _integers(text: str, what: str) -> tuple[int, ...]:
    try:
        values = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"{what} {text!r}: write whole numbers joined by commas") from None
    return values


def run(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...",
            help="Zoo names (torchvision/mobilenet_v3_small), model files, or package.module:factory.",
        ),
    ],
    runtime: Annotated[list[str] | None, typer.Option(help="Only this runtime; repeat for more. Default: all.")] = None,
    recipe: Annotated[list[str] | None, typer.Option(help="Only this recipe; repeat for more. Default: all.")] = None,
    device: Annotated[
        str, typer.Option(metavar="SELECTOR", help="Devices, for example kind=cpu,cores>=4. Default: all.")
    ] = "",
    batch: Annotated[int, typer.Option(min=1, help="Examples per inference.")] = 1,
    threads: Annotated[
        str, typer.Option(metavar="N[,M...]", help="Threads of the runtime; several are compared.")
    ] = "1",
    affinity: Annotated[
        str | None, typer.Option(metavar="CPU[,CPU...]", help="Bind the process to these CPUs.")
    ] = None,
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
    weights: Annotated[Literal["random", "pretrained"], typer.Option(help="random: seeded, no download.")] = "random",
    seed: Annotated[int, typer.Option(help="Seed of random weights and inputs.")] = 0,
    calibration: Annotated[
        Path | None, typer.Option(metavar="FILE.npz", help="Calibration inputs for int8-static.")
    ] = None,
    allow_code: Annotated[
        bool, typer.Option("--allow-code", help="Let package.module:factory run code of yours.")
    ] = False,
    no_gate: Annotated[bool, typer.Option("--no-gate", help="Do not wait for a quiet machine.")] = False,
    strict_gate: Annotated[
        bool, typer.Option("--strict-gate", help="Fail instead of measuring on a busy machine.")
    ] = False,
    executor: Annotated[
        Literal["ray", "local"], typer.Option(help="What carries jobs: an embedded Ray, or this process.")
    ] = "ray",
    json: Json = False,
) -> None:
    """Convert models for every runtime, measure them on this machine, and compare.

    An interrupted run resumes when the same command is given again. Exit codes: 0 done, 1 something failed, 2 wrong
    usage or something named that cannot be, 130 interrupted.
    """
    from benchfarm.config import load_home
    from device_registry.database import reading
    from exporters.progress import RunProgress
    from exporters.tables import console_width, results_view, show
    from scheduler.comparisons import run_results
    from scheduler.embedded import EmbeddedFarm
    from scheduler.plan import Request
    from workers.contract import Options

    if no_gate and strict_gate:
        raise UsageError("--no-gate and --strict-gate exclude each other")
    for option, value in (("--rate", rate), ("--max-seconds", max_seconds)):
        if value is not None and not (math.isfinite(value) and value > 0):
            raise UsageError(f"{option} {value:g}: must be above 0")
    if rate is not None and mode == "offline":
        raise UsageError("--rate has no place in --mode offline, which runs back to back")
    if percentile not in (90, 95, 99):
        raise UsageError(f"--percentile {percentile}: choose 90, 95 or 99")
    thread_counts = _integers(threads, "--threads")
    most = os.cpu_count() or 1
    if wrong := [count for count in thread_counts if not 1 <= count <= most]:
        raise UsageError(f"--threads {wrong[0]}: this machine has 1 to {most}")
    cpus = _integers(affinity, "--affinity") if affinity is not None else None
    if cpus is not None and (missing := sorted(set(cpus) - set(range(most)))):
        raise UsageError(f"--affinity {affinity}: this machine has no CPU {missing[0]}, only 0 to {most - 1}")
    request = Request(
        models=tuple(dict.fromkeys(models)),
        runtimes=tuple(dict.fromkeys(runtime)) if runtime else None,
        recipes=tuple(dict.fromkeys(recipe)) if recipe else None,
        selector=device,
        threads=tuple(dict.fromkeys(thread_counts)),
        options=Options(
            batch=batch,
            mode=mode,
            rate_hz=rate,
            max_seconds=max_seconds,
            percentile=percentile,
            affinity=cpus,
        ),
        repeats=repeats,
        weights=weights,
        seed=seed,
        calibration=str(calibration.absolute()) if calibration is not None else None,
        allow_code=allow_code,
        search_path=(str(Path.cwd()),) if allow_code else (),
        gate="none" if no_gate else "strict" if strict_gate else "wait",
    )
    farm = EmbeddedFarm(load_home())
    submitted = farm.submit(request)
    with RunProgress() as progress:
        if submitted.resumed:
            progress.say(f"resuming run {submitted.sweep_run_id}, which was interrupted")
        elif submitted.reused:
            progress.say(f"{submitted.reused} artifacts stand already")
        signal.signal(signal.SIGTERM, _interrupt)
        try:
            farm.work(submitted.sweep_run_id, executor, progress.observe, progress.say)
        except KeyboardInterrupt:
            progress.say(f"interrupted; the same command resumes run {submitted.sweep_run_id}")
            raise typer.Exit(130) from None
    with reading(farm.engine) as connection:
        outcome = run_results(connection, submitted.sweep_run_id)
    if json:
        print_json(
            {
                "run": submitted.sweep_run_id,
                "results": outcome.results,
                "failed": outcome.failed,
                "unsupported": outcome.unsupported,
            }
        )
    else:
        rerun = None if repeats >= 5 else f"benchfarm {shlex.join(_with_repeats(sys.argv[1:]))}"
        show(results_view(outcome.results, outcome.failed, outcome.unsupported, rerun=rerun, width=console_width()))
    if outcome.failed:
        raise typer.Exit(1)
    named = set(request.runtimes or ()) | set(request.recipes or ())
    if any({entry["runtime"], entry["recipe"]} & named for entry in outcome.unsupported) and not outcome.results:
        raise typer.Exit(2)


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


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
