"""`benchfarm results`: what was measured."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from benchfarm.cli.output import MOST, Json, print_json
from device_registry.errors import UsageError

app = typer.Typer(help="Results of runs.", no_args_is_help=True)


def _engine() -> Any:
    from benchfarm.config import load_home
    from scheduler.farm import Farm

    return Farm(load_home()).engine


@app.command("list")
def list_(
    limit: Annotated[int, typer.Option(min=1, help="How many cases, newest run first.")] = 30, json: Json = False
) -> None:
    """List measured cases, newest run first."""
    from device_registry.database import reading
    from exporters.numbers import significant
    from exporters.tables import device_label, show, simple_table
    from scheduler.comparisons import latest_results

    with reading(_engine()) as connection:
        found = latest_results(connection, limit)
    if json:
        print_json(found)
        return
    rows = [
        [
            str(r["run"]),
            r["model"],
            r["runtime"],
            r["recipe"],
            device_label(r),
            str(r["threads"]),
            significant(r["p50_ms"]),
            r["verdict"],
        ]
        for r in found
    ]
    show(simple_table("Results", ["run", "model", "runtime", "recipe", "device", "threads", "p50 ms", "verdict"], rows))


@app.command("show")
def show_(
    run: Annotated[int | None, typer.Argument(min=1, max=MOST, help="Number of a run; default: the latest.")] = None,
    json: Json = False,
) -> None:
    """Show the table of one run again."""
    from device_registry.database import reading
    from exporters.tables import console_width, results_view, show
    from scheduler.comparisons import run_results
    from scheduler.status import known_run

    with reading(_engine()) as connection:
        number = known_run(connection, run)
        outcome = run_results(connection, number)
    if json:
        print_json(
            {"run": number, "results": outcome.results, "failed": outcome.failed, "unsupported": outcome.unsupported}
        )
    else:
        show(results_view(outcome.results, outcome.failed, outcome.unsupported, width=console_width()))


@app.command("export")
def export(
    format_: Annotated[Literal["csv", "json", "parquet"], typer.Option("--format", help="Format of the file.")] = "csv",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="File to write; default: standard output (parquet needs a file)."),
    ] = None,
    run: Annotated[int | None, typer.Option(min=1, max=MOST, help="Only this run; default: all.")] = None,
) -> None:
    """Export one row per case and device."""
    from device_registry.database import reading
    from exporters.files import export_rows
    from scheduler.comparisons import latest_results, run_results
    from scheduler.status import known_run

    with reading(_engine()) as connection:
        if run is not None:
            rows = [{"run": run, **row} for row in run_results(connection, known_run(connection, run)).results]
        else:
            rows = latest_results(connection, limit=1_000_000)
    if format_ == "parquet" and output is None:
        raise UsageError("parquet is not text: give a file with --output")
    written = export_rows(rows, format_, output)
    if written is not None:
        typer.echo(written, nl=False)
