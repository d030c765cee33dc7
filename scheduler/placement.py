"""Placement is a pure function: no I/O, no clock, no randomness, the same for any order of its inputs."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from math import fsum, inf
from typing import Literal, NamedTuple

from scheduler.fleet import Fleet, Place, Pool, Quiet, Requirement
from scheduler.quiet import Hosts

__all__ = [
    "PRIORITY_STEP_S",
    "Assignment",
    "Fleet",
    "History",
    "JobKind",
    "Lane",
    "Place",
    "Quiet",
    "Requirement",
    "Wanted",
    "match",
    "rank_of",
]

#: What a job wants; all but conversions have a device to themselves.
JobKind = Literal["convert", "measure", "profile", "evaluate"]
#: A step of priority is worth so long a wait; long beside a job, or it would mean nothing in a long queue.
PRIORITY_STEP_S = 600.0
#: A lane that was served has its share until each owner had a turn, and waits from then on; at most from so long after,
#: or in a farm where ever more owners come it would never wait.
_LONGEST_ROUND_S = 3600.0
#: A job counts against its owner's share for at least so long: one of which nothing is known is not free.
_LEAST_USE_S = 1.0

#: A lane of the queue: a requirement and an owner.
Lane = tuple[int, str]


def rank_of(created_at: float, priority: int) -> float:
    """Order of jobs within a lane, the smaller first: by age, a step of priority counting as a wait of ten minutes.

    All jobs age alike, so it never changes and an index can hold it.

    Args:
        created_at: epoch seconds.
        priority: the higher, the sooner.
    """
    return created_at - priority * PRIORITY_STEP_S


class Wanted(NamedTuple):
    """A queued job, as placement sees it. A tuple: a frozen dataclass takes twice as long to make."""

    job_id: int
    kind: JobKind
    requirement_id: int
    owner: str
    run_id: int
    #: Order within the run.
    position: int
    priority: int = 0
    #: Epoch seconds.
    created_at: float = 0.0
    expected_s: float = 0.0
    #: Key of the artifact it needs: a place that has it is preferred.
    needs_key: str | None = None
    #: Keys of places that it should not go to while there is another.
    avoid: frozenset[str] = frozenset()
    #: Probes a quarantined device: goes there and nowhere else.
    canary: bool = False

    @property
    def rank(self) -> float:
        """`rank_of` it."""
        return self.created_at - self.priority * PRIORITY_STEP_S


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What happened so far, as far as it bears on placement."""

    #: Device-seconds of each owner, old ones decayed: who used less goes first.
    usage_s: Mapping[str, float] = field(default_factory=dict)
    #: When a lane was last given a place, epoch seconds: a lane ages by waiting for its turn.
    served_at: Mapping[Lane, float] = field(default_factory=dict)
    #: Expected seconds queued per requirement; where absent, those of the jobs given. Matters for those that move.
    backlog_s: Mapping[int, float] = field(default_factory=dict)
    #: Places that have an artifact, by its key.
    holders: Mapping[str, frozenset[str]] = field(default_factory=dict)
    #: Seconds of work done by a place: wear is spread over twins.
    used_s: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Assignment:
    """One job at one place."""

    job_id: int
    place: Place


def match(
    jobs: Iterable[Wanted],
    fleet: Fleet,
    requirements: Mapping[int, Requirement],
    busy: Mapping[str, JobKind],
    open_places: frozenset[str],
    history: History,
    now: float,
    *,
    probing: frozenset[str] = frozenset(),
) -> list[Assignment]:
    """Assign jobs to free places; one attempt per place, quiet kept.

    Lanes take turns. The next turn is that of the lane with the highest level: the priority of its first job, one more
    for each `PRIORITY_STEP_S` that it has waited since it was last served, beyond what its turn is in a fair round, so
    nothing eligible starves. (An owner's lanes to the same places share their ageing: more of them do not make a larger
    share.) Among equals the owner who
    used less goes first, then the older job; within one run conversions, then jobs that fit one place only, then the
    lane that is most urgent: by the work queued per place that it fits, and the length of its longest job. A job
    goes to a place that has its artifact, else to the one that others want least, else to the least used.

    Quiet: while a place that needs it is at work, its host does nothing that would disturb it. So a job that comes
    first and waits for a host to fall quiet also keeps later jobs off that host; without that, conversions could
    starve a measurement.

    Args:
        jobs: queued jobs; of each lane at least the first ones.
        fleet: all places of the hosts in reach.
        requirements: by id, at least those of the jobs.
        busy: what runs where, by place key.
        open_places: keys of places that take work: online, enabled, cool. Busy ones may be left out: a call costs by
            the jobs and the places given here, not by the fleet.
        history: see there.
        now: epoch seconds.
        probing: keys of quarantined places, which take canaries only.
    """
    free = {False: open_places.difference(busy), True: probing.difference(busy)}
    turns = _Turns(jobs, fleet, requirements, history, now, free)
    choices = _Choices(turns, fleet, history, Hosts(fleet, busy))
    assigned: list[Assignment] = []
    most = len(free[False] | free[True])
    for lane in turns:
        place = choices.take(lane)
        if place is None:
            choices.reserve(lane)
            turns.drop(lane)
            continue
        assigned.append(Assignment(lane.jobs[-1].job_id, place))
        if len(assigned) == most:
            break
        turns.served(lane)
    return assigned


