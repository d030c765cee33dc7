"""`benchfarm hosts`: the machines that devices hang on."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

from benchfarm.cli.output import Json, print_json
from device_registry.errors import UsageError

app = typer.Typer(help="Hosts of the farm.", no_args_is_help=True)


def _engine() -> Any:
    from benchfarm.config import load_home
    from scheduler.farm import Farm

    return Farm(load_home()).engine


@app.command("list")
def list_(json: Json = False) -> None:
    """List hosts: whether they are there, and if not, why."""
    from device_registry.database import reading
    from exporters.farm_tables import hosts_table
    from exporters.tables import show
    from scheduler.glance import hosts_at_a_glance

    with reading(_engine()) as connection:
        found = hosts_at_a_glance(connection)
    if json:
        print_json(found)
    else:
        show(hosts_table(found))


@app.command("show")
def show_(name: Annotated[str, typer.Argument(help="Name or key of a host.")], json: Json = False) -> None:
    """Show one host: what it is, its devices, and what each backend can do there."""
    from device_registry.database import reading
    from device_registry.registry import list_devices, list_hosts
    from exporters.farm_tables import host_view
    from exporters.tables import show

    with reading(_engine()) as connection:
        matching = [host for host in list_hosts(connection) if name in (host.name, host.key)]
        devices = list_devices(connection)
    if not matching:
        raise UsageError(f"no host {name!r}; see benchfarm hosts list")
    # Of two hosts of one name the second was refused: what people mean is the other.
    host = min(matching, key=lambda host: (host.presence != "online", host.id))
    found = asdict(host) | {"devices": [device.label for device in devices if device.host_id == host.id]}
    if json:
        print_json(found)
    else:
        show(host_view(found))
