"""One attempt at a place, whatever was given up there, and a place that is free again when nothing runs there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from scheduler.dispatcher import ATTEMPT_LEASE_S
from scheduler.executors.scripted import Succeed
from scheduler.running import LiveAttempt, Running
from tests.unit.scheduler.builders import TORCH, Farm, check_counts, only, plan_of

_EXPIRED_S = ATTEMPT_LEASE_S + 30


@pytest.fixture
def running() -> Running:
    """An attempt, 2, lives where another, 1, was given up and is still to end."""
    known = Running()
    known.live[2] = LiveAttempt(id=2, host_id=1, place="p", kind="measure", owner="ada", expected_s=1.0, heard_at=0.0)
    known.hold(1, 1, "p", 0.0)
    return known


@pytest.mark.parametrize("first", [1, 2])
def test_a_place_is_free_when_all_that_had_it_are_over(running: Running, first: int) -> None:
    running.over(first)
    assert running.busy == {"p": "measure"}
    running.over(3 - first)
    assert running.busy == {}


def test_a_host_that_is_forgotten_frees_no_place_that_another_uses(running: Running) -> None:
    running.forget_host(1)
    assert running.busy == {"p": "measure"}


@pytest.mark.parametrize(("reached", "busy"), [({1: None}, {"p": "convert"}), ({}, {})])
def test_a_place_is_held_only_for_a_host_that_can_say_when_it_is_free(
    running: Running, reached: dict[int, None], busy: dict[str, str]
) -> None:
    running.over(1)
    running.live[2].kind = running.busy["p"] = "convert"
    running.give_up(2, reached, 0.0)
    assert running.live == {}
    assert running.busy == busy


def _until_measuring(farm: Farm) -> None:
    farm.play(only("measure", "silent"))
    for _ in range(10):
        farm.tick()
        if any(row.device_id is not None for row in farm.live()):
            return
    raise AssertionError(farm.states())


def test_a_device_that_moves_away_from_a_host_out_of_reach_takes_work_again(make_farm: Callable[..., Farm]) -> None:
    farm = make_farm(kind="phone")
    other = farm.add_host("other", kind="phone", devices=0)
    phone = farm.host.devices
    farm.submit(plan_of(farm.devices(), TORCH))
    _until_measuring(farm)
    farm.host.state = "lost"
    farm.tick()
    other.plug([replace(device) for device in phone])
    farm.play(Succeed())
    farm.clock.advance(_EXPIRED_S)
    farm.settle()
    assert len(farm.results()) == 1
    assert farm.attempts()[-1].host_id == farm.devices()[0].host_id
    assert farm.devices()[0].host == "other"
    check_counts(farm)


def test_nothing_begins_where_a_host_that_comes_back_still_runs_what_was_given_up(
    make_farm: Callable[..., Farm],
) -> None:
    farm = make_farm(kind="phone")
    farm.submit(plan_of(farm.devices(), TORCH))
    _until_measuring(farm)
    farm.host.obeys = False  # it was frozen: it goes on
    farm.host.state = "lost"
    farm.tick()
    farm.clock.advance(_EXPIRED_S)
    farm.tick()
    farm.host.state = "answers"
    thawed = set(farm.host.running)
    for _ in range(10):
        farm.tick()
        assert farm.host.running == thawed
    farm.host.obeys = True
    farm.play(Succeed())
    farm.settle()
    check_counts(farm)
