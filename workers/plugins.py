"""Backends by entry point: ours and anybody's are found the same way, and a duplicate name fails at start."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, entry_points, version
from importlib.util import find_spec
from typing import Any

from device_registry.capabilities import BackendCapability
from device_registry.errors import BenchfarmError


class PluginError(BenchfarmError):
    """A backend's registration cannot be used."""


@dataclass(frozen=True)
class Plugin:
    """One registered backend; its module is imported when it is loaded, not before."""

    name: str
    entry: str  # "module:Class": an order carries it, so that a runner needs no installed metadata

    def load(self) -> Any:
        """Import and make the backend. Importing a backend's module never imports its library."""
        return load_entry(self.entry)


@cache
def plugins(seam: str) -> dict[str, Plugin]:
    """Registered backends of a seam: model_sources, converters, runtimes, devices or sensors.

    Raises:
        PluginError: two registrations share a name.
    """
    found: dict[str, Plugin] = {}
    for point in sorted(entry_points(group=f"benchfarm.{seam}"), key=lambda point: point.value):
        if point.name in found and found[point.name].entry != point.value:
            raise PluginError(f"two {seam} are called {point.name!r}: {found[point.name].entry} and {point.value}")
        found[point.name] = Plugin(point.name, point.value)
    if not found and seam != "sensors":
        raise PluginError(f"no {seam} are registered: benchfarm is not installed in this interpreter (make install)")
    return found


def load_entry(entry: str) -> Any:
    """The object that "module:Class" names, made."""
    module, _, name = entry.partition(":")
    return getattr(importlib.import_module(module), name)()


def package_versions(packages: tuple[str, ...]) -> dict[str, str]:
    """Installed versions of distributions; a missing one is left out."""
    versions = {}
    for package in packages:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


def capability(name: str, packages: tuple[str, ...], extra: str, why_not: str | None = None) -> BackendCapability:
    """What a host can say of one backend without importing its library.

    Args:
        name: the backend's registered name.
        packages: distributions it needs.
        extra: the extra of benchfarm that brings them.
        why_not: a reason apart from missing packages.
    """
    versions = package_versions(packages)
    missing = [package for package in packages if package not in versions and not _is_module(package)]
    if missing:
        wanted = f"'benchfarm[{extra}]'" if extra else " ".join(missing)
        return BackendCapability(
            name=name,
            why_not=f"{', '.join(missing)} not installed",
            fix=f"pip install {wanted}",
        )
    return BackendCapability(name=name, versions=versions, why_not=why_not)


def _is_module(package: str) -> bool:
    """Whether a module of that name is there without metadata of its own."""
    try:
        return find_spec(package.replace("-", "_")) is not None
    except ModuleNotFoundError:  # a dotted name whose parent is missing
        return False
