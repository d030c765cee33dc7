"""What a message says of an incident."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, func, select

from device_registry.registry import devices
from scheduler.notifications.told import (
    MOST_LISTED,
    NAMING,
    SCHEMA_VERSION,
    incident_series,
    incidents,
    iso,
    named,
    some,
)
from scheduler.points import points, series


def incident_document(connection: Connection, incident_id: int) -> dict[str, Any]:
    """An incident with its series, the largest changes first, as it is now.

    Args:
        connection: to read with.
        incident_id: of an incident.
    """
    row = connection.execute(select(incidents).where(incidents.c.id == incident_id)).one()
    before, after = points.alias("before"), points.alias("after")
    of_it = incident_series.c.incident_id == incident_id
    query = (
        select(
            *NAMING,
            incident_series.c.change,
            incident_series.c.change_low,
            incident_series.c.change_high,
            before.c.value.label("before_ms"),
            after.c.value.label("after_ms"),
            after.c.at,
        )
        .select_from(incident_series)
        .join(series, series.c.id == incident_series.c.series_id)
        .join(devices, devices.c.id == series.c.device_id)
        .join(before, before.c.id == incident_series.c.baseline_point_id)
        .join(after, after.c.id == incident_series.c.candidate_point_id)
        .where(of_it)
    )
    count = connection.execute(select(func.count()).select_from(incident_series).where(of_it)).scalar_one()
    largest = query.order_by(func.abs(incident_series.c.change).desc(), series.c.id).limit(MOST_LISTED)
    first_at = connection.execute(query.with_only_columns(func.min(after.c.at))).scalar()
    listed = [
        {
            **named(one),
            "change": one.change,
            "change_interval": _interval(one),
            "before_ms": one.before_ms,
            "after_ms": one.after_ms,
        }
        for one in connection.execute(largest)
    ]
    return {
        "schema_version": SCHEMA_VERSION,
        "incident": incident_summary(row),
        "began_at": iso(first_at) or iso(row.opened_at),
        "environment": dict(row.environment),
        "note": row.note,
        "series": some(listed, count),
        "commands": [f"benchfarm regressions show {incident_id}"],
    }


def incident_summary(row: Row[Any]) -> dict[str, Any]:
    """An incident in short, from its row."""
    return {
        "id": row.id,
        "title": row.title,
        "state": row.state,
        "cause": row.cause,
        "cause_why": row.cause_why,
        "change": row.change,
        "change_interval": _interval(row),
        "sweep": row.sweep,
        "sweep_run_id": row.sweep_run_id,
        "revision_good": row.revision_good,
        "revision_bad": row.revision_bad,
        "opened_at": iso(row.opened_at),
        "resolved_at": iso(row.resolved_at),
        "resolved_by": row.resolved_by,
    }


def summaries(rows: Sequence[Row[Any]]) -> list[dict[str, Any]]:
    """Incidents in short."""
    return [incident_summary(row) for row in rows]


def _interval(row: Any) -> list[float] | None:
    return None if row.change_low is None or row.change_high is None else [row.change_low, row.change_high]
