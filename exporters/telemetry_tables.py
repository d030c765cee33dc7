"""The telemetry of one job as a table for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.text import Text

from exporters.numbers import NONE, significant
from exporters.tables import simple_table

if TYPE_CHECKING:
    from scheduler.telemetry_of import Source

_COLUMNS = ("sensor", "domain", "quantity", "unit", "readings", "first", "last", "min", "median", "max", "quality")
_FIGURES = 5


def telemetry_view(source: Source, channels: Sequence[Mapping[str, Any]]) -> RenderableType:
    """One line for each channel that told a value, and below it what is missing and why.

    Args:
        source: the attempt.
        channels: rows of `scheduler.telemetry_of.summaries`.
    """
    rows = [
        [
            *(str(row[name]) for name in ("sensor", "domain", "quantity", "unit", "count")),
            *(_number(row[name]) for name in ("first", "last", "min", "median", "max")),
            ", ".join(row["quality"]),
        ]
        for row in channels
        if row["count"]
    ]
    marked = " (simulated)" if source.simulated else ""
    title = f"Telemetry of job {source.job_id}, attempt {source.attempt_id}, {source.device or NONE}{marked}"
    parts: list[RenderableType] = [simple_table(title, _COLUMNS, rows)]
    for row in channels:
        for missing in row["missing"]:
            what = f"{row['sensor']} {row['domain']} {row['quantity']}"
            why = f": {missing['why']}" if missing["why"] else ""
            parts.append(Text(f"no value of {what}: {missing['count']} x {missing['quality']}{why}", style="dim"))
    if source.clock_offset_s is not None:
        ahead = "ahead of" if source.clock_offset_s > 0 else "behind"
        moved = f"its host's clock was {abs(source.clock_offset_s):.0f} s {ahead} the head's: times are the head's"
        parts.append(Text(moved, style="dim"))
    return Group(*parts)


def _number(value: float | None) -> str:
    return NONE if value is None else significant(value, _FIGURES)
