"""The examination behind `benchfarm doctor`."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchfarm.config import load_home
from device_registry.capabilities import BackendCapability
from device_registry.errors import BenchfarmError, UsageError
from scheduler.schema import current_revision, open_database
from workers.android.provision import missing_files
from workers.android.settings import Settings, load_settings, settings_path
from workers.errors import AttemptError
from workers.host import describe_host, discover_devices
from workers.plugins import capability, plugins
from workers.runtimes.phone_tools import PHONE_TOOLS

if TYPE_CHECKING:
    from workers.android.survey import Seen
    from workers.android.tools.tool import PhoneTool

_LEAST_FREE_BYTES = 2 * 10**9


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    seam: str
    name: str
    ok: bool
    detail: str
    fix: str | None = None
    #: Whether benchfarm cannot work without it.
    needed: bool = False


def examine() -> list[Finding]:
    """Look at the data directory, the database, the devices, every registered backend, and what phones need."""
    findings = [_home(), _database()]
    host = describe_host()
    findings += [
        Finding("device", device.name, True, f"{device.attributes.get('model')} ({device.kind})", needed=True)
        for device in discover_devices()
    ]
    for seam, capabilities in (("runtime", host.runtimes), ("converter", host.converters), ("sensor", host.sensors)):
        findings += [_backend(seam, item) for item in capabilities]
    for name, plugin in plugins("model_sources").items():
        source = plugin.load()
        findings.append(_backend("model source", capability(name, source.packages, source.extra)))
    return findings + _android()


def _home() -> Finding:
    home = load_home()
    try:
        home.prepare()
    except BenchfarmError as error:
        return Finding("data", "directory", False, str(error), "export BENCHFARM_HOME=FOLDER", needed=True)
    free = shutil.disk_usage(home.path).free
    enough = free >= _LEAST_FREE_BYTES
    return Finding(
        "data",
        "directory",
        enough,
        f"{home.path}, {free / 1e9:.0f} GB free",
        None if enough else "free some space",
        needed=True,
    )


def _database() -> Finding:
    home = load_home()
    try:
        engine = open_database(home.database_url)
        return Finding(
            "data", "database", True, f"{engine.dialect.name}, schema {current_revision(engine)}", needed=True
        )
    except BenchfarmError as error:
        return Finding("data", "database", False, str(error), "benchfarm db upgrade", needed=True)


def _android() -> list[Finding]:
    """What there is to drive phones: adb, its server, the phones, and a build of each tool for each of them."""
    try:
        settings = load_settings(settings_path(load_home().path))
    except UsageError as error:
        return [Finding("android", "settings", False, str(error), "mend it; docs/android.md lists every key")]
    from_file = Finding("android", "settings", True, str(settings.path or "defaults; there is no android.toml"))
    missing = capability("adb", ("adbutils",), "android")
    if missing.why_not is not None:
        return [from_file, Finding("android", "adb", False, missing.why_not, missing.fix)]

    from workers.android.adb import AdbServer
    from workers.android.survey import survey

    server = AdbServer(settings.adb.port, settings.adb.path)
    if server.adb is None:
        wanted = settings.adb.path or "adb"
        return [from_file, Finding("android", "adb", False, f"no program {wanted}", "pip install 'benchfarm[android]'")]
    found = [from_file, Finding("android", "adb", True, server.adb)]
    try:
        version, phones = server.version(), survey(server)
    except AttemptError as error:
        # Where phones are wanted, discovery has started it by now.
        return [*found, Finding("android", "adb server", False, error.message, "benchfarm android list")]
    found.append(Finding("android", "adb server", True, f"port {server.port}, protocol {version}"))
    found += [_phone(seen) for seen in phones]
    return found + _tools(settings, phones)


def _phone(seen: Seen) -> Finding:
    model = seen.identity.attributes.get("model") if seen.identity is not None else None
    detail = f"{model}, {seen.listed.said}" if model else seen.listed.said
    return Finding("phone", seen.listed.serial, seen.remedy is None, detail, seen.remedy)


def _tools(settings: Settings, phones: list[Seen]) -> list[Finding]:
    """A line for each configured build, and one for each ABI of a phone that a tool has no build for."""
    found = []
    for name, tool in PHONE_TOOLS.items():
        for abi, build in settings.tools.get(name, {}).items():
            gone = ", ".join(str(path) for path in missing_files(build))
            detail = f"not there: {gone}" if gone else f"{build.label}, {build.binary.path}"
            mend = f"put it there, or correct [tools.{name}.{abi}]" if gone else None
            found.append(Finding("phone tool", f"{name} {abi}", not gone, detail, mend))
        best = {seen.abis[0] for seen in phones if seen.abis and settings.tool(name, seen.abis) is None}
        found += [
            Finding("phone tool", f"{name} {abi}", False, "no build is configured", _how_to_get(tool, abi))
            for abi in sorted(best)
        ]
    return found


def _how_to_get(tool: PhoneTool, abi: str) -> str:
    return f"{tool.published}; then [tools.{tool.binary}.{abi}] in android.toml and benchfarm android provision"


def _backend(seam: str, item: BackendCapability) -> Finding:
    versions = ", ".join(f"{name} {version}" for name, version in item.versions.items())
    return Finding(seam, item.name, item.why_not is None, item.why_not or versions or "ready", item.fix)
