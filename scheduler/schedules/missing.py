"""Cells that a schedule watches and that nobody measured lately: silence is never "fine".

What a schedule watches is what its runs have held since it was added, changed or resumed: so a device that is away, and
of which the last run holds nothing, is missing as well. A cell is fresh with a valid result since the schedule was due
last or, while that run is at work (or about to be made), since the time before.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil
from typing import Any, Final

from sqlalchemy import Connection, Row, func, select

from device_registry.database import one_of
from device_registry.registry import devices
from scheduler.ingest import results
from scheduler.outcomes import evaluations
from scheduler.queue import sweep_runs
from scheduler.schedules.cron import Cron
from scheduler.schedules.schedule import cron_of, open_run, schedule_of
from scheduler.schedules.turns import GRACE
from scheduler.states import jobs
from workers.errors import UNSUPPORTED

#: Runs that tell what a schedule watches: the last ones, and some of all before them. What is gone stays missing.
_LATEST: Final = 7
_BEFORE: Final = 8


@dataclass(frozen=True, kw_only=True)
class MissingCell:
    """A cell of a schedule without a fresh valid point."""

    #: `job.case_key`: the case and the place where it is measured.
    case_key: str
    #: "net on litert int8-static, pixel-3"; the device is None where any of several would do.
    title: str
    device_id: int | None
    device: str | None
    #: When a run of the schedule last measured it so that it counts; None: never, as far as they are looked at.
    last_valid_at: datetime | None
    #: Why its last job came to nothing, or why there was none.
    why: str


def missing_cells(connection: Connection, schedule: str, now: datetime) -> list[MissingCell]:
    """Cells of a schedule without a fresh valid point, by title; of one that is paused, none is expected.

    Args:
        connection: to read with.
        schedule: its name.
        now: the time.

    Raises:
        UsageError: there is no such schedule, or its cron cannot be read.
    """
    row = schedule_of(connection, schedule)
    if row.paused:
        return []
    every = connection.execute(
        select(sweep_runs.c.id, sweep_runs.c.due_at, sweep_runs.c.created_at, sweep_runs.c.budget_s)
        .where(sweep_runs.c.schedule == schedule, sweep_runs.c.created_at >= row.changed_at)
        .order_by(sweep_runs.c.id.desc())
    ).all()
    older = every[: _LATEST - 1 : -1]  # from the first on, which held what has been away ever since
    runs = [*every[:_LATEST], *reversed(older[:: ceil(len(older) / _BEFORE) or 1])]
    since = _since(connection, row, runs, cron_of(row), now)
    if since is None:
        return []
    watched = _cases(connection, [run.id for run in runs])
    fresh = _valid(connection, [run.id for run in runs], since)
    missing = set().union(*watched.values()) - fresh - _spared(connection, runs, watched)
    return _described(connection, missing, [run.id for run in runs])


def _since(connection: Connection, row: Row[Any], runs: Sequence[Any], cron: Cron, now: datetime) -> datetime | None:
    """From when on a valid point is fresh; None: none can be expected yet."""
    last = cron.latest(row.changed_at, now)
    if last is None:
        return None
    made = any(run.due_at is not None and run.due_at >= last for run in runs)
    taken = made or (row.next_due_at is not None and row.next_due_at > now)  # it made a run, or none could be made
    if open_run(connection, row.name) is None and (taken or now - last > GRACE):
        return last
    return cron.latest(row.changed_at, last - timedelta(seconds=1))


def _cases(connection: Connection, run_ids: Sequence[int]) -> dict[int, set[str]]:
    """Cells of each run, without those that turned out to be unsupported; the first from an index alone."""
    found: dict[int, set[str]] = {run_id: set() for run_id in run_ids}
    held = select(jobs.c.sweep_run_id, jobs.c.case_key).where(
        one_of(jobs.c.sweep_run_id, run_ids), jobs.c.case_key.is_not(None)
    )
    for run_id, key in connection.execute(held.distinct()):
        found[run_id].add(key)
    cannot = held.where(jobs.c.state == "failed", jobs.c.failure_code == UNSUPPORTED)
    for run_id, key in connection.execute(cannot.distinct()):
        found[run_id].discard(key)
    return found


def _valid(connection: Connection, run_ids: Collection[int], since: datetime | None = None) -> set[str]:
    """Cells with a valid result, and those that were evaluated."""
    query = select(results.c.case_key).where(
        one_of(results.c.sweep_run_id, run_ids), results.c.verdict == "valid", results.c.stale.is_(False)
    )
    evaluated = (
        select(jobs.c.case_key)
        .join(evaluations, evaluations.c.job_id == jobs.c.id)
        .where(one_of(evaluations.c.sweep_run_id, run_ids))
    )
    if since is not None:
        query = query.where(results.c.created_at >= since)
        evaluated = evaluated.where(evaluations.c.created_at >= since)
    return {key for asked in (query, evaluated) for key in connection.execute(asked.distinct()).scalars()}


def _spared(connection: Connection, runs: Sequence[Any], watched: dict[int, set[str]]) -> set[str]:
    """Cells that the last run left out for its budget, and whose turn was not so long ago that they should have had it.

    A budget measures some of them a night, the oldest first: as many runs as that takes, and one more, are theirs.
    """
    if not runs or runs[0].budget_s is None or not (last := watched[runs[0].id]):
        return set()
    every = set().union(*watched.values())
    turns = runs[: ceil(len(every) / len(last)) + 1]
    return (every - last) & _valid(connection, [run.id for run in turns])


def _described(connection: Connection, keys: set[str], run_ids: list[int]) -> list[MissingCell]:
    if not keys:
        return []
    of_them = (one_of(jobs.c.sweep_run_id, run_ids), one_of(jobs.c.case_key, keys))
    latest = select(func.max(jobs.c.id)).where(*of_them).group_by(jobs.c.case_key)
    columns = [jobs.c[name] for name in ("case_key", "title", "device_id", "sweep_run_id", "state", "failure_message")]
    query = (
        select(*columns, devices.c.name, devices.c.presence, devices.c.admin)
        .join_from(jobs, devices, devices.c.id == jobs.c.device_id, isouter=True)
        .where(jobs.c.id.in_(latest))
    )
    valid = (one_of(results.c.sweep_run_id, run_ids), one_of(results.c.case_key, keys), results.c.verdict == "valid")
    last = select(results.c.case_key, func.max(results.c.created_at)).where(*valid).group_by(results.c.case_key)
    evaluated = (
        select(jobs.c.case_key, func.max(evaluations.c.created_at))
        .join(evaluations, evaluations.c.job_id == jobs.c.id)
        .where(one_of(evaluations.c.sweep_run_id, run_ids), one_of(jobs.c.case_key, keys))
        .group_by(jobs.c.case_key)
    )
    when: dict[str, datetime] = {row[0]: row[1] for asked in (last, evaluated) for row in connection.execute(asked)}
    valid_then = _valid(connection, run_ids[:1])
    found = [
        MissingCell(
            case_key=job.case_key,
            title=job.title.partition(", repeat ")[0],
            device_id=job.device_id,
            device=job.name,
            last_valid_at=when.get(job.case_key),
            why=_why(job, run_ids[0], job.case_key in valid_then),
        )
        for job in connection.execute(query)
    ]
    return sorted(found, key=lambda cell: (cell.title, cell.case_key))


def _why(job: Any, last_run_id: int, was_valid: bool) -> str:
    if job.sweep_run_id != last_run_id:
        if job.presence is not None and job.presence != "online":
            return f"{job.name} is {job.presence}: run {last_run_id} has no job for it"
        if job.admin is not None and job.admin != "enabled":
            return f"{job.name} is {job.admin}: run {last_run_id} has no job for it"
        return f"run {last_run_id} has no job for it"
    if was_valid:
        return f"there was no run after run {last_run_id}"
    if job.failure_message:
        return str(job.failure_message)
    return "its results are not valid" if job.state == "succeeded" else f"its job is {job.state}"
