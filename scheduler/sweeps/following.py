"""What a command does beside a run of a sweep that it works on itself: limits, and suspects that are confirmed."""

from __future__ import annotations

import time
from collections.abc import Callable

from sqlalchemy import Connection, Engine, func, select

from device_registry.database import reading, table_of, writing
from device_registry.tables import utc_now
from scheduler.queue import sweep_runs
from scheduler.regressions.watch import watch_step
from scheduler.sweeps.budgets import enforce_budgets
from scheduler.trials import step_trials
from scheduler.watch_tables import Screening

_PERIOD_S = 2.0
#: Steps of one round: each is bounded, and small.
_MOST_STEPS = 50
_screenings = table_of(Screening)


class Chores:
    """The chores that `benchfarm up` does in a thread, for one run, in the thread that waits for it."""

    def __init__(self, engine: Engine, run_id: int, say: Callable[[str], None]) -> None:
        """Nothing is done yet."""
        self._engine, self._run_id, self._say = engine, run_id, say
        self._next = 0.0
        self._told = 0

    def observe(self) -> None:
        """Called as often as one likes while the run goes on: hold it to its limits."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + _PERIOD_S
        with writing(self._engine) as connection:
            cancelled = enforce_budgets(connection, utc_now())
        if cancelled:
            self._say(f"{cancelled} jobs were cancelled: deadline or budget")

    def more(self) -> bool:
        """Called when nothing of the run is open: screen its points, confirm its suspects. Whether that goes on."""
        with reading(self._engine) as connection:
            if not self._is_watched(connection):
                return False
        for _ in range(_MOST_STEPS):
            with writing(self._engine) as connection:
                done = len(step_trials(connection, utc_now()))
            with writing(self._engine) as connection:
                done += watch_step(connection, utc_now())
            if not done:
                break
        with reading(self._engine) as connection:
            goes_on = self._is_watched(connection)
            tried = self._tried(connection)
        if tried > self._told:
            self._say(f"{tried} of its points may have changed: both sides are measured again in turns")
            self._told = tried
        return goes_on

    def _is_watched(self, connection: Connection) -> bool:
        query = select(sweep_runs.c.watched, sweep_runs.c.screened_at).where(sweep_runs.c.id == self._run_id)
        row = connection.execute(query).one()
        return bool(row.watched and row.screened_at is None)

    def _tried(self, connection: Connection) -> int:
        own = (_screenings.c.sweep_run_id == self._run_id, _screenings.c.trial_id.is_not(None))
        return int(connection.execute(select(func.count()).where(*own)).scalar_one())
