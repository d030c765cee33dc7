"""The farm inside one command: a database, a store, and a dispatcher while the command waits for its run."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

from sqlalchemy import Connection

from device_registry.database import reading, writing
from device_registry.errors import BenchfarmError
from device_registry.registry import list_hosts, record_hello
from device_registry.selectors import parse_selector
from device_registry.tables import utc_now
from scheduler import runs
from scheduler.crew import FOLLOW_PERIOD_S, OBSERVE_PERIOD_S, Crew, abandon
from scheduler.dispatcher import ATTEMPT_LEASE_S
from scheduler.executors.executor import Executor
from scheduler.farm import Farm, Fleet, Ground
from scheduler.home import Home
from scheduler.leases import leader
from scheduler.request import Request
from scheduler.runs import Submitted
from scheduler.status import RunStatus
from workers.agent import AGENT_VERSION
from workers.errors import AttemptError, first_line
from workers.host import describe_host, discover_devices
from workers.spool import sweep_ray_sessions

ExecutorName = Literal["ray", "local"]


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
        with self.crew(executor, say) as crew:
            crew.work(run_id, observe, more)

    def crew(self, executor: ExecutorName, say: Callable[[str], None]) -> Crew:
        """What works on runs of this host; with it several runs need it brought up only once.

        Args:
            executor: what carries attempts, should this process become the dispatcher.
            say: called with a sentence when something slow begins.
        """
        return Crew(self.engine, lambda: self._bring_up(executor), say)

    @property
    def waits_for_others(self) -> bool:
        """Whether something was planned for the farm's hosts, so that benchfarm up works on it."""
        return bool(self._of_the_farm)

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
                next_follow = time.monotonic() + FOLLOW_PERIOD_S
                with writing(self.engine) as connection:
                    runs.follow(connection, run_id, utc_now())
            observe(status)

        say("benchfarm up works on it: following it")
        try:
            while True:
                self.wait(run_id, observe=look, say=say)
                if not more():
                    break
                time.sleep(OBSERVE_PERIOD_S)
        finally:
            with writing(self.engine) as connection:
                abandon(connection, run_id)

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


def _is_up(connection: Connection) -> bool:
    """Whether a farm's dispatcher has the role, and not one that ends with the run which it waits for."""
    row = leader(connection, utc_now())
    return row is not None and row.pid not in runs.followers(connection, row.host_key, utc_now())