@dataclass(slots=True, eq=False)
class _Lane:
    """Jobs of one requirement and owner that have a free place to go to."""

    pool: Pool
    owner: str
    canary: bool
    #: Whether its jobs may run on one device or another.
    moves: bool
    #: The first one at the end, where it is cheap to take.
    jobs: list[Wanted]
    #: Epoch seconds.
    served_at: float
    #: Where it can go to one free place only: its key.
    only: str | None
    #: How many lanes of its owner go to the same places.
    siblings: int = 1
    #: Whether its turn may get later while places are given away; it is looked at again only then.
    may_fall_back: bool = False


#: When a lane has its turn: level, rank, run, conversions, urgency, position, job; the smaller first.
_Turn = tuple[float, float, int, bool, float, int, int]


class _Turns:
    """Iterates over the lanes in the order in which their first jobs may choose a place.

    Each owner has a heap of lanes, and over the first lanes of all owners there is another: so serving an owner, which
    puts back all lanes of theirs, is one step. Turns only get later while places are given away, so both are put
    right when they come to the top.
    """

    def __init__(
        self,
        jobs: Iterable[Wanted],
        fleet: Fleet,
        requirements: Mapping[int, Requirement],
        history: History,
        now: float,
        free: Mapping[bool, frozenset[str]],
    ) -> None:
        self._now = now
        self._use_s = dict(history.usage_s)
        #: Free places of each pool; of canaries, those that are probed.
        self.free: dict[tuple[Pool, bool], frozenset[str]] = {}
        #: Keys of the places that are free no more.
        self.taken: set[str] = set()
        #: Work queued for each pool.
        self._queued_s: dict[Pool, float] = {}
        lanes = self._lanes(jobs, fleet, requirements, history, free)
        self._sharers = len({lane.owner for lane in lanes})
        waiting: dict[str, list[tuple[_Turn, _Lane]]] = {}
        for lane in lanes:
            waiting.setdefault(lane.owner, []).append((self._turn(lane), lane))
        for heap in waiting.values():
            heapq.heapify(heap)
        self._owners = [(self._turn_of_owner(heap), heap) for heap in waiting.values()]
        heapq.heapify(self._owners)

    def __iter__(self) -> Iterator[_Lane]:
        """The lane whose turn it is, until none is left; whoever takes it says `served` or `drop`."""
        while self._owners:
            owner_turn, heap = self._owners[0]
            if not heap:
                heapq.heappop(self._owners)
            elif not (lane := heap[0][1]).jobs or lane.only in self.taken:
                heapq.heappop(heap)
            elif lane.may_fall_back and (turn := self._turn(lane)) > heap[0][0]:
                heapq.heapreplace(heap, (turn, lane))
            elif (turn_now := self._turn_of_owner(heap)) > owner_turn:
                heapq.heapreplace(self._owners, (turn_now, heap))
            else:
                yield lane

    def served(self, lane: _Lane) -> None:
        """The first job of a lane got a place."""
        job = lane.jobs.pop()
        lane.served_at, lane.may_fall_back = self._now, True
        self._use_s[lane.owner] = self._use_s.get(lane.owner, 0.0) + max(job.expected_s, _LEAST_USE_S)
        self._queued_s[lane.pool] -= job.expected_s

    def drop(self, lane: _Lane) -> None:
        """Nothing is free for the first job of a lane, so nothing is free for those behind it."""
        lane.jobs.clear()

    def pressure_s(self, pool: Pool) -> float:
        """Queued work per place of a pool."""
        return self._queued_s[pool] / len(pool.keys)

    def _lanes(
        self,
        jobs: Iterable[Wanted],
        fleet: Fleet,
        requirements: Mapping[int, Requirement],
        history: History,
        free: Mapping[bool, frozenset[str]],
    ) -> list[_Lane]:
        grouped: defaultdict[int, defaultdict[tuple[str, bool], list[Wanted]]]
        grouped = defaultdict(lambda: defaultdict(list))
        for job in jobs:
            grouped[job.requirement_id][job.owner, job.canary].append(job)
        lanes: list[_Lane] = []
        siblings: dict[tuple[str, Pool], int] = {}
        for requirement_id in sorted(grouped):  # the order of a sum of floats must not depend on that of the input
            requirement, members = requirements[requirement_id], grouped[requirement_id]
            pool = fleet.pool(requirement)
            queued_s = history.backlog_s.get(requirement_id)
            if queued_s is None:
                queued_s = fsum(job.expected_s for waiting in members.values() for job in waiting)
            self._queued_s[pool] = self._queued_s.get(pool, 0.0) + queued_s
            for (owner, canary), waiting in members.items():
                if (found := self.free.get((pool, canary))) is None:
                    found = self.free[pool, canary] = pool.keys & free[canary]
                if found:
                    moves = requirement.moves and len(pool.keys) > 1
                    if len(waiting) > 1:
                        waiting.sort(key=_longest_first if moves else _in_position, reverse=True)
                    served_at = history.served_at.get((requirement_id, owner), -inf)
                    only = next(iter(found)) if len(found) == 1 else None
                    lanes.append(_Lane(pool, owner, canary, moves, waiting, served_at, only, may_fall_back=moves))
                    siblings[owner, pool] = siblings.get((owner, pool), 0) + 1
        for lane in lanes:
            lane.siblings = siblings[lane.owner, lane.pool]
        return lanes

    def _turn(self, lane: _Lane) -> _Turn:
        job = lane.jobs[-1]
        # Whoever can go nowhere else goes before whoever can, whatever is queued behind.
        urgency_s, position = inf, job.position
        if lane.moves:
            urgency_s, position = self.pressure_s(lane.pool) + job.expected_s, 0
        since = job.created_at
        if lane.served_at > since - _LONGEST_ROUND_S:
            round_s = job.expected_s * self._sharers / len(lane.pool.keys)
            since = max(since, lane.served_at + min(round_s, _LONGEST_ROUND_S))
        waited_s = self._now - since
        level = float(job.priority)
        if waited_s >= PRIORITY_STEP_S:
            level += waited_s // (PRIORITY_STEP_S * lane.siblings)
        return -level, job.rank, job.run_id, job.kind != "convert", -urgency_s, position, job.job_id

    def _turn_of_owner(self, heap: list[tuple[_Turn, _Lane]]) -> tuple[float, float, _Turn]:
        turn, lane = heap[0]
        return turn[0], self._use_s.get(lane.owner, 0.0), turn


