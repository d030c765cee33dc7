"""A farm as its users meet it: a database and a store. Submitting is inserting, whether anybody dispatches or not."""

from __future__ import annotations

import getpass
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine

from device_registry.database import reading, writing
from device_registry.errors import BenchfarmError, UsageError
from device_registry.registry import RegisteredDevice, RegisteredHost, list_devices, list_hosts
from device_registry.selectors import Selector, parse_selector
from device_registry.tables import utc_now
from scheduler import runs
from scheduler.home import Home
from scheduler.leases import is_led
from scheduler.plan import plan
from scheduler.records import job_states
from scheduler.request import Request
from scheduler.runs import Submitted
from scheduler.schema import open_database
from scheduler.states import OPEN_JOB
from scheduler.status import RunStatus, run_status
from workers.artifacts import ArtifactStore
from workers.devices.cpu import machine_key

#: A change is seen after at most this.
_LOOK_PERIOD_S = 0.5
#: Names in a refusal; a farm can have thousands.
_MOST_NAMES = 10


class WaitTimeoutError(BenchfarmError):
    """What was waited for is not done yet."""


@dataclass(frozen=True)
class Fleet:
    """What a request may be planned on."""

    hosts: Sequence[RegisteredHost]
    devices: Sequence[RegisteredDevice]
    #: This machine, where it is one of the hosts.
    this_host_id: int | None


@dataclass(frozen=True)
class Ground:
    """What requests are planned on."""

    fleet: Fleet
    #: Where artifacts are looked for; None: what the database says stands is trusted.
    store: ArtifactStore | None
    #: Whether benchfarm up works on what is submitted now.
    of_the_farm: bool

    @property
    def descriptions(self) -> list[dict[str, Any]]:
        """Of the hosts that convert; while none is online the last known ones stand for them: their jobs wait."""
        online = [host.description for host in self.fleet.hosts if host.presence == "online"]
        return online or [host.description for host in self.fleet.hosts]


class Farm:
    """What commands and programs work with."""

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

    def submit(self, request: Request, *, follow: bool = False) -> Submitted:
        """Validate, plan and insert a request for the farm's devices.

        Args:
            request: what is wanted.
            follow: whether the caller waits, and the run may rest when it does so no more.

        Raises:
            UsageError: something named cannot be.
        """
        ground = self.ground()
        return self._insert(request, ground.fleet, store=ground.store, follow=follow)

    def ground(self) -> Ground:
        """What a request may be planned on now."""
        # What the database says stands is trusted: the farm's store may be out of this machine's reach.
        return Ground(self.fleet(), store=None, of_the_farm=True)

    def stands_on(self, ground: Ground, run_id: int) -> None:
        """Remember what a run was planned on, where that makes a difference: here it makes none."""

    def wait(
        self,
        run_id: int,
        *,
        timeout_s: float | None = None,
        observe: Callable[[RunStatus], None] = lambda _: None,
        say: Callable[[str], None] = lambda _: None,
    ) -> RunStatus:
        """Wait until nothing of a run is open; who dispatches is another process's matter.

        Args:
            run_id: the run.
            timeout_s: how long at most; None: as long as it takes.
            observe: called about twice a second with the state of the run.
            say: called with a sentence when there is something to know.

        Raises:
            WaitTimeoutError: something is still open.
        """
        led = True
        for _ in _looks(f"run {run_id}", timeout_s):
            with reading(self.engine) as connection:
                status = run_status(connection, run_id, utc_now())
                was_led, led = led, is_led(connection, utc_now())
            observe(status)
            if status.done:
                break
            if was_led and not led:
                say("nobody dispatches for this farm now: its jobs wait until benchfarm up runs")
        return status

    def wait_for_jobs(
        self,
        job_ids: Sequence[int],
        *,
        timeout_s: float | None = None,
        observe: Callable[[int, str], None] = lambda _job, _state: None,
    ) -> dict[int, str]:
        """Wait until jobs are finished; returns the state of each.

        Args:
            job_ids: the jobs.
            timeout_s: how long at most; None: as long as it takes.
            observe: called once for each that is finished.

        Raises:
            UsageError: there is no such job.
            WaitTimeoutError: one is still open.
        """
        told: set[int] = set()
        for _ in _looks(f"job {', '.join(map(str, job_ids[:_MOST_NAMES]))}", timeout_s):
            with reading(self.engine) as connection:
                states = job_states(connection, job_ids)
            finished = {job: state for job, state in states.items() if state not in OPEN_JOB}
            for job in finished.keys() - told:
                observe(job, finished[job])
            told |= finished.keys()
            if len(finished) == len(states):
                break
        return states

    def fleet(self) -> Fleet:
        """Hosts and devices of the farm as they were last known."""
        with reading(self.engine) as connection:
            return self._known(connection)

    def _known(self, connection: Connection) -> Fleet:
        hosts = list_hosts(connection)
        here = machine_key()
        own = [host for host in hosts if host.presence == "online" and host.key.partition("/")[0] == here]
        # The row of a benchfarm run that ended before it could say so may stand beside that of the joined host.
        latest = max(own, key=lambda host: host.last_seen_at, default=None)
        return Fleet(hosts, list_devices(connection), latest.id if latest is not None else None)

    def _insert(self, request: Request, fleet: Fleet, *, store: ArtifactStore | None, follow: bool) -> Submitted:
        found = chosen_devices(request, fleet.devices)
        online = [host.description for host in fleet.hosts if host.presence == "online"]
        # While no host is online the last known ones stand for them: their jobs wait.
        made = plan(request, found, online or [host.description for host in fleet.hosts])
        with writing(self.engine) as connection:
            return runs.submit(
                connection,
                made,
                request,
                store,
                owner=request.owner or getpass.getuser(),
                this_host_id=fleet.this_host_id,
                now=utc_now(),
                follow=follow,
            )


def _looks(what: str, timeout_s: float | None) -> Iterator[None]:
    """Once now, and again and again until the time has run out."""
    deadline = time.monotonic() + timeout_s if timeout_s is not None else math.inf
    while True:
        yield
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            raise WaitTimeoutError(f"{what} is not done after {timeout_s:g} s")
        time.sleep(min(_LOOK_PERIOD_S, left_s))


def chosen_devices(request: Request, known: Sequence[RegisteredDevice]) -> list[RegisteredDevice]:
    """The devices that a request is planned on: those that match and take work now, or all that match if it waits.

    Raises:
        UsageError: there is none; the sentence says what there is.
    """
    selector = parse_selector(request.selector)
    matching = [device for device in known if selector.matches(device.selectable)]
    if request.wait_for_device:
        if not matching and request.spread != "any":
            raise UsageError(
                f"no device that matches {request.selector!r} was ever seen; --any queues for whichever comes first"
            )
        return matching
    found = [device for device in matching if device.presence == "online" and device.admin == "enabled"]
    if not found:
        raise UsageError(_nothing(selector, matching, known))
    return found


def _nothing(selector: Selector, matching: Sequence[RegisteredDevice], known: Sequence[RegisteredDevice]) -> str:
    if not known:
        return "no device is known yet: benchfarm join adds a host, benchfarm run measures on this machine"
    if matching:
        states = [f"{d.name} is {d.presence if d.presence != 'online' else d.admin}" for d in matching]
        return f"no device takes work now: {_some(states)}; --wait-for-device queues until one does"
    what = f"no device matches {str(selector)!r}"
    return f"{what}; devices are {_some([device.name for device in known])}; --wait-for-device queues until one comes"


def _some(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")
