"""Resident memory of the measured processes."""

from __future__ import annotations

from contextlib import suppress
from typing import ClassVar

import psutil

from workers.report import Quality, Reading
from workers.sensors.sensor import Sensor


class ProcessMemory(Sensor):
    """The sum over the runner and what it started."""

    name: ClassVar[str] = "process-memory"
    domain: ClassVar[str] = "process"
    quantity: ClassVar[str] = "rss"
    unit: ClassVar[str] = "bytes"

    def why_not(self) -> tuple[Quality, str] | None:
        """Every host has it."""
        return None

    def read(self, at: float, pids: frozenset[int]) -> list[Reading]:
        """See `Sensor.read`."""
        total = 0
        for pid in pids:
            with suppress(psutil.Error):
                total += psutil.Process(pid).memory_info().rss
        return [self.reading(at, float(total))] if total else []
