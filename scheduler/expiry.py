"""Jobs that waited to begin for longer than their users wanted."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, exists, or_, select, text

from device_registry.database import one_of
from scheduler import coverage
from scheduler.states import IS_WAITING, change_jobs, jobs
from workers.errors import Cause

#: Failure code of a job that waited for a place for longer than its user wanted.
QUEUE_TIMEOUT = "queue_timeout"
#: Jobs whose queue timeout ran out that one round fails: a transaction must end well within the dispatcher's lease.
_MOST_EXPIRED = 5_000
#: Literal, for the index job_by_queue_end (see `states.IS_LIVE`).
_WAITS_UNTIL = text("job.queue_until IS NOT NULL AND job.state IN ('blocked', 'queued')")


def expire_queued(connection: Connection, *, who: str, now: datetime) -> int:
    """Fail what waited to begin for longer than its user wanted, some thousands at a time; returns how many."""
    # What was tried once has begun, whatever became of it; canaries must not wait for ever even so.
    waits = or_(jobs.c.attempts == 0, jobs.c.canary)
    late = connection.execute(
        select(jobs.c.id, jobs.c.state, jobs.c.needs_key)
        .where(_WAITS_UNTIL, jobs.c.queue_until < now, waits)
        .order_by(jobs.c.queue_until)
        .limit(_MOST_EXPIRED)
        .with_for_update()
    ).all()
    message = "no device took it before its queue timeout ran out"
    values: dict[str, Any] = {"failure_cause": Cause.INFRASTRUCTURE, "failure_code": QUEUE_TIMEOUT}
    values["failure_message"] = message
    for state in ("blocked", "queued"):
        ids = [row.id for row in late if row.state == state]
        change_jobs(connection, ids, state, "failed", who=who, why=message, now=now, **values)
    coverage.note_failed(connection, [row.id for row in late], now)
    _cancel_unwanted(connection, {row.needs_key for row in late if row.state == "blocked"}, who=who, now=now)
    return len(late)


def _cancel_unwanted(connection: Connection, keys: Collection[str], *, who: str, now: datetime) -> None:
    """Cancel conversions to these keys that have not begun, where no other job waits for them."""
    waiting = jobs.alias("waiting")
    needed = exists().where(waiting.c.needs_key == jobs.c.makes_key, IS_WAITING)
    while keys:  # what they are made from may be unwanted with them
        rows = connection.execute(
            select(jobs.c.id, jobs.c.state, jobs.c.needs_key)
            .where(one_of(jobs.c.makes_key, keys), jobs.c.state.in_(("blocked", "queued")), ~needed)
            .with_for_update()
        ).all()
        for state in ("blocked", "queued"):
            ids = [row.id for row in rows if row.state == state]
            change_jobs(connection, ids, state, "cancelled", who=who, why="nothing waits for it any more", now=now)
        keys = {row.needs_key for row in rows if row.needs_key is not None}
