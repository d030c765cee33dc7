"""Points of watched runs as they come in: each is looked at once, and what is suspicious gets a trial."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Row, exists, func, or_, select, update

from device_registry.database import insert_row, one_of
from device_registry.errors import UsageError
from scheduler.cases import case_of, task_of
from scheduler.payloads import payload_text, payloads
from scheduler.points import points, series
from scheduler.regressions.looks import NEAR, Suspicion, first_look, history_look
from scheduler.regressions.series_history import (
    SeriesFacts,
    borders_of,
    facts_of,
    histories,
    screenings,
    settled_of,
    up_to,
)
from scheduler.states import OPEN_JOB, jobs
from scheduler.trials import Purpose, Wanted, noise_floor_of, start_trial, template_jobs, trials
from scheduler.verdicts import LEAST_PROCESSES, ROUNDS

#: Points, or series, that one step looks at: its transaction must be short.
MOST_AT_ONCE: Final = 64
#: While more jobs of a run are open, hardly any of its cases is complete: repeats are mixed.
_MANY_OPEN = 2000
#: Points of a run that are asked for at once.
_MOST_ASKED = 4000
_MINE = (jobs.c.kind == "measure", jobs.c.side.is_(None), jobs.c.canary.is_(False))


def screen_points(connection: Connection, run_id: int, now: datetime) -> int:
    """Look at points of a run whose cases are complete and that nobody looked at yet; returns how many.

    Args:
        connection: inside a transaction that writes, with the run's row locked.
        run_id: a watched run.
        now: the time.
    """
    ready = _ready(connection, run_id)
    if not ready:
        return 0
    ids = [row.series_id for row in ready]
    known, borders, floors = histories(connection, ids), borders_of(connection, ids), noise_floor_of(connection, ids)
    facts, settled = facts_of(connection, ids), settled_of(connection, ids)
    for row in ready:
        history = up_to(known[row.series_id], row.id)
        if not history:  # so old that five hundred newer ones hide it
            _insert(connection, row, run_id, now, outcome="few", conclusion="steady", looked_at=now)
            continue
        look = first_look(history, borders[row.series_id], floors.get(row.series_id), settled[row.series_id])
        values: dict[str, Any] = {
            "outcome": look.outcome,
            "effect": look.screened.change,
            "z": look.screened.z,
            "noise": look.screened.noise,
            "segment_point_id": look.segment.id if look.segment is not None else None,
        }
        if look.suspicion is None:
            if look.outcome in ("steady", "new_epoch"):
                values["conclusion"] = "steady"
        else:
            purpose: Purpose = "bridge" if look.outcome == "new_epoch" else "confirmation"
            values |= confirm(connection, run_id, facts[row.series_id], look.suspicion, row.id, purpose, now)
            values["found_by"] = "screen"
        _insert(connection, row, run_id, now, **values)
    return len(ready)


def note_missing(connection: Connection, run_id: int, now: datetime) -> None:
    """Say of each series that a run wanted, as its jobs tell, and got no point of, that it is missing.

    Args:
        connection: inside a transaction that writes.
        run_id: a run that is done.
        now: the time.
    """
    failed = (
        select(jobs.c.device_id, jobs.c.payload_id, jobs.c.failure_message, jobs.c.state, payload_text())
        .join(payloads, payloads.c.id == jobs.c.payload_id)
        .where(jobs.c.sweep_run_id == run_id, jobs.c.state.in_(("failed", "cancelled")), *_MINE)
        .where(jobs.c.device_id.is_not(None))
        .order_by(jobs.c.id)
    )
    why = {
        (row.device_id, case_of(task_of(row.payload_text)).key): row.failure_message or f"its job was {row.state}"
        for row in connection.execute(failed)
    }
    if not why:
        return
    has = exists().where(points.c.series_id == series.c.id, points.c.sweep_run_id == run_id)
    told = exists().where(screenings.c.series_id == series.c.id, screenings.c.sweep_run_id == run_id)
    query = select(series.c.id, series.c.device_id, series.c.case_key).where(
        one_of(series.c.case_key, {case for _, case in why}), ~has, ~told, series.c.latest_valid_point_id.is_not(None)
    )
    for row in connection.execute(query).all():
        if (said := why.get((row.device_id, row.case_key))) is not None:
            values = {"outcome": "missing", "why": said, "looked_at": now, "at": now}
            insert_row(connection, screenings, series_id=row.id, sweep_run_id=run_id, **values)


def look_back(connection: Connection, run_id: int, now: datetime) -> int:
    """Look at the histories that end with the points of a run that is done; returns at how many.

    Args:
        connection: inside a transaction that writes, with the run's row locked.
        run_id: a watched run, all of whose points were screened.
        now: the time.
    """
    rows = connection.execute(
        select(screenings)
        .where(screenings.c.sweep_run_id == run_id, screenings.c.looked_at.is_(None))
        .order_by(screenings.c.id)
        .limit(MOST_AT_ONCE)
    ).all()
    ids = [row.series_id for row in rows if row.trial_id is None and row.conclusion != "void"]
    known, borders, facts = histories(connection, ids), borders_of(connection, ids), facts_of(connection, ids)
    before, settled = _looked_into(connection, ids), settled_of(connection, ids)
    for row in rows:
        values: dict[str, Any] = {"looked_at": now}
        if row.series_id in known:
            history = up_to(known[row.series_id], row.point_id)
            step = history_look(history, borders[row.series_id], before.get(row.series_id, ()), settled[row.series_id])
            if step is not None:
                found = confirm(connection, run_id, facts[row.series_id], step, row.point_id, "confirmation", now)
                if "step_point_id" in found:  # else it is looked into on another night
                    values |= {"conclusion": None, "found_by": "history", **found}
        connection.execute(update(screenings).where(screenings.c.id == row.id).values(**values))
    return len(rows)


def _ready(connection: Connection, run_id: int) -> Sequence[Any]:
    still_open = (
        select(jobs.c.device_id, payload_text())
        .join(payloads, payloads.c.id == jobs.c.payload_id)
        .where(jobs.c.sweep_run_id == run_id, jobs.c.state.in_(OPEN_JOB), *_MINE)
        .limit(_MANY_OPEN)
    )
    opened = connection.execute(still_open).all()
    waiting = {(row.device_id, case_of(task_of(row.payload_text)).key) for row in opened}
    if len(opened) == _MANY_OPEN:
        return []
    told = exists().where(screenings.c.series_id == points.c.series_id, screenings.c.sweep_run_id == run_id)
    query = (
        select(points.c.id, points.c.series_id, series.c.device_id, series.c.case_key)
        .join(series, series.c.id == points.c.series_id)
        .where(points.c.sweep_run_id == run_id, ~told, series.c.metric == "latency")
        .order_by(points.c.id)
        .limit(_MOST_ASKED)
    )
    # Jobs for any device of a kind have none before they run.
    ready = [
        row
        for row in connection.execute(query).all()
        if (row.device_id, row.case_key) not in waiting and (None, row.case_key) not in waiting
    ]
    return ready[:MOST_AT_ONCE]


def _insert(connection: Connection, row: Row[Any], run_id: int, now: datetime, **values: Any) -> None:
    insert_row(connection, screenings, point_id=row.id, series_id=row.series_id, sweep_run_id=run_id, at=now, **values)


def _looked_into(connection: Connection, series_ids: Sequence[int]) -> dict[int, list[int]]:
    """First points of steps that the history showed and that were looked into, by series.

    What was inconclusive is looked into again when four more points are in.
    """
    later = screenings.alias("later")
    since = (
        select(func.count())
        .where(later.c.series_id == screenings.c.series_id, later.c.id > screenings.c.id)
        .correlate(screenings)
        .scalar_subquery()
    )
    query = select(screenings.c.series_id, screenings.c.step_point_id).where(
        one_of(screenings.c.series_id, series_ids),
        screenings.c.found_by == "history",
        screenings.c.step_point_id.is_not(None),
        or_(screenings.c.conclusion.is_(None), screenings.c.conclusion != "inconclusive", since <= NEAR),
    )
    found: dict[int, list[int]] = {}
    for row in connection.execute(query):
        found.setdefault(row.series_id, []).append(row.step_point_id)
    return found


def confirm(
    connection: Connection,
    run_id: int,
    facts: SeriesFacts,
    suspicion: Suspicion,
    point_id: int,
    purpose: Purpose,
    now: datetime,
) -> dict[str, Any]:
    """Have a suspicion tried: the trial, or why there can be none, in the columns of a screening."""
    columns: dict[str, Any] = {"baseline_point_id": suspicion.baseline.id, "step_point_id": suspicion.step.id}
    running = (
        select(trials.c.id, points.c.at)
        .join(points, points.c.id == trials.c.baseline_point_id)
        .where(
            trials.c.series_id == facts.id,
            trials.c.state == "running",
            trials.c.purpose.in_(("confirmation", "bridge")),
        )
    )
    if (known := connection.execute(running.order_by(trials.c.id).limit(1)).first()) is not None:
        if known.at <= suspicion.baseline.at:
            return {**columns, "trial_id": known.id}
        return {"conclusion": "inconclusive", "why": "a trial of an earlier night still runs, on a later baseline"}
    try:
        with connection.begin_nested():
            return {**columns, "trial_id": _start(connection, run_id, facts, suspicion, point_id, purpose, now)}
    except UsageError as error:
        return {**columns, "conclusion": "void", "why": f"no confirmation could be made: {error}"}


def _start(
    connection: Connection,
    run_id: int,
    facts: SeriesFacts,
    suspicion: Suspicion,
    point_id: int,
    purpose: Purpose,
    now: datetime,
) -> int:
    template = template_jobs(connection, [suspicion.baseline.id, point_id])
    if lacking := [one for one in (suspicion.baseline.id, point_id) if one not in template]:
        what = "baseline" if lacking[0] == suspicion.baseline.id else "new point"
        raise UsageError(f"the job that measured the {what} is gone")
    own = (
        select(trials.c.sweep_run_id)
        .join(screenings, screenings.c.trial_id == trials.c.id)
        .where(screenings.c.sweep_run_id == run_id, trials.c.purpose == purpose)
        .order_by(trials.c.id.desc())
        .limit(1)
    )
    return start_trial(
        connection,
        Wanted(
            purpose=purpose,
            device_id=facts.device_id,
            series_id=facts.id,
            title=facts.title,
            baseline=template[suspicion.baseline.id],
            candidate=template[point_id],
            baseline_point_id=suspicion.baseline.id,
            candidate_point_id=point_id,
            # The same artifact on both sides is not compared: its processes are measured against its own past.
            processes=LEAST_PROCESSES if suspicion.alike else ROUNDS[0],
            most=LEAST_PROCESSES if suspicion.alike else suspicion.most,
            suspected=suspicion.change,
        ),
        connection.execute(own).scalar(),
        now=now,
    )


def is_screened(connection: Connection, run_id: int) -> bool:
    """Whether every point of a run was looked at, and its history, too."""
    told = exists().where(screenings.c.series_id == points.c.series_id, screenings.c.sweep_run_id == run_id)
    left = (
        select(points.c.id)
        .join(series, series.c.id == points.c.series_id)
        .where(points.c.sweep_run_id == run_id, ~told, series.c.metric == "latency")
    )
    unseen = select(screenings.c.id).where(screenings.c.sweep_run_id == run_id, screenings.c.looked_at.is_(None))
    return connection.execute(left.limit(1)).first() is None and connection.execute(unseen.limit(1)).first() is None
