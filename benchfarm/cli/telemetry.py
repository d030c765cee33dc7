"""`benchfarm telemetry`: what sensors told of a job."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from benchfarm.cli.output import MOST, Json, print_json

if TYPE_CHECKING:
    from scheduler.farm import Farm

app = typer.Typer(help="What sensors told while jobs ran.", no_args_is_help=True)

JobId = Annotated[int, typer.Argument(min=1, max=MOST, help="Number of the job; see benchfarm jobs list.")]


def _farm() -> Farm:
    from benchfarm.config import load_home
    from scheduler.farm import Farm

    return Farm(load_home())


@app.command("show")
def show_(job: JobId, json: Json = False) -> None:
    """Show one line for each channel of a job's last attempt that told any: its values, and what is missing and why."""
    from device_registry.database import reading
    from exporters.tables import show
    from exporters.telemetry_tables import telemetry_view
    from scheduler.telemetry_of import rows_of, source_of, summaries

    with reading(_farm().engine) as connection:
        source = source_of(connection, job)
        found = summaries(rows_of(connection, source))
    if json:
        print_json({"job": job, "attempt": source.attempt_id, "device": source.device, "channels": found})
    else:
        show(telemetry_view(source, found))


@app.command("export")
def export(
    job: JobId,
    format_: Annotated[Literal["csv", "json", "parquet"], typer.Option("--format", help="Of the file.")] = "csv",
    full_rate: Annotated[
        bool, typer.Option("--full-rate", help="All that was read, instead of one value per second and channel.")
    ] = False,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="File; default: standard output.")] = None,
) -> None:
    """Write what sensors told of a job, a row for each reading."""
    from device_registry.database import reading
    from exporters.files import export_rows
    from scheduler.telemetry_of import export_rows_of, full_rate_of, rows_of, source_of

    farm = _farm()
    with reading(farm.engine) as connection:
        source = source_of(connection, job)
        readings = rows_of(connection, source) if not full_rate else []
    if full_rate:
        readings = full_rate_of(farm.store, source)
    count = export_rows(export_rows_of(source, readings), format_, output)
    if output is not None:
        typer.echo(f"{count} readings in {output}", err=True)
