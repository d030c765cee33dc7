"""The host agent: the only path to a host's devices. A plain object; Ray carries calls to it (`workers.ray_agent`).

Its calls are short. What an attempt does is in `workers.attempts`; a driver may run its attempts itself. What the
agent knows of its children is on disk (`workers.spool`), so its successor can clean up after it.
"""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from device_registry.capabilities import DeviceDescription
from workers.artifacts import ArtifactStore
from workers.attempts import Attempt, Bench, failed
from workers.clock import boot_clock
from workers.codec import ContractError, from_dict, to_dict
from workers.contract import Failure, Order
from workers.devices.device import InProcessDriver
from workers.errors import AttemptError, Cause, classify
from workers.host import describe_host, discover, load_drivers, load_sensors
from workers.host_monitor import HostMonitor
from workers.idle_readings import READINGS_PERIOD_S, IdleRounds
from workers.orders import identity, refused
from workers.outbox import Outbox
from workers.report import Report, as_sent
from workers.spool import Spool

#: Dispatcher and agent must be of one version: checked at hello.
AGENT_VERSION = "5"
#: Devices come and go: looked at so often.
_DISCOVERY_PERIOD_S = 2.0


@dataclass(frozen=True, slots=True)
class _Inside:
    """An attempt that a driver runs itself."""

    token: str
    place: str
    driver: InProcessDriver


