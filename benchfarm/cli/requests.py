"""What `run`, `submit`, `profile` and `evaluate` share: options, from options to a request, and waiting for it."""

from __future__ import annotations

import math
import os
import re
import signal
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from device_registry.errors import UsageError

if TYPE_CHECKING:
    from scheduler.embedded import EmbeddedFarm
    from scheduler.farm import Farm
    from scheduler.request import Request
    from scheduler.status import RunStatus
    from scheduler.targets import Spread

#: As in workers.contract, which a command line that only prints its help does without.
Mode = Literal["burst", "sustained", "offline"]
_UNITS_S = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}

Models = Annotated[
    list[str],
    typer.Argument(
        metavar="MODEL...", help="Zoo names (torchvision/mobilenet_v3_small), model files, or package.module:factory."
    ),
]
Runtimes = Annotated[list[str] | None, typer.Option(help="Only this runtime; repeat for more. Default: all.")]
Recipes = Annotated[list[str] | None, typer.Option(help="Only this recipe; repeat for more. Default: all.")]
Repeats = Annotated[int, typer.Option(min=1, help="Fresh processes per case; 5 or more give intervals and ranks.")]
ModeOption = Annotated[
    Mode,
    typer.Option(help="burst: as an app calls; sustained: 10 min, first minute against last; offline: by throughput."),
]
Rate = Annotated[float | None, typer.Option(metavar="HZ", help="Inferences per second; default: back to back.")]
MaxSeconds = Annotated[float | None, typer.Option(metavar="S", help="Cap on the timed part of each measurement.")]
Percentile = Annotated[int, typer.Option(help="Highest percentile wanted: 90, 95 or 99 (99 needs 662 iterations).")]
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
Evaluate = Annotated[
    bool, typer.Option("--evaluate", help="Measure how right each variant answers, too, over labelled data.")
]
Data = Annotated[
    str | None,
    typer.Option(
        metavar="SPEC",
        help="Labelled data for accuracy and training: digits, folder:PATH, npz:FILE, hf:NAME. "
        "Default: what comes with the model.",
    ),
]
MaxMemory = Annotated[
    str | None,
    typer.Option(metavar="SIZE", help="What a conversion may hold: 512MB, 8GB. Default: 80 % of its host."),
]
AllowCode = Annotated[bool, typer.Option("--allow-code", help="Let package.module:factory run code of yours.")]
NoGate = Annotated[bool, typer.Option("--no-gate", help="Do not wait for a quiet machine.")]
StrictGate = Annotated[bool, typer.Option("--strict-gate", help="Fail instead of measuring on a busy machine.")]
Priority = Annotated[int, typer.Option(help="The higher, the sooner; a step is worth ten minutes of waiting.")]
Owner = Annotated[
    str | None, typer.Option(help="Whose share it counts against; a label, no proof. Default: your user name here.")
]
QueueTimeout = Annotated[
    str | None, typer.Option(metavar="TIME", help="Fail what has not begun by then: 90s, 15m, 2h, 1d. Default: never.")
]
RunTimeout = Annotated[
    str | None, typer.Option(metavar="TIME", help="Cap on one attempt: 90s, 15m, 2h. Default: what its task may take.")
]
WaitForDevice = Annotated[
    bool, typer.Option("--wait-for-device", help="Count devices that are not there now, instead of refusing.")
]
Each = Annotated[bool, typer.Option("--each", help="On every matching device (the default).")]
AnyDevice = Annotated[bool, typer.Option("--any", help="On whichever matching device is free first.")]
PerModel = Annotated[bool, typer.Option("--per-model", help="On one unit of each device model.")]
Executor = Annotated[Literal["ray", "local"], typer.Option(help="What carries jobs: an embedded Ray, or this process.")]


def thread_counts(text: str, *, here: bool = True) -> tuple[int, ...]:
    """The thread counts that an option names.

    Args:
        text: of the option.
        here: whether they are for this machine.

    Raises:
        UsageError: no numbers, or more than the machine has.
    """
    counts = _integers(text, "--threads")
    most = os.cpu_count() or 1
    if here and (wrong := [count for count in counts if not 1 <= count <= most]):
        raise UsageError(f"--threads {wrong[0]}: this machine has 1 to {most}")
    if min(counts) < 1:
        raise UsageError(f"--threads {min(counts)}: 1 is the least")
    return tuple(dict.fromkeys(counts))


def cpus(text: str | None, *, here: bool = True) -> tuple[int, ...] | None:
    """The CPUs that an option names.

    Args:
        text: of the option.
        here: whether they are this machine's.

    Raises:
        UsageError: no numbers, or the machine has no such CPU.
    """
    if text is None:
        return None
    wanted, most = _integers(text, "--affinity"), os.cpu_count() or 1
    if here and (missing := sorted(set(wanted) - set(range(most)))):
        raise UsageError(f"--affinity {text}: this machine has no CPU {missing[0]}, only 0 to {most - 1}")
    if min(wanted) < 0:
        raise UsageError(f"--affinity {text}: CPUs are counted from 0")
    return wanted


