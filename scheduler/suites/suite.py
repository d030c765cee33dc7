"""Suites as data: blocks of cases, how they are drawn, and what others have published of the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from scheduler.sweeps.file import SweepFile

#: Figures that a published row may have, with their units; `latency_ms` where the source does not say which statistic,
#: `gmacs` in thousand millions of multiply-accumulates, `parameters_m` in millions.
FIGURES = (
    "mean_ms",
    "latency_ms",
    "size_mb",
    "accuracy_percent",
    "gmacs",
    "nodes",
    "parameters_m",
    "real_time_factor",
    "speed_up",
    "smaller_percent",
    "sparsity_percent",
    "battery_percent_per_hour",
)


@dataclass(frozen=True, kw_only=True)
class Plot:
    """How the results of a block are drawn."""

    kind: Literal["line", "bar", "roofline", "pareto", "table", "ladder"]
    #: A word of the grid, or a column of results; None: as the kind has it.
    x: str | None = None
    y: str | None = None
    #: What lines or groups of bars differ in.
    series: tuple[str, ...] = ()
    title: str | None = None
    #: Axes that are logarithmic: "x", "y".
    log: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Point:
    """One model of a block, and where in the block's grid it stands."""

    #: As the sweep lists it.
    model: str
    #: Words of the grid to their values; empty where the model has none.
    values: Mapping[str, int | str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Block:
    """One sweep of a suite."""

    name: str
    title: str
    about: str | None
    #: Its name is `sweep_name(suite, block, quick)`.
    sweep: SweepFile
    points: tuple[Point, ...]
    plots: tuple[Plot, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Published:
    """What others have measured of the same; other hardware, so for its shape and not for its size."""

    block: str
    #: What it was measured on and with.
    hardware: str
    #: As the block lists it; None: of the block as a whole.
    model: str | None
    recipe: str | None
    note: str | None
    #: Names of `FIGURES` to a number, or to the two ends of a range.
    figures: Mapping[str, float | tuple[float, float]]


@dataclass(frozen=True, kw_only=True)
class Suite:
    """A published experiment that runs here."""

    name: str
    title: str
    description: str | None
    #: Who did it first, in words.
    source: str | None
    blocks: tuple[Block, ...]
    published: tuple[Published, ...]
    #: Whether it is the bounded size of `--quick`.
    quick: bool


def sweep_name(suite: str, block: str, *, quick: bool) -> str:
    """What runs of a block are found by: those of the quick size are others, for their cases are."""
    return f"suite/{suite}/{block}" + ("/quick" if quick else "")
