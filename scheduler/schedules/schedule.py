"""Schedules as rows: made, changed, paused, listed. Names are unique; a schedule keeps the sweep as it was read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, Literal

from sqlalchemy import Connection, Row, delete, exists, func, select, update

from device_registry.database import insert_row, table_of
from device_registry.errors import UsageError
from scheduler.queue import sweep_runs
from scheduler.schedules.cron import Cron, read_cron
from scheduler.states import OPEN_JOB, events, jobs, record
from scheduler.watch_tables import Schedule

schedules = table_of(Schedule)

#: What is done about due times that nobody was there for.
Missed = Literal["once", "skip"]
#: Entity of its events.
ENTITY: Final = "schedule"
_LONGEST_NAME = 100
_CHANGED: Final = ("sweep", "sweep_text", "folder", "cron", "timezone", "missed", "options", "owner")


@dataclass(frozen=True, kw_only=True)
class Definition:
    """What a schedule runs, and when."""

    name: str
    #: Name of the sweep, its file as it was read, and the folder that its relative paths start from.
    sweep: str
    sweep_text: str
    folder: str
    cron: Cron
    missed: Missed = "once"
    owner: str
    #: See `watch_tables.Schedule.options`.
    options: Mapping[str, Any] = field(default_factory=dict)

    def check(self) -> None:
        """Refuse a name that no list could show.

        Raises:
            UsageError: with what is wrong.
        """
        if not (self.name.isprintable() and 0 < len(self.name.strip()) <= _LONGEST_NAME and "/" not in self.name):
            raise UsageError(
                f"schedule {self.name[:_LONGEST_NAME]!r}: a name has 1 to {_LONGEST_NAME} printable characters, no /"
            )


def save(connection: Connection, wanted: Definition, *, who: str, now: datetime) -> bool:
    """Make a schedule, or give the one of that name another definition; it stays paused where it is.

    Returns whether it is new.

    Args:
        connection: inside a transaction that writes.
        wanted: what it is from now on.
        who: for the event.
        now: the time; due times before it are no concern of the new definition.

    Raises:
        UsageError: it cannot have that name.
    """
    wanted.check()
    values: dict[str, Any] = {
        "sweep": wanted.sweep,
        "sweep_text": wanted.sweep_text,
        "folder": wanted.folder,
        "cron": wanted.cron.text,
        "timezone": wanted.cron.zone.key,
        "missed": wanted.missed,
        "options": dict(wanted.options),
        "owner": wanted.owner,
    }
    known = _row(connection, wanted.name)
    due = wanted.cron.after(now)
    if known is None:
        made = insert_row(
            connection, schedules, name=wanted.name, created_at=now, changed_at=now, next_due_at=due, **values
        )
        record(connection, ENTITY, made, None, "added", who=who, why=None, now=now)
        return True
    what = [name for name in _CHANGED if getattr(known, name) != values[name]]
    if what:
        values |= {"changed_at": now, "note": None, "next_due_at": None if known.paused else due}
        connection.execute(update(schedules).where(schedules.c.id == known.id).values(**values))
        record(connection, ENTITY, known.id, None, "changed", who=who, why=", ".join(what), now=now)
    return False


def schedule_of(connection: Connection, name: str) -> Row[Any]:
    """The row of a schedule.

    Raises:
        UsageError: there is none of that name.
    """
    if (found := _row(connection, name)) is not None:
        return found
    known = list(connection.execute(select(schedules.c.name)).scalars())
    close = get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]}?" if close else "see benchfarm schedule list"
    raise UsageError(f"no schedule {name!r}: {hint}")


def cron_of(row: Any) -> Cron:
    """The cron of a row.

    Raises:
        UsageError: this machine does not know its time zone, or the cron was written by another benchfarm.
    """
    return read_cron(row.cron, row.timezone)


def pause(connection: Connection, name: str, *, who: str, now: datetime) -> None:
    """Let it be due no more, until it is resumed; a run that it has begun goes on.

    Raises:
        UsageError: there is none of that name.
    """
    row = schedule_of(connection, name)
    if not row.paused:
        _change(connection, row.id, "paused", who=who, now=now, paused=True, next_due_at=None)


def resume(connection: Connection, name: str, *, who: str, now: datetime) -> None:
    """Let it be due again, from now on: what was due meanwhile is not made up for.

    Raises:
        UsageError: there is none of that name.
    """
    row = schedule_of(connection, name)
    if row.paused:
        due = cron_of(row).after(now)
        # Its cells are wanted from now on, too.
        values = {"paused": False, "next_due_at": due, "changed_at": now, "note": None}
        _change(connection, row.id, "resumed", who=who, now=now, **values)


def remove(connection: Connection, name: str, *, who: str, now: datetime) -> None:
    """Forget it; its runs and their results stay.

    Raises:
        UsageError: there is none of that name.
    """
    row = schedule_of(connection, name)
    connection.execute(delete(schedules).where(schedules.c.id == row.id))
    record(connection, ENTITY, row.id, None, "removed", who=who, why=None, now=now)


def list_schedules(connection: Connection) -> list[dict[str, Any]]:
    """All schedules by name, each with its last run: what `schedule list` shows."""
    found = connection.execute(select(schedules).order_by(schedules.c.name)).all()
    return [_listed(connection, row) for row in found]


def show_schedule(connection: Connection, name: str) -> dict[str, Any]:
    """One schedule with its sweep as it was read and what became of its due times, the latest first.

    Raises:
        UsageError: there is none of that name.
    """
    row = schedule_of(connection, name)
    told = (
        select(events.c.at, events.c.who, events.c.after, events.c.why)
        .where(events.c.entity == ENTITY, events.c.entity_id == row.id)
        .order_by(events.c.id.desc())
        .limit(20)
    )
    return {
        **_listed(connection, row),
        "folder": row.folder,
        "file_changed": _file_changed(row),
        "sweep_text": row.sweep_text,
        "events": [dict(one._mapping) for one in connection.execute(told)],
    }


def open_run(connection: Connection, name: str) -> int | None:
    """The latest run of a schedule that still has open jobs."""
    open_jobs = exists().where(jobs.c.sweep_run_id == sweep_runs.c.id, jobs.c.state.in_(OPEN_JOB))
    query = select(func.max(sweep_runs.c.id)).where(sweep_runs.c.schedule == name, open_jobs)
    found: int | None = connection.execute(query).scalar_one()
    return found


def _row(connection: Connection, name: str) -> Row[Any] | None:
    return connection.execute(select(schedules).where(schedules.c.name == name)).one_or_none()


def _change(connection: Connection, schedule_id: int, after: str, *, who: str, now: datetime, **values: Any) -> None:
    connection.execute(update(schedules).where(schedules.c.id == schedule_id).values(**values))
    record(connection, ENTITY, schedule_id, None, after, who=who, why=None, now=now)


def _listed(connection: Connection, row: Row[Any]) -> dict[str, Any]:
    last = connection.execute(
        select(sweep_runs.c.id, sweep_runs.c.due_at, sweep_runs.c.created_at)
        .where(sweep_runs.c.schedule == row.name)
        .order_by(sweep_runs.c.id.desc())
        .limit(1)
    ).one_or_none()
    return {
        "name": row.name,
        "sweep": row.sweep,
        "cron": row.cron,
        "timezone": row.timezone,
        "missed": row.missed,
        "paused": row.paused,
        "next_due_at": row.next_due_at,
        "last_run": None if last is None else last.id,
        "last_run_at": None if last is None else last.created_at,
        "open_run": open_run(connection, row.name),
        "note": row.note,
        "owner": row.owner,
        "file": row.options.get("file"),
        "allow_code": bool(row.options.get("allow_code")),
        "revision_of": row.options.get("revision_of"),
        "created_at": row.created_at,
        "changed_at": row.changed_at,
    }


def _file_changed(row: Row[Any]) -> bool | None:
    """Whether the file that it was made of says something else by now; None: this machine has no such file."""
    try:
        text: str = row.sweep_text
        return Path(row.options["file"]).read_text(encoding="utf-8-sig") != text
    except (KeyError, OSError, ValueError):
        return None
