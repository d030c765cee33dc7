"""`benchfarm devices`: what is measured, and what people say each may do."""

from __future__ import annotations

import getpass
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from benchfarm.cli.output import Json, print_json
from device_registry.errors import UsageError

if TYPE_CHECKING:
    from device_registry.health import Admin
    from device_registry.registry import RegisteredDevice
    from scheduler.farm import Farm

app = typer.Typer(help="Devices of the farm.", no_args_is_help=True)

Devices = Annotated[
    list[str], typer.Argument(metavar="DEVICE...", help="Names or keys of devices, or selectors such as host=lab-2.")
]
Why = Annotated[str | None, typer.Option(help="The reason, for others to read.")]


def _known_devices(selector_text: str = "") -> list[RegisteredDevice]:
    """Devices in the registry; on a new data directory that is no farm's, this host is looked at first."""
    from device_registry.database import reading
    from device_registry.registry import list_devices
    from device_registry.selectors import parse_selector
    from device_registry.tables import utc_now
    from scheduler.leases import is_led

    selector = parse_selector(selector_text)
    farm = _farm()
    with reading(farm.engine) as connection:
        found, led = list_devices(connection), is_led(connection, utc_now())
    if not found and not led and farm.home.has_own_database:
        from scheduler.embedded import EmbeddedFarm

        EmbeddedFarm(farm.home).register_this_host()
        with reading(farm.engine) as connection:
            found = list_devices(connection)
    return [device for device in found if selector.matches(device.selectable)]


def _public(device: RegisteredDevice) -> dict[str, Any]:
    row = asdict(device)
    del row["host_description"]
    return row | {"simulated": device.simulated, "label": device.label}


@app.command("list")
def list_(
    selector: Annotated[str, typer.Argument(metavar="[SELECTOR]", help="For example kind=cpu,cores>=4.")] = "",
    json: Json = False,
) -> None:
    """List devices."""
    found = [_public(device) for device in _known_devices(selector)]
    if json:
        print_json(found)
        return
    from exporters.farm_tables import devices_table
    from exporters.tables import show

    show(devices_table(found))


@app.command("show")
def show_(name: Annotated[str, typer.Argument(help="Name or key of a device.")], json: Json = False) -> None:
    """Show one device with all its attributes, which selectors compare, and what happened to it."""
    from device_registry.database import reading
    from scheduler.records import device_events

    device = _named(_known_devices(), name)
    with reading(_farm().engine) as connection:
        events = device_events(connection, device.id)
    if json:
        print_json(_public(device) | {"events": events})
        return
    from exporters.farm_tables import device_view
    from exporters.tables import show

    show(device_view(_public(device), device.selectable, events))


@app.command("drain")
def drain(devices: Devices, why: Why = None, json: Json = False) -> None:
    """Give devices no new work; what runs there ends as it would."""
    _administer(devices, "draining", why, json)


@app.command("maintenance")
def maintenance(devices: Devices, why: Why = None, json: Json = False) -> None:
    """Take devices out of service while somebody works on them."""
    _administer(devices, "maintenance", why, json)


@app.command("quarantine")
def quarantine(devices: Devices, why: Why = None, json: Json = False) -> None:
    """Put devices aside that are not to be trusted; only release brings them back."""
    _administer(devices, "quarantined", why, json)


@app.command("resume")
def resume(devices: Devices, why: Why = None, json: Json = False) -> None:
    """Let devices that were drained or in maintenance work again."""
    _administer(devices, "enabled", why, json, refused=("quarantined", "release"))


@app.command("release")
def release(devices: Devices, why: Why = None, json: Json = False) -> None:
    """Let quarantined devices work again."""
    _administer(devices, "enabled", why, json)


@app.command("tag")
def tag(
    devices: Devices,
    add: Annotated[list[str] | None, typer.Option(help="A tag to set; repeat for more.")] = None,
    remove: Annotated[list[str] | None, typer.Option(help="A tag to take away; repeat for more.")] = None,
    json: Json = False,
) -> None:
    """Set or take away tags, which selectors compare: --device tag=canary."""
    from device_registry.database import writing
    from device_registry.tables import utc_now
    from scheduler.interventions import tag_device

    if not (add or remove):
        raise UsageError("say which tag: --add TAG or --remove TAG")
    chosen = _chosen(devices)
    with writing(_farm().engine) as connection:
        for device in chosen:
            tag_device(connection, device.id, add or (), remove or (), who=getpass.getuser(), now=utc_now())
    _tell(chosen, json)


def _administer(
    names: list[str], admin: Admin, why: str | None, json: bool, refused: tuple[str, str] | None = None
) -> None:
    from device_registry.database import writing
    from device_registry.tables import utc_now
    from scheduler.quarantine import set_admin

    chosen = _chosen(names)
    for device in chosen:
        if refused is not None and device.admin == refused[0]:
            raise UsageError(f"{device.name} is {device.admin}: use benchfarm devices {refused[1]}")
    with writing(_farm().engine) as connection:
        for device in chosen:
            set_admin(connection, device.id, admin, who=getpass.getuser(), why=why, now=utc_now())
    _tell(chosen, json)


def _tell(chosen: list[RegisteredDevice], json: bool) -> None:
    ids = {device.id for device in chosen}
    now = [device for device in _known_devices() if device.id in ids]
    if json:
        print_json([_public(device) for device in now])
    else:
        lines = [f"{d.label} is {d.admin}" + (f", tags {', '.join(d.tags)}" if d.tags else "") for d in now]
        typer.echo("\n".join(lines))


def _chosen(names: list[str]) -> list[RegisteredDevice]:
    """The devices that names, keys or selectors mean, each once."""
    from device_registry.selectors import parse_selector

    known = _known_devices()
    found: dict[int, RegisteredDevice] = {}
    for name in names:
        if any(sign in name for sign in "=<>~") and not any(name in (d.name, d.key) for d in known):
            selector = parse_selector(name)
            matching = [device for device in known if selector.matches(device.selectable)]
            if not matching:
                raise UsageError(f"no device matches {name!r}; see benchfarm devices list")
        else:
            matching = [_named(known, name)]
        found |= {device.id: device for device in matching}
    return list(found.values())


def _named(known: list[RegisteredDevice], name: str) -> RegisteredDevice:
    matching = [device for device in known if device.key == name] or [d for d in known if d.name == name]
    if not matching:
        raise UsageError(f"no device {name!r}; see benchfarm devices list")
    if len(matching) > 1:
        raise UsageError(f"{len(matching)} devices are called {name!r}; use a key: {matching[0].key}, ...")
    return matching[0]


def _farm() -> Farm:
    from benchfarm.config import load_home
    from scheduler.farm import Farm

    return Farm(load_home())
