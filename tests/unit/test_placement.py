"""scheduler.placement: pure, never two on a place, only where a job fits, quiet kept, shares fair, nobody starved."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device_registry.capabilities import Attribute
from device_registry.selectors import parse_selector
from scheduler.placement import (
    PRIORITY_STEP_S,
    Assignment,
    Fleet,
    History,
    JobKind,
    Place,
    Requirement,
    Wanted,
    match,
    rank_of,
)
from tests.unit.builders import make_place, make_wanted

NOW = 100_000.0
ANY_DEVICE, ANY_SLOT = Requirement(id=1, kind="device"), Requirement(id=2, kind="slot")


@dataclass(frozen=True)
class World:
    """All that placement is given."""

    places: list[Place]
    requirements: dict[int, Requirement]
    jobs: list[Wanted]
    busy: dict[str, JobKind]
    open_places: frozenset[str]
    probing: frozenset[str]
    history: History

    def match(self) -> list[Assignment]:
        """Place the jobs."""
        return match(
            self.jobs,
            Fleet(self.places),
            self.requirements,
            self.busy,
            self.open_places,
            self.history,
            NOW,
            probing=self.probing,
        )

    def shuffled(self, seed: int) -> World:
        """The same in another order."""
        mix = random.Random(seed)

        def mixed(items: Iterable[Any]) -> list[Any]:
            found = list(items)
            mix.shuffle(found)
            return found

        def mixed_map(items: Mapping[Any, Any]) -> dict[Any, Any]:
            return dict(mixed(items.items()))

        return World(
            mixed(self.places),
            mixed_map(self.requirements),
            mixed(self.jobs),
            mixed_map(self.busy),
            frozenset(mixed(self.open_places)),
            frozenset(mixed(self.probing)),
            History(
                usage_s=mixed_map(self.history.usage_s),
                served_at=mixed_map(self.history.served_at),
                backlog_s=mixed_map(self.history.backlog_s),
                holders=mixed_map(self.history.holders),
                used_s=mixed_map(self.history.used_s),
            ),
        )


OWNERS = ("ann", "bob", "cy")
SELECTORS = ("", "", "os>=12", "os<12", "tag=canary", "tag!=canary", "name~1", "kind=gpu", "nothing=here")
ATTRIBUTES: tuple[dict[str, Attribute], ...] = (
    {"os": 12, "kind": "cpu", "tag": ()},
    {"os": 11, "kind": "gpu", "tag": ("canary",)},
    {"os": 14, "kind": "gpu", "tag": ("spare", "canary")},
    {"kind": "cpu"},
)
OFFERS = ("runtime:a", "runtime:b", "converter:c")
KEYS = [f"device:{host}{number}" for host in (1, 2, 3) for number in range(3)]
seconds = st.sampled_from([0.0, 0.1, 1.0, 59.9, 600.0, 1234.5])
some_keys = st.frozensets(st.sampled_from(KEYS), max_size=4)


@st.composite
def worlds(draw: st.DrawFn, quiets: tuple[str, ...] = ("host", "accelerator", "none")) -> World:
    """A few hosts with devices and slots, busy or free, open, probed or closed; and jobs of several owners."""
    places: list[Place] = []
    for host_id in range(1, draw(st.integers(1, 3)) + 1):
        for number in range(draw(st.integers(1, 3))):
            attributes = {"name": f"d{number}"} | draw(st.sampled_from(ATTRIBUTES))
            place = make_place(
                f"device:{host_id}{number}",
                host_id,
                device_id=10 * host_id + number,
                quiet=draw(st.sampled_from(quiets)),
                attributes=attributes,
                offers=frozenset(OFFERS[: draw(st.integers(0, 2))]),
            )
            places.append(place)
        offers = frozenset(OFFERS[draw(st.integers(2, 3)) :])
        places += [make_place(f"slot:{host_id}:{n}", host_id, offers=offers) for n in range(draw(st.integers(0, 3)))]
    fates = {place.key: draw(st.sampled_from(["open", "open", "open", "busy", "closed", "probed"])) for place in places}
    kinds: dict[str, JobKind] = {place.key: "convert" if place.kind == "slot" else "measure" for place in places}
    requirements = {number: draw(a_requirement(number)) for number in range(1, 7)}
    return World(
        places,
        requirements,
        [draw(a_job(number, requirements)) for number in range(1, draw(st.integers(0, 12)) + 1)],
        {key: kinds[key] for key, fate in fates.items() if fate == "busy"},
        # What is busy is open, is probed, or neither: it makes no difference.
        frozenset(key for key, fate in fates.items() if fate == "open" or (fate == "busy" and draw(st.booleans()))),
        frozenset(key for key, fate in fates.items() if fate == "probed" or (fate == "busy" and draw(st.booleans()))),
        History(
            usage_s=draw(st.dictionaries(st.sampled_from(OWNERS), seconds)),
            served_at=draw(
                st.dictionaries(
                    st.tuples(st.integers(1, 6), st.sampled_from(OWNERS)), seconds.map(lambda ago_s: NOW - ago_s)
                )
            ),
            backlog_s=draw(st.dictionaries(st.integers(1, 6), seconds)),
            holders=draw(st.dictionaries(st.sampled_from(["x", "y"]), some_keys)),
            used_s=draw(st.dictionaries(st.sampled_from(KEYS), seconds)),
        ),
    )


@st.composite
def a_requirement(draw: st.DrawFn, number: int) -> Requirement:
    """Of a slot, of one device, or of any that a selector matches."""
    host_id = draw(st.sampled_from([None, None, None, 1, 2, 3]))
    kind = draw(st.sampled_from(["slot", "pinned", "any", "any"]))
    if kind == "slot":
        needs = draw(st.sampled_from([frozenset(), frozenset(OFFERS[2:])]))
        return Requirement(id=number, kind="slot", host_id=host_id, needs=needs)
    return Requirement(
        id=number,
        kind="device",
        selector=parse_selector(draw(st.sampled_from(SELECTORS))),
        device_id=draw(st.sampled_from([10, 11, 20, 30])) if kind == "pinned" else None,
        host_id=host_id,
        needs=draw(st.sampled_from([frozenset(), frozenset(), frozenset(OFFERS[:1]), frozenset(OFFERS[:2])])),
    )


@st.composite
def a_job(draw: st.DrawFn, number: int, requirements: Mapping[int, Requirement]) -> Wanted:
    """Of any of the requirements."""
    requirement_id = draw(st.integers(1, 6))
    return Wanted(
        job_id=number,
        kind="convert" if requirements[requirement_id].kind == "slot" else "measure",
        requirement_id=requirement_id,
        owner=draw(st.sampled_from(OWNERS)),
        run_id=draw(st.integers(1, 2)),
        position=draw(st.integers(0, 5)),
        priority=draw(st.integers(0, 2)),
        created_at=NOW - draw(seconds),
        expected_s=draw(seconds),
        needs_key=draw(st.sampled_from([None, "x", "y"])),
        avoid=draw(some_keys),
        canary=draw(st.sampled_from([False, False, False, True])),
    )


def fits(requirement: Requirement, place: Place) -> bool:
    """Whether a place is what a requirement asks for: said as plainly as can be."""
    return (
        place.kind == requirement.kind
        and requirement.device_id in (None, place.device_id)
        and requirement.host_id in (None, place.host_id)
        and requirement.needs <= place.offers
        and requirement.selector.matches(place.attributes)
    )


def disturb(one: Place, other: Place) -> bool:
    """Whether two places of a host cannot be at work together: said as plainly as can be."""
    pair = {one.quiet, other.quiet}
    if "host" in pair:
        return True
    if pair == {"accelerator"}:
        return True
    return pair == {"accelerator", "none"} and "slot" in (one.kind, other.kind)


@given(world=worlds(), seed=st.integers(0, 99))
@settings(max_examples=80)
def test_the_order_of_inputs_does_not_matter(world: World, seed: int) -> None:
    assert world.shuffled(seed).match() == world.match()


@given(worlds=st.tuples(worlds(), worlds()))
def test_what_a_fleet_remembers_changes_nothing(worlds: tuple[World, World]) -> None:
    world = worlds[0]
    fleet = Fleet(world.places)
    given = (world.jobs, fleet, world.requirements, world.busy, world.open_places, world.history, NOW)
    expected = match(*given, probing=world.probing)
    match(worlds[1].jobs, fleet, world.requirements, worlds[1].busy, worlds[1].open_places, worlds[1].history, NOW)
    assert match(*given, probing=world.probing) == expected == world.match()


@given(world=worlds())
def test_one_job_per_place_and_one_place_per_job(world: World) -> None:
    assigned = world.match()
    assert len({one.place.key for one in assigned}) == len(assigned)
    assert len({one.job_id for one in assigned}) == len(assigned)
    assert not {one.place.key for one in assigned} & world.busy.keys()


@given(world=worlds())
@settings(max_examples=80)
def test_a_job_goes_only_where_it_fits_and_is_let_in(world: World) -> None:
    jobs = {job.job_id: job for job in world.jobs}
    for one in world.match():
        job = jobs[one.job_id]
        assert one.place in world.places
        assert fits(world.requirements[job.requirement_id], one.place)
        assert one.place.key in (world.probing if job.canary else world.open_places)


@given(world=worlds())
@settings(max_examples=120)
def test_nothing_begins_beside_what_it_would_disturb(world: World) -> None:
    begun = [one.place for one in world.match()]
    running = [place for place in world.places if place.key in world.busy]
    for place in begun:
        for other in begun + running:
            assert other == place or other.host_id != place.host_id or not disturb(place, other)


@given(world=worlds())
@settings(max_examples=120)
def test_no_place_stays_free_for_which_a_job_waits_unless_for_quiet(world: World) -> None:
    assigned = world.match()
    begun = {one.job_id for one in assigned}
    at_work = world.busy.keys() | {one.place.key for one in assigned}
    waiting = [job for job in world.jobs if job.job_id not in begun]

    def could_take(place: Place) -> bool:
        lets_in = {False: world.open_places, True: world.probing}
        return place.key not in at_work and any(
            fits(world.requirements[job.requirement_id], place) and place.key in lets_in[job.canary] for job in waiting
        )

    for place in filter(could_take, world.places):
        beside = [other for other in world.places if other.host_id == place.host_id and other != place]
        assert any(disturb(place, other) and (other.key in at_work or could_take(other)) for other in beside) or (
            # Kept off, so that something else which cannot begin yet finds quiet.
            any(could_take(other) and other.quiet != "none" for other in beside)
        )


@given(world=worlds())
@settings(max_examples=80)
def test_jobs_of_a_lane_go_by_priority_and_age_then_the_longest_that_moves_or_by_position(world: World) -> None:
    fleet = Fleet(world.places)
    begun = [one.job_id for one in world.match()]
    lanes: dict[object, list[Wanted]] = defaultdict(list)
    for job in world.jobs:
        lanes[job.requirement_id, job.owner, job.canary].append(job)
    for lane in lanes.values():
        requirement = world.requirements[lane[0].requirement_id]
        moves = requirement.kind == "device" and len(fleet.fitting(requirement)) > 1 and requirement.device_id is None

        def order(job: Wanted, moves: bool = moves) -> tuple[float, int, float, int, int]:
            aged = job.created_at - job.priority * PRIORITY_STEP_S
            return aged, job.run_id, -job.expected_s if moves else 0.0, job.position, job.job_id

        in_order = [job.job_id for job in sorted(lane, key=order)]
        taken = [job_id for job_id in begun if job_id in in_order]
        assert taken == in_order[: len(taken)]


@given(world=worlds(quiets=("none",)))
@settings(max_examples=80)
def test_an_avoided_place_is_taken_only_where_no_other_is_free(world: World) -> None:
    jobs = {job.job_id: job for job in world.jobs}
    assigned = world.match()
    for number, one in enumerate(assigned):
        job = jobs[one.job_id]
        if one.place.key not in job.avoid:
            continue
        taken = world.busy.keys() | {before.place.key for before in assigned[:number]}
        free = (world.probing if job.canary else world.open_places) - taken
        others = [place for place in world.places if place.key in free - job.avoid]
        assert not any(fits(world.requirements[job.requirement_id], place) for place in others)


@given(world=worlds(quiets=("none",)))
@settings(max_examples=80)
def test_a_place_that_has_the_artifact_is_preferred(world: World) -> None:
    jobs = {job.job_id: job for job in world.jobs}
    assigned = world.match()
    for number, one in enumerate(assigned):
        job = jobs[one.job_id]
        holders = world.history.holders.get(job.needs_key or "", frozenset())
        if job.needs_key is None or one.place.key in holders:
            continue
        taken = world.busy.keys() | {before.place.key for before in assigned[:number]}
        free = (world.probing if job.canary else world.open_places) - taken
        others = [place for place in world.places if place.key in (free & holders) - job.avoid]
        assert not any(fits(world.requirements[job.requirement_id], place) for place in others)


def placed(
    jobs: Iterable[Wanted],
    places: Iterable[Place],
    *,
    requirements: Iterable[Requirement] = (ANY_DEVICE, ANY_SLOT),
    busy: Iterable[str] = (),
    closed: Iterable[str] = (),
    probing: Iterable[str] = (),
    **history: Any,
) -> list[tuple[int, str]]:
    """Which job goes where, in the order of their turns."""
    fleet = Fleet(places)
    open_places = frozenset(fleet.places) - set(closed) - set(probing)
    kinds: dict[str, JobKind] = {key: "convert" if key.startswith("slot") else "measure" for key in busy}
    assigned = match(
        jobs,
        fleet,
        {one.id: one for one in requirements},
        kinds,
        open_places,
        History(**history),
        NOW,
        probing=frozenset(probing),
    )
    return [(one.job_id, one.place.key) for one in assigned]


def phones(*keys: str, **changed: Any) -> list[Place]:
    """Devices that need no quiet: numbered from 1, all of one host."""
    return [make_place(key, device_id=number, quiet="none", **changed) for number, key in enumerate(keys, start=1)]


def waiting(job_id: int, waited_s: float = 0.0, **changed: Any) -> Wanted:
    """A measurement that was queued a while ago."""
    return make_wanted(job_id, created_at=NOW - waited_s, **changed)


def first(*jobs: Wanted, places: Iterable[Place] = (), **given: Any) -> int:
    """The job that gets the only phone."""
    [(job_id, _)] = placed(jobs, places or phones("phone"), **given)
    return job_id


def test_rank_orders_by_age_and_a_step_of_priority_is_a_wait() -> None:
    assert rank_of(NOW, 0) == NOW
    assert rank_of(NOW, 2) == rank_of(NOW - 2 * PRIORITY_STEP_S, 0) == waiting(1, priority=2).rank


def test_the_higher_priority_goes_first() -> None:
    for owner in ("ann", "bob"):
        assert first(waiting(1, 99.0), waiting(2, priority=1, owner=owner)) == 2


@pytest.mark.parametrize("owner", ["ann", "bob"])
def test_whoever_waited_a_step_of_priority_longer_goes_first(owner: str) -> None:
    for more_s, goes_first in ((-1.0, 2), (1.0, 1)):
        old = waiting(1, 3 * PRIORITY_STEP_S + more_s, owner=owner)
        assert first(old, waiting(2, priority=3)) == (goes_first if owner == "bob" or more_s > 0 else 2)


def test_the_older_run_goes_first_and_then_the_older_job() -> None:
    assert first(waiting(1, run_id=2), waiting(2, run_id=1)) == 2
    assert first(waiting(1, 10.0, run_id=2), waiting(2, 20.0, run_id=2)) == 2
    twin = replace(ANY_DEVICE, id=9)
    assert first(waiting(1, run_id=2), waiting(2, run_id=1, requirement_id=9), requirements=[ANY_DEVICE, twin]) == 2


def test_conversions_of_a_run_go_before_its_measurements() -> None:
    places = [make_place("cpu"), make_place("slot:1:0")]
    assert placed([make_wanted(1), make_wanted(2, "convert")], places) == [(2, "slot:1:0")]


def test_pinned_jobs_of_a_run_go_by_position_whatever_their_requirement() -> None:
    requirements = [Requirement(id=number, kind="device", device_id=1) for number in (1, 2)]
    jobs = [make_wanted(1, position=5, expected_s=9.0), make_wanted(2, requirement_id=2, position=4)]
    assert first(*jobs, requirements=requirements) == 2
    assert first(*jobs, requirements=requirements, backlog_s={1: 900.0, 2: 1.0}) == 2


def test_of_a_run_the_longest_job_that_moves_goes_first() -> None:
    jobs = [waiting(1, expected_s=1.0), waiting(2, expected_s=2.0), waiting(3, expected_s=1.5)]
    assert placed(jobs, phones("a", "b")) == [(2, "a"), (3, "b")]


def test_of_a_run_that_goes_first_for_which_most_work_waits_per_place() -> None:
    narrow = Requirement(id=2, kind="device", selector=parse_selector("os=12"))
    places = [replace(place, attributes={"os": os}) for os, place in zip((12, 12, 9, 9), phones(*"abcd"), strict=True)]
    wide_job, narrow_job = waiting(1), waiting(2, requirement_id=2)
    given: dict[str, Any] = {"requirements": [ANY_DEVICE, narrow], "busy": ["b", "c", "d"]}
    assert placed([wide_job, narrow_job], places, **given, backlog_s={1: 100.0, 2: 60.0}) == [(2, "a")]
    assert placed([wide_job, narrow_job], places, **given, backlog_s={1: 100.0, 2: 40.0}) == [(1, "a")]


def test_of_a_run_the_longest_job_goes_first_where_no_queue_is_longer() -> None:
    twin = replace(ANY_DEVICE, id=9, selector=parse_selector("os=12"))
    places = [replace(place, attributes={"os": 12 if place.key < "c" else 9}) for place in phones(*"abc")]
    jobs = [waiting(1, expected_s=50.0, requirement_id=9), waiting(2, expected_s=70.0)]
    given: dict[str, Any] = {"requirements": [ANY_DEVICE, twin], "busy": ["b", "c"]}
    assert placed(jobs, places, **given, backlog_s={1: 70.0, 9: 50.0}) == [(2, "a")]
    assert placed(jobs, places, **given, backlog_s={1: 70.0, 9: 150.0}) == [(1, "a")]


def test_sums_of_what_is_queued_do_not_depend_on_the_order_of_jobs() -> None:
    places = [
        replace(place, attributes={"set": {"a": "xy", "b": "x", "c": "y"}[place.key]}) for place in phones(*"abc")
    ]
    of_x = [Requirement(id=number, kind="device", selector=parse_selector("set~x")) for number in (1, 2, 3)]
    of_y = Requirement(id=4, kind="device", selector=parse_selector("set~y"))
    jobs = [waiting(5 - number, requirement_id=number) for number in (1, 2, 3, 4)]
    backlog_s = {1: 0.1, 2: 0.2, 3: 0.3, 4: 0.6}  # 0.1 + 0.2 + 0.3 > 0.6 == 0.3 + 0.2 + 0.1
    given: dict[str, Any] = {"requirements": [*of_x, of_y], "busy": ["b", "c"], "backlog_s": backlog_s}
    assert placed(jobs, places, **given) == placed(jobs[::-1], places, **given)


def test_of_a_run_that_goes_first_which_fits_one_place_only() -> None:
    pinned = Requirement(id=2, kind="device", device_id=1)
    jobs = [waiting(1, expected_s=99.0), waiting(2, requirement_id=2, expected_s=1.0)]
    given: dict[str, Any] = {"requirements": [ANY_DEVICE, pinned], "backlog_s": {1: 9e9}}
    assert placed(jobs, phones("a", "b"), busy=["b"], **given) == [(2, "a")]
    assert placed(jobs, phones("a", "b"), **given) == [(2, "a"), (1, "b")]


def test_among_equals_the_owner_who_used_less_goes_first() -> None:
    jobs = [waiting(1, 60.0, owner="ann"), waiting(2, owner="bob")]
    assert first(*jobs, usage_s={"ann": 2.0, "bob": 1.0}) == 2
    assert first(*jobs, usage_s={"ann": 1.0, "bob": 2.0}) == 1


def test_what_begins_now_counts_as_use() -> None:
    jobs = [waiting(number, owner="ann" if number < 5 else "bob", expected_s=10.0) for number in range(1, 9)]
    owners = [job_id < 5 for job_id, _ in placed(jobs, phones(*"abcd"))]
    assert owners == [True, False, True, False]
    unknown = [job._replace(expected_s=0.0) for job in jobs]
    assert [job_id < 5 for job_id, _ in placed(unknown, phones(*"abcd"))] == [True, False, True, False]


def test_a_lane_ages_from_when_it_was_last_served() -> None:
    jobs = [waiting(1, 9 * PRIORITY_STEP_S, owner="ann"), waiting(2, PRIORITY_STEP_S, owner="bob")]
    assert first(*jobs, usage_s={"ann": 1.0}) == 1
    assert first(*jobs, usage_s={"ann": 1.0}, served_at={(1, "ann"): NOW - 1.0}) == 2


def test_a_lane_waits_after_a_fair_round_and_after_an_hour_at_the_latest() -> None:
    served_at = {(1, "ann"): NOW - 3600.0 - 2 * PRIORITY_STEP_S}
    urgent = waiting(2, owner="bob", priority=1)
    for expected_s in (1.0, 1e6):
        assert first(waiting(1, 9 * 3600.0, expected_s=expected_s), urgent, served_at=served_at) == 1
    # Two owners, a job of 1,000 s each: a round of 2,000 s, so that it has waited 500 s of 600.
    assert first(waiting(1, 9 * 3600.0, expected_s=1000.0), urgent, served_at={(1, "ann"): NOW - 2500.0}) == 2


def test_a_lane_that_got_a_place_begins_to_wait_anew() -> None:
    jobs = [waiting(number, 2 * PRIORITY_STEP_S) for number in (1, 2)]
    jobs.append(waiting(3, PRIORITY_STEP_S, owner="bob"))
    assert placed(jobs, phones("a", "b"), usage_s={"bob": 1e6}) == [(1, "a"), (3, "b")]


def test_a_canary_goes_to_a_quarantined_place_and_nowhere_else_and_it_alone() -> None:
    canary, other = waiting(1, canary=True), waiting(2)
    assert placed([canary, other], phones("good", "bad"), probing=["bad"]) == [(1, "bad"), (2, "good")]
    assert placed([canary], phones("good")) == []
    assert placed([other], phones("bad"), probing=["bad"]) == []


def test_wear_is_spread_over_twins() -> None:
    assert placed([waiting(1)], phones(*"abc"), used_s={"a": 9.0, "b": 3.0, "c": 5.0}) == [(1, "b")]


def test_a_place_that_is_avoided_is_not_preferred_for_its_artifact() -> None:
    holders = {"x": frozenset({"b"})}
    for avoid, key in (({"b"}, "a"), ({"a", "b"}, "b"), (set(), "b")):
        job = waiting(1, needs_key="x", avoid=frozenset(avoid))
        assert placed([job], phones("a", "b"), holders=holders) == [(1, key)]


def test_a_job_that_moves_leaves_the_rest_what_only_they_fit() -> None:
    pinned = [Requirement(id=2, kind="device", device_id=1), Requirement(id=3, kind="device", device_id=3)]
    jobs = [waiting(1), *(waiting(one.id, requirement_id=one.id, owner="bob", expected_s=5.0) for one in pinned)]
    given: dict[str, Any] = {"requirements": [ANY_DEVICE, *pinned], "usage_s": {"bob": 1.0}, "used_s": {"b": 99.0}}
    assert placed(jobs, phones(*"abc"), **given) == [(1, "b"), (2, "a"), (3, "c")]


def test_conversions_share_a_host() -> None:
    slots = [make_place(f"slot:1:{number}") for number in range(2)]
    jobs = [make_wanted(job_id, "convert") for job_id in (1, 2, 3)]
    assert placed(jobs, slots) == [(1, "slot:1:0"), (2, "slot:1:1")]


def test_a_phone_is_measured_while_its_host_converts() -> None:
    places = [*phones("phone"), make_place("slot:1:0")]
    assert placed([make_wanted(1)], places, busy=["slot:1:0"]) == [(1, "phone")]


def test_a_phone_is_measured_while_a_gpu_of_its_host_is_and_another_gpu_is_not() -> None:
    gpus = [make_place(f"gpu-{number}", device_id=number, quiet="accelerator") for number in (8, 9)]
    places = [*phones("phone"), *gpus]
    assert placed([make_wanted(1), make_wanted(2)], places, busy=["gpu-8"]) == [(1, "phone")]


def test_nothing_begins_on_a_host_whose_cpu_is_being_measured() -> None:
    places = [make_place("cpu"), make_place("slot:1:0"), *phones("phone"), make_place("slot:2:0", 2)]
    jobs = [make_wanted(2), make_wanted(3, "convert"), make_wanted(4, "convert")]
    assert placed(jobs, places, busy=["cpu"]) == [(3, "slot:2:0")]


@pytest.mark.parametrize("quiet", ["host", "accelerator"])
def test_later_conversions_stay_off_a_host_that_shall_fall_quiet(quiet: str) -> None:
    places = [make_place("device", quiet=quiet), make_place("slot:1:0"), make_place("slot:1:1")]
    measure, later = waiting(1, 60.0), make_wanted(2, "convert", created_at=NOW)
    assert placed([measure, later], places, busy=["slot:1:0"]) == []
    assert placed([later], places, busy=["slot:1:0"]) == [(2, "slot:1:1")]


def test_a_measurement_that_cannot_begin_for_its_own_sake_holds_nobody_up() -> None:
    places = [make_place("cpu"), make_place("slot:1:0"), make_place("slot:1:1")]
    jobs = [waiting(1, 60.0), make_wanted(2, "convert", created_at=NOW)]
    assert placed(jobs, places, busy=["slot:1:0"], closed=["cpu"]) == [(2, "slot:1:1")]


def test_each_lane_that_waits_for_quiet_keeps_one_host_free_where_least_runs() -> None:
    places = [make_place(f"cpu-{host}", host, device_id=host) for host in (1, 2, 3)]
    places += [make_place(f"slot:{host}:{number}", host) for host in (1, 2, 3) for number in range(4)]
    busy = ["slot:1:0", "slot:1:1", "slot:2:0", "slot:3:0", "slot:3:1", "slot:3:2"]
    jobs = [waiting(1, 60.0), waiting(2, 60.0, owner="bob")]
    jobs += [make_wanted(number, "convert", created_at=NOW) for number in range(3, 20)]
    assert {key for _, key in placed(jobs, places, busy=busy)} == {"slot:3:3"}
    assert {key for _, key in placed(jobs[1:], places, busy=busy)} == {"slot:1:2", "slot:1:3", "slot:3:3"}


@dataclass
class Farm:
    """Places in virtual time, looked at now and then."""

    places: list[Place]
    requirements: Iterable[Requirement] = (ANY_DEVICE, ANY_SLOT)
    tick_s: float = 60.0
    queue: list[Wanted] = field(default_factory=list)
    now: float = 0.0
    ends: dict[str, float] = field(default_factory=dict)
    served_at: dict[tuple[int, str], float] = field(default_factory=dict)
    used_s: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    count: int = 0

    def add(self, requirement_id: int, owner: str, priority: int = 0, expected_s: float = 300.0) -> int:
        """Queue a job; returns its id."""
        self.count += 1
        kind: JobKind = "convert" if requirement_id == ANY_SLOT.id else "measure"
        self.queue.append(
            make_wanted(
                self.count,
                kind,
                requirement_id=requirement_id,
                owner=owner,
                priority=priority,
                expected_s=expected_s,
                created_at=self.now,
                run_id=self.count,
            )
        )
        return self.count

    def tick(self) -> list[int]:
        """Look once; returns the jobs that began."""
        self.ends = {key: end for key, end in self.ends.items() if end > self.now}
        fleet = Fleet(self.places)
        busy: dict[str, JobKind] = dict.fromkeys(self.ends, "measure")
        history = History(usage_s=self.used_s, served_at=self.served_at)
        known = {one.id: one for one in self.requirements}
        assigned = match(self.queue, fleet, known, busy, frozenset(fleet.places), history, self.now)
        jobs = {job.job_id: job for job in self.queue}
        for one in assigned:
            job = jobs.pop(one.job_id)
            self.ends[one.place.key] = self.now + job.expected_s
            self.served_at[job.requirement_id, job.owner] = self.now
            self.used_s[job.owner] += job.expected_s
        self.queue = list(jobs.values())
        self.now += self.tick_s
        return [one.job_id for one in assigned]


streams = st.lists(
    st.tuples(
        st.sampled_from([1, 3, 4]),
        st.sampled_from(["victim", "rival", "always another"]),
        st.integers(0, 3),
        st.sampled_from([300.0, 700.0]),
    ),
    min_size=2,
    max_size=4,
)


@given(stream=streams, pinned=st.booleans())
@settings(max_examples=15, deadline=None)
def test_nothing_eligible_starves_under_a_stream_of_more_urgent_work(
    stream: list[tuple[int, str, int, float]], pinned: bool
) -> None:
    one, other = Requirement(id=3, kind="device", device_id=1), Requirement(id=4, kind="device", device_id=2)
    farm = Farm(phones("a", "b"), (ANY_DEVICE, one, other), tick_s=300.0)
    job_id = farm.add(3 if pinned else 1, "victim")
    farm.used_s["victim"] = 1e6  # and it has no share left
    for number in range(300):
        for requirement_id, owner, priority, expected_s in stream:
            named = f"{owner} {number}" if owner == "always another" else owner
            # Its owner's own urgent jobs would have to go before it.
            farm.add(requirement_id, named, 0 if owner == "victim" else priority, expected_s)
        if job_id in farm.tick():
            return
    pytest.fail("it still waits after 300 rounds")


@pytest.mark.parametrize("quiet", ["host", "accelerator"])
@given(lengths=st.lists(st.sampled_from([60.0, 120.0, 300.0]), min_size=5, max_size=5), hosts=st.integers(1, 2))
@settings(max_examples=10, deadline=None)
def test_a_measurement_is_not_starved_by_a_stream_of_conversions(quiet: str, lengths: list[float], hosts: int) -> None:
    places = [make_place(f"device:{host}", host, device_id=host, quiet=quiet) for host in range(1, hosts + 1)]
    places += [make_place(f"slot:{host}:{number}", host) for host in range(1, hosts + 1) for number in range(2)]
    farm = Farm(places)
    job_id = 0
    for minute in range(60):
        for length_s in lengths:
            farm.add(2, "rival", expected_s=length_s)
        if minute == 5:
            job_id = farm.add(1, "victim")
        if job_id and job_id in farm.tick():
            return
        if not job_id:
            farm.tick()
    pytest.fail("it still waits after an hour")


@given(lanes=st.integers(1, 4), lengths=st.tuples(*[st.sampled_from([120.0, 300.0, 900.0])] * 2))
@settings(max_examples=10, deadline=None)
def test_owners_share_devices_fairly_however_many_kinds_of_jobs_they_have(
    lanes: int, lengths: tuple[float, float]
) -> None:
    requirements = [replace(ANY_DEVICE, id=number) for number in range(10, 10 + lanes)]
    farm = Farm(phones("a", "b"), requirements)
    for _ in range(250):
        farm.add(10, "few", expected_s=lengths[0])
        for requirement in requirements:
            farm.add(requirement.id, "many", expected_s=lengths[1])
    for _ in range(400):
        farm.tick()
    few, many = farm.used_s["few"], farm.used_s["many"]
    assert 0.4 <= few / (few + many) <= 0.6


def test_a_fleet_names_the_places_that_a_requirement_fits() -> None:
    places = [
        make_place("a", 1, device_id=1, attributes={"os": 12, "tag": ("canary", "x")}, offers=frozenset({"runtime:a"})),
        make_place("b", 1, device_id=2, attributes={"os": 9, "tag": ()}, offers=frozenset({"runtime:a", "runtime:b"})),
        make_place("c", 2, device_id=3, attributes={}),
        make_place("slot:1:0"),
    ]
    fleet = Fleet(places)
    asked: dict[str, Callable[[int], Requirement]] = {
        "abc": lambda number: Requirement(id=number, kind="device"),
        "a": lambda number: Requirement(id=number, kind="device", selector=parse_selector("os>=10")),
        "bc": lambda number: Requirement(id=number, kind="device", selector=parse_selector("tag!=canary")),
        "c": lambda number: Requirement(id=number, kind="device", host_id=2),
        "b": lambda number: Requirement(id=number, kind="device", needs=frozenset({"runtime:b"})),
        "": lambda number: Requirement(id=number, kind="device", device_id=1, host_id=2),
    }
    for number, (keys, requirement) in enumerate(asked.items()):
        assert fleet.fitting(requirement(number)) == set(keys)
