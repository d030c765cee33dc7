"""The watch: from the points of a watched run to incidents, a step at a time (docs/regressions.md)."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Row, select, text

from scheduler.queue import sweep_runs
from scheduler.regressions.concluding import conclude, waits_for_trials
from scheduler.regressions.incidents import note_canaries
from scheduler.regressions.screening import is_screened, look_back, note_missing, screen_points
from scheduler.regressions.siblings import try_siblings
from scheduler.regressions.trying import judge_trials
from scheduler.status import run_is_done

#: Literal, for the index run_to_screen (see `states.IS_LIVE`).
_IS_TO_SCREEN: Final = text("sweep_run.watched AND sweep_run.screened_at IS NULL")
#: Runs that a step looks at: more wait until older ones are concluded.
_MOST_RUNS = 20


def watch_step(connection: Connection, now: datetime) -> int:
    """Look at what is new in watched runs, a bounded part of it; call again while it returns more than 0.

    Points are screened as their cases are complete; when a run is done its histories are looked at; when its trials are
    over, the other series of the models that these tell of are tried, too; then it is concluded: incidents, recoveries,
    the digest. A run that was interrupted waits until it goes on.
    Whatever is found is written in the one transaction that is given, under a lock of the runs: two schedulers do one
    after the other, and the second finds it done.

    Args:
        connection: inside a transaction that writes.
        now: the time.

    Returns:
        How much was done.
    """
    if done := note_canaries(connection, now):
        return done
    for run in _runs(connection):
        if done := _step(connection, run, now):
            return done  # a step's transaction is short
    return 0


def _runs(connection: Connection) -> list[Row[Any]]:
    query = select(sweep_runs).where(_IS_TO_SCREEN, sweep_runs.c.resting.is_(False)).order_by(sweep_runs.c.id)
    # Not FOR UPDATE: jobs and results refer to the row, and are written all the time.
    return list(connection.execute(query.limit(_MOST_RUNS).with_for_update(key_share=True)))


def _step(connection: Connection, run: Row[Any], now: datetime) -> int:
    """What is due of one run: the first of these that there is."""
    if (done := screen_points(connection, run.id, now)) or (done := judge_trials(connection, run.id, now)):
        return done
    if not run_is_done(connection, run.id):
        return 0
    if done := look_back(connection, run.id, now):
        return done
    if not is_screened(connection, run.id) or waits_for_trials(connection, run.id, now):
        return 0
    if done := try_siblings(connection, run, now):
        return done
    note_missing(connection, run.id, now)
    conclude(connection, run, now)
    return 1
