"""The hosts that a dispatcher reaches, and the places that they have: which take work, which take canaries only."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select

from device_registry.registry import RegisteredDevice, devices, list_devices, list_hosts
from device_registry.rests import LONGEST_REST_S, is_over
from scheduler.fleet import Fleet, Place, Quiet
from scheduler.offers import device_offers, own_offers, slot_offers
from workers.readings import is_time

#: Clocks that differ by less are one: an answer takes its time.
CLOCKS_AGREE_S = 5.0
#: Answers that are looked at for a host's clock.
_ANSWERS = 8
#: What must not run beside a measurement on a device of a kind; of all others: anything may.
_QUIET: dict[str, Quiet] = {"cpu": "host", "mac": "host", "gpu": "accelerator"}


@dataclass(slots=True, kw_only=True)
class ReachedHost:
    """A host whose agent is polled."""

    id: int
    #: What the executor calls it, and what people do.
    reached_as: str
    name: str
    key: str
    memory_bytes: int
    slots: int
    #: Last event taken from its agent.
    cursor: int = 0
    #: Its first poll was taken, so that what runs there is known: it may be given work.
    known: bool = False
    #: When it last answered; monotonic seconds.
    answered_at: float = 0.0
    #: What its agent last said to run.
    running: list[int] = field(default_factory=list)
    #: How far its clock was ahead of ours in each of its last answers, or less: by what an answer lay about here.
    heard: deque[float] = field(default_factory=lambda: deque(maxlen=_ANSWERS))

    def hear(self, now_s: float, ours_s: float) -> None:
        """Its clock said so when ours said that; what is no time tells nothing."""
        if is_time(now_s):
            self.heard.append(now_s - ours_s)

    @property
    def ahead_s(self) -> float:
        """How far its clock is ahead of ours; 0 where they agree well enough."""
        ahead_s = max(self.heard, default=0.0)
        return ahead_s if abs(ahead_s) > CLOCKS_AGREE_S else 0.0


class Roster:
    """Hosts in reach and their places; rows of the registry, read again when they change."""

    def __init__(self) -> None:
        """No host is in reach."""
        self.hosts: dict[int, ReachedHost] = {}
        self.fleet = Fleet(())
        #: Seconds of work done by each place.
        self.used_s: dict[str, float] = {}
        #: Host and tags of each device; None: unknown.
        self._states: dict[str, tuple[Any, ...]] | None = None
        self._open: frozenset[str] = frozenset()
        self._probing: frozenset[str] = frozenset()
        self._cooling: dict[str, datetime] = {}

    def host_at(self, reached_as: str) -> ReachedHost | None:
        """The host that the executor calls so."""
        return next((host for host in self.hosts.values() if host.reached_as == reached_as), None)

    @property
    def memory_bytes(self) -> dict[int, int]:
        """Of each host."""
        return {host.id: host.memory_bytes for host in self.hosts.values()}

    def open_places(self, now: datetime) -> frozenset[str]:
        """Keys of places that take work, busy or not: those of hosts that are known, online, enabled, cool."""
        if cool := [key for key, until in self._cooling.items() if is_over(until, LONGEST_REST_S, now)]:
            for key in cool:
                del self._cooling[key]
            self._open |= frozenset(cool)
        return self._open

    def probing_places(self) -> frozenset[str]:
        """Keys of quarantined devices that are there: canaries go to them."""
        return self._probing

    def refresh(self, connection: Connection, now: datetime) -> bool:
        """Look what state devices are in; read everything anew where more than a state has changed.

        Returns whether there is another fleet.
        """
        named = ("key", "host_id", "kind", "presence", "admin", "not_before", "tags")
        rows = connection.execute(select(*(devices.c[name] for name in named)))
        states = {row.key: row for row in rows.all() if row.host_id in self.hosts}
        shape = {key: (row.host_id, tuple(row.tags)) for key, row in states.items()}
        rebuilt = shape != self._states
        if rebuilt:
            self._states = shape
            self._rebuild(connection)
        usable = {key: row for key, row in states.items() if row.presence == "online" and self.hosts[row.host_id].known}
        enabled = {key: row for key, row in usable.items() if row.admin == "enabled"}
        self._cooling = {
            key: row.not_before for key, row in enabled.items() if not is_over(row.not_before, LONGEST_REST_S, now)
        }
        slots = [
            key for key, place in self.fleet.places.items() if place.kind == "slot" and self.hosts[place.host_id].known
        ]
        self._open = frozenset([*(key for key in enabled if key not in self._cooling), *slots])
        self._probing = frozenset(key for key, row in usable.items() if row.admin == "quarantined")
        return rebuilt

    @property
    def is_known(self) -> bool:
        """Whether nothing came or went since the last `refresh`."""
        return self._states is not None

    def forget_shape(self) -> None:
        """Hosts came or went, or devices changed: the next `refresh` reads everything anew."""
        self._states = None

    def _rebuild(self, connection: Connection) -> None:
        registered = [host for host in list_hosts(connection) if host.id in self.hosts]
        descriptions = {host.id: host.description for host in registered}
        here = [device for device in list_devices(connection) if device.host_id in self.hosts]
        offers = {
            (host_id, kind): device_offers(descriptions[host_id], kind)
            for host_id, kind in {(device.host_id, device.kind) for device in here}
        }
        places = [place_of(device, offers[device.host_id, device.kind]) for device in here]
        for host in self.hosts.values():
            places += _slots(host, descriptions[host.id])
        self.fleet = Fleet(places)
        self.used_s = {device.key: device.used_s for device in here}


def place_of(device: RegisteredDevice, offers: frozenset[str]) -> Place:
    """A device as placement sees it; offers are those of its host to its kind."""
    return Place(
        key=device.key,
        host_id=device.host_id,
        kind="device",
        device_id=device.id,
        # What is simulated disturbs nothing, and is disturbed by nothing.
        quiet="none" if device.simulated else _QUIET.get(device.kind, "none"),
        attributes=device.selectable,
        offers=own_offers(offers, device.attributes),
    )


def _slots(host: ReachedHost, description: Mapping[str, Any]) -> Iterable[Place]:
    offers = slot_offers(description)
    for number in range(host.slots):
        yield Place(key=f"slot:{host.id}:{number}", host_id=host.id, kind="slot", offers=offers)
