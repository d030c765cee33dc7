"""The queue is a table: submitting is inserting, claiming is one transaction."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, or_, select

from device_registry.database import insert_row, table_of
from device_registry.errors import UsageError
from device_registry.tables import Host
from scheduler.placement import Assignment, Wanted
from scheduler.states import LIVE_ATTEMPT, OPEN_JOB, attempts, change_attempt, change_job, jobs, record
from scheduler.tables import Artifact, SweepRun
from workers.codec import from_dict
from workers.contract import ConvertTask, Limits, MeasureTask, Order
from workers.errors import UNSUPPORTED, UPSTREAM

sweep_runs = table_of(SweepRun)
artifacts = table_of(Artifact)
hosts = table_of(Host)

#: Tries of a job that fails for the infrastructure's sake.
MOST_ATTEMPTS = 3
#: How many jobs a tick looks at.
_LOOK_AHEAD = 200
#: Share of a host's memory that one child may take.
_MEMORY_SHARE = 0.8


def candidates(connection: Connection, now: datetime, open_devices: Sequence[int]) -> list[Wanted]:
    """The first queued jobs of runs that are alive; those for devices that take no work do not block the rest."""
    rows = connection.execute(
        select(jobs.c.id, jobs.c.kind, jobs.c.priority, jobs.c.position, jobs.c.device_id, jobs.c.host_id)
        .join(sweep_runs, sweep_runs.c.id == jobs.c.sweep_run_id)
        .where(
            jobs.c.state == "queued",
            or_(jobs.c.device_id.is_(None), jobs.c.device_id.in_(open_devices)),
            or_(jobs.c.not_before.is_(None), jobs.c.not_before <= now),
            or_(sweep_runs.c.followed_until.is_(None), sweep_runs.c.followed_until > now),
        )
        .order_by(jobs.c.priority.desc(), jobs.c.sweep_run_id, jobs.c.position)
        .limit(_LOOK_AHEAD)
    )
    # Runs go in the order they came; within one, by position.
    return [
        Wanted(
            job_id=row.id,
            kind=row.kind,
            priority=row.priority,
            position=index,
            device_id=row.device_id,
            host_id=row.host_id,
        )
        for index, row in enumerate(rows)
    ]


def claim(
    connection: Connection,
    assignments: Sequence[Assignment],
    *,
    who: str,
    lease_until: datetime,
    own_pids: Sequence[int],
    now: datetime,
) -> list[tuple[int, Order]]:
    """Lease each assignment: an attempt row with a token, and the job running. Returns (host id, order) pairs."""
    claimed = []
    for assignment in assignments:
        row = connection.execute(select(jobs).where(jobs.c.id == assignment.job_id)).one()
        change_job(connection, row.id, "queued", "running", who=who, why=None, now=now, attempts=row.attempts + 1)
        token = secrets.token_hex(16)
        attempt_id = insert_row(
            connection,
            attempts,
            job_id=row.id,
            host_id=assignment.place.host_id,
            device_id=assignment.place.device_id,
            place=assignment.place.key,
            token=token,
            state="leased",
            lease_until=lease_until,
            started_at=now,
        )
        record(connection, "attempt", attempt_id, None, "leased", who=who, why=assignment.place.key, now=now)
        claimed.append(
            (assignment.place.host_id, _order(connection, row, attempt_id, token, assignment.place.key, own_pids))
        )
    return claimed


def requeue(connection: Connection, job_id: int, *, who: str, why: str, now: datetime, counted: bool) -> bool:
    """Queue a running job again; after `MOST_ATTEMPTS` counted tries it fails. Returns whether it was queued."""
    tries = connection.execute(select(jobs.c.attempts).where(jobs.c.id == job_id)).scalar_one()
    if counted and tries >= MOST_ATTEMPTS:
        fail_job(
            connection, job_id, "running", "infrastructure", "gave_up", f"after {tries} tries: {why}", who=who, now=now
        )
        return False
    # Two quick tries, then a pause: what is broken for a moment has time to mend.
    later = now + timedelta(seconds=2.0 ** (tries - 1)) if counted else None
    change_job(
        connection,
        job_id,
        "running",
        "queued",
        who=who,
        why=why,
        now=now,
        not_before=later,
        attempts=tries if counted else tries - 1,
    )
    _wait_if_missing(connection, job_id, who=who, now=now)
    return True


def _wait_if_missing(connection: Connection, job_id: int, *, who: str, now: datetime) -> None:
    """A queued job whose artifact was dropped meanwhile waits for it, and it is made again."""
    row = connection.execute(select(jobs).where(jobs.c.id == job_id)).one()
    if row.state != "queued" or row.needs_key is None or stands(connection, row.needs_key):
        return
    change_job(connection, job_id, "queued", "blocked", who=who, why="its artifact must be made again", now=now)
    _make_again(connection, row.needs_key, row.sweep_run_id, who=who, now=now)


def forget(connection: Connection, row: Row[Any], why: str, *, who: str, now: datetime) -> None:
    """Drop an artifact; what was queued for it waits again."""
    connection.execute(artifacts.delete().where(artifacts.c.id == row.id))
    record(connection, "artifact", row.id, "standing", why, who=who, why=row.sha256, now=now)
    waiting = select(jobs.c.id).where(jobs.c.needs_key == row.key, jobs.c.state == "queued")
    for job_id in connection.execute(waiting).scalars().all():
        change_job(connection, job_id, "queued", "blocked", who=who, why="its artifact must be made again", now=now)


def _make_again(connection: Connection, key: str, run_id: int, *, who: str, now: datetime) -> None:
    """Queue the conversion that made an artifact once more, with what it is made from, unless it is open already."""
    maker = connection.execute(select(jobs).where(jobs.c.makes_key == key).order_by(jobs.c.id.desc()).limit(1)).one()
    if maker.state in OPEN_JOB:
        return
    state = "queued" if maker.needs_key is None or stands(connection, maker.needs_key) else "blocked"
    fresh = {name: value for name, value in maker._mapping.items() if name != "id"}
    fresh |= {"state": state, "sweep_run_id": run_id, "attempts": 0, "not_before": None}
    fresh |= {"created_at": now, "changed_at": now}
    fresh |= {"failure_cause": None, "failure_code": None, "failure_message": None}
    job_id = insert_row(connection, jobs, **fresh)
    record(connection, "job", job_id, None, state, who=who, why="its artifact was damaged", now=now)
    if state == "blocked":
        _make_again(connection, maker.needs_key, run_id, who=who, now=now)


def fail_job(
    connection: Connection, job_id: int, before: str, cause: str, code: str, message: str, *, who: str, now: datetime
) -> None:
    """Fail a job, and with a conversion all that waits for its artifact."""
    values = {"failure_cause": cause, "failure_code": code, "failure_message": message}
    change_job(connection, job_id, before, "failed", who=who, why=message, now=now, **values)
    makes = connection.execute(select(jobs.c.makes_key).where(jobs.c.id == job_id)).scalar_one()
    if makes is None:
        return
    waiting = (
        connection.execute(select(jobs.c.id).where(jobs.c.needs_key == makes, jobs.c.state == "blocked"))
        .scalars()
        .all()
    )
    for waiting_id in waiting:
        upstream = code if code in (UNSUPPORTED, UPSTREAM) else UPSTREAM
        text = message if code in (UNSUPPORTED, UPSTREAM) else f"its conversion, job {job_id}, failed: {message}"
        fail_job(connection, waiting_id, "blocked", cause, upstream, text, who=who, now=now)


def unblock(connection: Connection, key: str, *, who: str, now: datetime) -> None:
    """Queue all that waited for an artifact."""
    for job_id in (
        connection.execute(select(jobs.c.id).where(jobs.c.needs_key == key, jobs.c.state == "blocked")).scalars().all()
    ):
        change_job(connection, job_id, "blocked", "queued", who=who, why="its artifact stands", now=now)


def remake(connection: Connection, sha256: str, run_id: int, *, who: str, now: datetime) -> None:
    """Forget a damaged stored file with every artifact that needs it, and queue the conversions that make them."""
    rows = [row for row in connection.execute(select(artifacts)) if sha256 in (row.sha256, *row.companions.values())]
    for row in rows:
        forget(connection, row, "damaged", who=who, now=now)
    for row in rows:
        _make_again(connection, row.key, run_id, who=who, now=now)


def stands(connection: Connection, key: str) -> bool:
    """Whether an artifact of this key is known."""
    return connection.execute(select(artifacts.c.id).where(artifacts.c.key == key)).first() is not None


def cancel_job(connection: Connection, job_id: int, *, who: str, now: datetime) -> int | None:
    """Cancel a job; returns the live attempt that must be ended, if there is one.

    Raises:
        UsageError: no such job, or it is finished.
    """
    row = connection.execute(select(jobs).where(jobs.c.id == job_id)).first()
    if row is None:
        raise UsageError(f"no job {job_id}")
    if row.state not in OPEN_JOB:
        raise UsageError(f"job {job_id} is {row.state} already")
    change_job(connection, job_id, row.state, "cancelled", who=who, why="cancelled by the user", now=now)
    if row.makes_key is not None:
        waiting = select(jobs.c.id).where(jobs.c.needs_key == row.makes_key, jobs.c.state == "blocked")
        for waiting_id in connection.execute(waiting).scalars().all():
            cancel_job(connection, waiting_id, who=who, now=now)
    live = connection.execute(
        select(attempts.c.id, attempts.c.state).where(attempts.c.job_id == job_id, attempts.c.state.in_(LIVE_ATTEMPT))
    ).first()
    if live is None:
        return None
    change_attempt(connection, live.id, live.state, "cancelled", who=who, why="its job was cancelled", now=now)
    return int(live.id)


def _order(
    connection: Connection, row: Row[Any], attempt_id: int, token: str, place: str, own_pids: Sequence[int]
) -> Order:
    inputs = {}
    if row.needs_key is not None:
        artifact = connection.execute(select(artifacts).where(artifacts.c.key == row.needs_key)).one()
        inputs = {"artifact": artifact.sha256, **artifact.companions}
    host = connection.execute(
        select(hosts.c.description).join(attempts, attempts.c.host_id == hosts.c.id).where(attempts.c.id == attempt_id)
    ).scalar_one()
    payload = row.payload
    return Order(
        attempt_id=attempt_id,
        token=token,
        place=place,
        limits=Limits(deadline_s=payload["deadline_s"], memory_bytes=int(host["memory_bytes"] * _MEMORY_SHARE)),
        convert=from_dict(ConvertTask, payload["convert"]) if "convert" in payload else None,
        measure=from_dict(MeasureTask, payload["measure"]) if "measure" in payload else None,
        profile=from_dict(MeasureTask, payload["profile"]) if "profile" in payload else None,
        inputs=inputs,
        gate=payload.get("gate", "wait"),
        gate_timeout_s=payload.get("gate_timeout_s", 60.0),
        own_pids=tuple(own_pids),
    )
