"""Where in the queue a job is, and when it may begin.

An estimate: it takes jobs to go by priority and age, and to take as long as such jobs took before. Fair share, quiet
and what comes meanwhile move it either way.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, func, select

from device_registry.registry import list_devices, list_hosts
from device_registry.rests import LONGEST_PAUSE_S, LONGEST_REST_S, left_s
from scheduler.fleet import Fleet, Place, Requirement
from scheduler.offers import device_offers, slot_count, slot_offers
from scheduler.requirements import load_some
from scheduler.roster import place_of
from scheduler.states import IS_LIVE, IS_QUEUED, attempts, jobs, portions


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What a queued job may expect."""

    #: Of the queued jobs that want the same places; 1 is next.
    position: int
    #: Seconds from now, about; None where no place takes it as things stand.
    starts_in_s: float | None
    #: Why no place takes it.
    why: str | None = None


@dataclass(frozen=True, slots=True)
class Ahead:
    """Queued jobs that go before a job."""

    count: int
    #: How long they take together on the places that the job may have: of those that may go elsewhere, a share.
    work_s: float


def estimate(ahead: Iterable[Ahead], free_in_s: Sequence[float], why: str | None = None) -> Forecast:
    """When a job may begin: once the work ahead of it, spread over its places, leaves one of them.

    Args:
        ahead: what goes before it.
        free_in_s: for each place that takes it, in how many seconds it is free; 0 where it is now.
        why: the reason where there is no place.
    """
    groups = list(ahead)
    position = 1 + sum(group.count for group in groups)
    if not free_in_s:
        return Forecast(position=position, starts_in_s=None, why=why)
    left_s = sum(group.work_s for group in groups)
    level_s, used = 0.0, 0
    for used, free_s in enumerate(sorted(free_in_s)):  # fill the places like water, the lowest first
        if used and left_s < (free_s - level_s) * used:
            break
        left_s -= (free_s - level_s) * used
        level_s = free_s
    else:
        used += 1
    return Forecast(position=position, starts_in_s=level_s + left_s / used)


def forecast(connection: Connection, job_ids: Collection[int], now: datetime) -> dict[int, Forecast]:
    """Forecasts of those of some jobs that are queued; sums up the queue once, in an index.

    Args:
        connection: to read from.
        job_ids: any jobs; whoever is not queued is left out.
        now: the time.
    """
    asked: list[Row[Any]] = []
    for portion in portions(sorted(job_ids)):
        asked += connection.execute(select(*_ASKED).where(IS_QUEUED, jobs.c.id.in_(portion)))
    return _Queue(connection, {job.requirement_id for job in asked}, now).forecasts(asked) if asked else {}


_ASKED = tuple(
    jobs.c[name] for name in ("id", "requirement_id", "rank", "sweep_run_id", "position", "not_before", "canary")
)
_GROUPS = (
    select(
        jobs.c.requirement_id,
        jobs.c.rank,
        jobs.c.sweep_run_id,
        func.count().label("jobs"),
        func.sum(jobs.c.expected_s).label("work_s"),
        func.min(jobs.c.position).label("first"),
        func.max(jobs.c.position).label("last"),
    )
    .where(IS_QUEUED)
    .group_by(jobs.c.requirement_id, jobs.c.owner, jobs.c.rank, jobs.c.sweep_run_id)
)


