"""What `run` and `profile` share: their options, from options to a request, and waiting for it."""

from __future__ import annotations

import math
import os
import signal
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from device_registry.errors import UsageError

if TYPE_CHECKING:
    from scheduler.embedded import EmbeddedFarm
    from scheduler.plan import Request

Models = Annotated[
    list[str],
    typer.Argument(
        metavar="MODEL...", help="Zoo names (torchvision/mobilenet_v3_small), model files, or package.module:factory."
    ),
]
Runtimes = Annotated[list[str] | None, typer.Option(help="Only this runtime; repeat for more. Default: all.")]
Device = Annotated[str, typer.Option(metavar="SELECTOR", help="Devices, for example kind=cpu,cores>=4. Default: all.")]
Batch = Annotated[int, typer.Option(min=1, help="Examples per inference.")]
Threads = Annotated[str, typer.Option(metavar="N[,M...]", help="Threads of the runtime; several are compared.")]
Affinity = Annotated[str | None, typer.Option(metavar="CPU[,CPU...]", help="Bind the process to these CPUs.")]
Own = Annotated[
    list[str] | None,
    typer.Option(
        "--option",
        metavar="NAME=VALUE[,VALUE...]",
        help="An option of the runtimes that have it (see benchfarm runtimes list); several values are compared.",
    ),
]
Weights = Annotated[Literal["random", "pretrained"], typer.Option(help="random: seeded, no download.")]
Seed = Annotated[int, typer.Option(help="Seed of random weights and inputs.")]
Calibration = Annotated[
    Path | None, typer.Option(metavar="FILE.npz", help="Calibration inputs for int8-static and int8-full.")
]
AllowCode = Annotated[bool, typer.Option("--allow-code", help="Let package.module:factory run code of yours.")]
NoGate = Annotated[bool, typer.Option("--no-gate", help="Do not wait for a quiet machine.")]
StrictGate = Annotated[bool, typer.Option("--strict-gate", help="Fail instead of measuring on a busy machine.")]
Executor = Annotated[Literal["ray", "local"], typer.Option(help="What carries jobs: an embedded Ray, or this process.")]


def thread_counts(text: str) -> tuple[int, ...]:
    """The thread counts that an option names.

    Raises:
        UsageError: no numbers, or more than the machine has.
    """
    counts = _integers(text, "--threads")
    most = os.cpu_count() or 1
    if wrong := [count for count in counts if not 1 <= count <= most]:
        raise UsageError(f"--threads {wrong[0]}: this machine has 1 to {most}")
    return tuple(dict.fromkeys(counts))


def cpus(text: str | None) -> tuple[int, ...] | None:
    """The CPUs that an option names.

    Raises:
        UsageError: no numbers, or the machine has no such CPU.
    """
    if text is None:
        return None
    wanted, most = _integers(text, "--affinity"), os.cpu_count() or 1
    if missing := sorted(set(wanted) - set(range(most))):
        raise UsageError(f"--affinity {text}: this machine has no CPU {missing[0]}, only 0 to {most - 1}")
    return wanted


def own_options(given: list[str] | None) -> dict[str, tuple[str, ...]]:
    """`NAME=VALUE,VALUE` as a mapping; whether there is such an option is for the plan to say.

    Raises:
        UsageError: not of that form.
    """
    found: dict[str, tuple[str, ...]] = {}
    for text in given or ():
        name, equals, values = text.partition("=")
        if not (name and equals and all(values.split(","))):
            raise UsageError(f"--option {text!r}: write NAME=VALUE or NAME=VALUE,VALUE")
        found[name] = tuple(dict.fromkeys((*found.get(name, ()), *values.split(","))))
    return found


def above_zero(option: str, value: float | None) -> None:
    """Refuse what is not a finite number above zero.

    Raises:
        UsageError: it is not.
    """
    if value is not None and not (math.isfinite(value) and value > 0):
        raise UsageError(f"{option} {value:g}: must be above 0")


def gate_policy(no_gate: bool, strict_gate: bool) -> Literal["wait", "strict", "none"]:
    """What the two flags mean together.

    Raises:
        UsageError: both are given.
    """
    if no_gate and strict_gate:
        raise UsageError("--no-gate and --strict-gate exclude each other")
    return "none" if no_gate else "strict" if strict_gate else "wait"


def submit_and_wait(request: Request, executor: Literal["ray", "local"]) -> tuple[EmbeddedFarm, int]:
    """Submit a request, or resume it, and wait until all its jobs are done. Returns the farm and the run's number.

    Raises:
        typer.Exit: interrupted (130).
    """
    from benchfarm.config import load_home
    from exporters.progress import RunProgress
    from scheduler.embedded import EmbeddedFarm

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
    return farm, submitted.sweep_run_id


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _integers(text: str, what: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"{what} {text!r}: write whole numbers joined by commas") from None
