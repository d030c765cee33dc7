"""Incidents whose series are back at their old level are closed by the farm, with the revision that mended them."""

from __future__ import annotations

import logging
import math
import statistics
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import numpy as np
from sqlalchemy import Connection, Row, select, update

from device_registry.database import one_of
from scheduler.notifications.outbox import tell_incident
from scheduler.points import points
from scheduler.queue import sweep_runs
from scheduler.regressions.attribution import read_rows
from scheduler.regressions.incidents import FARM, IS_UNRESOLVED, incident_series, incidents
from scheduler.regressions.levels import Borders, HistoryPoint, level_of
from scheduler.regressions.looks import step_of
from scheduler.regressions.screen import LEAST_POINTS
from scheduler.regressions.series_history import borders_of, histories, screenings, up_to
from scheduler.regressions.sigma import spread_sigma
from scheduler.states import record
from scheduler.verdicts import LEAST_EFFECT

#: Points at a level that no trial confirmed: after a real change back one is made within some nights.
_LEAST_UNTRIED = 8
#: What the sizes of two trials may differ by, of the noise of points.
_TWO_TRIALS = 1.5

log = logging.getLogger(__name__)


def recover(connection: Connection, run: Row[Any], now: datetime) -> None:
    """Close what the points of a run show to be back.

    Args:
        connection: inside a transaction that writes; the run's screenings are concluded.
        run: its row.
        now: the time.
    """
    own = screenings.alias("own")
    rows = connection.execute(
        select(incident_series, incidents.c.cause, incidents.c.change.label("of_all"), own.c.point_id)
        .join(incidents, incidents.c.id == incident_series.c.incident_id)
        .join(own, own.c.series_id == incident_series.c.series_id)
        .where(
            IS_UNRESOLVED,
            incident_series.c.recovered_point_id.is_(None),
            own.c.sweep_run_id == run.id,
            own.c.point_id.is_not(None),
            own.c.outcome != "invalid",
        )
        .order_by(incident_series.c.id)
    ).all()
    ids = {row.series_id for row in rows}
    known, borders = histories(connection, ids), borders_of(connection, ids)
    of_kind = {kind: borders_of(connection, ids, kind) for kind in ("artifacts", "unit")}
    kinds = _kinds(connection, rows)
    touched = set()
    for row in rows:
        history = up_to(known[row.series_id], row.point_id)
        kind = kinds[row.id]
        mending = (borders if kind is None else of_kind[kind])[row.series_id]
        point = back_since(history, borders[row.series_id], mending, row.candidate_point_id, *_size(row))
        if point is not None:
            connection.execute(
                update(incident_series).where(incident_series.c.id == row.id).values(recovered_point_id=point.id)
            )
            touched.add(row.incident_id)
    for incident_id in sorted(touched):
        _close_if_back(connection, incident_id, now)


def _size(row: Row[Any]) -> tuple[float, float]:
    """The step of a series, and how well its trial knows its factor.

    Of code it is what all series of the incident have, where the series' own trial allows that.
    """
    low, high = row.change_low, row.change_high
    if low is None or high is None:
        return float(row.change), 0.0
    alike = row.cause == "code" and low <= row.of_all <= high
    return float(row.of_all if alike else row.change), (1 + high) / (1 + row.change) - 1


def _kinds(connection: Connection, rows: Sequence[Row[Any]]) -> dict[int, str | None]:
    """By what kind of test each series of an incident was found, which is what can mend it; None: by any."""
    trial_ids = [row.trial_id for row in rows if row.trial_id is not None]
    query = select(screenings.c.series_id, screenings.c.trial_id, screenings.c.tests).where(
        one_of(screenings.c.trial_id, trial_ids)
    )
    tests = {(one.series_id, one.trial_id): read_rows(one.tests) for one in connection.execute(query) if one.tests}
    found: dict[int, str | None] = {}
    for row in rows:
        held = [one for one in tests.get((row.series_id, row.trial_id), ()) if one.held and one.answer == "slower"]
        kinds = {one.kind for one in held if one.cause == row.cause} or {one.kind for one in held}
        found[row.id] = kinds.pop() if len(kinds) == 1 and not kinds & {"history"} else None
    return found


