"""Runs that nobody waits for any more: their jobs rest, and what others need of them is made all the same."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ColumnElement, Connection, exists, func, or_, select, text, true, update

from device_registry.database import one_of
from scheduler.lanes import RESTING, sweep_runs
from scheduler.states import IS_OPEN_CONVERT, IS_WAITING, OPEN_JOB, jobs

#: Runs that one round puts to rest.
_MOST_RUNS = 100
#: Literal, for the index run_by_follower (see `states.IS_LIVE`).
IS_AWAKE = text("sweep_run.followed_until IS NOT NULL AND NOT sweep_run.resting")


def rest(connection: Connection, now: datetime) -> bool:
    """Put to rest what nobody waits for any more, but for conversions that other runs need: they become theirs.

    Open jobs of such runs go behind all others, for a round that looks for work would read past each of them. Returns
    whether there was anything.
    """
    lapsed = select(sweep_runs.c.id).where(IS_AWAKE, sweep_runs.c.followed_until <= now).limit(_MOST_RUNS)
    ids = connection.execute(lapsed).scalars().all()
    if not ids:
        return False
    theirs = one_of(jobs.c.sweep_run_id, ids)
    hand_over(connection, theirs, now)
    waiting = (theirs, jobs.c.state.in_(("blocked", "queued")), jobs.c.rank < RESTING)
    connection.execute(update(jobs).where(*waiting).values(rank=jobs.c.rank + RESTING))
    connection.execute(update(sweep_runs).where(one_of(sweep_runs.c.id, ids)).values(resting=True))
    return True


def adopt(connection: Connection, now: datetime) -> bool:
    """Give conversions of runs at rest to others that came to need them since. Returns whether there were any."""
    lapsed = exists().where(sweep_runs.c.id == jobs.c.sweep_run_id, sweep_runs.c.followed_until <= now)
    return bool(hand_over(connection, lapsed, now))


def wake(connection: Connection, run_id: int) -> None:
    """Undo `rest`: somebody waits for the run again."""
    awake = update(sweep_runs).where(sweep_runs.c.id == run_id, sweep_runs.c.resting).values(resting=False)
    if connection.execute(awake).rowcount:
        mine = (jobs.c.sweep_run_id == run_id, jobs.c.state.in_(OPEN_JOB), jobs.c.rank >= RESTING)
        connection.execute(update(jobs).where(*mine).values(rank=jobs.c.rank - RESTING))


def hand_over(
    connection: Connection, leaving: ColumnElement[bool], now: datetime, *, to_resting: bool = False
) -> set[int]:
    """Give open conversions to other runs that wait for what they make. Returns which were given.

    Args:
        connection: inside a transaction that writes.
        leaving: which conversions.
        now: the time.
        to_resting: whether a run that nobody waits for may be given one, too.
    """
    waiting, heir = jobs.alias("waiting"), sweep_runs.alias("heir")
    alive = or_(heir.c.followed_until.is_(None), heir.c.followed_until > now)
    wanted = (
        select(jobs.c.id, func.min(waiting.c.id).label("waiting_id"))
        .join(waiting, waiting.c.needs_key == jobs.c.makes_key)
        .join(heir, heir.c.id == waiting.c.sweep_run_id)
        .where(IS_WAITING, waiting.c.state == "blocked", waiting.c.sweep_run_id != jobs.c.sweep_run_id)
        .where(true() if to_resting else alive)
        .group_by(jobs.c.id)
    )
    left = set(connection.execute(select(jobs.c.id).where(IS_OPEN_CONVERT, leaving)).scalars())
    given: set[int] = set()
    while left and (rows := connection.execute(wanted.where(one_of(jobs.c.id, left))).all()):
        for row in rows:
            first = connection.execute(select(jobs).where(jobs.c.id == row.waiting_id)).one()
            values = {name: getattr(first, name) for name in ("sweep_run_id", "owner", "priority", "rank")}
            connection.execute(update(jobs).where(jobs.c.id == row.id).values(**values))
        given |= {row.id for row in rows}
        left -= given  # what those are made from follows them
    return given
