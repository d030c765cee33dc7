"""The digest of a sweep run, one document: what regressed, improved, failed, went missing, and what cannot be seen."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, and_, case, distinct, exists, func, or_, select

from device_registry.errors import UsageError
from device_registry.registry import devices
from scheduler.coverage import cells
from scheduler.notifications.baseline import against_baseline
from scheduler.notifications.incident import summaries
from scheduler.notifications.told import (
    MOST_LISTED,
    NAMING,
    SCHEMA_VERSION,
    incident_series,
    incidents,
    iso,
    named,
    noise_floors,
    screenings,
    some,
    trials,
)
from scheduler.points import points, series
from scheduler.queue import sweep_runs
from scheduler.states import OPEN_JOB, jobs
from scheduler.watch_views import SIGHT

_USERS = (jobs.c.kind == "measure", jobs.c.canary.is_(False), jobs.c.side.is_(None))


def digest_document(connection: Connection, sweep_run_id: int, now: datetime) -> dict[str, Any]:
    """What a run found, as far as it is known now.

    Args:
        connection: to read with.
        sweep_run_id: of the run.
        now: the time.

    Raises:
        UsageError: there is no such run.
    """
    run = connection.execute(select(sweep_runs).where(sweep_runs.c.id == sweep_run_id)).one_or_none()
    if run is None:
        raise UsageError(f"there is no run {sweep_run_id}; see benchfarm sweep list")
    before = _run_before(connection, run)
    made: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "run": _run(run),
        "compared_with_run": None if before is None else before.id,
        "at": iso(now),
        "cases": _cases(connection, run),
        "regressed": _opened(connection, run),
        "recovered": _recovered(connection, run),
        "still_open": _still_open(connection, run),
        "improved": _improved(connection, run),
        "undecided": _undecided(connection, run),
        "failed": _failed(connection, run),
        "missing": some([]) if before is None else _missing(connection, run, before),
        "baseline": against_baseline(connection, run),
        "cannot_see": _cannot_see(connection, run),
        "unsupported": {"count": len(run.unsupported)},
        "commands": [
            f"benchfarm sweep show {run.id}",
            *([] if run.watched else [f"benchfarm jobs list --run {run.id}"]),
        ],
    }
    made["quiet"] = not any(made[name]["count"] for name in ("regressed", "recovered", "improved", "failed", "missing"))
    return made


def _run(run: Row[Any]) -> dict[str, Any]:
    return {
        "id": run.id,
        "sweep": run.sweep,
        "schedule": run.schedule,
        "due_at": iso(run.due_at),
        "created_at": iso(run.created_at),
        "screened_at": iso(run.screened_at),
        "watched": run.watched,
        "purpose": run.purpose,
        "revision": run.revision,
        "build": run.build,
        "owner": run.owner,
    }


def _run_before(connection: Connection, run: Row[Any]) -> Row[Any] | None:
    """The run of the same sweep before this one: what had a number there should have one here."""
    if run.sweep is None or not run.watched:
        return None
    query = select(sweep_runs).where(
        sweep_runs.c.sweep == run.sweep,
        sweep_runs.c.watched,
        sweep_runs.c.purpose.is_(None),
        sweep_runs.c.id < run.id,
    )
    return connection.execute(query.order_by(sweep_runs.c.id.desc()).limit(1)).one_or_none()


def _points(run: Row[Any]) -> Select[Any]:
    return select(points).where(points.c.sweep_run_id == run.id)


def _cases(connection: Connection, run: Row[Any]) -> dict[str, Any]:
    """Cases on devices: how many were wanted, and how many of them are measured, valid, open."""
    of_run = (jobs.c.sweep_run_id == run.id, *_USERS)
    wanted, left = connection.execute(
        select(
            func.count(distinct(jobs.c.case_key)),
            func.count(distinct(case((jobs.c.state.in_(OPEN_JOB), jobs.c.case_key)))),
        ).where(*of_run)
    ).one()
    found = _points(run).subquery()
    rows = connection.execute(select(found.c.verdict, func.count().label("points")).group_by(found.c.verdict))
    verdicts: dict[str, int] = {row.verdict: row.points for row in rows}
    return {
        "wanted": wanted,
        "open": left,
        "measured": sum(verdicts.values()),
        "valid": verdicts.pop("valid", 0),
        "invalid": verdicts,
    }


def _opened(connection: Connection, run: Row[Any]) -> dict[str, Any]:
    query = select(incidents).where(incidents.c.sweep_run_id == run.id).order_by(incidents.c.change.desc())
    return some(summaries(connection.execute(query).all()))


def _recovered(connection: Connection, run: Row[Any]) -> dict[str, Any]:
    """Incidents whose series came back with points of this run."""
    back = (
        select(incident_series.c.incident_id)
        .join(points, points.c.id == incident_series.c.recovered_point_id)
        .where(points.c.sweep_run_id == run.id)
    )
    query = select(incidents).where(incidents.c.state == "resolved", incidents.c.id.in_(back)).order_by(incidents.c.id)
    return some(summaries(connection.execute(query).all()))


def _still_open(connection: Connection, run: Row[Any]) -> dict[str, Any]:
    """Incidents of the same sweep that earlier runs opened."""
    query = select(incidents).where(
        incidents.c.state != "resolved", incidents.c.sweep_run_id < run.id, incidents.c.sweep == run.sweep
    )
    return some(summaries(connection.execute(query.order_by(incidents.c.change.desc())).all()))


def _screened(connection: Connection, run: Row[Any], which: ColumnElement[bool]) -> list[Any]:
    """What was screened in a run and became this, with the trial that was made of it, by series."""
    query = (
        select(
            *NAMING,
            screenings.c.effect,
            screenings.c.confirmed,
            screenings.c.conclusion,
            screenings.c.why,
            trials.c.ratio_low,
            trials.c.ratio_high,
        )
        .select_from(screenings)
        .join(series, series.c.id == screenings.c.series_id)
        .join(devices, devices.c.id == series.c.device_id)
        .outerjoin(trials, trials.c.id == screenings.c.trial_id)
        .where(screenings.c.sweep_run_id == run.id, which)
    )
    return list(connection.execute(query.order_by(screenings.c.confirmed, series.c.id)).all())


def _improved(connection: Connection, run: Row[Any]) -> dict[str, Any]:
    """Series whose level is believed to be lower, the largest changes first, but those that recovered."""
    back = (
        select(incident_series.c.series_id)
        .join(points, points.c.id == incident_series.c.recovered_point_id)
        .where(points.c.sweep_run_id == run.id)
    )
    rows = _screened(connection, run, and_(screenings.c.confirmed < 0, screenings.c.series_id.not_in(back)))
    return some(
        [
            {
                **named(row),
                "change": row.confirmed,
                # Ends of a speed-up are those of the change, the other way round.
                "change_interval": None if row.ratio_low is None else [_change(row.ratio_high), _change(row.ratio_low)],
            }
            for row in rows
        ]
    )


def _undecided(connection: Connection, run: Row[Any]) -> dict[str, Any]:
    """Suspects that nothing was concluded of, or that no trial told anything of."""
    suspected = screenings.c.outcome.in_(("slower", "faster"))
    open_ = and_(suspected, screenings.c.conclusion.is_(None))
    rows = _screened(connection, run, or_(open_, screenings.c.conclusion.in_(("inconclusive", "unconfirmed", "void"))))
    return some(
        [
            {**named(row), "change": row.effect, "state": row.conclusion or "not concluded yet", "why": row.why}
            for row in rows
        ]
    )


def _failed(connection: Connection, run: Row[Any]) -> dict[str, Any]:
    """Cases without any success, those that failed for the same together."""
    again = jobs.alias("again")
    no_success = ~exists().where(
        again.c.sweep_run_id == jobs.c.sweep_run_id,
        again.c.case_key == jobs.c.case_key,
        again.c.state == "succeeded",
    )
    count = func.count(distinct(jobs.c.case_key)).label("cases")
    alike = (jobs.c.title, jobs.c.failure_cause, jobs.c.failure_code)
    query = (
        select(*alike, func.min(jobs.c.failure_message).label("why"), count, func.min(jobs.c.id).label("job"))
        .where(jobs.c.sweep_run_id == run.id, jobs.c.state == "failed", *_USERS, no_success)
        .group_by(*alike)
    )
    rows = connection.execute(query.order_by(count.desc(), "job").limit(MOST_LISTED)).all()
    total = connection.execute(
        select(func.count(distinct(jobs.c.case_key))).where(
            jobs.c.sweep_run_id == run.id, jobs.c.state == "failed", *_USERS, no_success
        )
    ).scalar_one()
    listed = [
        {
            "what": row.title,
            "cause": row.failure_cause,
            "code": row.failure_code,
            "why": row.why,
            "cases": row.cases,
            "job": row.job,
        }
        for row in rows
    ]
    return some(listed, total)


def _missing(connection: Connection, run: Row[Any], before: Row[Any]) -> dict[str, Any]:
    """Series with a valid point in the run before and none in this one, but those that failed."""
    had, has = _points(before).subquery("had"), _points(run).subquery("has")
    # What the matrix of the farm says became of the case, if this run said it.
    said = and_(
        cells.c.device_id == series.c.device_id,
        cells.c.case_key == series.c.case_key,
        cells.c.sweep_run_id == run.id,
    )
    query = (
        select(*NAMING, cells.c.state, cells.c.why)
        .select_from(had)
        .join(series, series.c.id == had.c.series_id)
        .join(devices, devices.c.id == series.c.device_id)
        .outerjoin(has, and_(has.c.series_id == had.c.series_id, has.c.verdict == "valid"))
        .outerjoin(cells, said)
        .where(had.c.verdict == "valid", has.c.id.is_(None), or_(cells.c.state.is_(None), cells.c.state != "failed"))
    )
    rows = connection.execute(query.order_by(devices.c.name, series.c.id)).all()
    return some([{**named(row), "state": row.state or "not measured", "why": row.why} for row in rows])


def _cannot_see(connection: Connection, run: Row[Any]) -> dict[str, Any]:
    """Series of the run that are too noisy to show a change of 5 %; and how many never learnt their noise."""
    found = _points(run).subquery()
    of_run = (
        select(*NAMING, noise_floors.c.noise, noise_floors.c.detectable)
        .select_from(found)
        .join(series, series.c.id == found.c.series_id)
        .join(devices, devices.c.id == series.c.device_id)
        .outerjoin(noise_floors, noise_floors.c.series_id == series.c.id)
    )
    blind = and_(
        noise_floors.c.series_id.is_not(None),
        or_(noise_floors.c.detectable.is_(None), noise_floors.c.detectable > SIGHT),
    )
    rows = connection.execute(of_run.where(blind).order_by(devices.c.name, series.c.id)).all()
    unlearnt = of_run.with_only_columns(func.count()).where(noise_floors.c.series_id.is_(None))
    listed = [{**named(row), "noise": row.noise, "least_visible_change": row.detectable} for row in rows]
    return {**some(listed), "change": SIGHT, "unknown": connection.execute(unlearnt).scalar_one()}


def _change(ratio: float | None) -> float | None:
    return None if not ratio else 1.0 / ratio - 1.0
