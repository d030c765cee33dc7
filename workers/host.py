"""This host as it describes itself: devices, and what each backend can do here, without importing any library."""

from __future__ import annotations

import os
import platform
from dataclasses import replace

import psutil

from device_registry.capabilities import BackendCapability, DeviceDescription, HostDescription
from workers.devices.cpu import cpu_model, machine_key
from workers.devices.device import DeviceDriver
from workers.plugins import capability, package_versions, plugins
from workers.runtimes.runtime import Runtime
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
        runtimes=tuple(_runtime(name, plugin.load(), system) for name, plugin in plugins("runtimes").items()),
        converters=tuple(
            capability(name, converter.packages, converter.extra)
            for name, converter in ((name, plugin.load()) for name, plugin in plugins("converters").items())
        ),
        sensors=tuple(
            capability(sensor.name, (), "", (sensor.why_not() or (None, None))[1]) for sensor in load_sensors()
        ),
    )


def _runtime(name: str, runtime: Runtime, system: str) -> BackendCapability:
    found = capability(name, runtime.packages, runtime.extra, runtime.why_not(system))
    if found.why_not is None and (missing := runtime.missing()) is not None:
        return replace(found, why_not=missing[0], fix=missing[1])
    return found
