"""Temperatures of the kernel's thermal zones (Linux)."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from workers.report import Quality, Reading
from workers.sensors.sensor import Sensor

#: Outside of this a sensor is dead, not cold or hot: a dead acpitz reads far below zero.
_PLAUSIBLE_C = (-30.0, 130.0)


class ThermalZones(Sensor):
    """Named by their type, for the numbering changes from boot to boot."""

    name: ClassVar[str] = "thermal-zones"
    domain: ClassVar[str] = "zone"
    quantity: ClassVar[str] = "temperature"
    unit: ClassVar[str] = "C"

    def __init__(self, root: Path = Path("/sys/class/thermal")) -> None:
        """Look below `root` (a test's own folder, or the kernel's)."""
        self._zones = []
        for folder in sorted(root.glob("thermal_zone*")):
            kind = folder / "type"
            if kind.exists():
                self._zones.append((folder / "temp", f"zone:{kind.read_text(encoding='ascii').strip()}"))

    def why_not(self) -> tuple[Quality, str] | None:
        """See `Sensor.why_not`."""
        return (
            None if self._zones else ("unsupported", "this host exposes no thermal zones (usual in a virtual machine)")
        )

    def read(self, at: float, pids: frozenset[int]) -> list[Reading]:
        """See `Sensor.read`."""
        readings = []
        for file, domain in self._zones:
            try:
                celsius = int(file.read_text(encoding="ascii")) / 1000
            except (OSError, ValueError) as error:
                readings.append(self.reading(at, None, "stale", str(error), domain))
                continue
            if _PLAUSIBLE_C[0] <= celsius <= _PLAUSIBLE_C[1]:
                readings.append(self.reading(at, celsius, domain=domain))
            else:
                readings.append(self.reading(at, None, "implausible", f"{celsius:g} C", domain))
        return readings
