"""`benchfarm devices`: what is measured."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from benchfarm.cli.output import Json, print_json
from device_registry.errors import UsageError

if TYPE_CHECKING:
    from device_registry.registry import RegisteredDevice

app = typer.Typer(help="Devices of the farm.", no_args_is_help=True)


def _known_devices(selector_text: str = "") -> list[RegisteredDevice]:
    """Devices in the registry; on a new data directory, this host is looked at first."""
    from benchfarm.config import load_home
    from device_registry.database import open_engine, reading
    from device_registry.registry import list_devices
    from device_registry.selectors import parse_selector
    from scheduler.schema import HEAD, current_revision

    selector = parse_selector(selector_text)
    home = load_home()
    home.prepare()
    engine = open_engine(home.database_url)
    if current_revision(engine) == HEAD:
        with reading(engine) as connection:
            if list_devices(connection):
                return list_devices(connection, selector)
    from scheduler.embedded import EmbeddedFarm

    farm = EmbeddedFarm(home)
    farm.register_this_host()
    with reading(farm.engine) as connection:
        return list_devices(connection, selector)


def _public(device: RegisteredDevice) -> dict[str, Any]:
    row = asdict(device)
    del row["host_description"]
    return row


@app.command("list")
def list_(
    selector: Annotated[str, typer.Argument(metavar="[SELECTOR]", help="For example kind=cpu,cores>=4.")] = "",
    json: Json = False,
) -> None:
    """List devices."""
    found = _known_devices(selector)
    if json:
        print_json([_public(device) for device in found])
        return
    from exporters.tables import show, simple_table

    rows = [
        [
            device.name,
            device.kind,
            device.host,
            str(device.attributes.get("model") or ""),
            device.presence,
            device.admin,
        ]
        for device in found
    ]
    show(simple_table("Devices", ["name", "kind", "host", "model", "presence", "admin"], rows))


@app.command("show")
def show_(name: Annotated[str, typer.Argument(help="Name or key of a device.")], json: Json = False) -> None:
    """Show one device with all its attributes, which selectors compare."""
    found = [device for device in _known_devices() if name in (device.name, device.key)]
    if not found:
        raise UsageError(f"no device {name!r}; see benchfarm devices list")
    if json:
        print_json(_public(found[0]))
        return
    from exporters.tables import show, simple_table

    shown = {**found[0].selectable, "presence": found[0].presence, "admin": found[0].admin}
    rows = [[key, "unknown" if value is None else str(value)] for key, value in shown.items()]
    show(simple_table(found[0].name, ["attribute", "value"], rows))
