"""A/A trials that teach the noise of series: those that users want, and those that the farm finds due."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, and_, exists, func, or_, select

from device_registry.database import one_of
from device_registry.registry import devices
from scheduler import queue
from scheduler.durations import expected_s
from scheduler.points import points, series
from scheduler.queue import sweep_runs
from scheduler.regressions.series_noise import STALE_AFTER, SeriesNoise, read_row, with_latest_points
from scheduler.states import jobs
from scheduler.trials import Wanted, start_run, start_trial, template_jobs, trials
from scheduler.trials.floors import floors
from scheduler.verdicts import ROUNDS

#: Device minutes that the farm spends on it of its own accord, by device and day; 0: none.
MINUTES_PER_DAY: Final = "BENCHFARM_NOISE_MINUTES"
_MINUTES_PER_DAY = 20.0
#: Series that were not measured for so long are watched no more.
_WATCHED_FOR = timedelta(days=7)
_DAY = timedelta(days=1)
#: Trials that one look begins.
_MOST_AT_ONCE = 20


def learn(
    connection: Connection,
    wanted: Sequence[SeriesNoise],
    *,
    owner: str,
    processes: int = ROUNDS[0],
    priority: int | None = None,
    run_id: int | None = None,
    now: datetime,
) -> dict[int, int]:
    """Begin A/A trials of series, in one run; returns series to trial, without those that are being learnt already.

    What a series' latest valid point came of is measured against itself: where that is not known any more, or its
    artifact is gone and nothing ever made it, the series is left out.

    Args:
        connection: inside a transaction that writes.
        wanted: the series.
        owner: whose device time it is.
        processes: on each side.
        priority: of the jobs; None: users go first.
        run_id: the run; None: a new one.
        now: the time.
    """
    busy = set(_learning(connection))
    left = [one for one in wanted if one.series_id not in busy]
    made_of = _measurable(connection, left)
    left = [one for one in left if one.point_id in made_of]
    if not left:
        return {}
    run_id = start_run(connection, "noise", owner=owner, now=now) if run_id is None else run_id
    begun = {}
    for one in left:
        job_id = made_of[one.point_id]
        asked = Wanted(
            purpose="noise",
            device_id=one.device_id,
            title=one.title,
            baseline=job_id,
            candidate=job_id,
            series_id=one.series_id,
            baseline_point_id=one.point_id,
            candidate_point_id=one.point_id,
            owner=owner,
            priority=priority,
            processes=processes,
            most=processes,
        )
        begun[one.series_id] = start_trial(connection, asked, run_id, now=now)
    return begun


def cost_s(connection: Connection, wanted: Sequence[SeriesNoise], processes: int = ROUNDS[0]) -> dict[int, float]:
    """Expected device seconds of an A/A trial of each series whose jobs are known."""
    made_of = _measurable(connection, wanted)
    rows = connection.execute(
        select(jobs.c.id, jobs.c.duration_key, jobs.c.expected_s).where(one_of(jobs.c.id, list(made_of.values())))
    ).all()
    known = expected_s(connection, {row.duration_key for row in rows if row.duration_key is not None})
    each = {row.id: known.get(row.duration_key, row.expected_s) for row in rows}
    return {one.series_id: 2 * processes * each[made_of[one.point_id]] for one in wanted if one.point_id in made_of}


def _measurable(connection: Connection, wanted: Sequence[SeriesNoise]) -> dict[int, int]:
    """Points of series to the jobs that they came of, where their artifacts stand or can be made again."""
    made_of = template_jobs(connection, [one.point_id for one in wanted])
    query = select(jobs.c.id, jobs.c.needs_key).where(one_of(jobs.c.id, list(made_of.values())))
    needs = {row.id: row.needs_key for row in connection.execute(query)}
    keys = set(needs.values())
    made = connection.execute(select(jobs.c.makes_key).where(one_of(jobs.c.makes_key, keys))).scalars()
    there = set(made) | queue.standing(connection, keys)
    return {point_id: job_id for point_id, job_id in made_of.items() if needs[job_id] in there}


def due_noise(connection: Connection, now: datetime, minutes_per_day: float | None = None) -> int:
    """Begin A/A trials of watched series whose noise is not known, or is a month old; returns how many.

    One at a time on a device that has no other trial, within its minutes per day, once a day at most for a series. To
    be called every few minutes.

    Args:
        connection: inside a transaction that writes.
        now: the time.
        minutes_per_day: device minutes for it on each device; None: what `BENCHFARM_NOISE_MINUTES` says, else 20.
    """
    budget_s = 60 * (_minutes() if minutes_per_day is None else minutes_per_day)
    if budget_s <= 0:
        return 0
    tried = exists().where(
        trials.c.series_id == series.c.id, trials.c.purpose == "noise", trials.c.created_at > now - _DAY
    )
    occupied = exists().where(trials.c.device_id == series.c.device_id, trials.c.state == "running")
    query = (
        with_latest_points()
        .join(sweep_runs, sweep_runs.c.id == points.c.sweep_run_id)
        .where(
            sweep_runs.c.watched.is_(True),
            points.c.at > now - _WATCHED_FOR,
            or_(floors.c.at.is_(None), floors.c.at <= now - STALE_AFTER),
            devices.c.presence == "online",
            devices.c.admin == "enabled",
            ~tried,
            ~occupied,
        )
        .order_by(floors.c.at.is_not(None), floors.c.at, series.c.id)
    )
    first: dict[int, list[SeriesNoise]] = {}
    for row in connection.execute(query.limit(50 * _MOST_AT_ONCE)):
        first.setdefault(row.device_id, []).append(read_row(row))
    if not first:
        return 0
    spent_s = _spent_s(connection, list(first), now)
    costs = cost_s(connection, [one for found in first.values() for one in found[:_MOST_AT_ONCE]])
    chosen = []
    for device_id, found in sorted(first.items()):
        left_s = budget_s - spent_s.get(device_id, 0.0)
        fitting = (one for one in found if costs.get(one.series_id, budget_s + 1) <= left_s)
        if (one := next(fitting, None)) is not None:
            chosen.append(one)
    return sum(len(learn(connection, [one], owner="farm", now=now)) for one in chosen[:_MOST_AT_ONCE])


def running_noise(connection: Connection, series_ids: Collection[int]) -> dict[int, int]:
    """Of these series those whose noise is being learnt, and the runs that do."""
    query = select(trials.c.series_id, trials.c.sweep_run_id).where(
        _IS_LEARNING, one_of(trials.c.series_id, series_ids)
    )
    return {row.series_id: row.sweep_run_id for row in connection.execute(query)}


def noise_ends(connection: Connection, run_ids: Collection[int], series_ids: Collection[int]) -> list[dict[str, Any]]:
    """Of these series those whose trials in these runs ended without an answer, and why."""
    query = (
        select(trials.c.series_id, trials.c.title, trials.c.why)
        .where(one_of(trials.c.sweep_run_id, run_ids), one_of(trials.c.series_id, series_ids), trials.c.state == "void")
        .order_by(trials.c.id)
    )
    return [{"series": row.series_id, "title": row.title, "why": row.why} for row in connection.execute(query)]


_IS_LEARNING: ColumnElement[bool] = and_(trials.c.state == "running", trials.c.purpose == "noise")


def _learning(connection: Connection) -> list[int]:
    return list(connection.execute(select(trials.c.series_id).where(_IS_LEARNING)).scalars())


def _minutes() -> float:
    try:
        return float(os.environ.get(MINUTES_PER_DAY, ""))
    except ValueError:
        return _MINUTES_PER_DAY


def _spent_s(connection: Connection, device_ids: Collection[int], now: datetime) -> Mapping[int, float]:
    query = (
        select(trials.c.device_id, func.sum(trials.c.device_s))
        .where(one_of(trials.c.device_id, device_ids), trials.c.purpose == "noise", trials.c.ended_at > now - _DAY)
        .group_by(trials.c.device_id)
    )
    return {row[0]: float(row[1] or 0.0) for row in connection.execute(query)}
