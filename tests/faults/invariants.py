"""What must hold of a farm whatever happened to it, read from its event log and its rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from sqlalchemy import Engine, func, select

from device_registry.database import reading, table_of
from scheduler.states import ATTEMPT_CHANGES, JOB_CHANGES, LIVE_ATTEMPT, OPEN_JOB, attempts, events, jobs
from scheduler.tables import Result

results = table_of(Result)

_CHANGES = {"job": JOB_CHANGES, "attempt": ATTEMPT_CHANGES}


def open_jobs(engine: Engine, run: int | None = None) -> int:
    """Jobs, of one run or of all, that are not at their end yet."""
    with reading(engine) as connection:
        query = select(func.count()).select_from(jobs).where(jobs.c.state.in_(OPEN_JOB))
        if run is not None:
            query = query.where(jobs.c.sweep_run_id == run)
        return int(connection.execute(query).scalar_one())


def violations(engine: Engine) -> list[str]:
    """What does not hold, a sentence each; empty for a farm that is as it should be. May be asked at any time."""
    return [
        *_chains(engine),
        *_twice_at_a_place(engine),
        *_counted_twice(engine),
        *_ends(engine),
    ]


def idle_violations(engine: Engine) -> list[str]:
    """The same, and what must hold once every job is at its end: nothing is busy for ever."""
    with reading(engine) as connection:
        live = connection.execute(select(attempts.c.id, attempts.c.state).where(attempts.c.state.in_(LIVE_ATTEMPT)))
        found = [f"attempt {row.id} is {row.state} though every job is at its end" for row in live]
        left = connection.execute(select(jobs.c.id, jobs.c.state).where(jobs.c.state.in_(OPEN_JOB)))
        found += [f"job {row.id} is still {row.state}" for row in left]
    return [*violations(engine), *found]


def _chains(engine: Engine) -> Iterator[str]:
    """Every change begins where the one before ended, is legal, and the row says what the last one said."""
    state: dict[tuple[str, int], str] = {}
    with reading(engine) as connection:
        query = select(events).where(events.c.entity.in_(list(_CHANGES))).order_by(events.c.id)
        for row in connection.execute(query):
            known = state.get((row.entity, row.entity_id))
            if known is not None and row.before != known:
                yield f"{row.entity} {row.entity_id}: went from {row.before}, but was {known}"
            if row.before is not None and row.after not in _CHANGES[row.entity][row.before]:
                yield f"{row.entity} {row.entity_id}: {row.before} to {row.after} is not legal"
            state[row.entity, row.entity_id] = row.after
        for entity, table in (("job", jobs), ("attempt", attempts)):
            for row in connection.execute(select(table.c.id, table.c.state)):
                last = state.get((entity, row.id), row.state)
                if last != row.state:
                    yield f"{entity} {row.id} is {row.state}, but its last event says {last}"


def _twice_at_a_place(engine: Engine) -> Iterator[str]:
    """No two attempts at one place, and none of one job, at a time."""
    with reading(engine) as connection:
        # Ids of events: of an attempt's first, and of the one that ended it.
        began: dict[int, int] = {}
        ended: dict[int, int] = {}
        query = select(events).where(events.c.entity == "attempt").order_by(events.c.id)
        for row in connection.execute(query):
            began.setdefault(row.entity_id, row.id)
            if row.after not in LIVE_ATTEMPT:
                ended.setdefault(row.entity_id, row.id)
        rows = connection.execute(select(attempts.c.id, attempts.c.place, attempts.c.job_id)).all()
    for what, of in (("place", "place"), ("job", "job_id")):
        held: dict[object, tuple[int, int | None]] = {}
        for row in sorted((row for row in rows if row.id in began), key=lambda row: began[row.id]):
            name = getattr(row, of)
            other = held.get(name)
            if other is not None and (other[1] is None or other[1] > began[row.id]):
                yield f"attempts {other[0]} and {row.id} were at {what} {name} at one time"
            held[name] = (row.id, ended.get(row.id))


def _counted_twice(engine: Engine) -> Iterator[str]:
    """One result that counts for each measurement that succeeded, none for others."""
    with reading(engine) as connection:
        counted = Counter(connection.execute(select(results.c.job_id).where(~results.c.stale)).scalars())
        for row in connection.execute(select(jobs.c.id, jobs.c.kind, jobs.c.state)):
            number = counted.get(row.id, 0)
            if row.kind == "measure" and row.state == "succeeded" and number != 1:
                yield f"job {row.id} succeeded with {number} results that count"
            elif number > 1 or (number == 1 and row.state in OPEN_JOB):
                yield f"job {row.id} is {row.state} with {number} results that count"
        of_attempts = select(results.c.attempt_id).group_by(results.c.attempt_id).having(func.count() > 1)
        yield from (f"attempt {row.attempt_id} has two results" for row in connection.execute(of_attempts))


def _ends(engine: Engine) -> Iterator[str]:
    """A job runs where, and only where, an attempt of it is live."""
    with reading(engine) as connection:
        live = Counter(
            connection.execute(select(attempts.c.job_id).where(attempts.c.state.in_(LIVE_ATTEMPT))).scalars()
        )
        for row in connection.execute(select(jobs.c.id, jobs.c.state)):
            if (row.state == "running") != (live.get(row.id, 0) == 1):
                yield f"job {row.id} is {row.state} with {live.get(row.id, 0)} live attempts"
