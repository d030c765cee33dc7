"""Legal changes of state; any other is an error. Every change leaves an event row."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from functools import cache
from itertools import islice, pairwise
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, Table, Update, bindparam, insert, select, text, update

from device_registry.database import each_of, one_of, table_of
from device_registry.errors import BenchfarmError
from scheduler.tables import Attempt, Event, Job

Id = TypeVar("Id", int, str)

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
#: The same as conditions. Literal, for SQLite uses a partial index only for a query that repeats its words.
IS_LIVE = text("attempt.state IN ('leased', 'running')")
IS_QUEUED = text("job.state = 'queued'")
IS_NOT_BEGUN = text("job.state IN ('blocked', 'queued')")
IS_WAITING = text("waiting.state IN ('blocked', 'queued')")  # of an alias
IS_OPEN_CONVERT = text("job.kind = 'convert' AND job.state IN ('blocked', 'queued', 'running')")
_NAMES = ("at", "who", "entity", "before", "after", "why")
_RECORDING: Final = insert(events).from_select(
    [*_NAMES, "entity_id"],
    select(*(bindparam(name, type_=events.c[name].type) for name in _NAMES), each_of(events.c.entity_id.type, "ids")),
)
#: Rows named in one statement: SQLite takes 32,766 parameters, PostgreSQL 65,535.
_MOST_IDS = 10_000

#: Why a change was made: the same for all rows of it, or by id.
Why = str | None | Mapping[int, str | None]


class IllegalChangeError(BenchfarmError):
    """A change of state that the table of changes does not allow."""


class LostRaceError(BenchfarmError):
    """Somebody else changed the row first."""


def portions(ids: Collection[Id]) -> Iterator[list[Id]]:
    """Ids or keys in lists short enough for one statement each."""
    left = iter(ids)
    while portion := list(islice(left, _MOST_IDS)):
        yield portion


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
    record_all(connection, entity, [entity_id], before, after, who=who, why=why, now=now)


def record_all(
    connection: Connection,
    entity: str,
    ids: Collection[int],
    before: str | None,
    after: str,
    *,
    who: str,
    why: Why,
    now: datetime,
) -> None:
    """Leave an event row for each id."""
    if not ids:
        return
    common = {"at": now, "who": who, "entity": entity, "before": before, "after": after}
    if isinstance(why, Mapping):
        connection.execute(insert(events), [{**common, "entity_id": known, "why": why[known]} for known in ids])
    else:  # the database makes the rows: nothing is done for each of them here
        connection.execute(_RECORDING, {**common, "why": why, "ids": ids})


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
    """Change a job's state, compare-and-set. Raises as `change_jobs`."""
    change_jobs(connection, [job_id], before, after, who=who, why=why, now=now, **values)


def change_jobs(
    connection: Connection,
    ids: Collection[int],
    before: str,
    after: str,
    *,
    who: str,
    why: Why,
    now: datetime,
    each: Mapping[int, Mapping[str, Any]] | None = None,
    **values: Any,
) -> None:
    """Change the state of many jobs, compare-and-set.

    Args:
        connection: inside a transaction that writes.
        ids: of the jobs, each once.
        before: the state all of them are in.
        after: the state they get.
        who: for the events.
        why: for the events.
        now: for the events.
        each: columns that differ from job to job, the same ones for every id.
        values: columns that get the same value in all.

    Raises:
        IllegalChangeError: the change is not in the table.
        LostRaceError: a job is not in the state `before`.
    """
    values["changed_at"] = now
    _change(connection, jobs, JOB_CHANGES, ids, (before, after), who=who, why=why, now=now, each=each, values=values)


def change_attempts(
    connection: Connection,
    ids: Collection[int],
    before: str,
    after: str,
    *,
    who: str,
    why: Why,
    now: datetime,
    each: Mapping[int, Mapping[str, Any]] | None = None,
    via: str | None = None,
    **values: Any,
) -> None:
    """Change the state of many attempts, compare-and-set. Arguments and errors as `change_jobs`.

    `via` is a state that they were in meanwhile, unheard: it leaves its event, too.
    """
    if after in ("finished", "lost", "cancelled"):
        values["finished_at"] = now
        if isinstance(why, Mapping):
            each = {known: {"message": why[known], **(each or {}).get(known, {})} for known in ids}
        else:
            values.setdefault("message", why)
    steps = (before, after) if via is None else (before, via, after)
    _change(connection, attempts, ATTEMPT_CHANGES, ids, steps, who=who, why=why, now=now, each=each, values=values)


def _change(
    connection: Connection,
    table: Table,
    legal: dict[str, tuple[str, ...]],
    ids: Collection[int],
    steps: tuple[str, ...],
    *,
    who: str,
    why: Why,
    now: datetime,
    each: Mapping[int, Mapping[str, Any]] | None,
    values: dict[str, Any],
) -> None:
    for before, after in pairwise(steps):
        if after not in legal[before]:
            raise IllegalChangeError(f"{table.name} {_named(ids)}: {before} -> {after} is not a legal change")
    if not ids:
        return
    same = {
        "state_before": steps[0],
        "new_state": steps[-1],
        **{f"new_{name}": value for name, value in values.items()},
    }
    if each is None:
        statement = _updating(table, ("state", *values), many=True)
        changed = connection.execute(statement, {**same, "ids": ids}).rowcount
    else:
        statement = _updating(table, ("state", *values, *next(iter(each.values()))), many=False)
        rows = [{**same, "one": known, **{f"new_{name}": new for name, new in each[known].items()}} for known in ids]
        changed = connection.execute(statement, rows).rowcount
    if changed != len(ids):
        raise LostRaceError(f"{table.name} {_named(ids)} is no longer {steps[0]}")
    for before, after in pairwise(steps):
        reason = why if after == steps[-1] else None
        record_all(connection, table.name, ids, before, after, who=who, why=reason, now=now)


@cache
def _updating(table: Table, names: tuple[str, ...], *, many: bool) -> Update:
    """Compare and set, by `ids` or by `one`. Made once: making a statement costs more than executing it."""
    which = one_of(table.c.id, "ids") if many else table.c.id == bindparam("one")
    values = {name: bindparam(f"new_{name}", type_=table.c[name].type) for name in names}
    return update(table).where(table.c.state == bindparam("state_before"), which).values(values)


def _named(ids: Collection[int]) -> str:
    few: Sequence[int] = list(islice(ids, 3))
    return " or ".join(map(str, few)) + (f" (or {len(ids) - 3} more)" if len(ids) > 3 else "")
