"""`benchfarm compare`: variants x devices, each against its baseline."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

from benchfarm.cli.output import Json, print_json
from device_registry.errors import UsageError

Models = Annotated[
    list[str] | None, typer.Argument(metavar="[MODEL...]", help="Models that were measured. Default: all.")
]
Device = Annotated[str, typer.Option(metavar="SELECTOR", help="Devices, for example kind=android. Default: all.")]
Invalid = Annotated[
    bool, typer.Option("--invalid", help="Compare what was judged invalid too, marked, where nothing valid is.")
]
#: As in scheduler.cells, which a command line that only prints its help does without.
Metric = Literal["latency", "p99", "energy", "memory", "size"]


def compare(
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
) -> None:
    """Compare what was measured last: variants x devices, with intervals, and faster, slower, same or inconclusive.

    A cell without a valid value says whether it failed, is unsupported, is missing or was invalid. Exit codes: 0 done,
    2 wrong usage or something named that cannot be.
    """
    from benchfarm.config import load_home
    from device_registry.database import reading
    from device_registry.tables import utc_now
    from scheduler.cells import Wanted, variant_named
    from scheduler.farm import Farm
    from scheduler.matrix import matrix

    if json and csv:
        raise UsageError("--json and --csv exclude each other")
    wanted = Wanted(
        models=tuple(models or ()),
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
