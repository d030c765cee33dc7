"""Histories of watched series from the database: their points in order of time, and the steps that are explained."""

from __future__ import annotations

import json
import math
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, and_, func, or_, select

from device_registry.database import one_of, table_of
from device_registry.registry import devices
from scheduler.points import points, series
from scheduler.queue import sweep_runs
from scheduler.regressions.levels import HistoryPoint
from scheduler.watch_tables import Screening

screenings = table_of(Screening)

#: Points of a series that are looked at.
MOST_POINTS: Final = 500
_BORDER: Final = ("series_id", "point_id", "step_point_id", "outcome", "confirmed", "tests")
#: Conclusions on a new epoch after which what came before it still counts.
BRIDGED: Final = ("steady", "confirmed", "passing", "inconclusive", "unconfirmed")


@dataclass(frozen=True, kw_only=True)
class SeriesFacts:
    """What a series is of."""

    id: int
    device_id: int
    device: str
    #: (kind, model of device); None: it tells no model, and is like no other.
    device_class: tuple[str, str] | None
    case_key: str
    model: str
    runtime: str
    recipe: str
    threads: int
    batch: int
    mode: str
    options_text: str

    @property
    def title(self) -> str:
        """As people read it: "mobilenet_v3_small on litert int8-static, pixel-3"."""
        own = [text for text in (self.options_text, f"{self.threads} threads" if self.threads != 1 else "") if text]
        return ", ".join([f"{self.model} on {self.runtime} {self.recipe}", self.device, *own])


def facts_of(connection: Connection, series_ids: Collection[int]) -> dict[int, SeriesFacts]:
    """What these series are of."""
    columns = ("device_id", "case_key", "model", "runtime", "recipe", "threads", "batch", "mode", "options_text")
    query = select(
        series.c.id,
        *(series.c[name] for name in columns),
        devices.c.name.label("device"),
        devices.c.kind,
        devices.c.attributes,
    ).join(devices, devices.c.id == series.c.device_id)
    found = {}
    for row in connection.execute(query.where(one_of(series.c.id, series_ids))):
        model = row.attributes.get("model")
        found[row.id] = SeriesFacts(
            id=row.id,
            device=row.device,
            device_class=(row.kind, str(model)) if model else None,
            **{name: getattr(row, name) for name in columns},
        )
    return found


def histories(
    connection: Connection, series_ids: Collection[int], most: int = MOST_POINTS
) -> dict[int, list[HistoryPoint]]:
    """The last points of watched runs of each of these series, in order of time."""
    number = func.row_number().over(partition_by=points.c.series_id, order_by=(points.c.at.desc(), points.c.id.desc()))
    names = ("id", "series_id", "sweep_run_id", "value", "verdict", "environment_digest", "artifact_sha256", "at")
    last = (
        select(*(points.c[name] for name in names), number.label("number"))
        .join(sweep_runs, sweep_runs.c.id == points.c.sweep_run_id)
        .where(one_of(points.c.series_id, series_ids), sweep_runs.c.watched)
        .subquery()
    )
    query = select(last).where(last.c.number <= most).order_by(last.c.series_id, last.c.at, last.c.id)
    found: dict[int, list[HistoryPoint]] = {series_id: [] for series_id in series_ids}
    for row in connection.execute(query):
        found[row.series_id].append(
            HistoryPoint(
                id=row.id,
                run_id=row.sweep_run_id,
                value=row.value,
                valid=row.verdict == "valid",
                environment=row.environment_digest,
                artifact=row.artifact_sha256,
                at=row.at,
            )
        )
    return found


def borders_of(
    connection: Connection, series_ids: Collection[int], kind: str | None = None
) -> dict[int, dict[int, float]]:
    """Of each series the explained steps, by the point that each began with: factors of the level.

    Args:
        connection: to read with.
        series_ids: the series.
        kind: only what such tests explain (`attribution.Kind`); None: all.
    """
    bridged = and_(screenings.c.outcome == "new_epoch", screenings.c.conclusion.in_(BRIDGED))
    query = (
        select(*(screenings.c[name] for name in _BORDER))
        .where(one_of(screenings.c.series_id, series_ids), or_(screenings.c.confirmed.is_not(None), bridged))
        .order_by(screenings.c.id)
    )
    found: dict[int, dict[int, float]] = {series_id: {} for series_id in series_ids}
    for row in connection.execute(query):
        mine = found[row.series_id]
        if row.outcome == "new_epoch":
            mine.setdefault(row.point_id, 1.0)
        if row.confirmed is not None:
            at = row.step_point_id if row.step_point_id is not None else row.point_id
            own = 1 + row.confirmed
            if kind is not None:
                held = [one["change"] for one in row.tests or () if one.get("held") and one["kind"] == kind]
                own = math.prod(1 + change for change in held if change is not None)
            mine[at] = mine.get(at, 1.0) * own
    return found


def settled_of(connection: Connection, series_ids: Collection[int]) -> dict[int, set[int]]:
    """Of each series the points that a trial confirmed to be at a new level."""
    query = select(screenings.c.series_id, screenings.c.point_id).where(
        one_of(screenings.c.series_id, series_ids), screenings.c.conclusion == "confirmed"
    )
    found: dict[int, set[int]] = {series_id: set() for series_id in series_ids}
    for row in connection.execute(query):
        found[row.series_id].add(row.point_id)
    return found


def up_to(history: list[HistoryPoint], point_id: int) -> list[HistoryPoint]:
    """A history to a point of it."""
    for number, point in enumerate(history):
        if point.id == point_id:
            return history[: number + 1]
    return []


def times_of(connection: Connection, point_ids: Collection[int]) -> dict[int, datetime]:
    """When these points were measured."""
    return {
        row.id: row.at
        for row in connection.execute(select(points.c.id, points.c.at).where(one_of(points.c.id, point_ids)))
    }


def valid_processes(connection: Connection, point_ids: Collection[int]) -> dict[int, list[float]]:
    """Medians of the valid processes of points."""
    query = select(points.c.id, points.c.process_medians).where(one_of(points.c.id, point_ids))
    return {row.id: _valid(row.process_medians) for row in connection.execute(query)}


def _valid(kept: Any) -> list[float]:
    told = json.loads(kept) if isinstance(kept, str) else kept or []
    return [one[0] for one in told if one[1] == "valid"]
