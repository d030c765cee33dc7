"""A farm in virtual time: a queue and devices, a policy that places jobs, and made-up fleets and workloads for it."""

from __future__ import annotations

import heapq
import itertools
import math
import time
from bisect import insort
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from device_registry.selectors import parse_selector
from scheduler.placement import Fleet, History, Lane, Place, Requirement, Wanted, match

#: A lane starves when its places go to others for so long without it.
STARVED_S = 6 * 3600.0
#: Owners' use is forgotten by half in so long.
HALF_LIFE_S = 3600.0
WEEK_S = 7 * 86400.0
HOUR_S = 3600.0

_LITERT = frozenset({"runtime:litert"})
#: What a sweep may ask of a phone, from narrow to wide.
_SELECTORS = [
    *(f"model=m{number}" for number in range(60)),
    *(f"soc={soc},os>={os}" for soc in ("tensor", "snapdragon", "exynos", "dimensity") for os in (11, 13, 15)),
    *(f"memory_gb>={size}" for size in (6, 8, 12)),
    *(f"tag={tag}" for tag in ("canary", "npu", "rooted")),
    "kind=android",
]


@dataclass
class Outcome:
    """What came of a simulation."""

    #: Start and end of each job, seconds, by its id; and where it ran.
    starts_s: dict[int, float] = field(default_factory=dict)
    ends_s: dict[int, float] = field(default_factory=dict)
    places: dict[int, str] = field(default_factory=dict)
    #: Longest time that a lane waited while its places went to others.
    longest_passed_over_s: float = 0.0
    #: Lanes for which that was longer than `STARVED_S`.
    starved: set[Lane] = field(default_factory=set)
    calls: int = 0
    #: Seconds of this machine that placement took: in all, and its longest call.
    placing_s: float = 0.0
    longest_call_s: float = 0.0

    @property
    def makespan_s(self) -> float:
        """When the last job ended."""
        return max(self.ends_s.values())


#: Given the free places, the jobs that begin now, and where.
Policy = Callable[["Queue", set[str], float], list[tuple[Wanted, str]]]
#: Order of the jobs of a lane, the first one least.
Order = Callable[[Wanted], tuple[Any, ...]]


class Queue:
    """The queued jobs of a simulated farm, by lane, and what the dispatcher would remember."""

    def __init__(self, fleet: Fleet, requirements: dict[int, Requirement], order: Order) -> None:
        self.fleet, self.requirements, self._order = fleet, requirements, order
        #: (order, job), the last one first: the first is cheap to take.
        self.lanes: defaultdict[Lane, list[tuple[Any, ...]]] = defaultdict(list)
        self.owners: defaultdict[int, set[str]] = defaultdict(set)
        self.backlog_s: defaultdict[int, float] = defaultdict(float)
        self.served_at: dict[Lane, float] = {}
        self.waits_since: dict[Lane, float] = {}
        self.use_s: defaultdict[str, float] = defaultdict(float)
        self.used_s: defaultdict[str, float] = defaultdict(float)
        self.use_at = 0.0
        self.fitting_of: defaultdict[str, list[int]] = defaultdict(list)
        for number, requirement in requirements.items():
            for key in fleet.fitting(requirement):
                self.fitting_of[key].append(number)

    def add(self, jobs: Iterable[Wanted], now: float) -> None:
        """Queue jobs."""
        for job in jobs:
            lane = (job.requirement_id, job.owner)
            self.waits_since.setdefault(lane, now)
            self.owners[job.requirement_id].add(job.owner)
            self.backlog_s[job.requirement_id] += job.expected_s
            insort(self.lanes[lane], (tuple(-part for part in self._order(job)), job))

    def begin(self, job: Wanted, key: str, now: float) -> None:
        """A job has begun."""
        lane = (job.requirement_id, job.owner)
        entry = self.lanes[lane].pop()
        assert entry[-1] is job
        self.backlog_s[job.requirement_id] -= job.expected_s
        self.served_at[lane] = now
        self.use_s[job.owner] += job.expected_s
        self.used_s[key] += job.expected_s
        if self.lanes[lane]:
            self.waits_since[lane] = now
        else:
            del self.lanes[lane], self.waits_since[lane]
            self.owners[job.requirement_id].discard(job.owner)

    def near(self, free: set[str]) -> dict[Lane, int]:
        """Lanes with jobs for a free place, and for how many."""
        wanted = {number for key in free for number in self.fitting_of[key] if self.owners[number]}
        found = {}
        for number in wanted:
            count = len(self.fleet.fitting(self.requirements[number]) & free)
            found.update({(number, owner): count for owner in self.owners[number]})
        return found

    def note_passed_over(self, begun: list[tuple[Wanted, str]], now: float, outcome: Outcome) -> None:
        """Look how long the lanes wait whose places others got."""
        near = {number for _, key in begun for number in self.fitting_of[key]}
        for number in near:
            for owner in self.owners[number]:
                waited_s = now - self.waits_since[number, owner]
                outcome.longest_passed_over_s = max(outcome.longest_passed_over_s, waited_s)
                if waited_s > STARVED_S:
                    outcome.starved.add((number, owner))

    def decay(self, now: float) -> None:
        """Forget use by its half-life."""
        factor = 0.5 ** ((now - self.use_at) / HALF_LIFE_S)
        self.use_at = now
        for owner in self.use_s:
            self.use_s[owner] *= factor


