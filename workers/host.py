"""This host as it describes itself: devices, and what each backend can do here, without importing any library."""

from __future__ import annotations

import logging
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import psutil

from device_registry.capabilities import BackendCapability, DeviceDescription, HostDescription
from device_registry.errors import UsageError
from workers.devices.cpu import cpu_model, machine_key
from workers.devices.device import DeviceDriver
from workers.errors import first_line
from workers.plugins import capability, package_versions, plugins
from workers.runtimes.runtime import Runtime
from workers.sensors.sensor import Sensor

log = logging.getLogger(__name__)


def load_sensors(home: Path | None = None) -> list[Sensor]:
    """Every registered sensor, told the data directory of who reads it."""
    sensors: list[Sensor] = [plugin.load() for plugin in plugins("sensors").values()]
    for sensor in sensors:
        sensor.home = home
    return sensors


def load_drivers(names: Sequence[str] | None = None, host_name: str | None = None) -> dict[str, DeviceDriver]:
    """Registered device drivers by name, told which host they are on.

    Args:
        names: those wanted; None: all.
        host_name: what the host is called in its farm; None: as the system calls it.

    Raises:
        UsageError: a name is not registered.
    """
    registered = plugins("devices")
    if unknown := sorted(set(names or ()) - set(registered)):
        raise UsageError(f"unknown device driver {unknown[0]!r}: known are {', '.join(sorted(registered))}")
    drivers: dict[str, DeviceDriver] = {}
    for name in registered if names is None else dict.fromkeys(names):
        driver: DeviceDriver = registered[name].load()
        driver.host_name = host_name or system_name()
        drivers[name] = driver
    return drivers


def discover_devices(drivers: Sequence[str] | None = None, host_name: str | None = None) -> list[DeviceDescription]:
    """The devices of this host now.

    Args:
        drivers: names of those to ask; None: all.
        host_name: see `load_drivers`.

    Raises:
        UsageError: see `load_drivers`; or what a driver was configured with cannot be read.
    """
    loaded = load_drivers(drivers, host_name).values()
    try:
        return [device for driver in loaded for device in driver.discover()]
    finally:
        for driver in loaded:
            driver.close()  # what it began to follow is an agent's to follow


def discover(
    drivers: Mapping[str, DeviceDriver], before: Mapping[str, DeviceDescription] | None
) -> dict[str, DeviceDescription]:
    """The devices of these drivers by key; where a driver fails to say, those it had are offline until it can.

    Args:
        drivers: by name.
        before: what was found last; None: nothing yet, and what a driver raises goes on to the caller.
    """
    found: dict[str, DeviceDescription] = {}
    for name, driver in drivers.items():
        try:
            devices = list(driver.discover())
        except Exception as error:  # a lab's own code, or a tool of its devices: the other drivers go on
            if before is None:
                raise
            devices = [device for device in before.values() if device.driver == name]
            if any(device.presence != "offline" for device in devices):
                log.warning("driver %s cannot say which devices it has: %s", name, first_line(error))
            devices = [replace(device, presence="offline") for device in devices]
        found.update((device.key, device) for device in devices)
    return found


def system_name() -> str:
    """What the system calls this host."""
    return platform.node().split(".")[0] or "host"


def host_key(name: str | None) -> str:
    """The stable identity of a host: of its machine; a given name makes two hosts of copies of one machine."""
    return machine_key() if name is None else f"{machine_key()}/{name}"


def describe_host(name: str | None = None, labels: Mapping[str, str] | None = None) -> HostDescription:
    """This host and the capability of every backend on it.

    Args:
        name: what it is called in its farm; None: as the system calls it.
        labels: what the lab says of it.
    """
    system = platform.system()
    return HostDescription(
        key=host_key(name),
        name=name or system_name(),
        system=system,
        architecture=platform.machine(),
        cpu_model=cpu_model(),
        cpu_count=os.cpu_count() or 1,
        memory_bytes=psutil.virtual_memory().total,
        environment={"python": platform.python_version(), "kernel": platform.release(), **package_versions(("ray",))},
        labels=dict(labels or {}),
        runtimes=tuple(_runtime(name, plugin.load(), system) for name, plugin in plugins("runtimes").items()),
        converters=_capabilities("converters"),
        compressions=_capabilities("compressions"),
        sensors=tuple(
            capability(sensor.name, (), "", (sensor.why_not() or (None, None))[1]) for sensor in load_sensors()
        ),
        sources=_capabilities("model_sources"),
    )


def _capabilities(seam: str) -> tuple[BackendCapability, ...]:
    loaded = ((name, plugin.load()) for name, plugin in plugins(seam).items())
    return tuple(capability(name, backend.packages, backend.extra) for name, backend in loaded)


def _runtime(name: str, runtime: Runtime, system: str) -> BackendCapability:
    found = capability(name, runtime.packages, runtime.extra, runtime.why_not(system))
    if found.why_not is None and (missing := runtime.missing()) is not None:
        return replace(found, why_not=missing[0], fix=missing[1])
    return found
