"""The farm inside one command: a database, a store, and a dispatcher while the command waits for its run."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Literal

from sqlalchemy import Connection

from device_registry.database import reading, writing
from device_registry.errors import BenchfarmError
from device_registry.registry import list_hosts, record_hello
from device_registry.selectors import parse_selector
from device_registry.tables import utc_now
from scheduler import runs
from scheduler.dispatcher import ATTEMPT_LEASE_S, Dispatcher
from scheduler.executors.executor import Executor, HostLostError
from scheduler.farm import Farm, Fleet, Ground
from scheduler.home import Home
from scheduler.leases import DispatcherLease, LeaseLostError, leader
from scheduler.request import Request
from scheduler.runs import Submitted
from scheduler.status import RunStatus, run_is_done, run_status
from workers.agent import AGENT_VERSION
from workers.errors import AttemptError, first_line
from workers.host import describe_host, discover_devices
from workers.spool import sweep_ray_sessions

ExecutorName = Literal["ray", "local"]
_IDLE_S = 0.25
_FOLLOW_PERIOD_S = 3.0
_OBSERVE_PERIOD_S = 1.0


class EmbeddedFarm(Farm):
    """What `benchfarm run` works with."""

    def __init__(self, home: Home) -> None:
        """Open the database and the store as `Farm` does."""
        super().__init__(home)
        #: Runs that were planned for the farm's hosts, which are not ours to reach.
        self._of_the_farm: set[int] = set()

    def register_this_host(self) -> int:
        """Put this host and its devices into the registry; returns the host's id."""
        with writing(self.engine) as connection:
            return record_hello(connection, describe_host(), discover_devices(), AGENT_VERSION, utc_now())

    def submit(self, request: Request, *, follow: bool = True) -> Submitted:
        """Validate, plan and insert a request: for the farm, where one is up on this database, else for this host.

        Raises:
            UsageError: something named cannot be.
        """
        parse_selector(request.selector)  # before this host is looked at
        ground = self.ground()
        submitted = self._insert(request, ground.fleet, store=ground.store, follow=follow)
        self.stands_on(ground, submitted.sweep_run_id)
        return submitted

    def ground(self) -> Ground:
        """What a request may be planned on now: the farm's hosts where one is up on this database, else this host."""
        with reading(self.engine) as connection:
            up = _is_up(connection) and any(host.presence == "online" for host in list_hosts(connection))
        if up:
            # What the database says stands is trusted, as in `Farm.submit`.
            return Ground(self.fleet(), store=None, of_the_farm=True)
        host_id = self.register_this_host()
        fleet = self.fleet()
        # Only this host's: nobody dispatches to another's from here, and its devices may be long gone.
        here = Fleet(
            [host for host in fleet.hosts if host.id == host_id],
            [device for device in fleet.devices if device.host_id == host_id],
            host_id,
        )
        return Ground(here, store=self.store, of_the_farm=False)

    def stands_on(self, ground: Ground, run_id: int) -> None:
        """Remember what a run was planned on: `work` only follows what the farm works on."""
        if ground.of_the_farm:
            self._of_the_farm.add(run_id)

    def work(
        self,
        run_id: int,
        executor: ExecutorName,
        observe: Callable[[RunStatus], None],
        say: Callable[[str], None],
        more: Callable[[], bool] = lambda: False,
    ) -> None:
        """Wait until a run is done; dispatch while nobody else does, unless it is one for the farm's hosts.

        Args:
            run_id: the run to wait for.
            executor: what carries attempts, should this process become the dispatcher.
            observe: called about once a second with the state of the run.
            say: called with a sentence when something slow begins.
            more: asked whenever no job of the run is open: whether the wait goes on, for more may come.

        Raises:
            KeyboardInterrupt: after running children were ended and the run was put to rest.
            BenchfarmError: the agent died, or the database went away.
        """
        if run_id in self._of_the_farm:
            self._wait(run_id, observe, say, more)
            return
        lease = DispatcherLease()
        dispatcher: Dispatcher | None = None
        carrier: Executor | None = None
        next_follow = next_observe = 0.0
        following = goes_on = False

        def may_claim(connection: Connection) -> bool:
            return goes_on or not run_is_done(connection, run_id)  # what is waited for may belong to other runs by now

        try:
            while True:
                if time.monotonic() >= next_follow:
                    leads = self._follow(run_id, lease) or dispatcher is not None
                    next_follow = time.monotonic() + (_FOLLOW_PERIOD_S if leads else _OBSERVE_PERIOD_S)
                    if leads and dispatcher is None:
                        say("bringing up the farm")
                        with self._holding(run_id, lease):
                            carrier = self._bring_up(executor)
                            dispatcher = Dispatcher(self.engine, carrier, lease)
                    elif not leads and not following:
                        following = True
                        say("another benchfarm runs on this data directory: following it")
                changed = False
                if dispatcher is None or carrier is None:
                    time.sleep(_IDLE_S)
                else:
                    try:
                        changed = dispatcher.tick(may_claim=may_claim)
                        # Who takes the role also takes the host, and ends our agent: it may be gone before we hear why.
                        if dispatcher.lost_hosts and self._holds(lease):
                            raise HostLostError("; ".join(dispatcher.lost_hosts.values()))
                        if dispatcher.lost_hosts:
                            raise LeaseLostError
                    except LeaseLostError:
                        say("another benchfarm took over: following it")
                        following = True
                        dispatcher.close()
                        carrier.close()
                        dispatcher = carrier = None
                if changed or time.monotonic() >= next_observe:
                    with reading(self.engine) as connection:
                        status = run_status(connection, run_id, utc_now())
                    observe(status)
                    next_observe = time.monotonic() + _OBSERVE_PERIOD_S
                    goes_on = status.done and more()
                    if status.done and not goes_on:
                        return
        finally:
            self._take_down(run_id, dispatcher, carrier, lease)

    def _wait(
        self,
        run_id: int,
        observe: Callable[[RunStatus], None],
        say: Callable[[str], None],
        more: Callable[[], bool],
    ) -> None:
        """Follow a run of the farm's. Should benchfarm up be away for a while, its role is left alone."""
        next_follow = 0.0

        def look(status: RunStatus) -> None:
            nonlocal next_follow
            if time.monotonic() >= next_follow:
                next_follow = time.monotonic() + _FOLLOW_PERIOD_S
                with writing(self.engine) as connection:
                    runs.follow(connection, run_id, utc_now())
            observe(status)

        say("benchfarm up works on it: following it")
        try:
            while True:
                self.wait(run_id, observe=look, say=say)
                if not more():
                    break
                time.sleep(_OBSERVE_PERIOD_S)
        finally:
            with writing(self.engine) as connection:
                _abandon(connection, run_id)

    def _follow(self, run_id: int, lease: DispatcherLease) -> bool:
        """Say that we still wait, and take the dispatcher's role if it is free or ours; returns whether we have it."""
        with writing(self.engine) as connection:
            runs.follow(connection, run_id, utc_now())
            return lease.acquire(connection, utc_now())

    def _holds(self, lease: DispatcherLease) -> bool:
        with writing(self.engine) as connection, suppress(LeaseLostError):
            lease.renew(connection, utc_now())
            return True
        return False

    @contextmanager
    def _holding(self, run_id: int, lease: DispatcherLease) -> Iterator[None]:
        """Keep run and role while something slow is brought up: a cold Ray can outlast the lease."""
        done = threading.Event()

        def keep() -> None:
            while not done.wait(_FOLLOW_PERIOD_S):
                self._follow(run_id, lease)

        keeper = threading.Thread(target=keep, name="lease-keeper", daemon=True)
        keeper.start()
        try:
            yield
        finally:
            done.set()
            keeper.join()

    def _bring_up(self, executor: ExecutorName) -> Executor:
        sweep_ray_sessions(self.home.path / "spool")
        if executor == "local":
            from scheduler.executors.local import LocalExecutor

            try:
                return LocalExecutor(self.home.path, self.home.store_url, ATTEMPT_LEASE_S)
            except AttemptError as error:  # another agent holds this host
                raise BenchfarmError(error.message) from error
        from scheduler.executors.ray_embedded import EmbeddedRayExecutor

        try:
            return EmbeddedRayExecutor(self.home.path, self.home.store_url, ATTEMPT_LEASE_S)
        except (BenchfarmError, OSError):
            raise
        except Exception as error:  # whatever Ray raises: it did not come up, and there is a way without it
            said = f"{type(error).__name__}: {first_line(error)}"
            raise BenchfarmError(f"the embedded Ray did not come up ({said}); --executor local needs none") from error

    def _take_down(
        self, run_id: int, dispatcher: Dispatcher | None, carrier: Executor | None, lease: DispatcherLease
    ) -> None:
        """Children first, then the rows, then Ray: whatever of this is cut short, the next command heals."""
        try:
            if dispatcher is not None:
                with suppress(LeaseLostError):  # whoever took over has the rows now
                    dispatcher.stop()
            with writing(self.engine) as connection:
                lease.release(connection)
                _abandon(connection, run_id)
        finally:
            if carrier is not None:
                carrier.close()


def _is_up(connection: Connection) -> bool:
    """Whether a farm's dispatcher has the role, and not one that ends with the run which it waits for."""
    row = leader(connection, utc_now())
    return row is not None and row.pid not in runs.followers(connection, row.host_key, utc_now())


def _abandon(connection: Connection, run_id: int) -> None:
    if not run_is_done(connection, run_id):
        runs.abandon(connection, run_id, utc_now())
