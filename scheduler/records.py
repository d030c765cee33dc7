"""Jobs as people ask for them: lists, one with its history, and its logs."""

from __future__ import annotations

import zlib
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, Connection, and_, exists, or_, select

from device_registry.database import reading
from device_registry.errors import UsageError
from device_registry.registry import devices, hosts, label_of
from scheduler.forecast import forecast
from scheduler.leases import is_led
from scheduler.payloads import payloads
from scheduler.queue import sweep_runs
from scheduler.states import IS_LIVE, JOB_CHANGES, LIVE_ATTEMPT, OPEN_JOB, attempts, events, jobs, portions
from workers.errors import AttemptError

if TYPE_CHECKING:
    from scheduler.farm import Farm


def list_jobs(
    connection: Connection,
    state: str | None,
    limit: int,
    now: datetime,
    *,
    run_id: int | None = None,
    owner: str | None = None,
) -> list[dict[str, Any]]:
    """Jobs, newest first.

    Args:
        connection: to read from.
        state: only in this state.
        limit: so many.
        now: the time.
        run_id: only of this run.
        owner: only of this owner.

    Raises:
        UsageError: no such state.
    """
    if state is not None and state not in JOB_CHANGES:
        raise UsageError(f"no state {state!r}; states are {', '.join(JOB_CHANGES)}")
    query = select(jobs, sweep_runs.c.followed_until).join(sweep_runs).order_by(jobs.c.id.desc()).limit(limit)
    for column, value in ((jobs.c.state, state), (jobs.c.sweep_run_id, run_id), (jobs.c.owner, owner)):
        if value is not None:
            query = query.where(column == value)
    rows = connection.execute(query).all()
    where = devices_of(connection, rows)
    waits = _waits(connection, rows, now)
    said = _said(connection, rows)
    return [
        _job(row) | {"device": where.get(row.id), "progress": said.get(row.id)} | waits.get(row.id, {}) for row in rows
    ]


def run_job_ids(connection: Connection, run_id: int) -> list[int]:
    """Numbers of a run's jobs."""
    query = select(jobs.c.id).where(jobs.c.sweep_run_id == run_id).order_by(jobs.c.id)
    return list(connection.execute(query).scalars())


def job_states(connection: Connection, job_ids: Collection[int]) -> dict[int, str]:
    """Jobs to their states.

    Raises:
        UsageError: there is no such job.
    """
    found: dict[int, str] = {}
    for portion in portions(job_ids):
        rows = connection.execute(select(jobs.c.id, jobs.c.state).where(jobs.c.id.in_(portion)))
        found |= {row.id: row.state for row in rows}
    if missing := sorted(set(job_ids) - set(found)):
        raise UsageError(f"no job {missing[0]}; see benchfarm jobs list")
    return found


def job_record(connection: Connection, job_id: int, now: datetime) -> dict[str, Any]:
    """One job with its attempts and events.

    Raises:
        UsageError: no such job.
    """
    query = select(jobs, sweep_runs.c.followed_until, payloads.c.document.label("payload"))
    row = connection.execute(query.join(sweep_runs).join(payloads).where(jobs.c.id == job_id)).first()
    if row is None:
        raise UsageError(f"no job {job_id}; see benchfarm jobs list")
    tries = connection.execute(select(attempts).where(attempts.c.job_id == job_id).order_by(attempts.c.id)).all()
    happened = connection.execute(
        select(events)
        .where(
            or_(
                and_(events.c.entity == "job", events.c.entity_id == job_id),
                and_(events.c.entity == "attempt", events.c.entity_id.in_([attempt.id for attempt in tries])),
            )
        )
        .order_by(events.c.id)
    ).all()
    hidden = ("token",)
    return {
        **_job(row),
        "device": devices_of(connection, [row]).get(row.id),
        "progress": _said(connection, [row]).get(row.id),
        **_waits(connection, [row], now).get(row.id, {}),
        "payload": row.payload,
        "attempts": [{k: v for k, v in attempt._mapping.items() if k not in hidden} for attempt in tries],
        "events": [dict(event._mapping) for event in happened],
    }


def device_events(connection: Connection, device_id: int, limit: int = 50) -> list[dict[str, Any]]:
    """What happened to a device, and what people said it may do: the latest, in order."""
    rows = connection.execute(
        select(events)
        .where(events.c.entity.in_(("device", "admin")), events.c.entity_id == device_id)
        .order_by(events.c.id.desc())
        .limit(limit)
    ).all()
    return [dict(event._mapping) for event in reversed(rows)]


def superseded() -> ColumnElement[bool]:
    """Whether a job was tried again by another of its run: what became of that one is what counts."""
    newer = jobs.alias("newer")
    same = or_(
        and_(newer.c.case_key == jobs.c.case_key, newer.c.repeat_no == jobs.c.repeat_no),
        newer.c.makes_key == jobs.c.makes_key,
    )
    return exists().where(
        newer.c.sweep_run_id == jobs.c.sweep_run_id, newer.c.kind == jobs.c.kind, newer.c.id > jobs.c.id, same
    )