def _longest_first(job: Wanted) -> tuple[float, int, float, int, int]:
    return job.rank, job.run_id, -job.expected_s, job.position, job.job_id


def _in_position(job: Wanted) -> tuple[float, int, int, int]:
    return job.rank, job.run_id, job.position, job.job_id


class _Choices:
    """Free places for each lane, the preferred ones first.

    What cannot be taken at one time in a match cannot be taken later either, so it is looked at once.
    """

    def __init__(self, turns: _Turns, fleet: Fleet, history: History, hosts: Hosts) -> None:
        self._free, self._taken, self._places = turns.free, turns.taken, fleet.places
        self._holders, self._hosts = history.holders, hosts
        wanted: dict[str, float] = {}
        for (pool, _), keys in turns.free.items():
            pressure_s = turns.pressure_s(pool) if keys else 0.0
            for key in keys:
                wanted[key] = wanted.get(key, 0.0) + pressure_s
        # What others want least, then the least used of twins: a job that may move leaves the rest what only they fit.
        best_first = sorted(wanted, key=lambda key: (wanted[key], history.used_s.get(key, 0.0), key))
        self._preference = {key: number for number, key in enumerate(best_first)}
        #: By pool, whether of canaries, and artifact that is there already; the preferred at the end.
        self._lists: dict[tuple[Pool, bool, str | None], list[str]] = {}
        self._to_reserve: dict[tuple[Pool, bool], list[Place]] = {}

    def take(self, lane: _Lane) -> Place | None:
        """The best place for the first job of a lane, which is free no more; None where nothing may begin now."""
        job = lane.jobs[-1]
        key = self._best(lane, None, job.avoid)
        if key is None:
            return None
        if job.needs_key in self._holders:
            holder = self._best(lane, job.needs_key, job.avoid)
            if holder is not None and (holder not in job.avoid or key in job.avoid):
                key = holder
        self._taken.add(key)
        place = self._places[key]
        self._hosts.occupy(place)
        return place

    def reserve(self, lane: _Lane) -> None:
        """Keep later jobs off a host for a lane that finds places only where its host is not quiet.

        Of those hosts it is the one where least runs: as nothing begins there, it stays so until it is quiet.
        """
        known = (lane.pool, lane.canary)
        if known not in self._to_reserve:
            left = [self._places[key] for key in self._free[known] if key not in self._taken]
            left = [place for place in left if place.quiet != "none"]
            left.sort(key=lambda place: (len(self._hosts.running(place.host_id)), place.key), reverse=True)
            self._to_reserve[known] = left
        left = self._to_reserve[known]
        while left and not self._hosts.reserve(left.pop()):
            pass

    def _best(self, lane: _Lane, artifact: str | None, avoid: frozenset[str]) -> str | None:
        known = (lane.pool, lane.canary, artifact)
        keys = self._lists.get(known)
        if keys is None:
            found = self._free[lane.pool, lane.canary]
            if artifact is not None:
                found &= self._holders[artifact]
            keys = self._lists[known] = sorted(found, key=self._preference.__getitem__, reverse=True)
        while keys and not self._may_take(keys[-1]):
            keys.pop()
        if not keys or keys[-1] not in avoid:
            return keys[-1] if keys else None
        return next((key for key in reversed(keys) if key not in avoid and self._may_take(key)), keys[-1])

    def _may_take(self, key: str) -> bool:
        return key not in self._taken and self._hosts.admit(self._places[key])