def back_since(
    history: Sequence[HistoryPoint],
    borders: Borders,
    mending: Borders,
    step_id: int,
    change: float,
    uncertainty: float = 0.0,
) -> HistoryPoint | None:
    """The first point since which a series is back at the level that it had before a step; None: it is not. Pure.

    A change back must itself be believed, by a trial or by the history; then the new level must lie within 2 % of the
    old one, or the noise of its points, but less than half of the step away. What else is explained counts for neither:
    a faster model on a unit that is still slow mends no unit.

    Args:
        history: in order of time, up to now.
        borders: explained steps.
        mending: the part of them that can mend this step: of artifacts, or of the unit.
        step_id: the first point after the step.
        change: the step's size.
        uncertainty: of 1 + change, relative: half of its interval.
    """
    numbers = {point.id: number for number, point in enumerate(history)}
    if (start := numbers.get(step_id)) is None:
        return None
    old = level_of(history[:start], borders)
    if not old.values:
        return None
    was = statistics.median(old.values)
    noise = spread_sigma(np.array(old.values)) / was
    within = min(max(LEAST_EFFECT, noise), abs(change) / 2)
    since = {numbers[one]: factor for one, factor in mending.items() if factor < 1 and numbers.get(one, -1) > start}
    # The sizes of trials are better than the values of few points; but two of them are wrong by more than one.
    within_tried = min(max(LEAST_EFFECT, _TWO_TRIALS * noise, uncertainty), abs(change) / 2)
    if since and (1 + change) * math.prod(since.values()) - 1 <= within_tried:
        return history[max(since)]
    starts, least = list(since), LEAST_POINTS
    level = level_of(history, borders)
    if not since and step_of(level) < 0 and numbers[level.points[0].id] > start:
        starts.append(numbers[level.points[0].id])
        least = _LEAST_UNTRIED
    if not starts:
        return None
    others = {numbers[one]: factor / mending.get(one, 1.0) for one, factor in borders.items() if one in numbers}
    new = [
        (point, point.value / math.prod(factor for at, factor in others.items() if start < at <= number))
        for number, point in enumerate(history)
        if number >= max(starts) and point.valid
    ]
    if len(new) < least:
        return None
    is_back = statistics.median(value for _, value in new) <= was * (1 + within)
    return new[0][0] if is_back else None


def _close_if_back(connection: Connection, incident_id: int, now: datetime) -> None:
    members = connection.execute(
        select(incident_series.c.recovered_point_id).where(incident_series.c.incident_id == incident_id)
    ).scalars()
    back = list(members)
    if None in back:
        return
    query = (
        select(sweep_runs.c.id, sweep_runs.c.revision)
        .join(points, points.c.sweep_run_id == sweep_runs.c.id)
        .where(one_of(points.c.id, back))
        .order_by(sweep_runs.c.id.desc())
        .limit(1)
    )
    run = connection.execute(query).one()
    since = f"run {run.id}" + (f", revision {run.revision}" if run.revision is not None else "")
    why = f"back at the old level since {since}"
    before = connection.execute(
        select(incidents.c.state, incidents.c.note)
        .where(incidents.c.id == incident_id, IS_UNRESOLVED)
        .with_for_update()
    ).one_or_none()
    if before is None:
        return
    note = why if before.note is None else f"{before.note}\n{why}"
    values = {"state": "resolved", "resolved_by": FARM, "resolved_at": now, "changed_at": now, "note": note}
    connection.execute(update(incidents).where(incidents.c.id == incident_id).values(**values))
    record(connection, "incident", incident_id, before.state, "resolved", who=FARM, why=why, now=now)
    log.info("incident %d is resolved: %s", incident_id, why, extra={"action": "incident_resolved"})
    tell_incident(connection, incident_id, "resolved", now)
