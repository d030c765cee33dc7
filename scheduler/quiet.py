"""Quiet: what must not run on a host beside what is measured there."""

from __future__ import annotations

from collections.abc import Container

from scheduler.fleet import Fleet, Place, Quiet


class Hosts:
    """What runs on each host, and what may therefore begin there: ever less while places are given away."""

    def __init__(self, fleet: Fleet, busy: Container[str]) -> None:
        """Begin with what runs: the keys of places."""
        self._fleet, self._busy = fleet, busy
        self._running: dict[int, list[Place]] = {}
        #: Hosts where nothing, or no accelerator and no conversion, begins for now: a job waits for that.
        self._reserved: dict[int, Quiet] = {}

    def running(self, host_id: int) -> list[Place]:
        """Places of a host where something runs; looked up when first asked: a tick is about few hosts."""
        if host_id not in self._running:
            places = self._fleet.places
            self._running[host_id] = [places[key] for key in self._fleet.by_host[host_id] if key in self._busy]
        return self._running[host_id]

    def admit(self, place: Place) -> bool:
        """Whether something may begin at a place."""
        if place.host_id not in self._fleet.delicate_hosts:
            return True
        reserved = self._reserved.get(place.host_id)
        if reserved == "host" or (reserved == "accelerator" and _stirs(place)):
            return False
        return not any(_disturb(place, other) for other in self.running(place.host_id))

    def occupy(self, place: Place) -> None:
        """Something begins at a place."""
        if place.host_id in self._fleet.delicate_hosts:
            self.running(place.host_id).append(place)

    def reserve(self, place: Place) -> bool:
        """Let the host of a place fall quiet enough for it; False where it was to do so already."""
        if place.host_id in self._reserved:
            return False
        self._reserved[place.host_id] = place.quiet
        return True


def _stirs(place: Place) -> bool:
    """Whether what runs at a place disturbs an accelerator."""
    return place.kind == "slot" or place.quiet != "none"


def _disturb(one: Place, other: Place) -> bool:
    """Whether two places of a host must not be at work at the same time."""
    if "host" in (one.quiet, other.quiet):
        return True
    return "accelerator" in (one.quiet, other.quiet) and _stirs(one) and _stirs(other)
