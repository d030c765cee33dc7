"""The seam of devices: discover, gate, and say how a runner reaches the thing that is measured."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable

from device_registry.capabilities import DeviceDescription
from workers.host_monitor import HostMonitor
from workers.report import GateReading


class DeviceDriver(ABC):
    """One kind of device on this host."""

    @abstractmethod
    def discover(self) -> list[DeviceDescription]:
        """The devices that are there now."""

    @abstractmethod
    def check(
        self, device: DeviceDescription, monitor: HostMonitor, since: float, until: float, own: Iterable[int]
    ) -> GateReading:
        """The state of the device now; foreign load over the window given (epoch seconds)."""

    @abstractmethod
    def compute_unit(self, device: DeviceDescription) -> str:
        """What a runtime is told to compute on: cpu, cuda:UUID, mps, ..."""

    @abstractmethod
    def environment(self, device: DeviceDescription) -> dict[str, str]:
        """The device's part of the environment fingerprint: driver, firmware, power mode."""
