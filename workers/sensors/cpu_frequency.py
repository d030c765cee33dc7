"""Clock of the CPUs: the mean of `scaling_cur_freq` (Linux). Requested rather than delivered, as the kernel says."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from workers.report import Quality, Reading
from workers.sensors.sensor import Sensor


class CpuFrequency(Sensor):
    """Absent in most virtual machines; /proc/cpuinfo's figure there is a constant, so it is not used."""

    name: ClassVar[str] = "cpu-frequency"
    domain: ClassVar[str] = "cpu"
    quantity: ClassVar[str] = "clock"
    unit: ClassVar[str] = "MHz"

    def __init__(self, root: Path = Path("/sys/devices/system/cpu")) -> None:
        """Look below `root` (a test's own folder, or the kernel's)."""
        self._files = sorted(root.glob("cpu[0-9]*/cpufreq/scaling_cur_freq"))

    def why_not(self) -> tuple[Quality, str] | None:
        """See `Sensor.why_not`."""
        return None if self._files else ("unsupported", "this host exposes no cpufreq (usual in a virtual machine)")

    def read(self, at: float, pids: frozenset[int]) -> list[Reading]:
        """See `Sensor.read`."""
        try:
            values = [int(file.read_text(encoding="ascii")) / 1000 for file in self._files]
        except (OSError, ValueError) as error:
            return [self.reading(at, None, "stale", str(error))]
        return [self.reading(at, sum(values) / len(values))]
