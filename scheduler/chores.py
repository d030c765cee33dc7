"""What is due by time, done while this process leads: schedules, budgets, trials, the watch over what was measured.

Each chore is a callable that gets the time and a check to make inside each of its transactions: it renews this
process's lease of the role, so that a process that was stopped and wakes up changes nothing that is another's by now.
One that fails says so once and keeps neither the others nor the service from going on.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from sqlalchemy import Connection, Engine

from device_registry.database import passes, writing
from device_registry.errors import BenchfarmError
from device_registry.tables import utc_now
from scheduler.farm import Farm
from scheduler.leases import CHORES, DispatcherLease, LeaseLostError
from scheduler.regressions.noise import due_noise
from scheduler.regressions.watch import watch_step
from scheduler.schedules.due import Held, run_due
from scheduler.schedules.lookout import Lookout
from scheduler.states import LostRaceError
from scheduler.sweeps.budgets import enforce_budgets
from scheduler.trials import step_trials
from workers.errors import first_line

log = logging.getLogger(__name__)

#: Between two rounds, and where the last one found something to do.
_EVERY_S = 2.0
_SOON_S = 0.2
#: What changes slowly and costs a look at many rows.
_SELDOM_S = 60.0
#: A floor is learnt once a month.
_NOISE_S = 600.0

#: Does what is due; returns something true where there may be more to do at once.
Step = Callable[[Held, datetime], object]


@dataclass(frozen=True)
class Chore:
    """A step that is taken again and again."""

    #: As in "the chore NAME failed".
    name: str
    step: Step
    every_s: float = 0.0


def in_transaction(engine: Engine, step: Callable[[Connection, datetime], object]) -> Step:
    """A step that is one transaction."""

    def taken(held: Held, now: datetime) -> object:
        with writing(engine) as connection:
            held(connection)
            return step(connection, now)

    return taken


def chores_of(farm: Farm, deliver: Callable[[datetime], object] | None = None) -> list[Chore]:
    """The chores of a farm, in the order in which each needs the one before.

    Args:
        farm: whose they are.
        deliver: sends what is in the outbox, outside any transaction; None: nothing is sent.
    """
    alone = partial(in_transaction, farm.engine)
    made = [
        Chore("schedules", lambda held, now: run_due(farm, now, held)),
        Chore("budgets", alone(enforce_budgets)),
        Chore("trials", alone(step_trials)),
        Chore("watch", alone(watch_step)),
        Chore("missing cells", Lookout(farm.engine).step, _SELDOM_S),
        Chore("noise", alone(due_noise), _NOISE_S),
    ]
    return made if deliver is None else [*made, Chore("delivery", lambda _held, now: deliver(now))]


class Chores:
    """A thread of the service that does chores, where no other process does them."""

    def __init__(
        self,
        engine: Engine,
        chores: Sequence[Chore],
        clock: Callable[[], datetime] = utc_now,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Nothing is done before `kept` or `round`.

        Args:
            engine: of the database.
            chores: in their order.
            clock: wall time.
            monotonic: seconds that never jump.
        """
        self._engine, self._chores = engine, chores
        self._clock, self._monotonic = clock, monotonic
        self._lease = DispatcherLease(monotonic, role=CHORES)
        self._again_at = dict.fromkeys((chore.name for chore in chores), 0.0)
        #: What the chores that fail now fail for.
        self._failing: dict[str, str] = {}
        self._stop = threading.Event()

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Do them meanwhile; what is begun is finished."""
        thread = threading.Thread(target=self._loop, name="chores", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()
            with suppress(Exception), writing(self._engine) as connection:
                self._lease.release(connection)

    def round(self) -> bool:
        """Do what is due once. Returns whether there may be more to do at once."""
        try:
            with writing(self._engine) as connection:
                mine = self._lease.acquire(connection, self._clock())
        except Exception as error:
            self._failed("lease", error)
            return False
        self._well("lease")
        if not mine:
            return False
        more = False
        for chore in self._chores:
            if self._stop.is_set():
                break
            if self._monotonic() < self._again_at[chore.name]:
                continue
            self._again_at[chore.name] = self._monotonic() + chore.every_s
            try:
                more |= bool(chore.step(self._held, self._clock())) and not chore.every_s
            except LeaseLostError:
                log.warning("another process does the chores now", extra={"action": "chores_lost"})
                return False
            except LostRaceError:
                more = True  # a user was quicker: nothing was written, and the next round sees it
            except Exception as error:
                self._failed(chore.name, error)
            else:
                self._well(chore.name)
        return more

    def _loop(self) -> None:
        wait_s = 0.0
        while not self._stop.wait(wait_s):
            wait_s = _SOON_S if self.round() else _EVERY_S

    def _held(self, connection: Connection) -> None:
        self._lease.renew(connection, self._clock())

    def _failed(self, name: str, error: Exception) -> None:
        """Say it once: a database that is away is one failure, whatever each chore finds of it."""
        known = isinstance(error, BenchfarmError) or passes(error)
        reason = first_line(getattr(error, "orig", error)) if known else f"{type(error).__name__}: {first_line(error)}"
        if self._failing.get(name) == reason:
            return
        told = any(passes(error) and reason == other for other in self._failing.values())
        self._failing[name] = reason
        if not told:
            extra = {"action": "chore_failed", "chore": name}
            log.warning("the chore %s failed: %s", name, reason, exc_info=None if known else error, extra=extra)

    def _well(self, name: str) -> None:
        if (reason := self._failing.pop(name, None)) is not None and reason not in self._failing.values():
            log.info("the chore %s is done again", name, extra={"action": "chore_recovered", "chore": name})
