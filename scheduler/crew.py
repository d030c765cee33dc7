"""Who works on runs inside one command: a dispatcher and what carries its orders, for one run after another."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType

from sqlalchemy import Connection, Engine

from device_registry.database import reading, writing
from device_registry.tables import utc_now
from scheduler import runs
from scheduler.dispatcher import Dispatcher
from scheduler.executors.executor import Executor, HostLostError
from scheduler.leases import DispatcherLease, LeaseLostError
from scheduler.status import RunStatus, run_is_done, run_status

_IDLE_S = 0.25
FOLLOW_PERIOD_S = 3.0
OBSERVE_PERIOD_S = 1.0


class Crew:
    """Brought up when its first run needs it, and taken down at the end: `with Crew(...) as crew: crew.work(...)`."""

    def __init__(self, engine: Engine, bring_up: Callable[[], Executor], say: Callable[[str], None]) -> None:
        """Nothing is brought up yet.

        Args:
            engine: of the database.
            bring_up: makes what carries orders; may take a while, and raise BenchfarmError.
            say: called with a sentence when something slow begins.
        """
        self._engine, self._make, self._say = engine, bring_up, say
        self._lease = DispatcherLease()
        self._dispatcher: Dispatcher | None = None
        self._carrier: Executor | None = None
        #: The run that is worked on, or was last.
        self._run_id: int | None = None

    def __enter__(self) -> Crew:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Children first, then the rows, then Ray: whatever of this is cut short, the next command heals."""
        try:
            if self._dispatcher is not None:
                with suppress(LeaseLostError):  # whoever took over has the rows now
                    self._dispatcher.stop()
            with writing(self._engine) as connection:
                self._lease.release(connection)
                if self._run_id is not None:
                    abandon(connection, self._run_id)
        finally:
            if self._carrier is not None:
                self._carrier.close()

    def work(self, run_id: int, observe: Callable[[RunStatus], None], more: Callable[[], bool] = lambda: False) -> None:
        """Wait until a run is done; dispatch while nobody else does.

        Args:
            run_id: the run to wait for.
            observe: called about once a second with the state of the run.
            more: asked whenever no job of the run is open: whether the wait goes on, for more may come.

        Raises:
            BenchfarmError: the agent died, or the database went away.
        """
        self._run_id = run_id
        next_follow = next_observe = 0.0
        following = goes_on = False

        def may_claim(connection: Connection) -> bool:
            return goes_on or not run_is_done(connection, run_id)  # what is waited for may belong to other runs by now

        while True:
            if time.monotonic() >= next_follow:
                leads = self._follow(run_id) or self._dispatcher is not None
                next_follow = time.monotonic() + (FOLLOW_PERIOD_S if leads else OBSERVE_PERIOD_S)
                if leads and self._dispatcher is None:
                    self._bring_up(run_id)
                elif not leads and not following:
                    following = True
                    self._say("another benchfarm runs on this data directory: following it")
            changed = False
            if self._dispatcher is None:
                time.sleep(_IDLE_S)
            else:
                try:
                    changed = self._tick(self._dispatcher, may_claim)
                except LeaseLostError:
                    self._say("another benchfarm took over: following it")
                    following = True
                    self._leave()
            if changed or time.monotonic() >= next_observe:
                with reading(self._engine) as connection:
                    status = run_status(connection, run_id, utc_now())
                observe(status)
                next_observe = time.monotonic() + OBSERVE_PERIOD_S
                goes_on = status.done and more()
                if status.done and not goes_on:
                    return

    def _tick(self, dispatcher: Dispatcher, may_claim: Callable[[Connection], bool]) -> bool:
        changed = dispatcher.tick(may_claim=may_claim)
        # Who takes the role also takes the host, and ends our agent: it may be gone before we hear why.
        if dispatcher.lost_hosts and self._holds():
            raise HostLostError("; ".join(dispatcher.lost_hosts.values()))
        if dispatcher.lost_hosts:
            raise LeaseLostError
        return changed

    def _bring_up(self, run_id: int) -> None:
        self._say("bringing up the farm")
        with self._holding(run_id):
            self._carrier = self._make()
            self._dispatcher = Dispatcher(self._engine, self._carrier, self._lease)

    def _leave(self) -> None:
        if self._dispatcher is not None:
            self._dispatcher.close()
        if self._carrier is not None:
            self._carrier.close()
        self._dispatcher = self._carrier = None

    def _follow(self, run_id: int) -> bool:
        """Say that we still wait, and take the dispatcher's role if it is free or ours; returns whether we have it."""
        with writing(self._engine) as connection:
            runs.follow(connection, run_id, utc_now())
            return self._lease.acquire(connection, utc_now())

    def _holds(self) -> bool:
        with writing(self._engine) as connection, suppress(LeaseLostError):
            self._lease.renew(connection, utc_now())
            return True
        return False

    @contextmanager
    def _holding(self, run_id: int) -> Iterator[None]:
        """Keep run and role while something slow is brought up: a cold Ray can outlast the lease."""
        done = threading.Event()

        def keep() -> None:
            while not done.wait(FOLLOW_PERIOD_S):
                self._follow(run_id)

        keeper = threading.Thread(target=keep, name="lease-keeper", daemon=True)
        keeper.start()
        try:
            yield
        finally:
            done.set()
            keeper.join()


def abandon(connection: Connection, run_id: int) -> None:
    """Say that nobody waits for a run any more, unless it is done."""
    if not run_is_done(connection, run_id):
        runs.abandon(connection, run_id, utc_now())
