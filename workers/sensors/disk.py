"""Free room on the file system of the agent's data directory: a host whose disk is full fails whatever it is given."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import ClassVar

from workers.report import Quality, Reading
from workers.sensors.sensor import Sensor


class Disk(Sensor):
    """What is free for us, not for root alone."""

    name: ClassVar[str] = "disk"
    domain: ClassVar[str] = "disk"
    quantity: ClassVar[str] = "free"
    unit: ClassVar[str] = "bytes"
    slow: ClassVar[bool] = True

    def why_not(self) -> tuple[Quality, str] | None:
        """Every host has one."""
        return None

    def read(self, at: float, pids: frozenset[int]) -> list[Reading]:
        """See `Sensor.read`."""
        try:
            return [self.reading(at, float(shutil.disk_usage(self.home or Path.home()).free))]
        except OSError as error:
            return [self.reading(at, None, "stale", str(error))]
