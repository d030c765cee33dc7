"""`benchfarm compare BASE CANDIDATE`: two things, measured for this or stored, and with `--gate` one exit code."""

from __future__ import annotations

import math
import signal
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from benchfarm.cli import requests
from benchfarm.cli.output import print_json
from device_registry.errors import UsageError

if TYPE_CHECKING:
    from scheduler.gates.case import Gate
    from scheduler.request import Request

_PANEL = "Two things (with --gate, or run:N and revision:REV)"
_MEASURED = "What --gate measures"
#: As in scheduler.verdicts, which a command line that only prints its help does without.
_LEAST_PROCESSES, _MOST_PROCESSES = 5, 30

Wanted = Annotated[
    bool, typer.Option("--gate", help="Exit by the answer: see the exit codes above.", rich_help_panel=_PANEL)
]
LeastEffect = Annotated[
    float,
    typer.Option(metavar="PERCENT", help="Least change of speed that counts.", rich_help_panel=_PANEL),
]
MarkdownFile = Annotated[
    Path | None,
    typer.Option(
        "--markdown", metavar="FILE", help="Write Markdown, for a pull request or a summary.", rich_help_panel=_PANEL
    ),
]
JunitFile = Annotated[
    Path | None,
    typer.Option("--junit", metavar="FILE", help="Write JUnit XML, for a CI server.", rich_help_panel=_PANEL),
]
Processes = Annotated[
    int,
    typer.Option(
        min=_LEAST_PROCESSES,
        max=_MOST_PROCESSES,
        help="Fresh processes on each side at most: 10 first, 20 and 30 where fewer do not tell.",
        rich_help_panel=_MEASURED,
    ),
]
MostMinutes = Annotated[
    float | None,
    typer.Option(
        "--max-minutes",
        metavar="MINUTES",
        help="Give up what is not done by then; what there is is judged. Default: as long as it takes.",
        rich_help_panel=_MEASURED,
    ),
]
BasePath = Annotated[
    Path | None,
    typer.Option(metavar="FOLDER", help="Where the factory BASE is imported from.", rich_help_panel=_MEASURED),
]
CandidatePath = Annotated[
    Path | None,
    typer.Option(metavar="FOLDER", help="Where the factory CANDIDATE is imported from.", rich_help_panel=_MEASURED),
]
Busy = Annotated[
    Literal["wait", "strict", "ignore"],
    typer.Option(
        help="On a busy machine: wait 15 s at most and measure, fail, or measure at once.", rich_help_panel=_MEASURED
    ),
]


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line says of two things."""

    base: str
    candidate: str
    gate: bool
    device: str
    runtime: list[str] | None
    recipe: list[str] | None
    least_effect: float
    markdown: Path | None
    junit: Path | None
    json: bool
    processes: int
    max_minutes: float | None
    base_path: Path | None
    candidate_path: Path | None
    busy: Literal["wait", "strict", "ignore"]
    batch: int
    threads: str
    option: list[str] | None
    max_seconds: float | None
    weights: str
    seed: int
    calibration: Path | None
    allow_code: bool
    wait_for_device: bool
    priority: int
    owner: str | None
    executor: Literal["ray", "local"]


def are_stored(names: Sequence[str]) -> bool:
    """Whether names are of stored results: all of them, or none.

    Raises:
        UsageError: one is, and another is not; or it is no such name.
    """
    if not any(name.startswith(("run:", "revision:")) for name in names):
        return False
    from scheduler.gates.references import reference_of

    found = [reference_of(name) is not None for name in names]
    if len(names) != 2:
        raise UsageError(f"name two to compare, a baseline and a candidate; these are {len(names)}")
    if not all(found):
        raise UsageError(
            f"{names[0]} and {names[1]}: compare two stored results, or two models; not one with the other"
        )
    return True


def compare_two(options: Options) -> None:
    """Compare a baseline and a candidate, write what was asked for, and exit by the answer.

    Raises:
        UsageError: something named cannot be.
        typer.Exit: with `--gate`, by the answer; 130 where it was interrupted.
    """
    if not (math.isfinite(options.least_effect) and 0 < options.least_effect <= 100):
        raise UsageError(f"--least-effect {options.least_effect:g}: a percentage above 0, 100 at most")
    for name, path in (("--markdown", options.markdown), ("--junit", options.junit)):
        if path is not None and not path.absolute().parent.is_dir():
            raise UsageError(f"{name} {path}: there is no folder {path.absolute().parent}")
    gate = _stored(options) if are_stored((options.base, options.candidate)) else _measured(options)
    _show(gate, options)
    if options.gate and gate.exit_code:
        raise typer.Exit(gate.exit_code)


def _stored(options: Options) -> Gate:
    from benchfarm.config import load_home
    from device_registry.database import reading
    from scheduler.farm import Farm
    from scheduler.gates.case import Gate
    from scheduler.gates.judging import judged
    from scheduler.gates.references import reference_of
    from scheduler.gates.stored import stored_evidence
    from scheduler.trials import noise_floor_of

    baseline, candidate = reference_of(options.base), reference_of(options.candidate)
    assert baseline is not None
    assert candidate is not None
    with reading(Farm(load_home()).engine) as connection:
        evidence, unpaired = stored_evidence(
            connection,
            baseline,
            candidate,
            selector=options.device,
            runtimes=options.runtime or (),
            recipes=options.recipe or (),
            noise_floors=noise_floor_of,
        )
    least_effect = options.least_effect / 100
    return Gate(
        baseline=options.base,
        candidate=options.candidate,
        measured=False,
        run=None,
        least_effect=least_effect,
        cases=judged(evidence, least_effect=least_effect),
        unpaired=tuple(unpaired),
    )


def _measured(options: Options) -> Gate:
    from benchfarm.config import load_home
    from exporters.progress import RunProgress
    from scheduler.embedded import EmbeddedFarm
    from scheduler.gates.measuring import Asked
    from scheduler.gates.running import read_gate, submit_gate, wait_for_gate

    requests.above_zero("--max-minutes", options.max_minutes)
    asked = Asked(
        baseline=_request(options, options.base, options.base_path, "--base-path"),
        candidate=_request(options, options.candidate, options.candidate_path, "--candidate-path"),
        least_effect=options.least_effect / 100,
        most=options.processes,
        most_s=None if options.max_minutes is None else options.max_minutes * 60,
    )
    farm = EmbeddedFarm(load_home())
    submitted = submit_gate(farm, asked)
    with RunProgress() as progress:
        if submitted.resumed:
            progress.say(f"resuming run {submitted.run_id}, which was interrupted")
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            wait_for_gate(farm, submitted, asked, options.executor, progress.observe, progress.say)
        except KeyboardInterrupt:
            progress.say(f"interrupted; the same command resumes run {submitted.run_id}")
            raise typer.Exit(130) from None
    names = (_named(options.base, options.base_path), _named(options.candidate, options.candidate_path))
    return read_gate(farm, submitted, asked, names)


def _named(name: str, path: Path | None) -> str:
    """A side as its reader knows it: factories of two checkouts have one name."""
    return name if path is None else f"{name} in {path}"


def _request(options: Options, name: str, path: Path | None, given_as: str) -> Request:
    """One side's request.

    Raises:
        UsageError: an option cannot be read.
    """
    if path is not None and not options.allow_code:
        raise UsageError(f"{given_as} is for factories: add --allow-code to run code of yours")
    if path is not None and not path.is_dir():
        raise UsageError(f"{given_as} {path}: there is no such folder")
    request = requests.measuring(
        models=[name],
        runtime=options.runtime,
        recipe=options.recipe,
        device=options.device,
        batch=options.batch,
        threads=options.threads,
        affinity=None,
        option=options.option,
        repeats=1,
        mode="burst",
        rate=None,
        max_seconds=options.max_seconds,
        percentile=90,
        weights=options.weights,
        seed=options.seed,
        calibration=options.calibration,
        allow_code=options.allow_code,
        no_gate=options.busy == "ignore",
        strict_gate=options.busy == "strict",
        here=False,
    )
    if path is not None:
        request = replace(request, search_path=(str(path.absolute()),))
    return replace(request, priority=options.priority, owner=options.owner, wait_for_device=options.wait_for_device)


def _show(gate: Gate, options: Options) -> None:
    if options.markdown is not None or options.junit is not None:
        from exporters.gate_files import junit_of, markdown_of, write_text

        if options.markdown is not None:
            write_text(options.markdown, markdown_of(gate))
        if options.junit is not None:
            write_text(options.junit, junit_of(gate))
    if options.json:
        from scheduler.gates.document import gate_document

        print_json(gate_document(gate))
        return
    from exporters.gate_tables import gate_view
    from exporters.tables import console_width, show

    show(gate_view(gate, console_width()))
