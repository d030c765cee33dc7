"""`benchfarm up`: the farm's service."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from sqlalchemy import Engine


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

    It also starts what schedules have due, confirms what looks like a regression, and tells of it.

    Ending it disturbs no running job. A second one on the same database stands by; on the same machine it needs
    another address for its metrics.
    """
    from contextlib import ExitStack

    from benchfarm.cli.service import log_to_terminal, say, serve_metrics, until_told
    from benchfarm.config import load_home, telemetry_days
    from device_registry.database import open_engine
    from exporters.notifiers.courier import Courier
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
        engine = open_engine(home.database_url)
        serving.callback(engine.dispose)
        courier = Courier(engine, home)
        serving.callback(courier.close)
        service = Service(home, address, token, telemetry_days=days, deliver=courier.step)
        say(f"the farm is up; a host joins it with: benchfarm join {address} --name NAME")
        say(f"each host needs a copy of the token file {token}, mode 0600, in its own data directory")
        say(_schedules(engine))
        service.run(stop)
        say("the service ended; hosts go on with what they run, and wait for the next `benchfarm up`")
        if own:
            say("the Ray head goes on too; `benchfarm down` ends it")


def _schedules(engine: Engine) -> str:
    """How many schedules there are, and when the next is due."""
    from device_registry.database import reading
    from exporters.schedule_tables import due_text
    from scheduler.schedules.schedule import list_schedules

    with reading(engine) as connection:
        known = list_schedules(connection)
    if not known:
        return "no schedules; benchfarm schedule add makes one"
    count = f"{len(known)} schedule" + ("s" if len(known) != 1 else "")
    due = sorted((one for one in known if one["next_due_at"] is not None), key=lambda one: one["next_due_at"])
    if not due:
        return f"{count}, and none is due: paused"
    return f"{count}; the next, {due[0]['name']}, is due {due_text(due[0]['next_due_at'], due[0]['timezone'])}"
