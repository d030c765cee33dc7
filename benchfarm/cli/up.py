"""`benchfarm up`: the farm's service."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def up(
    address: Annotated[
        str | None,
        typer.Option(
            metavar="HOST[:PORT]",
            help="Of a Ray head that `benchfarm head` keeps up. Default: start one on 127.0.0.1 unless one runs, and"
            " leave it running.",
        ),
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option(help="The farm's token; default: ray-token in the data directory.")
    ] = None,
    metrics: Annotated[
        str, typer.Option(metavar="HOST[:PORT]", help="Where to serve /metrics for Prometheus, and /healthz.")
    ] = "127.0.0.1:9464",
    no_metrics: Annotated[bool, typer.Option("--no-metrics", help="Serve no metrics.")] = False,
) -> None:
    """Run the farm's service on the head: it gives jobs to hosts and takes their results, until told to end.

    Ending it disturbs no running job. A second one on the same database stands by; on the same machine it needs
    another address for its metrics.
    """
    from contextlib import ExitStack

    from benchfarm.cli.service import log_to_terminal, say, serve_metrics, until_told
    from benchfarm.config import load_home, telemetry_days
    from scheduler.head import DEFAULT_ADDRESS, running_head, start_head
    from scheduler.schema import migrate
    from scheduler.service import Service

    log_to_terminal()
    with until_told() as stop, ExitStack() as serving:
        home, days = load_home(), telemetry_days()
        home.prepare()
        if not no_metrics:  # first: an address that is taken is told before anything was begun
            served_at = serving.enter_context(serve_metrics(home, metrics, option="--metrics, or --no-metrics"))
            say(f"metrics at http://{served_at}/metrics")
        migrate(home.database_url)
        own = address is None
        if address is None:
            head = running_head(home.path)
            if head is None:
                say("starting a Ray head")
                head = start_head(home.path, DEFAULT_ADDRESS)
            address = head.address
        token = token_file or home.path / "ray-token"
        service = Service(home, address, token, telemetry_days=days)
        say(f"the farm is up; a host joins it with: benchfarm join {address} --name NAME")
        say(f"each host needs a copy of the token file {token}, mode 0600, in its own data directory")
        service.run(stop)
        say("the service ended; hosts go on with what they run, and wait for the next `benchfarm up`")
        if own:
            say("the Ray head goes on too; `benchfarm down` ends it")
