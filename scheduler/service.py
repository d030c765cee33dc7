"""The farm's service: dispatches while it has the role, stands by while another has it, outlives its database."""

from __future__ import annotations

import gc
import logging
import threading
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from device_registry.database import passes, writing
from device_registry.tables import utc_now
from scheduler.chores import Chores, chores_of
from scheduler.dispatcher import ATTEMPT_LEASE_S, Dispatcher
from scheduler.executors.ray_cluster import ClusterRayExecutor, connect
from scheduler.farm import Farm
from scheduler.home import Home
from scheduler.leases import DispatcherLease, LeaseLostError
from scheduler.retention import DEFAULT_DAYS, Retention
from workers.errors import first_line

log = logging.getLogger(__name__)

_WAIT_S = 1.0
_STAND_BY_S = 1.0


def collect_seldom() -> None:
    """Look for cycles of garbage rarely: what a dispatcher makes is plain data, by the thousand, and has none.

    As Python comes it would spend a sixth of a busy dispatcher's time on it.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 50, 100)


class Service:
    """What `benchfarm up` runs. Ending it disturbs no running job: agents outlive it, and a successor polls them."""

    def __init__(
        self,
        home: Home,
        address: str,
        token: Path,
        *,
        telemetry_days: int = DEFAULT_DAYS,
        deliver: Callable[[datetime], object] | None = None,
    ) -> None:
        """Open the farm and connect to its head.

        Args:
            home: the data directory.
            address: of the head.
            token: file of the farm's token.
            telemetry_days: how long readings and logs are kept; 0: for ever.
            deliver: sends what the farm has to tell; called every few seconds while this process leads.

        Raises:
            BenchfarmError: the data directory, the database, the store or the head cannot be used.
        """
        self._farm = Farm(home)
        self._marker = self._farm.store.mark()
        self._address = address
        self._telemetry_days = telemetry_days
        self._deliver = deliver
        self._ray: Any = connect(address, token)

    def run(self, stop: threading.Event) -> None:
        """Serve until `stop` is set.

        Raises:
            HeadLostError: the Ray head is gone; without it no host can be reached.
        """
        collect_seldom()
        away = _Away()
        while not stop.is_set():
            lease = DispatcherLease()
            if not self._stand_by(lease, away, stop):
                return
            executor = ClusterRayExecutor(self._ray, self._address, self._farm.home.store_url, ATTEMPT_LEASE_S)
            dispatcher = Dispatcher(self._farm.engine, executor, lease, store_marker=self._marker)
            log.info("dispatching", extra={"action": "leading"})
            try:
                chores = Chores(self._farm.engine, chores_of(self._farm, self._deliver))
                retention = Retention(self._farm.engine, self._farm.store, self._telemetry_days)
                with retention.kept(), chores.kept():
                    self._lead(dispatcher, away, stop)
            except LeaseLostError:
                log.warning("another dispatcher took over", extra={"action": "lease_lost"})
            finally:
                dispatcher.leave()
                executor.close()

    def _stand_by(self, lease: DispatcherLease, away: _Away, stop: threading.Event) -> bool:
        """Wait for the dispatcher's role; returns False when told to end first."""
        told = False
        while not stop.is_set():
            try:
                with writing(self._farm.engine) as connection:
                    if lease.acquire(connection, utc_now()):
                        return True
                away.over()
                if not told:
                    told = True
                    log.info("another dispatcher has the role; standing by", extra={"action": "standing_by"})
            except Exception as error:
                away.note(error)
            stop.wait(_STAND_BY_S)
        return False

    def _lead(self, dispatcher: Dispatcher, away: _Away, stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                dispatcher.tick(_WAIT_S)
                away.over()
            except Exception as error:
                away.note(error)
                dispatcher.close()
                stop.wait(_STAND_BY_S)


class _Away:
    """Says once that the database is away, and once that it is back."""

    def __init__(self) -> None:
        self._since: float | None = None

    def note(self, error: Exception) -> None:
        """Raises the error itself where it says anything else: it is a bug, and ends the service loudly."""
        if not passes(error):
            raise error
        if self._since is None:
            self._since = time.monotonic()
            # The driver's first line names what it could not reach, never a password.
            reason = first_line(getattr(error, "orig", error))
            log.warning("the database does not answer: %s", reason, extra={"action": "database_away"})

    def over(self) -> None:
        if self._since is not None:
            away_s = time.monotonic() - self._since
            log.info("the database is back after %.0f s", away_s, extra={"action": "database_back"})
            self._since = None
