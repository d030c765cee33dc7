"""This host as it describes itself: devices, and what each backend can do here, without importing any library."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from typing import Any

import psutil

from device_registry.capabilities import BackendCapability, DeviceDescription, HostDescription
from workers.devices.cpu import cpu_model, machine_key
from workers.devices.device import DeviceDriver
from workers.plugins import capability, package_versions, plugins
from workers.sensors.sensor import Sensor


def load_sensors() -> list[Sensor]:
    """Every registered sensor."""
    return [plugin.load() for plugin in plugins("sensors").values()]


def load_drivers() -> dict[str, DeviceDriver]:
    """Every registered device driver by name."""
    return {name: plugin.load() for name, plugin in plugins("devices").items()}


def discover_devices() -> list[DeviceDescription]:
    """The devices of this host now."""
    return [device for driver in load_drivers().values() for device in driver.discover()]


def describe_host() -> HostDescription:
    """This host and the capability of every backend on it."""
    system = platform.system()
    return HostDescription(
        key=machine_key(),
        name=platform.node().split(".")[0] or "host",
        system=system,
        architecture=platform.machine(),
        cpu_model=cpu_model(),
        cpu_count=os.cpu_count() or 1,
        memory_bytes=psutil.virtual_memory().total,
        environment={"python": platform.python_version(), "kernel": platform.release(), **package_versions(("ray",))},
        runtimes=_capabilities("runtimes", lambda runtime: runtime.why_not(system)),
        converters=_capabilities("converters", lambda converter: None),
        sensors=tuple(
            capability(sensor.name, (), "", (sensor.why_not() or (None, None))[1]) for sensor in load_sensors()
        ),
    )


def _capabilities(seam: str, why_not: Callable[[Any], str | None]) -> tuple[BackendCapability, ...]:
    backends = {name: plugin.load() for name, plugin in plugins(seam).items()}
    return tuple(
        capability(name, backend.packages, backend.extra, why_not(backend)) for name, backend in backends.items()
    )
