"""What a report is made of: charts with the same facts as a table, and sections of them. No HTML, no plotly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Facts:
    """A plain table: what a chart shows, for those who read it instead."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    #: Rows that were left out, for the page would grow without bound.
    left_out: int = 0


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A picture and its table, or why there is none."""

    id: str
    title: str
    #: A figure of plotly as plain data: {"data": [...], "layout": {...}}.
    figure: dict[str, Any] | None = None
    #: Why there is no picture.
    empty: str = ""
    caption: str = ""
    facts: Facts | None = None


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One cell of a matrix as it is written."""

    value: str
    age: str = ""
    ratio: str = ""
    answer: str = ""
    #: faster, slower, same, inconclusive or empty: for its mark.
    kind: str = ""
    #: Empty where it is valid.
    state: str = ""
    note: str = ""
    #: Written lightly, for it is not valid.
    off: bool = False


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Variants down, devices (or device models) across."""

    title: str
    simulated: bool
    columns: Sequence[str]
    #: (variant, cells) each.
    rows: Sequence[tuple[str, Sequence[Cell]]]
    left_out: str = ""


@dataclass(kw_only=True)
class Section:
    """All of one model."""

    model: str
    anchor: str
    grids: list[Grid] = field(default_factory=list)
    charts: list[Chart] = field(default_factory=list)


@dataclass(kw_only=True)
class Content:
    """All of a report."""

    made_at: str
    scope: str
    #: (figure, what it is) each.
    headline: list[tuple[str, str]] = field(default_factory=list)
    sections: list[Section] = field(default_factory=list)
    models_left_out: list[str] = field(default_factory=list)
    #: Regressions: all of them, and pictures of those that are not resolved.
    incidents: Facts | None = None
    incident_charts: list[Chart] = field(default_factory=list)
    overview: list[Chart] = field(default_factory=list)
    run: str = ""
    telemetry: list[Chart] = field(default_factory=list)
    telemetry_note: str = ""
    coverage: Chart | None = None
    environment: Facts | None = None
    epochs: Facts | None = None
    measured: list[tuple[str, str]] = field(default_factory=list)
    reasons: Facts | None = None
