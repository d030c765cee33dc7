"""The seam of devices: discover, gate, recover, and say how a runner reaches the thing that is measured."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

from device_registry.capabilities import DeviceDescription
from workers.contract import Failure, Order, Result
from workers.errors import AttemptError, Cause
from workers.host_monitor import HostMonitor
from workers.report import Energy, GateReading, Reading


class DeviceDriver(ABC):
    """One kind of device on this host."""

    #: Names of the rungs of its recovery ladder, the gentlest first: reconnect, restart the transport, reboot.
    recovery: ClassVar[tuple[str, ...]] = ()
    #: What the host is called (`workers.host` sets it): part of the names of what it has.
    host_name: str = "host"

    @abstractmethod
    def discover(self) -> list[DeviceDescription]:
        """The devices that are there now. Asked every two seconds, so it must be cheap."""

    def watch(self, changed: Callable[[], None]) -> None:  # noqa: B027 - most have nothing to tell
        """Call `changed`, from any thread, whenever a device came or went; without it that shows within seconds."""

    def close(self) -> None:  # noqa: B027 - most take nothing
        """Give back what discovering took."""

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

    def readings(self, device: DeviceDescription, monitor: HostMonitor) -> Sequence[Reading]:
        """What is known of a device that runs nothing, dated by `workers.clock.steady`: how warm, how full, how loaded.

        Asked about once a minute. It must cost next to nothing and not wake the device.
        """
        return ()

    def recover(self, device: DeviceDescription, rung: int) -> None:
        """Climb one rung of the ladder for a device, there or not; may take minutes.

        Raises:
            AttemptError: it did not help, and why.
        """
        raise AttemptError(Cause.DEVICE, "no_ladder", f"nothing is known that could bring {device.name} back")


@dataclass(frozen=True, kw_only=True)
class Errand:
    """An attempt that is to be carried to its device."""

    #: With paths of this host.
    order: Order
    device: DeviceDescription
    #: Of the attempt: for its log, and for files that its result names.
    folder: Path
    #: Set when it shall end now; whoever carries it need not say why.
    ending: threading.Event
    #: To be called once it has begun on the device.
    tell_started: Callable[[], None]


@dataclass(frozen=True, kw_only=True)
class Carried:
    """What came of it."""

    result: Result
    telemetry: tuple[Reading, ...] = ()
    energy: Energy | None = None


class CarryingDriver(DeviceDriver):
    """A driver of devices that are not this host's own: it carries each attempt there, in the attempt's thread.

    All times of what it brings back are those of `workers.clock.steady`.
    """

    @abstractmethod
    def carry(self, errand: Errand) -> Carried:
        """Run an attempt on its device, within the order's deadline; whatever happens, nothing of it stays there.

        Raises:
            AttemptError: it has no result, and why.
        """


class Teller(Protocol):
    """Takes what happens to attempts that a driver runs itself."""

    def __call__(self, *, started: Sequence[tuple[int, str]] = (), finished: Sequence[dict[str, Any]] = ()) -> None:
        """Attempts that began, as (id, token), and reports (as plain data) of those that are over."""


class InProcessDriver(DeviceDriver):
    """A driver that runs attempts itself, inside the agent: no child, no folder, no thread for each."""

    @abstractmethod
    def open(self, tell: Teller) -> None:
        """Be ready for attempts; `tell` may be called from any thread, but with no lock of the driver's held.

        `close` ends that, and tells nothing more.
        """

    @abstractmethod
    def begin(self, orders: Sequence[dict[str, Any]]) -> None:
        """Begin attempts at devices of this driver; returns at once. Each ends in one report."""

    @abstractmethod
    def end(self, attempt_ids: Iterable[int], failure: Failure) -> None:
        """End attempts now; their reports say why. Those that are over already are left alone."""
