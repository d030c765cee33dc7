"""Legal changes of state; any other is an error. Every change leaves an event row."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Table, insert, update

from device_registry.database import table_of
from device_registry.errors import BenchfarmError
from scheduler.tables import Attempt, Event, Job

jobs = table_of(Job)
attempts = table_of(Attempt)
events = table_of(Event)

_FINAL = ("succeeded", "failed", "cancelled")
JOB_CHANGES: dict[str, tuple[str, ...]] = {
    "blocked": ("queued", *_FINAL),
    "queued": ("blocked", "running", *_FINAL),
    "running": ("queued", *_FINAL),
    **dict.fromkeys(_FINAL, ()),
}
ATTEMPT_CHANGES: dict[str, tuple[str, ...]] = {
    "leased": ("running", "lost", "cancelled"),
    "running": ("finished", "lost", "cancelled"),
    "lost": ("stale",),
    "finished": (),
    "cancelled": (),
    "stale": (),
}
LIVE_ATTEMPT = ("leased", "running")
OPEN_JOB = ("blocked", "queued", "running")


class IllegalChangeError(BenchfarmError):
    """A change of state that the table of changes does not allow."""


class LostRaceError(BenchfarmError):
    """Somebody else changed the row first."""


def record(
    connection: Connection,
    entity: str,
    entity_id: int,
    before: str | None,
    after: str,
    *,
    who: str,
    why: str | None,
    now: datetime,
) -> None:
    """Leave an event row."""
    connection.execute(
        insert(events).values(at=now, who=who, entity=entity, entity_id=entity_id, before=before, after=after, why=why)
    )


def change_job(
    connection: Connection,
    job_id: int,
    before: str,
    after: str,
    *,
    who: str,
    why: str | None,
    now: datetime,
    **values: Any,
) -> None:
    """Change a job's state, compare-and-set.

    Raises:
        IllegalChangeError: the change is not in the table.
        LostRaceError: the job is not in the state `before`.
    """
    _change(
        connection, jobs, "job", JOB_CHANGES, job_id, before, after, who=who, why=why, now=now, changed_at=now, **values
    )


def change_attempt(
    connection: Connection,
    attempt_id: int,
    before: str,
    after: str,
    *,
    who: str,
    why: str | None,
    now: datetime,
    **values: Any,
) -> None:
    """Change an attempt's state, compare-and-set. Raises as `change_job`."""
    if after in ("finished", "lost", "cancelled"):
        values.setdefault("finished_at", now)
        values.setdefault("message", why)
    _change(
        connection, attempts, "attempt", ATTEMPT_CHANGES, attempt_id, before, after, who=who, why=why, now=now, **values
    )


def _change(
    connection: Connection,
    table: Table,
    entity: str,
    legal: dict[str, tuple[str, ...]],
    row_id: int,
    before: str,
    after: str,
    *,
    who: str,
    why: str | None,
    now: datetime,
    **values: Any,
) -> None:
    if after not in legal[before]:
        raise IllegalChangeError(f"{entity} {row_id}: {before} -> {after} is not a legal change")
    done = connection.execute(
        update(table).where(table.c.id == row_id, table.c.state == before).values(state=after, **values)
    )
    if done.rowcount != 1:
        raise LostRaceError(f"{entity} {row_id} is no longer {before}")
    record(connection, entity, row_id, before, after, who=who, why=why, now=now)