class _Queue:
    """The farm and its queue at a moment."""

    def __init__(self, connection: Connection, asked: set[int], now: datetime) -> None:
        self._now = now
        self._hosts = {host.id: host for host in list_hosts(connection)}
        self._devices = {device.key: device for device in list_devices(connection)}
        self._fleet = Fleet([*self._device_places(), *self._slots()])
        self._free_in_s = self._cooling() | self._remaining(connection)
        groups = connection.execute(_GROUPS).all()
        requirements = load_some(connection, {group.requirement_id for group in groups} | asked)
        self._requirements = {one.id: one for one in requirements}
        self._groups: defaultdict[int, list[Row[Any]]] = defaultdict(list)
        for group in groups:
            self._groups[group.requirement_id].append(group)

    def forecasts(self, asked: Iterable[Row[Any]]) -> dict[int, Forecast]:
        """By job."""
        wanted: defaultdict[tuple[int, bool], list[Row[Any]]] = defaultdict(list)
        for job in asked:
            wanted[job.requirement_id, job.canary].append(job)
        found: dict[int, Forecast] = {}
        for (requirement_id, canary), members in wanted.items():
            requirement = self._requirements[requirement_id]
            fitting = self._fleet.fitting(requirement)
            taking = [key for key in sorted(fitting) if self._closed(key, canary=canary) is None]
            why = None if taking else self._why(requirement, sorted(fitting), canary=canary)
            rivals = self._rivals(requirement_id, fitting)
            free_in_s = [self._free_in_s.get(key, 0.0) for key in taking]
            for job in members:
                found[job.id] = self._not_before(job, estimate(self._ahead(job, rivals), free_in_s, why))
        return found

    def _device_places(self) -> Iterable[Place]:
        offers: dict[tuple[int, str], frozenset[str]] = {}
        for device in self._devices.values():
            known = (device.host_id, device.kind)
            if known not in offers:
                offers[known] = device_offers(device.host_description, device.kind)
            yield place_of(device, offers[known])

    def _slots(self) -> Iterable[Place]:
        for host in self._hosts.values():
            offers = slot_offers(host.description)
            for number in range(slot_count(host.description["cpu_count"], host.description.get("memory_bytes", 0))):
                yield Place(key=f"slot:{host.id}:{number}", host_id=host.id, kind="slot", offers=offers)

    def _cooling(self) -> dict[str, float]:
        """Seconds until places that cool are open again."""
        until = {key: device.not_before for key, device in self._devices.items()}
        return {key: rest_s for key, moment in until.items() if (rest_s := left_s(moment, LONGEST_REST_S, self._now))}

    def _remaining(self, connection: Connection) -> dict[str, float]:
        """Seconds until busy places are free; what takes longer than expected may end at any moment."""
        rows = connection.execute(
            select(attempts.c.place, attempts.c.started_at, jobs.c.expected_s).join(jobs).where(IS_LIVE)
        )
        return {row.place: max(0.0, row.expected_s - self._since_s(row.started_at)) for row in rows}

    def _since_s(self, moment: datetime) -> float:
        return (self._now - moment).total_seconds()

    def _rivals(self, requirement_id: int, fitting: frozenset[str]) -> dict[int, float]:
        """Requirements that want the same places, with the share of their work that falls on these."""
        found = {requirement_id: 1.0}
        for other_id in self._groups:
            keys = self._fleet.fitting(self._requirements[other_id])
            if other_id != requirement_id and (shared := len(keys & fitting)):
                found[other_id] = shared / len(keys)
        return found

    def _ahead(self, job: Row[Any], rivals: Mapping[int, float]) -> Iterable[Ahead]:
        for requirement_id, share in rivals.items():
            for group in self._groups[requirement_id]:
                before = _part_before(job, group)
                yield Ahead(round(before * group.jobs), before * group.work_s * share)

    def _not_before(self, job: Row[Any], found: Forecast) -> Forecast:
        """A job that failed for its place's sake pauses."""
        if found.starts_in_s is None:
            return found
        return replace(found, starts_in_s=max(found.starts_in_s, left_s(job.not_before, LONGEST_PAUSE_S, self._now)))

    def _closed(self, key: str, *, canary: bool) -> str | None:
        """Why a place takes no work, or no canary; None where it does, now or once it has cooled."""
        place = self._fleet.places[key]
        host, device = self._hosts[place.host_id], self._devices.get(key)
        if host.presence != "online":
            return f"on {host.name}, which is {host.presence}"
        if device is None or (device.presence == "online" and device.admin == ("quarantined" if canary else "enabled")):
            return None
        return device.admin if device.presence == "online" else device.presence

    def _why(self, requirement: Requirement, fitting: Sequence[str], *, canary: bool) -> str:
        """Why no place takes the jobs of a requirement."""
        if not fitting:
            return self._misfit(requirement)
        reasons = Counter(self._closed(key, canary=canary) for key in fitting)
        if len(fitting) == 1:
            device = self._devices.get(fitting[0])
            return f"{fitting[0] if device is None else device.name} is {next(iter(reasons))}"
        counts = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common(3))
        return f"none of the {len(fitting)} that fit takes work: {counts}"

    def _misfit(self, requirement: Requirement) -> str:
        """What keeps every place from fitting: the first of what is asked for that leaves none."""
        what = "device" if requirement.kind == "device" else "host"
        if requirement.needs and self._fleet.find(replace(requirement, needs=frozenset())):
            return f"no {what} that fits offers {', '.join(sorted(requirement.needs))}"
        if requirement.selector.terms:
            return f"no device matches {requirement.selector}"
        return f"the {what} that it is for is not there"


def _part_before(job: Row[Any], group: Row[Any]) -> float:
    """The part of a group of jobs, 0 to 1, that goes before a job; positions within a run are evenly spread."""
    if (group.rank, group.sweep_run_id) != (job.rank, job.sweep_run_id):
        return 1.0 if (group.rank, group.sweep_run_id) < (job.rank, job.sweep_run_id) else 0.0
    part: float = (job.position - group.first) / (group.last - group.first + 1)
    return min(1.0, max(0.0, part))
