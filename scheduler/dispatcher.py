"""The loop that is the product: expire leases, read places, match, claim, start, poll, ingest.

The database is the truth. A crash at any line is healed by what is below: a claim that never started runs out, a host
that comes back has swept itself and says hello, a result that comes late is kept and never counted.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pydantic import ValidationError
from sqlalchemy import Connection, Engine, Row, select, update
from sqlalchemy.exc import IntegrityError

from device_registry.capabilities import BackendCapability, DeviceDescription, HostDescription
from device_registry.database import reading, writing
from device_registry.errors import BenchfarmError
from device_registry.registry import devices, record_hello
from device_registry.tables import utc_now
from scheduler import runs
from scheduler.executors.executor import Executor, HostLostError
from scheduler.ingest import ingest, lose_attempt, read_report
from scheduler.leases import DispatcherLease
from scheduler.placement import Place, match
from scheduler.queue import candidates, claim
from scheduler.states import LIVE_ATTEMPT, LostRaceError, attempts, change_attempt, jobs
from workers.agent import AGENT_VERSION
from workers.codec import to_dict
from workers.contract import Failure, Order, Result
from workers.report import Report

#: An agent ends its work when it was not polled for so long.
ATTEMPT_LEASE_S = 60.0
#: Beyond the agent's own lease: its 5 s to kill, and one call's time.
_EXPIRY_SLACK_S = 25.0
#: Polls wait this long for an event; a new job is seen after at most this.
_POLL_WAIT_S = 0.25


class VersionMismatchError(BenchfarmError):
    """A host runs another version of benchfarm."""


@dataclass
class _Host:
    """What the dispatcher knows of a host between ticks."""

    name: str
    id: int
    slots: int
    #: Last event taken from its agent.
    cursor: int = 0


class Dispatcher:
    """One active per database. `tick` does one round; whoever runs it decides when to stop."""

    def __init__(
        self, engine: Engine, executor: Executor, lease: DispatcherLease, clock: Callable[[], datetime] = utc_now
    ) -> None:
        """Dispatch for a database through an executor, under a lease that was acquired."""
        self._engine = engine
        self._executor = executor
        self._lease = lease
        self._clock = clock
        self._who = f"dispatcher {lease.holder}"
        self._hosts: dict[int, _Host] = {}

    def join_hosts(self) -> None:
        """Greet every agent, and reconcile: what the database thinks runs there and does not is lost.

        Raises:
            VersionMismatchError: an agent is of another version.
        """
        for name in self._executor.hosts():
            hello = self._executor.hello(name)
            if hello["version"] != AGENT_VERSION:
                raise VersionMismatchError(f"{name} runs agent version {hello['version']}, this is {AGENT_VERSION}")
            now = self._clock()
            with writing(self._engine) as connection:
                description = _host_description(hello["host"])
                found = [DeviceDescription(**device) for device in hello["devices"]]
                host_id = record_hello(connection, description, found, hello["version"], now)
            self._hosts[host_id] = host = _Host(name, host_id, slots=max(1, description.cpu_count))
            # First take the reports that the agent's predecessor left, then give up what is in none of them.
            events = self._executor.poll(name, 0, 0)
            with writing(self._engine) as connection:
                self._take(connection, host, events)
                live = select(attempts.c.id).where(attempts.c.host_id == host_id, attempts.c.state.in_(LIVE_ATTEMPT))
                for attempt_id in connection.execute(live).scalars().all():
                    if attempt_id not in events["running"]:
                        lose_attempt(connection, attempt_id, who=self._who, why="its agent is gone", now=now)
            self._taken(host, events)

    def tick(self, *, may_claim: Callable[[Connection], bool] = lambda _: True) -> bool:
        """One round. Returns whether anything changed.

        Args:
            may_claim: asked after results are in and before new work is taken; a `run` that is done says no.

        Raises:
            LeaseLostError: another dispatcher took over.
            HostLostError: an agent does not answer (for an embedded host this ends the command).
        """
        polled = {host.id: self._executor.poll(host.name, host.cursor, _POLL_WAIT_S) for host in self._hosts.values()}
        now = self._clock()
        orders: list[tuple[int, Order]] = []
        unwanted: list[int] = []
        with writing(self._engine) as connection:
            self._lease.renew(connection, now)
            for host_id, events in polled.items():
                self._take(connection, self._hosts[host_id], events)
                self._renew_attempts(connection, events["running"], now)
                unwanted += self._no_longer_live(connection, events["running"])
            self._expire(connection, now)
            claiming = may_claim(connection)
            if claiming:
                orders = self._claim(connection, now)
        for host_id, events in polled.items():
            self._taken(self._hosts[host_id], events)
        self._start(orders)
        self.cancel_attempts(unwanted, "cancelled")
        return bool(orders) or any(events["events"] for events in polled.values())

    def cancel_attempts(self, attempt_ids: Sequence[int], why: str) -> None:
        """End attempts wherever they run; their reports say cancelled."""
        with reading(self._engine) as connection:
            found = connection.execute(select(attempts.c.id, attempts.c.host_id).where(attempts.c.id.in_(attempt_ids)))
            targets = [(row.id, self._hosts[row.host_id]) for row in found if row.host_id in self._hosts]
        for attempt_id, host in targets:
            self._executor.cancel(host.name, attempt_id, why)

    def stop(self) -> None:
        """End what runs, take the reports, and give the lease back.

        Raises:
            LeaseLostError: another dispatcher took over; what runs is its own now.
        """
        with writing(self._engine) as connection:
            self._lease.renew(connection, self._clock())
            live = select(attempts.c.id).where(attempts.c.state.in_(LIVE_ATTEMPT), attempts.c.host_id.in_(self._hosts))
            running = connection.execute(live).scalars().all()
        try:
            self.cancel_attempts(running, "the dispatcher stopped")
            for host in self._hosts.values():
                deadline = self._clock() + timedelta(seconds=10)
                while self._clock() < deadline:
                    events = self._executor.poll(host.name, host.cursor, _POLL_WAIT_S)
                    with writing(self._engine) as connection:
                        self._take(connection, host, events)
                    self._taken(host, events)
                    if not events["running"]:
                        break
                self._executor.poll(host.name, host.cursor, 0)  # so that the agent forgets what was taken
        finally:
            with writing(self._engine) as connection:
                for attempt_id in running:
                    lose_attempt(connection, attempt_id, who=self._who, why="the dispatcher stopped", now=self._clock())
                self._lease.release(connection)

    def _take(self, connection: Connection, host: _Host, polled: dict[str, Any]) -> None:
        """Ingest a poll's events, once each."""
        now = self._clock()
        for event in polled["events"]:
            if event["kind"] == "started":
                row = connection.execute(
                    select(attempts.c.state).where(
                        attempts.c.id == event["attempt_id"], attempts.c.token == event["token"]
                    )
                ).first()
                if row is not None and row.state == "leased":
                    change_attempt(
                        connection, event["attempt_id"], "leased", "running", who=self._who, why=None, now=now
                    )
            elif event["kind"] == "lost":
                lose_attempt(
                    connection, event["attempt_id"], who=self._who, why="its agent ended before it did", now=now
                )
            else:
                self._ingest(connection, event, now)

    @staticmethod
    def _taken(host: _Host, polled: dict[str, Any]) -> None:
        """Move the cursor, once the transaction that took the events stands: the agent forgets what is before it."""
        host.cursor = max([host.cursor, *(event["sequence"] for event in polled["events"])])

    def _ingest(self, connection: Connection, event: dict[str, Any], now: datetime) -> None:
        try:
            report = read_report(event["report"])
        except ValidationError as error:
            failure = Failure(
                cause="bug",
                code="bad_report",
                message=f"the agent's report breaks the contract: {error.error_count()} errors",
            )
            at = now.timestamp()
            result = Result(
                attempt_id=event["attempt_id"], token=event["token"], started_at=at, finished_at=at, failure=failure
            )
            report = Report(attempt_id=event["attempt_id"], token=event["token"], result=result)
        ingest(connection, report, who=self._who, now=now)

    def _renew_attempts(self, connection: Connection, running: Sequence[int], now: datetime) -> None:
        connection.execute(
            update(attempts)
            .where(attempts.c.id.in_(running), attempts.c.state.in_(LIVE_ATTEMPT))
            .values(lease_until=now + timedelta(seconds=ATTEMPT_LEASE_S + _EXPIRY_SLACK_S))
        )

    def _no_longer_live(self, connection: Connection, running: Sequence[int]) -> list[int]:
        """Attempts that an agent still runs and that the database has given up (cancelled by a user, lease lost)."""
        if not running:
            return []
        live = connection.execute(
            select(attempts.c.id).where(attempts.c.id.in_(running), attempts.c.state.in_(LIVE_ATTEMPT))
        )
        return sorted(set(running) - set(live.scalars()))

    def _expire(self, connection: Connection, now: datetime) -> None:
        late = select(attempts.c.id).where(attempts.c.state.in_(LIVE_ATTEMPT), attempts.c.lease_until < now)
        for attempt_id in connection.execute(late).scalars().all():
            lose_attempt(connection, attempt_id, who=self._who, why="its lease ran out", now=now)

    def _claim(self, connection: Connection, now: datetime) -> list[tuple[int, Order]]:
        places = self._places(connection, now)
        wanted = candidates(connection, now, [place.device_id for place in places if place.device_id and place.open])
        if not wanted:
            return []
        assignments = match(wanted, places)
        own_pids = [os.getpid(), *runs.followers_here(connection, now)]
        lease_until = now + timedelta(seconds=ATTEMPT_LEASE_S + _EXPIRY_SLACK_S)
        try:
            with connection.begin_nested():
                return claim(
                    connection, assignments, who=self._who, lease_until=lease_until, own_pids=own_pids, now=now
                )
        except (IntegrityError, LostRaceError):
            return []  # a place or job changed hands since it was read; the next tick sees it as it is

    def _places(self, connection: Connection, now: datetime) -> list[Place]:
        """Devices and conversion slots of the hosts in reach, with what runs there."""
        live = {
            row.place: row.kind
            for row in connection.execute(
                select(attempts.c.place, jobs.c.kind)
                .join(jobs, jobs.c.id == attempts.c.job_id)
                .where(attempts.c.state.in_(LIVE_ATTEMPT))
            )
        }
        rows = connection.execute(select(devices).where(devices.c.host_id.in_(self._hosts)))
        places = [
            Place(
                key=row.key,
                host_id=row.host_id,
                kind="device",
                device_id=row.id,
                needs_quiet=row.kind == "cpu",
                busy_with=live.get(row.key),
                open=_takes_work(row, now),
            )
            for row in rows
        ]
        for host in self._hosts.values():
            keys = [f"slot:{host.id}:{number}" for number in range(host.slots)]
            places += [Place(key=key, host_id=host.id, kind="slot", busy_with=live.get(key)) for key in keys]
        return places

    def _start(self, orders: list[tuple[int, Order]]) -> None:
        for host_id, order in orders:
            try:
                self._executor.start(self._hosts[host_id].name, to_dict(order))
            except HostLostError as error:
                with writing(self._engine) as connection:
                    lose_attempt(connection, order.attempt_id, who=self._who, why=str(error), now=self._clock())
                raise


def _takes_work(device: Row[Any], now: datetime) -> bool:
    cooling = device.not_before is not None and device.not_before > now
    return device.presence == "online" and device.admin == "enabled" and not cooling


def _host_description(data: dict[str, Any]) -> HostDescription:
    backends = {
        seam: tuple(BackendCapability(**item) for item in data[seam]) for seam in ("runtimes", "converters", "sensors")
    }
    return HostDescription(**{**data, **backends})
