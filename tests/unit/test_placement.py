"""scheduler.placement: pure, never two on a place, quiet kept, nobody starved."""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.placement import Assignment, Place, Wanted, match
from tests.unit.builders import make_place, make_wanted


@st.composite
def hosts(draw: st.DrawFn) -> list[Place]:
    """A few hosts with devices, of which some need quiet, and slots; some of all busy or closed."""
    places: list[Place] = []
    for host_id in range(1, draw(st.integers(1, 3)) + 1):
        for number in range(draw(st.integers(1, 2))):
            device_id = 10 * host_id + number
            places.append(
                make_place(
                    f"device:{device_id}",
                    host_id,
                    device_id=device_id,
                    needs_quiet=draw(st.booleans()),
                    busy_with=draw(st.sampled_from([None, None, None, "measure"])),
                    open=draw(st.booleans() | st.just(True)),
                )
            )
        for number in range(draw(st.integers(0, 3))):
            busy = draw(st.sampled_from([None, None, None, "convert"]))
            places.append(make_place(f"slot:{host_id}:{number}", host_id, busy_with=busy))
    return places


wanted_jobs = st.lists(
    st.builds(
        dict,
        kind=st.sampled_from(["convert", "measure"]),
        priority=st.integers(0, 2),
        position=st.integers(0, 5),
        device_id=st.sampled_from([10, 11, 20, 21, 30, 31]),
        host_id=st.sampled_from([None, None, 1, 2, 3]),
    ),
    max_size=8,
).map(
    lambda rows: [
        make_wanted(job_id, **(row | ({"device_id": None} if row["kind"] == "convert" else {"host_id": None})))
        for job_id, row in enumerate(rows, start=1)
    ]
)


def as_set(assigned: list[Assignment]) -> set[tuple[int, str]]:
    """Assignments without their order."""
    return {(assignment.job_id, assignment.place.key) for assignment in assigned}


@given(places=hosts(), jobs=wanted_jobs, seed=st.integers(0, 99))
def test_the_order_of_inputs_does_not_matter(places: list[Place], jobs: list[Wanted], seed: int) -> None:
    shuffled_places, shuffled_jobs = list(places), list(jobs)
    random.Random(seed).shuffle(shuffled_places)
    random.Random(seed + 1).shuffle(shuffled_jobs)
    assert match(shuffled_jobs, shuffled_places) == match(jobs, places)
    assert match(iter(jobs), iter(places)) == match(jobs, places)


@given(places=hosts(), jobs=wanted_jobs)
def test_one_job_per_place_and_one_place_per_job(places: list[Place], jobs: list[Wanted]) -> None:
    assigned = match(jobs, places)
    assert len({assignment.place.key for assignment in assigned}) == len(assigned)
    assert len({assignment.job_id for assignment in assigned}) == len(assigned)


@given(places=hosts(), jobs=wanted_jobs)
def test_a_job_gets_a_free_and_open_place_that_fits_it(places: list[Place], jobs: list[Wanted]) -> None:
    by_id = {job.job_id: job for job in jobs}
    for assignment in match(jobs, places):
        job, place = by_id[assignment.job_id], assignment.place
        assert place in places
        assert place.open
        assert place.busy_with is None
        if job.kind == "measure":
            assert (place.kind, place.device_id) == ("device", job.device_id)
        else:
            assert place.kind == "slot"
            assert job.host_id in (None, place.host_id)


@given(places=hosts(), jobs=wanted_jobs)
@settings(max_examples=200)
def test_a_host_does_nothing_else_while_a_place_that_needs_quiet_is_measured(
    places: list[Place], jobs: list[Wanted]
) -> None:
    assigned = match(jobs, places)
    running: dict[int, list[Place]] = defaultdict(list)
    for place in places:
        if place.busy_with is not None:
            running[place.host_id].append(place)
    started: dict[int, list[Place]] = defaultdict(list)
    for assignment in assigned:
        started[assignment.place.host_id].append(assignment.place)
    for host_id, new in started.items():
        assert not any(place.needs_quiet for place in running[host_id])
        if any(place.needs_quiet for place in new):
            assert running[host_id] == []
            assert len(new) == 1


@given(places=hosts(), jobs=wanted_jobs)
def test_the_first_in_line_starts_where_a_host_is_idle(places: list[Place], jobs: list[Wanted]) -> None:
    idle = [replace(place, busy_with=None, open=True) for place in places]
    order = sorted(jobs, key=lambda job: (-job.priority, job.position, job.job_id))
    device_ids = {place.device_id for place in idle if place.kind == "device"}
    slot_hosts = {place.host_id for place in idle if place.kind == "slot"}

    def can_start(job: Wanted) -> bool:
        if job.kind == "measure":
            return job.device_id in device_ids
        return bool(slot_hosts) if job.host_id is None else job.host_id in slot_hosts

    able = [job for job in order if can_start(job)]
    if able:
        assert match(jobs, idle)[0].job_id == able[0].job_id


