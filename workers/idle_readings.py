"""What an agent tells of its devices between attempts: how the fleet fares over weeks."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from device_registry.capabilities import DeviceDescription
from workers.clock import lead_s
from workers.codec import to_dict
from workers.devices.device import CarryingDriver, DeviceDriver, InProcessDriver
from workers.errors import first_line
from workers.host_monitor import HostMonitor
from workers.readings import cleaned, pack
from workers.report import Reading

log = logging.getLogger(__name__)

#: Devices that run nothing are told of so often.
READINGS_PERIOD_S = 60.0
#: Rounds that are left out, one after the other, because the host itself measures: a sustained run lasts ten minutes.
_MOST_SKIPPED = 12


class IdleRounds:
    """Rounds of readings, one every `READINGS_PERIOD_S`; none while the host itself is measured."""

    def __init__(self, drivers: Mapping[str, DeviceDriver], monitor: HostMonitor) -> None:
        """Nothing is read yet.

        Args:
            drivers: of devices, by name.
            monitor: of the host.
        """
        self._drivers, self._monitor = drivers, monitor
        self._skipped = 0

    def take(self, devices: Mapping[str, DeviceDescription], busy: Collection[str]) -> dict[str, str]:
        """The readings of one round as they are sent, by device; nothing where it is left out.

        Args:
            devices: of the host, by key.
            busy: keys of places where attempts run.
        """
        if self._is_measured(devices, busy) and self._skipped < _MOST_SKIPPED:
            self._skipped += 1
            return {}
        self._skipped = 0
        return idle_readings(devices, self._drivers, self._monitor, busy)

    def _is_measured(self, devices: Mapping[str, DeviceDescription], busy: Collection[str]) -> bool:
        working = [self._drivers[devices[key].driver] for key in busy if key in devices]
        return any(not isinstance(driver, CarryingDriver | InProcessDriver) for driver in working)


def idle_readings(
    devices: Mapping[str, DeviceDescription],
    drivers: Mapping[str, DeviceDriver],
    monitor: HostMonitor,
    busy: Collection[str],
) -> dict[str, str]:
    """Readings of each device that is online and runs nothing, by its key, as they are sent.

    What is slow and of the host itself (its disk) is told with its CPU, or where that is none of its devices with its
    first, whether that works or not.

    Args:
        devices: of the host, by key.
        drivers: by name.
        monitor: of the host.
        busy: keys of places where attempts run.
    """
    online = {key: device for key, device in devices.items() if device.presence == "online"}
    carrier = min(online, key=lambda key: (online[key].kind != "cpu", key), default=None)
    ahead_s = lead_s()
    told = {}
    for key, device in online.items():
        parts: list[Callable[[], Iterable[Reading]]] = [monitor.slow] if key == carrier else []
        if key not in busy:
            parts.append(partial(drivers[device.driver].readings, device, monitor))
        readings: list[dict[str, Any]] = []
        for part in parts:
            try:
                found = [to_dict(replace(one, at=one.at + ahead_s)) for one in cleaned(part())]
                if found:
                    pack(found)  # what cannot be sent takes nothing else with it
            except Exception as error:  # a lab's own code; it is asked again soon
                log.warning("no readings of %s: %s", device.name, first_line(error))
            else:
                readings += found
        if readings:
            told[key] = pack(readings)
    return told
