"""Achieved FLOPs and bandwidth of readings, and the roofs above them: as measured here, never those of a data sheet."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

#: Operators whose best reading is the roof of arithmetic, and the one whose largest is the roof of memory.
COMPUTE = ("op/conv2d", "op/matmul", "op/linear")
MEMORY = "op/copy"

Bound = Literal["memory", "compute"]


@dataclass(frozen=True, kw_only=True)
class Work:
    """What one inference of a model is, and how long it took."""

    #: Of the model as written, two per multiply-accumulate. None: not known.
    flops: int | None
    #: That any runtime must move: inputs, weights, outputs, once. None: not known.
    bytes: int | None
    #: One inference; 0 where a tool prints it as such.
    seconds: float

    @property
    def gflops_per_s(self) -> float | None:
        """Achieved; None where nothing is counted as arithmetic."""
        return self.flops / self.seconds / 1e9 if self.flops and self.seconds else None

    @property
    def gb_per_s(self) -> float | None:
        """Achieved, 10^9 bytes a second; at least that, for what passes between layers is not counted."""
        return self.bytes / self.seconds / 1e9 if self.bytes and self.seconds else None

    @property
    def flops_per_byte(self) -> float | None:
        """Arithmetic intensity."""
        return self.flops / self.bytes if self.flops and self.bytes else None


@dataclass(frozen=True, kw_only=True)
class Roof:
    """What was reached on a device by a runtime, and with what."""

    value: float
    #: The model of the reading.
    by: str


@dataclass(frozen=True, kw_only=True)
class Roofline:
    """What bounds a model on one device and runtime; either roof is None where nothing measured tells."""

    gflops_per_s: Roof | None
    gb_per_s: Roof | None

    @property
    def ridge_flops_per_byte(self) -> float | None:
        """The intensity from which on arithmetic is the bound."""
        if self.gflops_per_s is None or self.gb_per_s is None:
            return None
        return self.gflops_per_s.value / self.gb_per_s.value

    def attainable_gflops_per_s(self, flops_per_byte: float) -> float | None:
        """The roof at this intensity."""
        if self.gflops_per_s is None or self.gb_per_s is None:
            return None
        return min(self.gflops_per_s.value, self.gb_per_s.value * flops_per_byte)

    def bound(self, work: Work) -> Bound | None:
        """Which roof is the lower one for this work; None where a roof or its intensity is not known."""
        ridge, intensity = self.ridge_flops_per_byte, work.flops_per_byte
        if work.bytes and not work.flops and self.gb_per_s is not None:
            return "memory"
        if ridge is None or intensity is None:
            return None
        return "compute" if intensity >= ridge else "memory"


def roofline(readings: Iterable[tuple[str, Work]]) -> Roofline:
    """The roofs of one device, runtime, recipe and number of threads.

    The roof of memory is the copy that moves most: smaller ones stay in caches. What does so, too, may lie above it.

    Args:
        readings: model and work of each valid reading; models of other kinds than operators raise no roof.
    """
    flops: list[tuple[float, str]] = []
    copies: list[tuple[int, float, str]] = []
    for model, work in readings:
        operator = model.partition("(")[0]
        if operator in COMPUTE and work.gflops_per_s is not None:
            flops.append((work.gflops_per_s, model))
        if operator == MEMORY and work.bytes and work.gb_per_s is not None:
            copies.append((work.bytes, work.gb_per_s, model))
    largest = max(copies, default=(0, 0.0, ""))[0]
    return Roofline(
        gflops_per_s=_best(flops), gb_per_s=_best([(value, by) for moved, value, by in copies if moved == largest])
    )


def _best(values: list[tuple[float, str]]) -> Roof | None:
    if not values:
        return None
    value, by = max(values)
    return Roof(value=value, by=by)
