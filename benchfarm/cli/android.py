"""`benchfarm android`: the phones that hang on this host, and the tools that are pushed to them."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from benchfarm.cli.output import Json, print_json
from device_registry.errors import UsageError

if TYPE_CHECKING:
    from workers.android.adb import AdbServer
    from workers.android.provision import Standing
    from workers.android.settings import Settings
    from workers.android.survey import Seen

app = typer.Typer(help="Android phones of this host, over adb.", no_args_is_help=True)


@app.command("list")
def list_(json: Json = False) -> None:
    """List the phones that adb sees here, and what to do about those that cannot be used."""
    found = _survey(_settings())
    rows = [_public(seen) for seen in found]
    if json:
        print_json(rows)
        return
    from exporters.tables import show, simple_table

    columns = ["serial", "state", "phone", "Android", "SoC", "ABI", "what to do"]
    names = ["serial", "state", "model", "os", "soc", "abi", "remedy"]
    cells = [["" if row[name] is None else str(row[name]) for name in names] for row in rows]
    show(simple_table("Phones of this host", columns, cells))


@app.command("provision")
def provision(
    device: Annotated[
        list[str] | None, typer.Option(help="Only this phone: adb serial, serial number, key or name; repeat for more.")
    ] = None,
    json: Json = False,
) -> None:
    """Push the tools of android.toml to the phones of this host, verify them there, and try each."""
    settings = _settings()
    if not settings.tools:
        where = settings.path or "no android.toml was found"
        raise UsageError(f"no tools are configured ({where}); docs/android.md says how")
    chosen = _chosen(_survey(settings), device or [])
    rows = _provision(chosen, settings)
    if json:
        print_json(rows)
    else:
        from exporters.tables import show, simple_table

        names = ["serial", "tool", "abi", "version", "delegate", "state", "why"]
        cells = [["" if row[name] is None else str(row[name]) for name in names] for row in rows]
        show(simple_table("Tools on phones", ["phone", *names[1:]], cells))
    if any(row["state"] == "failed" for row in rows):
        raise typer.Exit(1)


def _provision(chosen: list[Seen], settings: Settings) -> list[dict[str, Any]]:
    """All phones at the same time: most of it is waiting for them."""
    from concurrent.futures import ThreadPoolExecutor

    from workers.android.provision import Standing, provision_phone
    from workers.errors import AttemptError

    def one(seen: Seen) -> list[Standing]:
        assert seen.phone is not None
        try:
            found = provision_phone(seen.phone, settings, seen.abis)
        except AttemptError as error:
            return [Standing("-", "", "", None, "failed", error.message)]
        wanted = ", ".join(settings.tools)
        nothing = f"android.toml has no build of {wanted} for {', '.join(seen.abis) or 'its ABI, which is unknown'}"
        return found or [Standing("-", "", "", None, "failed", nothing)]

    with ThreadPoolExecutor(max_workers=max(len(chosen), 1)) as pool:
        standings = pool.map(one, chosen)
        return [
            {"serial": seen.listed.serial, **asdict(standing)}
            for seen, found in zip(chosen, standings, strict=True)
            for standing in found
        ]


def _chosen(found: list[Seen], names: list[str]) -> list[Seen]:
    for name in names:
        if not any(seen.is_called(name) for seen in found):
            raise UsageError(f"no phone {name!r} here; see benchfarm android list")
    wanted = [seen for seen in found if not names or any(seen.is_called(name) for name in names)]
    online = [seen for seen in wanted if seen.phone is not None]
    if not online or (names and len(online) < len(wanted)):
        away = next((seen for seen in wanted if seen.phone is None), None)
        what = f"{away.listed.serial} is {away.listed.said}: {away.remedy}" if away else "no phone is connected"
        raise UsageError(f"{what}; see benchfarm android list")
    return online


def _public(seen: Seen) -> dict[str, Any]:
    identity = seen.identity
    attributes = identity.attributes if identity is not None else {}
    return {
        "serial": seen.listed.serial,
        "usb_path": seen.listed.usb_path,
        "state": seen.listed.presence.value,
        "said": seen.listed.said,
        "remedy": seen.remedy,
        "key": identity.key if identity is not None else None,
        **{name: attributes.get(name) for name in ("brand", "model", "soc", "os", "sdk", "abi")},
    }


def _settings() -> Settings:
    from benchfarm.config import load_home
    from workers.android.settings import load_settings, settings_path

    return load_settings(settings_path(load_home().path))


def _survey(settings: Settings) -> list[Seen]:
    """Look at the phones; the server is started where none runs, as `adb devices` would.

    Raises:
        UsageError: there is no adb here, or its server does not start.
    """
    from workers.android.survey import survey
    from workers.errors import AttemptError

    server = _server(settings)
    try:
        try:
            return survey(server)
        except AttemptError:
            server.start()
            return survey(server)
    except AttemptError as error:
        raise UsageError(error.message) from error


def _server(settings: Settings) -> AdbServer:
    try:
        from workers.android.adb import AdbServer
    except ModuleNotFoundError as error:
        raise UsageError(f"{error.name} is not installed: pip install 'benchfarm[android]'") from error
    return AdbServer(settings.adb.port, settings.adb.path)