def seconds(option: str, text: str | None) -> float | None:
    """A span of time: 90s, 15m, 2h, 1d, or several of them (1h30m).

    Raises:
        UsageError: it cannot be read, or is 0.
    """
    if text is None:
        return None
    parts = re.findall(r"(\d{1,9}(?:\.\d{1,9})?)([smhd])", text)
    if not parts or "".join(number + unit for number, unit in parts) != text.strip():
        raise UsageError(f"{option} {text!r}: write 90s, 15m, 2h or 1d")
    total_s = sum(float(number) * _UNITS_S[unit] for number, unit in parts)
    above_zero(option, total_s)
    return total_s


def spread_of(each: bool, any_device: bool, per_model: bool) -> Spread:
    """What the three flags mean together.

    Raises:
        UsageError: more than one is given.
    """
    if each + any_device + per_model > 1:
        raise UsageError("--each, --any and --per-model exclude each other")
    return "any" if any_device else "per-model" if per_model else "each"


def measuring(
    *,
    models: list[str],
    runtime: list[str] | None,
    recipe: list[str] | None,
    device: str,
    batch: int,
    threads: str,
    affinity: str | None,
    option: list[str] | None,
    repeats: int,
    mode: Mode,
    rate: float | None,
    max_seconds: float | None,
    percentile: int,
    weights: str,
    seed: int,
    calibration: Path | None,
    allow_code: bool,
    no_gate: bool,
    strict_gate: bool,
    here: bool,
    evaluate: bool = False,
    data: str | None = None,
    max_memory: str | None = None,
) -> Request:
    """The request that the options of `run` and `submit` make; `here`: on this machine.

    Raises:
        UsageError: an option cannot be read, or two exclude each other.
    """
    from scheduler.request import Request
    from workers.contract import Options

    above_zero("--rate", rate)
    above_zero("--max-seconds", max_seconds)
    if rate is not None and mode == "offline":
        raise UsageError("--rate has no place in --mode offline, which runs back to back")
    if percentile not in (90, 95, 99):
        raise UsageError(f"--percentile {percentile}: choose 90, 95 or 99")
    return Request(
        models=tuple(dict.fromkeys(models)),
        runtimes=tuple(dict.fromkeys(runtime)) if runtime else None,
        recipes=tuple(dict.fromkeys(recipe)) if recipe else None,
        selector=device,
        threads=thread_counts(threads, here=here),
        runtime_options=own_options(option),
        options=Options(
            batch=batch,
            mode=mode,
            rate_hz=rate,
            max_seconds=max_seconds,
            percentile=percentile,
            affinity=cpus(affinity, here=here),
        ),
        repeats=repeats,
        weights=weights,
        seed=seed,
        calibration=str(calibration.absolute()) if calibration is not None else None,
        evaluate=evaluate,
        data=data_set(data),
        max_memory_bytes=memory(max_memory),
        allow_code=allow_code,
        search_path=(str(Path.cwd()),) if allow_code else (),
        gate=gate_policy(no_gate, strict_gate),
    )


def data_set(spec: str | None) -> str | None:
    """A data set's name with its path, where it has one, made absolute."""
    from scheduler.quantities import located_data

    return None if spec is None else located_data(spec, Path.cwd())


def memory(text: str | None) -> int | None:
    """Bytes of `--max-memory`.

    Raises:
        UsageError: it cannot be read, or is too little for anything.
    """
    from scheduler.quantities import bytes_of

    return None if text is None else bytes_of("--max-memory", text)


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
        signal.signal(signal.SIGTERM, interrupt)
        try:
            farm.work(submitted.sweep_run_id, executor, progress.observe, progress.say)
        except KeyboardInterrupt:
            progress.say(f"interrupted; the same command resumes run {submitted.sweep_run_id}")
            raise typer.Exit(130) from None
    return farm, submitted.sweep_run_id


def wait_for_run(farm: Farm, run_id: int, timeout_s: float | None = None) -> RunStatus:
    """Wait for a run that is worked on whether anybody waits or not, with its progress on standard error.

    Raises:
        WaitTimeoutError: it is not done in time.
        typer.Exit: interrupted (130).
    """
    from exporters.progress import RunProgress

    with RunProgress() as progress:
        signal.signal(signal.SIGTERM, interrupt)
        try:
            return farm.wait(run_id, timeout_s=timeout_s, observe=progress.observe, say=progress.say)
        except KeyboardInterrupt:
            progress.say(f"interrupted; run {run_id} goes on: benchfarm jobs wait --run {run_id}")
            raise typer.Exit(130) from None


def wait_for_jobs(farm: Farm, job_ids: list[int], timeout_s: float | None) -> dict[int, str]:
    """Wait for jobs, told one by one on standard error as they end; returns the state of each.

    Raises:
        WaitTimeoutError: one is not done in time.
        typer.Exit: interrupted (130).
    """
    signal.signal(signal.SIGTERM, interrupt)
    try:
        return farm.wait_for_jobs(
            job_ids, timeout_s=timeout_s, observe=lambda job, state: typer.echo(f"job {job} {state}", err=True)
        )
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def interrupt(_signal: int, _frame: FrameType | None) -> None:
    """A signal handler that ends a wait as Ctrl-C does."""
    raise KeyboardInterrupt


def _integers(text: str, what: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"{what} {text!r}: write whole numbers joined by commas") from None
