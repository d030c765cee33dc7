"""What people do to jobs that are there: cancel them, or try them again."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from device_registry.database import one_of
from device_registry.errors import UsageError
from device_registry.registry import devices
from scheduler import queue, resting
from scheduler.placement import rank_of
from scheduler.queue import sweep_runs
from scheduler.records import superseded
from scheduler.states import OPEN_JOB, jobs, portions, record, record_all
from scheduler.wakeups import announce


def cancel(connection: Connection, job_ids: Sequence[int], *, who: str, now: datetime) -> list[int]:
    """Cancel jobs, all or none; what waits for their artifacts is cancelled with them.

    Returns the conversions that go on, because other runs wait for them: they are these runs' now.

    Raises:
        UsageError: there is no such job, or it is finished.
    """
    rows = _known(connection, job_ids)
    for row in rows:
        if row.state not in OPEN_JOB:
            raise UsageError(f"job {row.id} is {row.state} already")
    given = _hand_over(connection, [row.sweep_run_id for row in rows if row.makes_key is not None], now)
    kept = [row for row in rows if row.id in given]
    cancelled = [row.id for row in rows if row.id not in given]
    for row in kept:
        mine = (jobs.c.sweep_run_id == row.sweep_run_id, jobs.c.needs_key == row.makes_key)
        cancelled += connection.execute(select(jobs.c.id).where(*mine)).scalars().all()
    queue.cancel_jobs(connection, cancelled, who=who, why="cancelled by the user", now=now)
    return [row.id for row in kept]


def cancel_run(connection: Connection, run_id: int, *, who: str, now: datetime) -> int:
    """Cancel what is open of a run; returns how many jobs. Conversions that other runs wait for become theirs.

    Raises:
        UsageError: there is no such run.
    """
    known_run(connection, run_id)
    _hand_over(connection, [run_id], now)
    mine = (jobs.c.sweep_run_id == run_id, jobs.c.state.in_(OPEN_JOB))
    ids = connection.execute(select(jobs.c.id).where(*mine)).scalars().all()
    queue.cancel_jobs(connection, ids, who=who, why="its run was cancelled", now=now)
    record(connection, "run", run_id, None, "cancelled", who=who, why=None, now=now)
    return len(ids)


def retry(connection: Connection, job_ids: Sequence[int], *, who: str, now: datetime) -> dict[int, int]:
    """Try failed or cancelled jobs again, as new jobs of the same run. Returns old number to new.

    Raises:
        UsageError: there is no such job, or it neither failed nor was cancelled.
    """
    rows = _known(connection, job_ids)
    for row in rows:
        if row.state not in ("failed", "cancelled"):
            raise UsageError(f"job {row.id} is {row.state}: only failed and cancelled jobs are tried again")
        if row.canary:
            raise UsageError(f"job {row.id} is a probe of a quarantined device; benchfarm devices release ends that")
        if row.trial_id is not None:
            raise UsageError(f"job {row.id} belongs to trial {row.trial_id}, which makes again by itself what it lacks")
    made = {int(row.id): _made_again(connection, row, who=who, now=now) for row in rows if row.makes_key is not None}
    made |= _again(connection, [row for row in rows if row.makes_key is None], who=who, now=now)
    announce(connection)
    return made


def tag_device(
    connection: Connection, device_id: int, add: Collection[str], remove: Collection[str], *, who: str, now: datetime
) -> None:
    """Change the tags of a device.

    Raises:
        UsageError: what shall be added is no tag.
    """
    for tag in add:
        if not re.fullmatch(r"[A-Za-z0-9_.-]{1,50}", tag):
            raise UsageError(f"tag {tag!r}: write letters, digits, dots, dashes and underscores, 50 at most")
    before = connection.execute(select(devices.c.tags).where(devices.c.id == device_id).with_for_update()).scalar_one()
    tags = sorted({*before, *add} - set(remove))
    if tags != sorted(before):
        connection.execute(update(devices).where(devices.c.id == device_id).values(tags=tags))
        record(connection, "device", device_id, None, "tagged", who=who, why=", ".join(tags) or "no tags", now=now)
        announce(connection)


def failed_of(connection: Connection, run_id: int) -> list[int]:
    """Jobs of a run that failed or were cancelled, and that are not tried again yet.

    Raises:
        UsageError: there is no such run, or nothing of it failed.
    """
    known_run(connection, run_id)
    ids = connection.execute(
        select(jobs.c.id)
        .where(jobs.c.sweep_run_id == run_id, jobs.c.state.in_(("failed", "cancelled")), ~superseded())
        .order_by(jobs.c.position)
    )
    found = list(ids.scalars())
    if not found:
        raise UsageError(f"nothing of run {run_id} failed or was cancelled")
    return found


def known_run(connection: Connection, run_id: int) -> Row[Any]:
    """The row of a run.

    Raises:
        UsageError: there is no such run.
    """
    row = connection.execute(select(sweep_runs).where(sweep_runs.c.id == run_id)).first()
    if row is None:
        raise UsageError(f"no run {run_id}; see benchfarm jobs list")
    return row


def _known(connection: Connection, job_ids: Sequence[int]) -> list[Row[Any]]:
    rows: list[Row[Any]] = []
    for portion in portions(dict.fromkeys(job_ids)):
        rows += connection.execute(select(jobs).where(jobs.c.id.in_(portion)).order_by(jobs.c.id))
    if missing := sorted(set(job_ids) - {row.id for row in rows}):
        raise UsageError(f"no job {missing[0]}; see benchfarm jobs list")
    return rows


def _hand_over(connection: Connection, run_ids: Collection[int], now: datetime) -> set[int]:
    """Give conversions that others wait for to one of these; to one that rests only where nobody else wants them."""
    leaving = one_of(jobs.c.sweep_run_id, set(run_ids))
    given = resting.hand_over(connection, leaving, now)
    return given | resting.hand_over(connection, leaving, now, to_resting=True)


def _made_again(connection: Connection, row: Row[Any], *, who: str, now: datetime) -> int:
    """A copy of a finished conversion, and of those that it needs. Returns its number."""
    open_one = connection.execute(
        select(jobs.c.id).where(jobs.c.makes_key == row.makes_key, jobs.c.state.in_(OPEN_JOB))
    ).scalar()
    if open_one is not None:  # somebody makes it already
        return int(open_one)
    return _again(connection, [row], who=who, now=now)[int(row.id)]


def _again(connection: Connection, rows: Sequence[Row[Any]], *, who: str, now: datetime) -> dict[int, int]:
    """Copies of finished jobs, and of the conversions that they need whose artifacts do not stand. Old number to new.

    Few statements for many jobs: a large sweep that was cancelled is taken up whole.
    """
    if not rows:
        return {}
    lacking: set[str] = set()
    for portion in portions({row.needs_key for row in rows if row.needs_key is not None}):
        lacking |= set(portion) - queue.standing(connection, portion)
    for key in sorted(lacking):
        maker = select(jobs).where(jobs.c.makes_key == key).order_by(jobs.c.id.desc()).limit(1)
        _made_again(connection, connection.execute(maker).one(), who=who, now=now)
    fresh = [_copy(row, "blocked" if row.needs_key in lacking else "queued", now) for row in rows]
    adding = insert(jobs).returning(jobs.c.id, sort_by_parameter_order=True)
    made = dict(zip((int(row.id) for row in rows), connection.execute(adding, fresh).scalars(), strict=True))
    for state in ("blocked", "queued"):
        mine = [row.id for row, new in zip(rows, fresh, strict=True) if new["state"] == state]
        why = {made[number]: f"job {number} again" for number in mine}
        record_all(connection, "job", list(why), None, state, who=who, why=why, now=now)
    # Should nobody wait for a run any more, it is worked on all the same.
    for run_id in {row.sweep_run_id for row in rows}:
        nobody = (sweep_runs.c.id == run_id, sweep_runs.c.followed_until <= now)
        connection.execute(update(sweep_runs).where(*nobody).values(followed_until=None))
        resting.wake(connection, run_id)
    return made


def _copy(row: Row[Any], state: str, now: datetime) -> dict[str, Any]:
    fresh = {name: value for name, value in row._mapping.items() if name != "id"}
    fresh |= {"state": state, "attempts": 0, "avoid": [], "not_before": None, "created_at": now, "changed_at": now}
    fresh |= {"failure_cause": None, "failure_code": None, "failure_message": None}
    fresh["rank"] = rank_of(now.timestamp(), row.priority)
    if row.queue_until is not None:
        fresh["queue_until"] = now + (row.queue_until - row.created_at)
    return fresh