def job_logs(farm: Farm, job_id: int) -> list[tuple[int, str]]:
    """(attempt, log) of each attempt of a job; of a running one, what it printed so far.

    Raises:
        UsageError: no such job, or it has not run.
    """
    with reading(farm.engine) as connection:
        job_states(connection, [job_id])
        tries = connection.execute(
            select(attempts, hosts.c.name.label("host"))
            .join(hosts, hosts.c.id == attempts.c.host_id)
            .where(attempts.c.job_id == job_id)
            .order_by(attempts.c.id)
        ).all()
    if not tries:
        raise UsageError(f"job {job_id} has not run yet")
    return [(attempt.id, _log(farm, attempt)) for attempt in tries]


def _log(farm: Farm, attempt: Any) -> str:
    if attempt.log_sha256 is not None:
        try:
            return zlib.decompress(farm.store.fetch(attempt.log_sha256).read_bytes()).decode(errors="replace")
        except AttemptError as error:
            return f"[{error.message}]"
    spooled = farm.home.path / "spool" / "attempts" / f"{attempt.id}-{attempt.token[:8]}" / "log.txt"
    if spooled.exists():
        return spooled.read_text(encoding="utf-8", errors="replace")
    if attempt.state in LIVE_ATTEMPT:
        return f"[it runs on {attempt.host}, which hands its log in when it ends]"
    return "[no log was kept]"


def devices_of(connection: Connection, rows: Sequence[Any]) -> dict[int, str]:
    """Where each job runs or ran last, else the device it is pinned to."""
    pinned = {row.id: row.device_id for row in rows if row.device_id is not None}
    tries = select(attempts.c.job_id, attempts.c.device_id).where(attempts.c.device_id.is_not(None))
    for portion in portions([row.id for row in rows]):
        found = connection.execute(tries.where(attempts.c.job_id.in_(portion)).order_by(attempts.c.id))
        pinned |= {attempt.job_id: attempt.device_id for attempt in found}
    labels: dict[int, str] = {}
    for portion in portions(set(pinned.values())):
        for row in connection.execute(select(devices).where(devices.c.id.in_(portion))):
            labels[row.id] = label_of(row.name, row.attributes)
    return {job_id: labels[device_id] for job_id, device_id in pinned.items()}


def _waits(connection: Connection, rows: Sequence[Any], now: datetime) -> dict[int, dict[str, Any]]:
    """What each open job that does not run waits for: whose turn it is before, and when it may begin."""
    found: dict[int, dict[str, Any]] = {}
    resting = {row.id for row in rows if row.followed_until is not None and row.followed_until <= now}
    queued = [row.id for row in rows if row.state == "queued" and row.id not in resting]
    led = is_led(connection, now)
    for job_id, told in forecast(connection, queued, now).items():
        starts = now + timedelta(seconds=told.starts_in_s) if led and told.starts_in_s is not None else None
        why = told.why if led else "nobody dispatches: it waits until benchfarm up or run does"
        found[job_id] = {"queue_position": told.position, "expected_start": starts, "why": why}
    keys = {row.needs_key for row in rows if row.state == "blocked"}
    makers = select(jobs.c.makes_key, jobs.c.id).where(jobs.c.makes_key.in_(keys), jobs.c.state.in_(OPEN_JOB))
    made_by = {row.makes_key: row.id for row in connection.execute(makers)} if keys else {}
    for row in rows:
        if row.id in resting and row.state in OPEN_JOB:
            # Say so, or it looks stuck.
            found[row.id] = {"why": f"run {row.sweep_run_id} was interrupted; the same command resumes it"}
        elif row.state == "blocked" and row.needs_key in made_by:
            found[row.id] = {"why": f"waits for what job {made_by[row.needs_key]} makes"}
    return found


def _said(connection: Connection, rows: Sequence[Any]) -> dict[int, str]:
    """How far those that run say they are."""
    found: dict[int, str] = {}
    query = select(attempts.c.job_id, attempts.c.message).where(IS_LIVE, attempts.c.message.is_not(None))
    for portion in portions([row.id for row in rows if row.state == "running"]):
        found |= {row.job_id: row.message for row in connection.execute(query.where(attempts.c.job_id.in_(portion)))}
    return found


def _job(row: Any) -> dict[str, Any]:
    return {
        "id": row.id,
        "run": row.sweep_run_id,
        "kind": row.kind,
        "state": row.state,
        "title": row.title,
        "owner": row.owner,
        "priority": row.priority,
        "repeat": row.repeat_no,
        "tries": row.attempts,
        "cause": row.failure_cause,
        "code": row.failure_code,
        "why": row.failure_message,
        "queue_position": None,
        "expected_start": None,
        "created_at": row.created_at,
        "changed_at": row.changed_at,
    }
