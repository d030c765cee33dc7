"""Load of the host's CPUs and the time that a hypervisor gave to other machines (steal), as shares of one core."""

from __future__ import annotations

from typing import ClassVar

import psutil

from workers.report import Quality, Reading
from workers.sensors.sensor import Sensor


class CpuLoad(Sensor):
    """Shares since the reading before; the first reading only sets the mark."""

    name: ClassVar[str] = "cpu-load"
    domain: ClassVar[str] = "cpu"
    quantity: ClassVar[str] = "busy"
    unit: ClassVar[str] = "cores"

    def __init__(self) -> None:
        """Nothing is read yet."""
        self._last: tuple[float, float, float | None] | None = None

    def why_not(self) -> tuple[Quality, str] | None:
        """Every host has it."""
        return None

    def read(self, at: float, pids: frozenset[int]) -> list[Reading]:
        """See `Sensor.read`."""
        times = psutil.cpu_times()
        busy, steal = times.user + times.system, getattr(times, "steal", None)
        last, self._last = self._last, (at, busy, steal)
        if last is None or at <= last[0]:
            return []
        window_s = at - last[0]
        readings = [self.reading(at, (busy - last[1]) / window_s)]
        if steal is not None and last[2] is not None:
            share = max(0.0, (steal - last[2]) / window_s)
            readings.append(
                Reading(
                    sensor=self.name, domain="cpu", quantity="steal", unit="cores", value=share, quality="ok", at=at
                )
            )
        return readings