@given(places=hosts(), jobs=wanted_jobs)
def test_a_second_look_finds_nothing_that_the_first_left_undone(places: list[Place], jobs: list[Wanted]) -> None:
    assigned = match(jobs, places)
    taken = {assignment.place.key: assignment.job_id for assignment in assigned}
    kinds = {job.job_id: job.kind for job in jobs}
    after = [replace(place, busy_with=kinds[taken[place.key]]) if place.key in taken else place for place in places]
    left = [job for job in jobs if job.job_id not in taken.values()]
    assert match(left, after) == []


def test_priority_goes_before_position_and_position_before_age() -> None:
    place = make_place("cpu")
    late, urgent = make_wanted(1, position=5), make_wanted(2, position=9, priority=1)
    assert as_set(match([late, urgent], [place])) == {(2, "cpu")}
    assert as_set(match([late, make_wanted(3, position=4)], [place])) == {(3, "cpu")}
    assert as_set(match([make_wanted(4, position=5), late], [place])) == {(1, "cpu")}


def test_conversions_share_a_host() -> None:
    slots = [make_place(f"slot:1:{number}") for number in range(2)]
    jobs = [make_wanted(job_id, "convert") for job_id in (1, 2, 3)]
    assert as_set(match(jobs, slots)) == {(1, "slot:1:0"), (2, "slot:1:1")}


def test_a_conversion_for_one_host_waits_for_a_slot_of_that_host() -> None:
    slots = [make_place("slot:1:0"), make_place("slot:2:0", 2, busy_with="convert")]
    assert match([make_wanted(1, "convert", host_id=2)], slots) == []


def test_a_phone_is_measured_while_its_host_converts() -> None:
    phone = make_place("phone", needs_quiet=False)
    busy = make_place("slot:1:0", busy_with="convert")
    assert as_set(match([make_wanted(1)], [phone, busy])) == {(1, "phone")}


def test_nothing_starts_on_a_host_whose_cpu_is_being_measured() -> None:
    places = [
        make_place("cpu", busy_with="measure"),
        make_place("slot:1:0"),
        make_place("phone", device_id=2, needs_quiet=False),
        make_place("slot:2:0", 2),
    ]
    jobs = [make_wanted(1, "convert", host_id=1), make_wanted(2, device_id=2), make_wanted(3, "convert")]
    assert as_set(match(jobs, places)) == {(3, "slot:2:0")}


def test_nothing_starts_beside_a_measurement_that_starts_now() -> None:
    places = [make_place("cpu"), make_place("slot:1:0"), make_place("phone", device_id=2, needs_quiet=False)]
    measure, convert, phone = make_wanted(1), make_wanted(2, "convert"), make_wanted(3, device_id=2)
    assert as_set(match([measure, convert, phone], places)) == {(1, "cpu")}
    assert as_set(match([measure, replace(convert, priority=1), phone], places)) == {(2, "slot:1:0")}


def test_later_conversions_stay_off_a_host_that_shall_fall_quiet() -> None:
    places = [make_place("cpu"), make_place("slot:1:0", busy_with="convert"), make_place("slot:1:1")]
    measure, later = make_wanted(1), make_wanted(2, "convert")
    assert match([measure, later], places) == []
    assert as_set(match([later], places)) == {(2, "slot:1:1")}


def test_a_measurement_that_cannot_start_for_its_own_sake_holds_nobody_up() -> None:
    cooling = make_place("cpu", open=False)
    places = [cooling, make_place("slot:1:0", busy_with="convert"), make_place("slot:1:1")]
    assert as_set(match([make_wanted(1), make_wanted(2, "convert")], places)) == {(2, "slot:1:1")}


@given(
    slots=st.integers(1, 4),
    lengths=st.lists(st.integers(1, 5), min_size=40, max_size=40),
    busy=st.integers(0, 4),
)
@settings(max_examples=50)
def test_a_measurement_first_in_line_is_not_starved_by_a_stream_of_conversions(
    slots: int, lengths: list[int], busy: int
) -> None:
    left = {f"slot:1:{number}": 5 for number in range(min(busy, slots))}  # conversions that run already
    queue = [make_wanted(job_id, "convert") for job_id in range(2, 42)]
    measurement = make_wanted(1)
    for _tick in range(7):
        places = [make_place("cpu")] + [
            make_place(f"slot:1:{number}", busy_with="convert" if f"slot:1:{number}" in left else None)
            for number in range(slots)
        ]
        assigned = match([measurement, *queue], places)
        if 1 in {assignment.job_id for assignment in assigned}:
            return
        for assignment in assigned:
            left[assignment.place.key] = lengths[assignment.job_id - 2]
            queue = [job for job in queue if job.job_id != assignment.job_id]
        left = {key: ticks - 1 for key, ticks in left.items() if ticks > 1}
    pytest.fail("the measurement still waits after every conversion that ran before it has ended")
