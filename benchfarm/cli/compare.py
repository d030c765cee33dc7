"""`benchfarm compare`: variants x devices, each against its baseline; or a candidate against its baseline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import typer

from benchfarm.cli import gate as two
from benchfarm.cli import requests
from benchfarm.cli.output import Json, print_json
from device_registry.errors import UsageError

Models = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[MODEL...]",
        help="Models that were measured; default: all. With --gate: BASE CANDIDATE, two models, model files or "
        "factories to measure. With or without: two of run:N and revision:REV, results that are stored.",
    ),
]
Device = Annotated[str, typer.Option(metavar="SELECTOR", help="Devices, for example kind=android. Default: all.")]
Invalid = Annotated[
    bool, typer.Option("--invalid", help="Compare what was judged invalid too, marked, where nothing valid is.")
]
#: As in scheduler.cells, which a command line that only prints its help does without.
Metric = Literal["latency", "p99", "energy", "memory", "size"]
#: Options that have no meaning for two things, for only one of the matrix's, and of what --gate measures.
_OF_MATRIX = ("baseline", "metric", "invalid", "csv")
_OF_TWO = ("least_effect", "markdown", "junit")
_OF_MEASURING = (
    *("processes", "max_minutes", "base_path", "candidate_path", "busy", "batch", "threads", "option", "max_seconds"),
    *("weights", "seed", "calibration", "allow_code", "wait_for_device", "priority", "owner", "executor"),
)


def compare(
    context: typer.Context,
    models: Models = None,
    device: Device = "",
    runtime: Annotated[list[str] | None, typer.Option(help="Only this runtime; repeat for more.")] = None,
    recipe: Annotated[list[str] | None, typer.Option(help="Only this recipe; repeat for more.")] = None,
    baseline: Annotated[
        str | None,
        typer.Option(metavar="RUNTIME/RECIPE", help="What speed-ups are against. Default: the unconverted program."),
    ] = None,
    metric: Annotated[Metric, typer.Option(help="What is compared; lower is better of all.")] = "latency",
    invalid: Invalid = False,
    json: Json = False,
    csv: Annotated[bool, typer.Option("--csv", help="Print one line per cell as CSV.")] = False,
    gate: two.Wanted = False,
    least_effect: two.LeastEffect = 2.0,
    markdown: two.MarkdownFile = None,
    junit: two.JunitFile = None,
    processes: two.Processes = 30,
    max_minutes: two.MostMinutes = None,
    base_path: two.BasePath = None,
    candidate_path: two.CandidatePath = None,
    busy: two.Busy = "wait",
    batch: requests.Batch = 1,
    threads: requests.Threads = "1",
    option: requests.Own = None,
    max_seconds: requests.MaxSeconds = None,
    weights: requests.Weights = "random",
    seed: requests.Seed = 0,
    calibration: requests.Calibration = None,
    allow_code: requests.AllowCode = False,
    wait_for_device: requests.WaitForDevice = False,
    priority: requests.Priority = 0,
    owner: requests.Owner = None,
    executor: requests.Executor = "ray",
) -> None:
    """Compare what was measured last: variants x devices, with intervals, and faster, slower, same or inconclusive.

    A cell without a valid value says whether it failed, is unsupported, is missing or was invalid. With --gate a
    candidate is measured now against a baseline, in turns on each device; where benchfarm up runs on this database, on
    that farm's devices. Exit codes: 0 done (with --gate: the same or faster everywhere), 2 wrong usage or something
    named that cannot be; with --gate also: 4 something is slower, less right or lost, 1 a job failed, 3 something is
    inconclusive, 130 interrupted.
    """
    names = models or []
    if gate and len(names) != 2:
        raise UsageError(f"--gate compares two: name BASE and CANDIDATE; these are {len(names)}")
    stored = two.are_stored(names)
    if gate or stored:
        what = "--gate" if gate else "two stored results"
        _refuse(context, _OF_MATRIX, f"has no meaning for {what}")
        if stored:
            _refuse(context, _OF_MEASURING, "is for what is measured now; these results are stored")
        two.compare_two(
            two.Options(
                base=names[0],
                candidate=names[1],
                gate=gate,
                device=device,
                runtime=runtime,
                recipe=recipe,
                least_effect=least_effect,
                markdown=markdown,
                junit=junit,
                json=json,
                processes=processes,
                max_minutes=max_minutes,
                base_path=base_path,
                candidate_path=candidate_path,
                busy=busy,
                batch=batch,
                threads=threads,
                option=option,
                max_seconds=max_seconds,
                weights=weights,
                seed=seed,
                calibration=calibration,
                allow_code=allow_code,
                wait_for_device=wait_for_device,
                priority=priority,
                owner=owner,
                executor=executor,
            )
        )
        return
    _refuse(context, _OF_TWO, "needs --gate, or two stored results")
    _refuse(context, _OF_MEASURING, "needs --gate: without, what was measured last is compared")
    _compare_matrix(names, device, runtime, recipe, baseline, metric, invalid, json, csv)


def _refuse(context: typer.Context, names: Sequence[str], why: str) -> None:
    """Refuse options that would do nothing.

    Raises:
        UsageError: one is given.
    """
    for parameter in context.command.params:
        if parameter.name in names and _is_given(context, parameter.name):
            raise UsageError(f"{parameter.opts[0]} {why}")


def _is_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _compare_matrix(
    models: list[str],
    device: str,
    runtime: list[str] | None,
    recipe: list[str] | None,
    baseline: str | None,
    metric: Metric,
    invalid: bool,
    json: bool,
    csv: bool,
) -> None:
    from benchfarm.config import load_home
    from device_registry.database import reading
    from device_registry.tables import utc_now
    from scheduler.cells import Wanted, variant_named
    from scheduler.farm import Farm
    from scheduler.matrix import matrix

    if json and csv:
        raise UsageError("--json and --csv exclude each other")
    wanted = Wanted(
        models=tuple(models),
        selector=device,
        runtimes=tuple(runtime or ()),
        recipes=tuple(recipe or ()),
        baseline=None if baseline is None else variant_named(baseline),
        metric=metric,
        invalid=invalid,
    )
    with reading(Farm(load_home()).engine) as connection:
        found = matrix(connection, wanted, utc_now())
        shown = _print(found, metric, json, csv)
    if not shown and not (json or csv):
        raise UsageError("nothing that was measured fits these options; benchfarm compare shows all there is")


def _print(found: Any, metric: str, json: bool, csv: bool) -> int:
    """Print each model as it comes; returns how many."""
    from exporters.files import export_rows
    from exporters.matrix_tables import matrix_view
    from exporters.tables import console_width, show

    if json:
        rows = [row for _, cells in found for row in cells]
        print_json({"metric": metric, "rows": rows})
        return len(rows)
    if csv:
        return export_rows((row for _, cells in found for row in cells), "csv", None)
    models = 0
    for model, cells in found:
        show(matrix_view(model, cells, width=console_width()))
        models += 1
    return models
