"""CPU package energy: RAPL counters of Intel and AMD (Linux powercap)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from workers.report import Quality, Reading
from workers.sensors.sensor import Sensor


@dataclass
class _Zone:
    energy: Path
    domain: str
    range_uj: int
    last_uj: int | None = None
    total_uj: int = 0


class Rapl(Sensor):
    """Counters only: each reading is the energy since this sensor's first, wraparound added back.

    A counter wraps after `max_energy_range_uj` (commonly 262 kJ, 22 minutes at 200 W), so it must be read more often
    than that. Packages only: psys contains them, and core is part of them.
    """

    name: ClassVar[str] = "rapl"
    domain: ClassVar[str] = "cpu_package"
    quantity: ClassVar[str] = "energy"
    unit: ClassVar[str] = "mJ"

    def __init__(self, root: Path = Path("/sys/class/powercap")) -> None:
        """Look below `root` (a test's own folder, or the kernel's)."""
        self._zones = []
        for folder in sorted(root.glob("intel-rapl:*")):
            name_file, range_file = folder / "name", folder / "max_energy_range_uj"
            if folder.name.count(":") == 1 and name_file.exists() and range_file.exists():
                name = name_file.read_text(encoding="ascii").strip()
                if name.startswith("package"):
                    number = name.removeprefix("package-")
                    range_uj = int(range_file.read_text(encoding="ascii"))
                    self._zones.append(_Zone(folder / "energy_uj", f"cpu_package:{number}", range_uj))

    def why_not(self) -> tuple[Quality, str] | None:
        """See `Sensor.why_not`."""
        if not self._zones:
            return "unsupported", "this host exposes no RAPL counters (usual in a virtual machine)"
        if not os.access(self._zones[0].energy, os.R_OK):
            return "no_permission", f"only root may read {self._zones[0].energy.name}; grant its group read access"
        return None

    def read(self, at: float, pids: frozenset[int]) -> list[Reading]:
        """See `Sensor.read`."""
        readings = []
        for zone in self._zones:
            try:
                now_uj = int(zone.energy.read_text(encoding="ascii"))
            except (OSError, ValueError) as error:
                readings.append(self.reading(at, None, "stale", str(error), zone.domain))
                continue
            if zone.last_uj is not None:
                zone.total_uj += (now_uj - zone.last_uj) % (zone.range_uj + 1)
            zone.last_uj = now_uj
            readings.append(self.reading(at, zone.total_uj / 1000, domain=zone.domain))
        return readings
