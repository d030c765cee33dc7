"""Runs that are due: each due time is taken once, in the transaction that makes its run or says why there is none.

The row of a schedule is changed by compare-and-set, so of two schedulers that see the same due time one wins; the runs
of a schedule are unique by their due time besides. A clock that is set back makes nothing run twice, and one that was
years ahead keeps no schedule waiting.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Row, select, update

from device_registry.database import passes, reading, writing
from device_registry.errors import BenchfarmError, UsageError
from scheduler.farm import Farm
from scheduler.leases import LeaseLostError
from scheduler.notifications.outbox import tell_trouble
from scheduler.queue import sweep_runs
from scheduler.revisions import Revision, RevisionError, revision_of
from scheduler.runs import AlreadySubmittedError
from scheduler.schedules.schedule import ENTITY, cron_of, open_run, schedule_of, schedules
from scheduler.schedules.turns import Turn, turn_of
from scheduler.states import LostRaceError, record
from scheduler.sweeps.file import SweepFile, read_sweep
from scheduler.sweeps.running import SweepSubmitted, submit_sweep
from scheduler.sweeps.submission import Submission
from workers.errors import first_line

log = logging.getLogger(__name__)

#: Who does it.
WHO: Final = "scheduler"
#: Renews the scheduler's lease inside a transaction, or raises `LeaseLostError`.
Held = Callable[[Connection], None]


def run_due(farm: Farm, now: datetime, held: Held = lambda _: None) -> int:
    """Start what is due, of every schedule that is not paused; returns how many due times were dealt with.

    What one schedule's run fails for is noted, told, and keeps no other waiting; that due time is over.

    Args:
        farm: whose schedules.
        now: the time.
        held: called inside each transaction that writes.

    Raises:
        LeaseLostError: another process does this now.
    """
    with reading(farm.engine) as connection:
        rows = connection.execute(
            select(schedules).where(schedules.c.paused.is_(False)).order_by(schedules.c.next_due_at, schedules.c.id)
        ).all()
    return sum(_look(farm, row, now, held) for row in rows)


def run_now(farm: Farm, name: str, *, who: str, now: datetime) -> SweepSubmitted:
    """Start a schedule's sweep at once; its due times stay as they are.

    Raises:
        UsageError: there is no such schedule, its run cannot be made, or the last one is still at work.
    """
    with reading(farm.engine) as connection:
        row = schedule_of(connection, name)

        _refuse_overlap(connection, name)

    def within(connection: Connection) -> None:
        _refuse_overlap(connection, name)
        record(connection, ENTITY, row.id, None, "run now", who=who, why=None, now=now)

    return _submit(farm, row, None, _revision(row), within, now)


def _refuse_overlap(connection: Connection, name: str) -> None:
    if (at_work := open_run(connection, name)) is not None:
        raise UsageError(f"run {at_work} of {name} is still at work; see benchfarm sweep show {at_work}")


class _OverlapError(Exception):
    """A run of the schedule is still at work."""

    def __init__(self, run_id: int) -> None:
        super().__init__(run_id)
        self.run_id = run_id


def _look(farm: Farm, row: Row[Any], now: datetime, held: Held) -> bool:
    try:
        turn = turn_of(cron_of(row), row.next_due_at, row.missed, now)
    except UsageError as error:  # as long as it is so, nothing runs
        if row.note != str(error):
            with writing(farm.engine) as connection:
                held(connection)
                _note(connection, row, "failed", str(error), now)
        return False
    if turn is None:
        return False
    if turn.run is not None:
        return _start(farm, row, turn, turn.run, now, held)
    with writing(farm.engine) as connection:
        held(connection)
        if _take(connection, row, turn) and turn.missed is not None:
            why = f"due {_at(turn.missed)}: missed, the farm was down"
            _note(connection, row, "missed", why, now)
    return turn.missed is not None


def _start(farm: Farm, row: Row[Any], turn: Turn, due: datetime, now: datetime, held: Held) -> bool:
    """Make the run of a due time, or note why there is none."""

    def within(connection: Connection) -> None:
        held(connection)
        if not _take(connection, row, turn):
            raise LostRaceError(f"schedule {row.name} was changed meanwhile")
        if _is_made(connection, row.name, due):
            raise AlreadySubmittedError
        if (at_work := open_run(connection, row.name)) is not None:
            raise _OverlapError(at_work)
        why = "also for due times before it, which were missed" if turn.made_up else None
        record(connection, ENTITY, row.id, None, "started", who=WHO, why=_reason(due, why), now=now)

    told, outcome = None, "failed"
    try:
        with reading(farm.engine) as connection:  # before anything is planned
            if _is_made(connection, row.name, due):
                raise AlreadySubmittedError
            if (at_work := open_run(connection, row.name)) is not None:
                raise _OverlapError(at_work)
        try:
            found, lacks = _revision(row), None
        except RevisionError as error:  # a night without a revision is better than none
            found, lacks = Revision(), f"its run has no revision: {error}"
        submitted = _submit(farm, row, due, found, within, now)
    except LostRaceError:
        return False  # somebody else saw to it, or its user changed it: looked at anew
    except LeaseLostError:
        raise
    except AlreadySubmittedError:
        outcome = "made"  # the clock was ahead when that was
    except _OverlapError as error:
        outcome, told = "overlap", f"run {error.run_id} was still at work, so none was started"
    except BenchfarmError as error:
        told = str(error)
    except OSError as error:
        told = f"{error.strerror or error}" + (f": {error.filename}" if error.filename else "")
    except Exception as error:
        if passes(error):
            raise
        told = f"a fault of benchfarm ({type(error).__name__}: {first_line(error)})"
        log.exception("schedule %s: its run was not made", row.name, extra={"action": "schedule_fault"})
    else:
        run_id = submitted.sweep_run_id
        log.info("schedule %s: run %s", row.name, run_id, extra={"action": "due", "run": run_id})
        if lacks is not None:
            with writing(farm.engine) as connection:
                held(connection)
                _note(connection, row, "no revision", lacks, now)
        return True
    with writing(farm.engine) as connection:
        held(connection)
        if _take(connection, row, turn) and told is not None:
            _note(connection, row, outcome, _reason(due, told), now)
    return True


def _submit(
    farm: Farm, row: Row[Any], due: datetime | None, found: Revision, within: Held, now: datetime
) -> SweepSubmitted:
    submission = Submission(
        schedule=row.name,
        due_at=due,
        revision=found.revision,
        build=found.build or None,
        owner=row.owner,
        allow_code=bool(row.options.get("allow_code")),
        trim=True,
    )
    return submit_sweep(farm, sweep_of(row), submission, follow=False, within=within, now=now)


def sweep_of(row: Any) -> SweepFile:
    """The sweep of a schedule, as it was read when the schedule was made.

    Raises:
        SweepFileError: this benchfarm cannot run it any more.
    """
    return read_sweep(row.sweep_text, Path(row.folder), source=str(row.options.get("file") or row.sweep))


def _revision(row: Row[Any]) -> Revision:
    folder = row.options.get("revision_of")
    return Revision() if folder is None else revision_of(Path(folder))


def _take(connection: Connection, row: Row[Any], turn: Turn) -> bool:
    """Take a due time: False where somebody else has, or the schedule is another now."""
    unchanged = (
        schedules.c.id == row.id,
        schedules.c.next_due_at.is_not_distinct_from(row.next_due_at),
        schedules.c.changed_at == row.changed_at,
        schedules.c.paused.is_(False),
    )
    values: dict[str, Any] = {"next_due_at": turn.next}
    if turn.run is not None or turn.missed is not None:
        values["note"] = None
    return connection.execute(update(schedules).where(*unchanged).values(**values)).rowcount == 1


def _is_made(connection: Connection, name: str, due: datetime) -> bool:
    query = select(sweep_runs.c.id).where(sweep_runs.c.schedule == name, sweep_runs.c.due_at == due)
    return connection.execute(query).first() is not None


def _note(connection: Connection, row: Row[Any], outcome: str, why: str, now: datetime) -> None:
    """Keep what is to know of a due time: in row, event and log; those who are told hear of it once a day."""
    connection.execute(update(schedules).where(schedules.c.id == row.id).values(note=why))
    record(connection, ENTITY, row.id, None, outcome, who=WHO, why=why, now=now)
    log.warning("schedule %s: %s", row.name, why, extra={"action": f"schedule_{outcome.replace(' ', '_')}"})
    tell_trouble(
        connection,
        key=f"{ENTITY}/{row.name}/{outcome}/{now:%Y%m%d}",
        title=f"Schedule {row.name}: {_TITLES[outcome]}",
        text=f"{why[0].upper()}{why[1:]}. See benchfarm schedule show {row.name}",
        now=now,
    )


_TITLES: Final = {
    "failed": "its run could not be made",
    "overlap": "the run before is still at work",
    "missed": "a due time was missed",
    "no revision": "its run has no revision",
}


def _reason(due: datetime, why: str | None) -> str:
    return f"due {_at(due)}" + (f": {why}" if why else "")


def _at(due: datetime) -> str:
    return f"{due:%Y-%m-%d %H:%M} UTC"
