"""`benchfarm status`: the farm at a glance."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from benchfarm.cli.output import Json, print_json
from device_registry.errors import UsageError

#: Between two looks.
_PERIOD_S = 2.0


def status(
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Look again every two seconds, until Ctrl-C.")] = False,
    json: Json = False,
) -> None:
    """Show who dispatches, hosts, devices, what waits, what runs and what failed lately."""
    from benchfarm.config import load_home
    from exporters.farm_tables import status_view
    from exporters.tables import show
    from scheduler.farm import Farm

    if watch and json:
        raise UsageError("--watch and --json exclude each other")
    farm = Farm(load_home())
    if json:
        print_json(_look(farm))
    elif watch:
        _watch(farm)
    else:
        show(status_view(_look(farm)))


def _look(farm: Any) -> dict[str, Any]:
    from device_registry.database import reading
    from device_registry.tables import utc_now
    from scheduler.glance import farm_status

    with reading(farm.engine) as connection:
        return farm_status(connection, utc_now())


def _watch(farm: Any) -> None:
    from rich.console import Console
    from rich.live import Live

    from exporters.farm_tables import status_view
    from exporters.harmless import Harmless

    console, view = Console(), Harmless(status_view(_look(farm)))
    with Live(view, console=console, auto_refresh=False, screen=console.is_terminal) as live:
        try:
            while True:
                time.sleep(_PERIOD_S)
                live.update(Harmless(status_view(_look(farm))), refresh=True)
        except KeyboardInterrupt:
            raise typer.Exit(130) from None
