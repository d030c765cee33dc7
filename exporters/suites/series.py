"""Which line or group of bars a reading belongs to: what the plot says, and whatever else sets readings apart."""

from __future__ import annotations

from collections.abc import Sequence

from exporters.suites.columns import arguments_of, value_of
from scheduler.suites.readings import Row

#: Columns that part readings although no plot says so: a line joins no two recipes, devices or thread counts.
_ALWAYS = ("device", "runtime", "recipe", "threads", "batch", "options", "mode", "rate_hz")


def series_of(rows: Sequence[Row], x: str, wanted: Sequence[str]) -> dict[str, list[Row]]:
    """Readings by the name of their series.

    Args:
        rows: the readings.
        x: the column along which they stand.
        wanted: columns that name a series; empty: the runtime.
    """
    columns = list(dict.fromkeys(wanted or ("runtime",)))
    columns += [name for name in _ALWAYS if name not in (x, *columns) and _varies(rows, name)]
    for name in dict.fromkeys(name for row in rows for name in (*row["values"], *arguments_of(row["listed"]))):
        if name not in (x, *columns) and not _single(rows, x, columns) and _varies(rows, name):
            columns.append(name)
    if not _single(rows, x, columns) and x != "model":
        columns.append("model")
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(_name(row, columns), []).append(row)
    return found


def _name(row: Row, columns: Sequence[str]) -> str:
    parts = []
    for column in columns:
        value = value_of(row, column)
        if value is None or value == "":
            continue
        word = column in row["values"] or isinstance(value, int)
        parts.append(f"{column} {value}" if word else str(value))
    return " · ".join(parts) or "all"


def _single(rows: Sequence[Row], x: str, columns: Sequence[str]) -> bool:
    """Whether no two readings of a series stand at the same x."""
    seen = [tuple(repr(value_of(row, name)) for name in (x, *columns)) for row in rows]
    return len(set(seen)) == len(seen)


def _varies(rows: Sequence[Row], name: str) -> bool:
    return len({repr(value_of(row, name)) for row in rows}) > 1
