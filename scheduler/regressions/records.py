"""Incidents as documents: what lists and `show` print, and what pictures are made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Connection, Row, func, select

from device_registry.database import one_of
from device_registry.errors import UsageError
from device_registry.registry import label_of
from scheduler.notifications.incident import incident_summary
from scheduler.points import points
from scheduler.queue import sweep_runs
from scheduler.regressions.attribution import Shown, read_rows
from scheduler.regressions.incidents import incident_series, incidents
from scheduler.regressions.levels import HistoryPoint
from scheduler.regressions.series_history import facts_of, histories, screenings, valid_processes
from scheduler.states import events
from scheduler.trials import noise_floor_of, trials

#: Points of a series that a document holds.
_MOST_POINTS = 200
#: Points whose processes stand for the level before a step that no artifact brought.
_BEFORE = 8
#: Causes that compare a unit with its own past.
OF_UNIT: Final = ("environment", "device", "unknown")


def list_incidents(
    connection: Connection, *, states: Sequence[str] = (), cause: str | None = None, limit: int = 50
) -> list[dict[str, Any]]:
    """Incidents in short, the newest first.

    Args:
        connection: to read with.
        states: only of these; none: of all.
        cause: only of this.
        limit: how many.
    """
    count = (
        select(func.count())
        .where(incident_series.c.incident_id == incidents.c.id)
        .correlate(incidents)
        .scalar_subquery()
        .label("series")
    )
    query = select(incidents, count)
    if states:
        query = query.where(incidents.c.state.in_(states))
    if cause is not None:
        query = query.where(incidents.c.cause == cause)
    rows = connection.execute(query.order_by(incidents.c.id.desc()).limit(limit))
    return [{**incident_summary(row), "series": row.series, "acknowledged_by": row.acknowledged_by} for row in rows]


def incident_record(connection: Connection, incident_id: int) -> dict[str, Any]:
    """All that is known of an incident: its series with sizes, points, distributions, environments, what became of it.

    Raises:
        UsageError: there is no such incident.
    """
    row = connection.execute(select(incidents).where(incidents.c.id == incident_id)).one_or_none()
    if row is None:
        raise UsageError(f"there is no incident {incident_id}; see benchfarm regressions list")
    members = connection.execute(
        select(incident_series)
        .where(incident_series.c.incident_id == incident_id)
        .order_by(incident_series.c.change.desc(), incident_series.c.id)
    ).all()
    happened = connection.execute(
        select(events).where(events.c.entity == "incident", events.c.entity_id == incident_id).order_by(events.c.id)
    )
    return {
        **incident_summary(row),
        "acknowledged_by": row.acknowledged_by,
        "note": row.note,
        "canary": row.canary,
        "environment": dict(row.environment),
        "series": _series(connection, members, row.cause),
        "events": [
            {"at": one.at, "who": one.who, "before": one.before, "after": one.after, "why": one.why} for one in happened
        ],
        "repeat": f"benchfarm regressions confirm {incident_id}",
    }


def _series(connection: Connection, members: Sequence[Row[Any]], cause: str) -> list[dict[str, Any]]:
    ids = [one.series_id for one in members]
    facts, known, floors = (
        facts_of(connection, ids),
        histories(connection, ids, _MOST_POINTS),
        noise_floor_of(connection, ids),
    )
    named = {one.baseline_point_id for one in members} | {one.candidate_point_id for one in members}
    named |= {one.recovered_point_id for one in members if one.recovered_point_id is not None}
    told = _points(connection, named | {point.id for history in known.values() for point in history})
    shown = {
        (row.series_id, row.trial_id): read_rows(row.tests)
        for row in connection.execute(
            select(screenings.c.series_id, screenings.c.trial_id, screenings.c.tests)
            .where(one_of(screenings.c.trial_id, [one.trial_id for one in members if one.trial_id is not None]))
            .order_by(screenings.c.id)
        )
        if row.tests
    }
    tried = {
        row.id: row
        for row in connection.execute(
            select(trials).where(one_of(trials.c.id, [one.trial_id for one in members if one.trial_id is not None]))
        )
    }
    sides = {one.id: _sides(one, known[one.series_id]) for one in members if _of_points(tried.get(one.trial_id), cause)}
    kept = valid_processes(connection, {point for side in sides.values() for half in side for point in half})
    made = []
    for one in members:
        fact, trial = facts[one.series_id], tried.get(one.trial_id)
        before, after = _processes(trial, [[kept.get(point, []) for point in half] for half in sides.get(one.id, ())])
        made.append(
            {
                "series_id": one.series_id,
                "title": fact.title,
                "model": fact.model,
                "device_id": fact.device_id,
                "device": label_of(
                    fact.device, {"simulated": fact.device_class is not None and fact.device_class[0] == "sim"}
                ),
                "runtime": fact.runtime,
                "recipe": fact.recipe,
                "threads": fact.threads,
                "batch": fact.batch,
                "mode": fact.mode,
                "options": fact.options_text,
                "found_by": one.found_by,
                "change": one.change,
                "change_interval": None if one.change_low is None else [one.change_low, one.change_high],
                "noise_floor": floors.get(one.series_id),
                "p": _p(shown.get((one.series_id, one.trial_id), ()), cause),
                "trial": _trial(trial),
                "baseline": told.get(one.baseline_point_id),
                "candidate": told.get(one.candidate_point_id),
                "recovered": told.get(one.recovered_point_id),
                "before_ms": before,
                "after_ms": after,
                "points": [told[point.id] for point in known[one.series_id] if point.id in told],
            }
        )
    return made


def _p(tests: Sequence[Shown], cause: str) -> float | None:
    """Of the test that an incident of this cause rests on."""
    slower = [test for test in tests if test.answer == "slower"]
    return next((test.p for test in slower if test.cause == cause), slower[0].p if slower else None)


def _points(connection: Connection, ids: set[int]) -> dict[int | None, dict[str, Any]]:
    query = (
        select(
            points.c.id,
            points.c.at,
            points.c.value,
            points.c.value_ci_low,
            points.c.value_ci_high,
            points.c.verdict,
            points.c.environment_digest,
            points.c.artifact_sha256,
            points.c.sweep_run_id,
            sweep_runs.c.revision,
        )
        .join(sweep_runs, sweep_runs.c.id == points.c.sweep_run_id)
        .where(one_of(points.c.id, ids))
    )
    return {
        row.id: {
            "point": row.id,
            "run": row.sweep_run_id,
            "revision": row.revision,
            "at": row.at,
            "p50_ms": row.value,
            "p50_ci_ms": None if row.value_ci_low is None else [row.value_ci_low, row.value_ci_high],
            "verdict": row.verdict,
            "environment": row.environment_digest,
            "artifact": row.artifact_sha256,
        }
        for row in connection.execute(query)
    }


def _trial(trial: Row[Any] | None) -> dict[str, Any] | None:
    if trial is None:
        return None
    columns = ("id", "sweep_run_id", "state", "purpose", "answer", "p", "adjusted_p", "detectable", "clock_agrees")
    counts = [len(trial.baseline_values), len(trial.candidate_values)]
    return {
        **{name: getattr(trial, name) for name in columns},
        "same_artifact": trial.baseline_key == trial.candidate_key,
        "not_alternated": trial.not_alternated,
        "processes": counts,
        "device_s": trial.device_s,
        "why": trial.why,
    }


def _of_points(trial: Row[Any] | None, cause: str) -> bool:
    """Whether the processes of points are shown: the two sides of a trial tell nothing of what its unit was before."""
    return trial is None or trial.state != "done" or cause in OF_UNIT


def _sides(one: Row[Any], history: Sequence[HistoryPoint]) -> tuple[list[int], list[int]]:
    """The valid points next to a step, before and after it."""
    numbers = {point.id: number for number, point in enumerate(history)}
    step = numbers.get(one.candidate_point_id, len(history))
    past = [point.id for point in history[:step] if point.valid][-_BEFORE:]
    return past, [point.id for point in history[step:] if point.valid][:_BEFORE]


def _processes(trial: Row[Any] | None, sides: Sequence[Sequence[Sequence[float]]]) -> tuple[list[float], list[float]]:
    """Medians of processes before and after: of the trial's two sides, or of the unit's past and its trial."""
    done = trial is not None and trial.state == "done"
    if trial is not None and done and not sides:
        return _values(trial.baseline_values), _values(trial.candidate_values)
    before, after = ([value for point in half for value in point] for half in sides)
    if trial is not None and done:
        same = trial.baseline_key == trial.candidate_key
        after = _values(trial.baseline_values) + (_values(trial.candidate_values) if same else [])
    return before, after


def _values(kept: Sequence[Sequence[Any]]) -> list[float]:
    return [float(one[0]) for one in kept]
