"""The farm inside one command: a database, a store, and a dispatcher while the command waits for its run."""

from __future__ import annotations

import getpass
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Literal

from sqlalchemy import Engine

from device_registry.database import reading, writing
from device_registry.errors import BenchfarmError, UsageError
from device_registry.registry import list_devices, record_hello
from device_registry.selectors import parse_selector
from device_registry.tables import utc_now
from scheduler import runs
from scheduler.dispatcher import ATTEMPT_LEASE_S, Dispatcher
from scheduler.executors.executor import Executor, HostLostError
from scheduler.home import Home
from scheduler.leases import DispatcherLease, LeaseLostError
from scheduler.plan import Request, plan
from scheduler.runs import Submitted
from scheduler.schema import open_database
from scheduler.status import RunStatus, run_is_done, run_status
from workers.agent import AGENT_VERSION
from workers.artifacts import ArtifactStore
from workers.errors import AttemptError, first_line
from workers.host import describe_host, discover_devices
from workers.spool import sweep_ray_sessions

ExecutorName = Literal["ray", "local"]
_IDLE_S = 0.25
_FOLLOW_PERIOD_S = 3.0
_OBSERVE_PERIOD_S = 1.0


class EmbeddedFarm:
    """What `benchfarm run` works with."""

    def __init__(self, home: Home) -> None:
        """Open (and if need be create) the database and the store.

        Raises:
            BenchfarmError: the data directory or the database cannot be used.
        """
        home.prepare()
        self.home = home
        self.engine: Engine = open_database(home.database_url)
        try:
            self.store = ArtifactStore(home.store_url, home.path / "cache")
        except (ValueError, ImportError) as error:
            raise UsageError(f"the artifact store's URL cannot be used: {error}") from error

    def register_this_host(self) -> int:
        """Put this host and its devices into the registry; returns the host's id."""
        with writing(self.engine) as connection:
            return record_hello(connection, describe_host(), discover_devices(), AGENT_VERSION, utc_now())

    def submit(self, request: Request) -> Submitted:
        """Validate, plan and insert a request.

        Raises:
            UsageError: something named cannot be.
        """
        selector = parse_selector(request.selector)
        host_id = self.register_this_host()
        with reading(self.engine) as connection:
            # Only this host's: nobody dispatches to another's from here, and its devices may be long gone.
            known = [device for device in list_devices(connection) if device.host_id == host_id]
        found = [d for d in known if d.presence == "online" and selector.matches(d.selectable)]
        if not found:
            names = ", ".join(device.name for device in known) or "none"
            raise UsageError(f"no device matches {request.selector!r}; devices of this host: {names}")
        made = plan(request, found)
        with writing(self.engine) as connection:
            return runs.submit(
                connection,
                made,
                request,
                self.store,
                owner=getpass.getuser(),
                this_host_id=host_id,
                now=utc_now(),
            )

    def work(
        self, run_id: int, executor: ExecutorName, observe: Callable[[RunStatus], None], say: Callable[[str], None]
    ) -> None:
        """Wait until a run is done; dispatch while nobody else does.

        Args:
            run_id: the run to wait for.
            executor: what carries attempts, should this process become the dispatcher.
            observe: called about once a second with the state of the run.
            say: called with a sentence when something slow begins.

        Raises:
            KeyboardInterrupt: after running children were ended and the run was put to rest.
            BenchfarmError: the agent died, or the database went away.
        """
        lease = DispatcherLease()
        dispatcher: Dispatcher | None = None
        carrier: Executor | None = None
        next_follow = next_observe = 0.0
        following = False
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
                            dispatcher.join_hosts()
                    elif not leads and not following:
                        following = True
                        say("another benchfarm runs on this data directory: following it")
                changed = False
                if dispatcher is None or carrier is None:
                    time.sleep(_IDLE_S)
                else:
                    try:
                        changed = dispatcher.tick(may_claim=lambda connection: not run_is_done(connection, run_id))
                    except (LeaseLostError, HostLostError) as error:
                        # Who takes the role also takes the host, and ends our agent: it may be gone before we hear why.
                        if isinstance(error, HostLostError) and self._holds(lease):
                            raise
                        say("another benchfarm took over: following it")
                        following = True
                        carrier.close()
                        dispatcher = carrier = None
                if changed or time.monotonic() >= next_observe:
                    with reading(self.engine) as connection:
                        status = run_status(connection, run_id, utc_now())
                    observe(status)
                    next_observe = time.monotonic() + _OBSERVE_PERIOD_S
                    if status.done:
                        return
        finally:
            self._take_down(run_id, dispatcher, carrier, lease)

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
        from scheduler.executors.ray_cluster import EmbeddedRayExecutor

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
                if not run_is_done(connection, run_id):
                    runs.abandon(connection, run_id, utc_now())
        finally:
            if carrier is not None:
                carrier.close()
