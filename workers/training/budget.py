"""How long a training may take: in passes over its data, or in seconds."""

from __future__ import annotations

import math
from dataclasses import dataclass

from workers.recipes import Step


@dataclass(frozen=True, kw_only=True)
class Budget:
    """One of the two. In epochs, a training comes out the same every time; in seconds, it depends on the machine."""

    #: Passes over the data; 0.5 is half of it.
    epochs: float | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        if (self.epochs is None) == (self.seconds is None):
            raise ValueError("a budget is in epochs or in seconds")

    @classmethod
    def of(cls, step: Step, epochs: float) -> Budget:
        """What a step of a recipe says, or so many epochs where it says nothing."""
        seconds, given = step.get("seconds"), step.get("epochs")
        if seconds is not None:
            return cls(seconds=float(seconds))
        return cls(epochs=float(given) if given is not None else epochs)

    def steps(self, per_epoch: int) -> int | None:
        """How many steps that is, at so many per epoch; None: as many as there is time for."""
        return None if self.epochs is None else max(1, math.ceil(self.epochs * per_epoch - 1e-9))

    def done(self, step: int, per_epoch: int, seconds: float) -> float:
        """The share that is used up: 1 and above, nothing is left."""
        if self.seconds is not None:
            return seconds / self.seconds if step else 0.0  # at least one step
        return step / (self.steps(per_epoch) or 1)

    @property
    def text(self) -> str:
        """As a recipe says it."""
        return f"epochs={self.epochs:g}" if self.epochs is not None else f"seconds={self.seconds:g}"
