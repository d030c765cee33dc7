"""Noise floors: how far the processes of a series scatter by themselves, as its A/A trials taught."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select

from device_registry.bulk import insert_rows
from device_registry.database import one_of, table_of
from scheduler.points import points
from scheduler.verdicts import ROUNDS, Verdict, relative_noise
from scheduler.watch_tables import NoiseFloor

floors = table_of(NoiseFloor)


def noise_floor_of(connection: Connection, series_ids: Collection[int]) -> dict[int, float]:
    """Relative noise between processes of those of these series whose noise was learnt."""
    if not series_ids:
        return {}
    rows = connection.execute(select(floors.c.series_id, floors.c.noise).where(one_of(floors.c.series_id, series_ids)))
    return {row.series_id: row.noise for row in rows}


def process_medians_of(connection: Connection, point_id: int) -> list[float]:
    """Medians of the valid processes of a point; of all where none is valid."""
    kept = connection.execute(select(points.c.process_medians).where(points.c.id == point_id)).scalar_one_or_none()
    told: Sequence[Sequence[Any]] = json.loads(kept) if isinstance(kept, str) else kept or []
    return [one[0] for one in told if one[1] == "valid"] or [one[0] for one in told]


def keep_floor(
    connection: Connection, series_id: int, values: Sequence[float], told: Verdict, trial_id: int, now: datetime
) -> None:
    """Keep what an A/A trial taught of a series; the last one counts.

    Args:
        connection: inside a transaction that writes.
        series_id: the series.
        values: medians of all its processes, of either side: they are of one artifact.
        told: the comparison of the two sides.
        trial_id: the trial.
        now: the time.
    """
    shown = told.detectable
    if shown is not None:  # a half-width shrinks with the root of the number of processes
        shown = max(told.least_effect, shown * math.sqrt(min(told.processes) / ROUNDS[0]))
    row = {"noise": relative_noise(values), "detectable": shown, "processes": len(values), "trial_id": trial_id}
    insert_rows(connection, floors, [{"series_id": series_id, **row}], key=("series_id",), at=now)