def in_rank(job: Wanted) -> tuple[Any, ...]:
    """The queue's own order within a lane."""
    return job.rank, job.run_id, job.position, job.job_id


def in_time(job: Wanted) -> tuple[Any, ...]:
    """As they came."""
    return job.created_at, job.job_id


def by_match(queue: Queue, free: set[str], now: float) -> list[tuple[Wanted, str]]:
    """What the dispatcher does."""
    queue.decay(now)
    jobs = {
        job.job_id: job
        for lane, count in queue.near(free).items()
        for _, job in itertools.islice(reversed(queue.lanes[lane]), count)
    }
    history = History(usage_s=queue.use_s, served_at=queue.served_at, backlog_s=queue.backlog_s, used_s=queue.used_s)
    found = match(jobs.values(), queue.fleet, queue.requirements, {}, frozenset(free), history, now)
    return [(jobs[one.job_id], one.place.key) for one in found]


def first_come(queue: Queue, free: set[str], now: float) -> list[tuple[Wanted, str]]:
    """The job that came first takes the first free place that fits."""
    left: dict[int, list[str]] = {}
    heads = []
    for lane in queue.near(free):
        if lane[0] not in left:
            left[lane[0]] = sorted(queue.fleet.fitting(queue.requirements[lane[0]]) & free, reverse=True)
        heads.append((in_time(queue.lanes[lane][-1][-1]), lane, 1))
    heapq.heapify(heads)
    taken: set[str] = set()
    begun = []
    while heads:
        _, lane, depth = heapq.heappop(heads)
        places = left[lane[0]]
        while places and places[-1] in taken:
            places.pop()
        if not places:
            continue
        key = places.pop()
        taken.add(key)
        jobs = queue.lanes[lane]
        begun.append((jobs[-depth][-1], key))
        if depth < len(jobs):
            heapq.heappush(heads, (in_time(jobs[-depth - 1][-1]), lane, depth + 1))
    return begun


def simulate(
    fleet: Fleet, requirements: dict[int, Requirement], jobs: Sequence[Wanted], policy: Policy, tick_s: float
) -> Outcome:
    """Run jobs, in the order they come, on a farm that looks at its queue once in `tick_s`."""
    queue = Queue(fleet, requirements, in_rank if policy is by_match else in_time)
    outcome = Outcome()
    free = set(fleet.places)
    running: list[tuple[float, str]] = []
    coming = 0
    now = 0.0
    while coming < len(jobs) or running:
        upcoming = [jobs[coming].created_at] if coming < len(jobs) else []
        upcoming += [running[0][0]] if running else []
        now = max(now, math.ceil(min(upcoming) / tick_s) * tick_s)
        first = coming
        while coming < len(jobs) and jobs[coming].created_at <= now:
            coming += 1
        queue.add(jobs[first:coming], now)
        while running and running[0][0] <= now:
            free.add(heapq.heappop(running)[1])
        began = time.perf_counter()
        begun = policy(queue, free, now)
        call_s = time.perf_counter() - began
        outcome.placing_s += call_s
        outcome.calls += 1
        outcome.longest_call_s = max(outcome.longest_call_s, call_s)
        for job, key in begun:
            queue.begin(job, key, now)
            free.remove(key)
            outcome.starts_s[job.job_id], outcome.ends_s[job.job_id] = now, now + job.expected_s
            outcome.places[job.job_id] = key
            heapq.heappush(running, (now + job.expected_s, key))
        queue.note_passed_over(begun, now, outcome)
    return outcome


