"""Placement is a pure function: no I/O, no clock, no randomness, the same for any order of its inputs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

#: What a job wants; all but conversions have a device to themselves.
JobKind = Literal["convert", "measure", "profile"]


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where an attempt can run: a device, or a slot of a host for conversions."""

    key: str
    host_id: int
    kind: Literal["device", "slot"]
    device_id: int | None = None
    #: Measuring it needs its host quiet: nothing else may run there (a CPU; a phone on a hub does not).
    needs_quiet: bool = False
    #: What runs there now, if anything.
    busy_with: JobKind | None = None
    #: Takes new work: online, enabled, cool.
    open: bool = True


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A queued job, as placement sees it."""

    job_id: int
    kind: JobKind
    priority: int
    position: int
    device_id: int | None = None
    host_id: int | None = None


@dataclass(frozen=True)
class Assignment:
    """One job at one place."""

    job_id: int
    place: Place


def match(jobs: Iterable[Wanted], places: Iterable[Place]) -> list[Assignment]:
    """Assign jobs to free places: by priority, then position; one attempt per place; quiet kept.

    Quiet: while a place that needs it is measured, its host does nothing else. So a job that comes first and waits for
    a host to fall quiet also keeps later jobs off that host; without that, conversions could starve a measurement.
    """
    by_key = {place.key: place for place in places}
    running: dict[int, set[str]] = {}
    quiet: set[int] = set()
    for place in by_key.values():
        if place.busy_with is not None:
            running.setdefault(place.host_id, set()).add(place.key)
            if place.kind == "device" and place.needs_quiet:
                quiet.add(place.host_id)
    free = {key for key, place in by_key.items() if place.busy_with is None and place.open}
    reserved: set[int] = set()
    assigned = []
    for job in sorted(jobs, key=lambda job: (-job.priority, job.position, job.job_id)):
        for key in sorted(free):
            place = by_key[key]
            if not _fits(job, place) or place.host_id in quiet or place.host_id in reserved:
                continue
            if place.needs_quiet and running.get(place.host_id):
                reserved.add(place.host_id)
                continue
            assigned.append(Assignment(job.job_id, place))
            free.discard(key)
            running.setdefault(place.host_id, set()).add(key)
            if place.needs_quiet:
                quiet.add(place.host_id)
            break
    return assigned


def _fits(job: Wanted, place: Place) -> bool:
    if job.kind == "convert":
        return place.kind == "slot" and job.host_id in (None, place.host_id)
    return place.kind == "device" and job.device_id == place.device_id
