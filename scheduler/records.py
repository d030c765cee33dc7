"""Jobs as people ask for them: lists, one with its history, and its logs."""

from __future__ import annotations

import zlib
from datetime import datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, and_, or_, select

from device_registry.database import reading
from device_registry.errors import UsageError
from scheduler.queue import sweep_runs
from scheduler.states import JOB_CHANGES, OPEN_JOB, attempts, events, jobs
from workers.errors import AttemptError

if TYPE_CHECKING:
    from scheduler.embedded import EmbeddedFarm


def list_jobs(connection: Connection, state: str | None, limit: int, now: datetime) -> list[dict[str, Any]]:
    """Jobs, newest first.

    Raises:
        UsageError: no such state.
    """
    if state is not None and state not in JOB_CHANGES:
        raise UsageError(f"no state {state!r}; states are {', '.join(JOB_CHANGES)}")
    query = select(jobs, sweep_runs.c.followed_until).join(sweep_runs).order_by(jobs.c.id.desc()).limit(limit)
    if state is not None:
        query = query.where(jobs.c.state == state)
    return [_job(row) | _resting(row, now) for row in connection.execute(query)]


def job_record(connection: Connection, job_id: int) -> dict[str, Any]:
    """One job with its attempts and events.

    Raises:
        UsageError: no such job.
    """
    row = connection.execute(select(jobs).where(jobs.c.id == job_id)).first()
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
        "payload": row.payload,
        "attempts": [{k: v for k, v in attempt._mapping.items() if k not in hidden} for attempt in tries],
        "events": [dict(event._mapping) for event in happened],
    }


def job_logs(farm: EmbeddedFarm, job_id: int) -> list[tuple[int, str]]:
    """(attempt, log) of each attempt of a job; of a running one, what it printed so far.

    Raises:
        UsageError: no such job, or it has not run.
    """
    with reading(farm.engine) as connection:
        job_record(connection, job_id)
        tries = connection.execute(select(attempts).where(attempts.c.job_id == job_id).order_by(attempts.c.id)).all()
    if not tries:
        raise UsageError(f"job {job_id} has not run yet")
    return [(attempt.id, _log(farm, attempt)) for attempt in tries]


def _log(farm: EmbeddedFarm, attempt: Any) -> str:
    if attempt.log_sha256 is not None:
        try:
            return zlib.decompress(farm.store.fetch(attempt.log_sha256).read_bytes()).decode(errors="replace")
        except AttemptError as error:
            return f"[{error.message}]"
    spooled = farm.home.path / "spool" / "attempts" / f"{attempt.id}-{attempt.token[:8]}" / "log.txt"
    return spooled.read_text(encoding="utf-8", errors="replace") if spooled.exists() else "[no log was kept]"


def _resting(row: Any, now: datetime) -> dict[str, Any]:
    """Open jobs of a run that nobody waits for any more rest; say so, or they look stuck."""
    rests = row.state in OPEN_JOB and row.followed_until is not None and row.followed_until <= now
    return {"why": f"run {row.sweep_run_id} was interrupted; the same command resumes it"} if rests else {}


def _job(row: Any) -> dict[str, Any]:
    return {
        "id": row.id,
        "run": row.sweep_run_id,
        "kind": row.kind,
        "state": row.state,
        "title": row.title,
        "repeat": row.repeat_no,
        "tries": row.attempts,
        "cause": row.failure_cause,
        "code": row.failure_code,
        "why": row.failure_message,
        "created_at": row.created_at,
        "changed_at": row.changed_at,
    }
