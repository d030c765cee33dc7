"""The seam of sensors: read from outside the measured process, every value with its quality."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from workers.report import Quality, Reading


class Sensor(ABC):
    """One source of readings on a host. Constructing one probes nothing."""

    #: Registered name; stands in every reading.
    name: ClassVar[str]
    domain: ClassVar[str]
    quantity: ClassVar[str]
    unit: ClassVar[str]
    #: Changes so slowly that it is read about once a minute, between attempts, and is no part of any.
    slow: ClassVar[bool] = False
    #: Data directory of the agent that reads it (`workers.host` sets it); None: nobody said.
    home: Path | None = None

    @abstractmethod
    def why_not(self) -> tuple[Quality, str] | None:
        """`unsupported` or `no_permission` and the reason, where this host cannot answer; None where it can."""

    @abstractmethod
    def read(self, at: float, pids: frozenset[int]) -> list[Reading]:
        """Read now.

        Args:
            at: epoch seconds to put on the readings.
            pids: the measured processes, for sensors of processes.
        """

    def reading(
        self, at: float, value: float | None, quality: Quality = "ok", why: str | None = None, domain: str | None = None
    ) -> Reading:
        """A reading of this sensor's quantity; value 0 is a value, an absent one is None."""
        return Reading(
            sensor=self.name,
            domain=domain or self.domain,
            quantity=self.quantity,
            unit=self.unit,
            value=value,
            quality=quality,
            at=at,
            why=why,
        )
