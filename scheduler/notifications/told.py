"""What every message says alike: a series in words, sizes of changes, times; and how long its lists may be."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from device_registry.database import table_of
from device_registry.registry import devices
from scheduler.points import series
from scheduler.watch_tables import Incident, IncidentSeries, NoiseFloor, Screening, Trial

incidents = table_of(Incident)
incident_series = table_of(IncidentSeries)
noise_floors = table_of(NoiseFloor)
screenings = table_of(Screening)
trials = table_of(Trial)

#: Version of every document in the outbox: a reader of another refuses it.
SCHEMA_VERSION: Final = 1
#: Entries of a list; how many there are is told beside it.
MOST_LISTED: Final = 20

#: Columns that name a series, from `series` and `device`.
NAMING: Final = (
    series.c.id.label("series_id"),
    devices.c.name.label("device"),
    devices.c.kind.label("device_kind"),
    devices.c.attributes.label("device_attributes"),
    series.c.model,
    series.c.weights,
    series.c.runtime,
    series.c.recipe,
    series.c.threads,
    series.c.batch,
    series.c.mode,
    series.c.options_text,
)


def named(row: Any) -> dict[str, Any]:
    """A series as messages name it, from `NAMING`."""
    more = (f"t{row.threads} b{row.batch} {row.mode}", row.options_text, "" if row.weights == "random" else row.weights)
    return {
        "series_id": row.series_id,
        "device": row.device,
        "device_kind": row.device_kind,
        "simulated": row.device_attributes.get("simulated") is True,
        "model": row.model,
        "runtime": row.runtime,
        "recipe": row.recipe,
        "options": " ".join(word for word in more if word),
    }


def iso(value: datetime | None) -> str | None:
    """A time as documents have it."""
    return None if value is None else value.isoformat()


def some(entries: Sequence[dict[str, Any]], count: int | None = None) -> dict[str, Any]:
    """A list of a message: how many there are, and the first of them."""
    return {"count": len(entries) if count is None else count, "first": list(entries[:MOST_LISTED])}
