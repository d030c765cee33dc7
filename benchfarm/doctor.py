"""The examination behind `benchfarm doctor`."""

from __future__ import annotations

import shutil
from dataclasses import dataclass

from benchfarm.config import load_home
from device_registry.capabilities import BackendCapability
from device_registry.errors import BenchfarmError
from scheduler.schema import current_revision, open_database
from workers.host import describe_host, discover_devices
from workers.plugins import capability, plugins

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
    """Look at the data directory, the database, the devices, and every registered backend."""
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
    return findings


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


def _backend(seam: str, item: BackendCapability) -> Finding:
    versions = ", ".join(f"{name} {version}" for name, version in item.versions.items())
    return Finding(seam, item.name, item.why_not is None, item.why_not or versions or "ready", item.fix)