class HostAgent:
    """One per host, by lock file. Everything that goes in or out of its methods is plain JSON data."""

    def __init__(
        self,
        home: Path,
        store_url: str,
        lease_s: float = 60.0,
        own_pids: tuple[int, ...] = (),
        *,
        name: str | None = None,
        labels: Mapping[str, str] | None = None,
        drivers: Sequence[str] | None = None,
    ) -> None:
        """Take the host: end what a predecessor left, then look at sensors and devices.

        Args:
            home: data directory on this host (spool, caches).
            store_url: where artifacts live.
            lease_s: without a poll for so long, the agent ends its work.
            own_pids: processes that carry the agent (a raylet): with their descendants they are no foreign load.
            name: what the host is called in its farm; None: as the system calls it.
            labels: what the lab says of it.
            drivers: names of the device drivers to use; None: every registered one.

        Raises:
            UsageError: a driver of that name is not registered, or what it was configured with cannot be read.
            AttemptError: another live agent holds the home.
        """
        self._name, self._labels = name, dict(labels or {})
        self._session = uuid.uuid4().hex
        self._store = ArtifactStore(store_url, home / "cache")
        self._lease_s = lease_s
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._outbox = Outbox()
        self._children: dict[int, Attempt] = {}
        self._inside: dict[int, _Inside] = {}
        #: The attempt at each place, whichever way it runs.
        self._at_place: dict[str, int] = {}
        self._last_poll = boot_clock()
        self._closed = threading.Event()
        #: A driver says that its devices changed.
        self._devices_stirred = threading.Event()
        self._failure: BaseException | None = None
        self._drivers = load_drivers(drivers, name)
        #: Devices that are there, and all that ever were: one that is gone may be recovered.
        self._devices = discover(self._drivers, None)
        self._known = dict(self._devices)
        self._spool = Spool(home / "spool")
        for left in self._spool.sweep():
            if left.report is None:
                self._outbox.add("lost", attempt_id=left.attempt_id, token=left.token)
            else:
                sent = as_sent(to_dict(left.report))
                self._outbox.add("finished", attempt_id=left.attempt_id, token=left.token, **sent)
        self._monitor = HostMonitor(load_sensors(home))
        self._bench = Bench(
            spool=self._spool,
            store=self._store,
            compiled=home / "compiled",
            monitor=self._monitor,
            drivers=self._drivers,
            device_at=lambda key: self._devices.get(key),
            own_pids=own_pids,
        )
        for driver in self._drivers.values():
            driver.watch(self._devices_stirred.set)
            if isinstance(driver, InProcessDriver):
                driver.open(self._tell_inside)
        self._threads = [
            threading.Thread(target=self._watch_lease, name="lease", daemon=True),
            threading.Thread(target=self._watch_devices, name="devices", daemon=True),
            threading.Thread(target=self._watch_readings, name="readings", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def hello(self) -> dict[str, Any]:
        """Who we are: version, this agent's own life, host, devices, and which attempts run here.

        Does not renew the lease: whoever says hello may not be the one that polls.
        """
        host = to_dict(describe_host(self._name, self._labels))
        store = self._store.marker()
        with self._lock:
            return {
                "version": AGENT_VERSION,
                "session": self._session,
                "host": host,
                "devices": [to_dict(device) for device in self._devices.values()],
                "running": self._running(),
                "pid": os.getpid(),
                "store": store,
            }

    def start(self, orders: Sequence[dict[str, Any]]) -> None:
        """Begin attempts; returns at once. Starting one that is known already changes nothing.

        Each ends in one event, an order that cannot be read as well. At each place runs one attempt at a time: an
        older one, which the dispatcher must have given up, is ended first.

        Raises:
            ContractError: an order does not even say which attempt it is.
        """
        children: list[Attempt] = []
        inside: dict[InProcessDriver, list[dict[str, Any]]] = {}
        superseded: list[int] = []
        with self._changed:
            for data in orders:
                attempt_id, token, place = identity(data)
                known = self._token_of(attempt_id)
                if known == token or self._outbox.tells_of(attempt_id, token) or self._closed.is_set():
                    continue
                if known is not None:
                    self._refuse(data, Cause.INFRASTRUCTURE, "stale_order", "another farm's attempt has this number")
                    continue
                older = self._at_place.get(place)
                if older is not None:
                    if older > attempt_id:
                        self._refuse(data, Cause.INFRASTRUCTURE, "stale_order", f"{place} has a newer attempt")
                        continue
                    superseded.append(older)
                device = self._devices.get(place)
                driver = self._drivers[device.driver] if device is not None else None
                self._at_place[place] = attempt_id
                if isinstance(driver, InProcessDriver):
                    self._inside[attempt_id] = _Inside(token, place, driver)
                    inside.setdefault(driver, []).append(data)
                    continue
                try:
                    order = from_dict(Order, data)
                except ContractError as error:
                    del self._at_place[place]
                    self._refuse(data, Cause.BUG, "bad_order", str(error))
                    continue
                after = self._children.get(older) if older is not None else None
                attempt = Attempt(order, self._bench, after=after, tell_started=self._tell_started)
                attempt.thread = threading.Thread(
                    target=self._run, args=(attempt,), name=f"attempt-{attempt_id}", daemon=True
                )
                self._children[attempt_id] = attempt
                children.append(attempt)
        if superseded:
            why = "the place was given to another attempt"
            self._end(superseded, Failure(cause=Cause.INFRASTRUCTURE, code="superseded", message=why))
        for attempt in children:
            assert attempt.thread is not None
            try:
                attempt.thread.start()
            except RuntimeError as error:  # the system has none left
                self._abandon(attempt, "no_thread", str(error))
        for driver, own in inside.items():
            driver.begin(own)

    def poll(self, since: int, wait_s: float) -> dict[str, Any]:
        """Events after `since`, waiting up to `wait_s` for one; renews the lease.

        Everything up to `since` counts as taken: its spool is freed. A lease that has run out is acted on before it
        is renewed: a host that was frozen ends its work even when a poll is the first thing that it sees.
        """
        self._end_if_unpolled()
        with self._changed:
            self._last_poll = boot_clock()
            taken = self._outbox.take(since)
        for event in taken:
            self._spool.forget(event["attempt_id"], event["token"])
        with self._changed:
            if not self._outbox and wait_s > 0:
                self._changed.wait(min(wait_s, 1.0))
            if (failure := self._failure or self._monitor.failure) is not None:
                raise RuntimeError("a loop of the agent died") from failure
            # Its clock, too: where it is far from the head's, times that it tells are moved.
            said = {"events": self._outbox.events(), "running": self._running(), "now": time.time()}
            progress = [[known, one.said] for known, one in self._children.items() if one.said is not None]
            return {"session": self._session, **said, "progress": progress}

    def cancel(self, attempt_ids: Sequence[int], why: str) -> None:
        """End attempts; their reports say cancelled."""
        self._end(attempt_ids, Failure(cause=Cause.USER, code="cancelled", message=why))

    def log(self, attempt_id: int, token: str) -> str:
        """What a running attempt has printed so far."""
        try:
            return (self._spool.folder(attempt_id, token) / "log.txt").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""

    def recover(self, device_key: str, rung: int) -> None:
        """Climb one rung of a device's recovery ladder; returns at once, and an event tells how it went."""
        threading.Thread(target=self._recover, args=(device_key, rung), name="recovery", daemon=True).start()

    def close(self) -> None:
        """End every attempt and give the host back; once."""
        if self._closed.is_set():
            return
        self._closed.set()
        with self._lock:
            running, children = self._running(), list(self._children.values())
        self._end(running, Failure(cause=Cause.INFRASTRUCTURE, code="agent_closed", message="the agent was closed"))
        for attempt in children:
            if attempt.thread is not None and attempt.thread.ident is not None:
                attempt.thread.join(timeout=10)
        for driver in self._drivers.values():
            driver.close()
        self._devices_stirred.set()
        for thread in self._threads:
            thread.join(timeout=5)
        self._monitor.close()
        self._spool.close()

    # Below: threads of the agent, and what they share.

    def _run(self, attempt: Attempt) -> None:
        self._over(attempt, attempt.run())

    def _abandon(self, attempt: Attempt, code: str, why: str) -> None:
        """Report an attempt whose thread cannot. Should the thread go on after all, it begins nothing any more."""
        failure = Failure(cause=Cause.INFRASTRUCTURE, code=code, message=why)
        attempt.end(failure)
        self._over(attempt, failed(attempt.order, failure))

    def _over(self, attempt: Attempt, report: Report) -> None:
        order = attempt.order
        sent = as_sent(to_dict(report))
        with self._changed:
            if self._children.get(order.attempt_id) is not attempt:
                return  # it was abandoned, and told of
            del self._children[order.attempt_id]
            self._leave(order.place, order.attempt_id)
            self._outbox.add("finished", attempt_id=order.attempt_id, token=order.token, **sent)
            self._changed.notify_all()

    def _tell_started(self, order: Order) -> None:
        with self._changed:
            self._outbox.add("started", attempt_id=order.attempt_id, token=order.token)
            self._changed.notify_all()

    def _tell_inside(self, *, started: Sequence[tuple[int, str]] = (), finished: Sequence[dict[str, Any]] = ()) -> None:
        """See `Teller`: one lock and one wake-up for many attempts."""
        sent = [(report["attempt_id"], report["token"], as_sent(report)) for report in finished]
        with self._changed:
            for attempt_id, token in started:
                self._outbox.add("started", attempt_id=attempt_id, token=token)
            for attempt_id, token, texts in sent:
                if (inside := self._inside.pop(attempt_id, None)) is not None:
                    self._leave(inside.place, attempt_id)
                    self._outbox.add("finished", attempt_id=attempt_id, token=token, **texts, spooled=False)
            if finished:  # nothing waits for a begin: it is told with what comes next
                self._changed.notify_all()

    def _watch_lease(self) -> None:
        while not self._closed.wait(1.0):
            self._end_if_unpolled()
            with self._lock:
                stuck = [attempt for attempt in self._children.values() if attempt.is_stuck()]
            for attempt in stuck:
                self._abandon(attempt, "stuck", "past every limit of its own: a store or a device does not answer")

    def _end_if_unpolled(self) -> None:
        """End everything when nobody has polled for a lease: the dispatcher may have given our work to others."""
        with self._lock:
            if boot_clock() - self._last_poll <= self._lease_s:
                return
            running = self._running()
        why = "nobody polled the agent for a lease"
        self._end(running, Failure(cause=Cause.INFRASTRUCTURE, code="lease_lost", message=why))

    def _watch_devices(self) -> None:
        """Tell when a device came or went; end what ran on one that went."""
        try:
            while not self._closed.is_set():
                self._devices_stirred.wait(_DISCOVERY_PERIOD_S)
                self._devices_stirred.clear()
                if not self._closed.is_set():
                    self._look_at_devices()
        except BaseException as error:  # the next poll says so: no side loop dies in silence
            self._failure = error
            raise

    def _watch_readings(self) -> None:
        """Tell of devices that run nothing, now and then."""
        rounds = IdleRounds(self._drivers, self._monitor)
        try:
            while not self._closed.wait(READINGS_PERIOD_S):
                with self._lock:
                    devices, busy = self._devices, set(self._at_place)
                if told := rounds.take(devices, busy):
                    with self._changed:
                        self._outbox.add("readings", devices=told)
                        self._changed.notify_all()
        except BaseException as error:  # the next poll says so: no side loop dies in silence
            self._failure = error
            raise

    def _look_at_devices(self) -> None:
        found = self._discover()
        with self._changed:
            if found == self._devices:
                return
            self._known.update(found)
            gone = [attempt for key in self._devices.keys() - found if (attempt := self._at_place.get(key)) is not None]
            self._devices = found
            self._outbox.add("devices", devices=[to_dict(device) for device in found.values()])
            self._changed.notify_all()
        why = "the device was gone from its host"
        self._end(gone, Failure(cause=Cause.INFRASTRUCTURE, code="device_gone", message=why))

    def _discover(self) -> dict[str, DeviceDescription]:
        return discover(self._drivers, self._devices)

    def _recover(self, device_key: str, rung: int) -> None:
        why = None
        try:
            device = self._known.get(device_key)
            if device is None:
                raise AttemptError(Cause.INFRASTRUCTURE, "no_such_device", f"this host has no device {device_key}")
            driver = self._drivers[device.driver]
            # Whoever asks does not know how high the ladder is: from its top there is only the top again.
            rung = min(rung, max(0, len(driver.recovery) - 1))
            driver.recover(device, rung)
        except Exception as error:  # the border of the thread, and of a lab's own code
            why = classify(error, "recovering the device").message
        with self._changed:
            self._outbox.add("recovered", device=device_key, rung=rung, ok=why is None, why=why)
            self._changed.notify_all()

    def _end(self, attempt_ids: Sequence[int], failure: Failure) -> None:
        """End those of the attempts that run; called without the lock, for drivers tell at once."""
        inside: dict[InProcessDriver, list[int]] = {}
        with self._lock:
            for attempt_id in attempt_ids:
                if (attempt := self._children.get(attempt_id)) is not None:
                    attempt.end(failure)
                elif (own := self._inside.get(attempt_id)) is not None:
                    inside.setdefault(own.driver, []).append(attempt_id)
        for driver, ids in inside.items():
            driver.end(ids, failure)

    def _token_of(self, attempt_id: int) -> str | None:
        """Of an attempt that runs."""
        if (attempt := self._children.get(attempt_id)) is not None:
            return attempt.order.token
        return own.token if (own := self._inside.get(attempt_id)) is not None else None

    def _running(self) -> list[int]:
        return sorted([*self._children, *self._inside])

    def _leave(self, place: str, attempt_id: int) -> None:
        if self._at_place.get(place) == attempt_id:
            del self._at_place[place]

    def _refuse(self, data: dict[str, Any], cause: Cause, code: str, why: str) -> None:
        """Tell of an order that was not begun; nothing of it is on disk."""
        attempt_id, token, _ = identity(data)
        sent = refused(data, Failure(cause=cause, code=code, message=why))
        self._outbox.add("finished", attempt_id=attempt_id, token=token, **sent, spooled=False)
        self._changed.notify_all()
