"""`benchfarm exporter`: metrics of a farm, without its service."""

from __future__ import annotations

from typing import Annotated

import typer


def exporter(
    listen: Annotated[
        str,
        typer.Option(
            metavar="HOST[:PORT]",
            help="Where to serve /metrics and /healthz. Anybody who reaches it reads names of devices and models.",
        ),
    ] = "127.0.0.1:9464",
) -> None:
    """Serve the farm's metrics for Prometheus, as `benchfarm up` does, until told to end.

    Only reads the database (BENCHFARM_DATABASE_URL), and outlives it: while it is slow, away or being migrated, the
    last good state is shown with its age. Rights of benchfarm_reader are enough.
    """
    from benchfarm.cli.service import log_to_terminal, say, serve_metrics, until_told
    from benchfarm.config import load_home

    log_to_terminal()
    with until_told() as stop, serve_metrics(load_home(), listen, option="--listen") as address:
        say(f"metrics at http://{address}/metrics")
        stop.wait()
    say("the exporter ended")