def a_fleet(count: int, random: np.random.Generator) -> Fleet:
    """Phones of sixty models, some rare: memory, system and tags differ between units."""
    socs = ("tensor", "snapdragon", "exynos", "dimensity")
    shares = 1 / np.arange(1, 61)
    places = []
    for number in range(count):
        model = int(random.choice(60, p=shares / shares.sum()))
        tags = [tag for tag, share in (("canary", 0.02), ("npu", 0.3), ("rooted", 0.1)) if random.random() < share]
        attributes: dict[str, Any] = {
            "kind": "android",
            "model": f"m{model}",
            "soc": socs[model % 4],
            "os": int(random.integers(10, 17)),
            "memory_gb": int(random.choice([4, 6, 8, 12])),
            "tag": tuple(tags),
        }
        places.append(
            Place(
                key=f"phone-{number:05}",
                host_id=number // 20,
                kind="device",
                device_id=number,
                attributes=attributes,
                offers=_LITERT,
            )
        )
    return Fleet(places)


def requirements_of(fleet: Fleet) -> dict[int, Requirement]:
    """A requirement for each selector, and one for each device after them."""
    texts = enumerate(_SELECTORS, start=1)
    found = {
        number: Requirement(id=number, kind="device", selector=parse_selector(text), needs=_LITERT)
        for number, text in texts
    }
    for number, place in enumerate(fleet.places.values(), start=len(found) + 1):
        found[number] = Requirement(id=number, kind="device", device_id=place.device_id, needs=_LITERT)
    return {number: one for number, one in found.items() if fleet.fitting(one)}


def durations_s(count: int, random: np.random.Generator) -> np.ndarray:
    """Most jobs take a minute, few take many."""
    return np.clip(random.lognormal(np.log(45.0), 0.8, count), 5.0, 400.0)


def a_sweep(
    fleet: Fleet, requirements: dict[int, Requirement], count: int, random: np.random.Generator
) -> list[Wanted]:
    """One run: the same few jobs for each single device, and the rest free to move; of some devices more is asked."""
    moving = [number for number, one in requirements.items() if one.moves]
    pinned = [number for number, one in requirements.items() if not one.moves]
    sizes = np.array([len(fleet.fitting(requirements[number])) for number in moving], dtype=float)
    weights = sizes * random.lognormal(0.0, 0.3, len(moving))
    each = np.repeat(pinned, count // 4 // len(pinned))
    asked = np.concatenate([each, random.choice(moving, count - len(each), p=weights / weights.sum())])
    random.shuffle(asked)
    seconds = durations_s(count, random)
    longest_first = np.empty(count, dtype=int)
    longest_first[np.argsort(-seconds, kind="stable")] = np.arange(count)
    return [
        Wanted(
            job_id=number,
            kind="measure",
            requirement_id=int(asked[number]),
            owner="nightly",
            run_id=1,
            position=int(longest_first[number]) if requirements[int(asked[number])].moves else number,
            expected_s=float(seconds[number]),
        )
        for number in range(count)
    ]


def a_week(
    fleet: Fleet, requirements: dict[int, Requirement], load: float, random: np.random.Generator
) -> list[Wanted]:
    """A week of jobs: of CI around the clock, of engineers in office hours, of a nightly sweep, and one who hoards.

    Args:
        fleet: where they run.
        requirements: what they may ask for.
        load: seconds of work over seconds of all devices.
        random: where chance comes from.
    """
    moving = [number for number, one in requirements.items() if one.moves]
    sizes = np.array([len(fleet.fitting(requirements[number])) for number in moving], dtype=float)
    places, mean_s = len(fleet.places), float(np.mean(durations_s(10_000, random)))
    total = int(load * places * WEEK_S / mean_s)
    batches: list[tuple[float, str, int, int]] = []  # when, who, priority, how many jobs
    batches += [(at, "ci", 0, 5) for at in random.uniform(0, WEEK_S, int(0.35 * total / 5))]
    for at in random.uniform(0, WEEK_S, int(0.25 * total / 20 * 24 / 10 * 7 / 5)):
        if at % 86400 // HOUR_S in range(8, 18) and at < 5 * 86400:
            batches.append((at, f"engineer {int(random.integers(6))}", 1, 20))
    batches += [(day * 86400 + HOUR_S, "nightly", 0, int(0.3 * total / 7)) for day in range(7)]
    batches.append((86400 + 9 * HOUR_S, "hoarder", 0, int(0.1 * total)))
    jobs: list[Wanted] = []
    for run_id, (at, owner, priority, count) in enumerate(sorted(batches), start=1):
        wants = count if owner in ("nightly", "hoarder") else min(3, count)
        asked = random.choice(moving, wants, p=sizes / sizes.sum())
        seconds = np.sort(durations_s(count, random))[::-1]
        jobs += [
            Wanted(
                job_id=len(jobs) + number,
                kind="measure",
                requirement_id=int(asked[number % len(asked)]),
                owner=owner,
                run_id=run_id,
                position=number,
                priority=priority,
                created_at=float(at),
                expected_s=float(seconds[number]),
            )
            for number in range(count)
        ]
    return jobs
