"""Where attempts can run and what jobs ask of that: places, requirements, and which fit which."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from device_registry.capabilities import Attribute
from device_registry.selectors import Selector, Term

#: What must not run on the host of a place while something runs there. host: anything else. accelerator: other
#: accelerators, CPUs, conversions. none: as it likes (a phone on a hub).
Quiet = Literal["host", "accelerator", "none"]

_Group = TypeVar("_Group", bound=Hashable)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where an attempt can run: a device, or a slot of a host for conversions."""

    key: str
    host_id: int
    kind: Literal["device", "slot"]
    device_id: int | None = None
    quiet: Quiet = "none"
    #: What selectors compare.
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    #: What its host can do: runtime:litert, converter:onnx-export, source:torchvision.
    offers: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """What a place must be for a job."""

    id: int
    kind: Literal["device", "slot"]
    selector: Selector = field(default_factory=Selector)
    device_id: int | None = None
    host_id: int | None = None
    needs: frozenset[str] = frozenset()

    @property
    def moves(self) -> bool:
        """Whether its jobs may run on one device or another."""
        return self.kind == "device" and self.device_id is None


@dataclass(frozen=True, slots=True, eq=False)
class Pool:
    """The places that a requirement fits. Requirements that fit the same places share one, so compare by identity."""

    keys: frozenset[str]


class Fleet:
    """The places of a farm and which of them each requirement fits. Immutable; kept until the farm changes."""

    def __init__(self, places: Iterable[Place]) -> None:
        """Index places by what requirements ask of them."""
        self.places = {place.key: place for place in sorted(places, key=lambda place: place.key)}
        #: Hosts where what begins at one place may disturb another.
        self.delicate_hosts = frozenset(place.host_id for place in self.places.values() if place.quiet != "none")
        self.by_host = _grouped((place.host_id, key) for key, place in self.places.items())
        self._by_kind = _grouped((place.kind, key) for key, place in self.places.items())
        self._by_device = _grouped((place.device_id, key) for key, place in self.places.items())
        self._by_offer = _grouped((offer, key) for key, place in self.places.items() for offer in place.offers)
        self._by_value: dict[str, list[tuple[Attribute, frozenset[str]]]] = {}
        self._pools: dict[int, Pool] = {}
        self._shared: dict[frozenset[str], Pool] = {}

    def fitting(self, requirement: Requirement) -> frozenset[str]:
        """Keys of the places that a requirement fits, free or not."""
        return self.pool(requirement).keys

    def pool(self, requirement: Requirement) -> Pool:
        """The places that a requirement fits, free or not; worked out once for each requirement id."""
        pool = self._pools.get(requirement.id)
        if pool is None:
            found = self.find(requirement)
            pool = self._pools[requirement.id] = self._shared.setdefault(found, Pool(found))
        return pool

    def find(self, requirement: Requirement) -> frozenset[str]:
        """Keys of the places that a requirement fits; looked up each time, whatever its id."""
        nowhere: frozenset[str] = frozenset()
        found = self._by_kind.get(requirement.kind, nowhere)
        if requirement.device_id is not None:
            found = self._by_device.get(requirement.device_id, nowhere) & found
        if requirement.host_id is not None:
            found &= self.by_host.get(requirement.host_id, nowhere)
        for need in requirement.needs:
            found &= self._by_offer.get(need, nowhere)
        for term in requirement.selector.terms:
            found &= self._matching(term)
        return found

    def _matching(self, term: Term) -> frozenset[str]:
        """Places whose attribute satisfies a comparison: each value that occurs is compared once, not each place."""
        if term.name not in self._by_value:
            values: dict[tuple[type, Attribute], list[str]] = {}
            for key, place in self.places.items():
                value = place.attributes.get(term.name)
                values.setdefault((type(value), value), []).append(key)
            self._by_value[term.name] = [(value, frozenset(keys)) for (_, value), keys in values.items()]
        groups = self._by_value[term.name]
        return frozenset().union(*(keys for value, keys in groups if term.matches({term.name: value})))


def _grouped(pairs: Iterable[tuple[_Group, str]]) -> dict[_Group, frozenset[str]]:
    groups: dict[_Group, list[str]] = {}
    for group, key in pairs:
        groups.setdefault(group, []).append(key)
    return {group: frozenset(keys) for group, keys in groups.items()}
