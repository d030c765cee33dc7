"""`benchfarm report`: one HTML file that needs nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchfarm.cli.compare import Device, Invalid, Models
from benchfarm.cli.output import MOST


def report(
    models: Models = None,
    device: Device = "",
    run: Annotated[
        int | None,
        typer.Option(min=1, max=MOST, help="Whose telemetry and failures are shown; default: the latest that fits."),
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The file to write.")] = Path(
        "report.html"
    ),
    invalid: Invalid = False,
    open_: Annotated[bool, typer.Option("--open", help="Show it in the browser.")] = False,
) -> None:
    """Write what was measured as one HTML file: matrix, trade-offs, devices, telemetry, coverage, how it was measured.

    The file needs no network. It is about 5 MB, for the library that draws its charts is in it.
    """
    from benchfarm.config import load_home
    from device_registry.database import reading
    from device_registry.tables import utc_now
    from exporters.report.page import write_report
    from scheduler.cells import Wanted
    from scheduler.farm import Farm

    wanted = Wanted(models=tuple(models or ()), selector=device, invalid=invalid)
    with reading(Farm(load_home()).engine) as connection:
        written = write_report(connection, wanted, run, output, utc_now())
    typer.echo(f"{output}: {written / 1e6:.1f} MB")
    if open_:
        typer.launch(str(output.absolute()))
