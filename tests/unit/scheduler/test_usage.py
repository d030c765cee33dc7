"""Who used how much, whatever the wall clock does."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_registry.database import reading
from scheduler.usage import Usage
from tests.unit.scheduler.builders import TORCH, Farm, check_counts, plan_of

_DAY_S = 86_400.0
_TIMES = st.one_of(st.floats(0, 3600), st.floats(-400 * _DAY_S, 400 * _DAY_S))


@given(st.lists(st.tuples(st.sampled_from("ab"), st.floats(0, 1e4), _TIMES), min_size=1, max_size=20), _TIMES)
def test_usage_is_a_number_whenever_it_was_and_is_asked_for(used: list[tuple[str, float, float]], now_s: float) -> None:
    usage = Usage()
    for owner, seconds, at_s in used:
        usage.add(owner, seconds, at_s)
    found = usage.history({}, now_s).usage_s
    assert found.keys() == {owner for owner, _, _ in used}
    assert all(math.isfinite(seconds) and seconds >= 0 for seconds in found.values())


def test_usage_halves_within_an_hour() -> None:
    usage = Usage()
    usage.add("a", 8.0, 0.0)
    usage.add("b", 8.0, 3600.0)
    assert usage.history({}, 3600.0).usage_s == {"a": 4.0, "b": 8.0}
    assert usage.history({}, 7200.0).usage_s == {"a": 2.0, "b": 4.0}


def test_what_was_used_before_the_clock_was_set_back_weighs_no_more_than_what_is_used_now() -> None:
    usage = Usage()
    usage.add("a", 8.0, 60 * _DAY_S)
    usage.add("b", 8.0, 0.0)
    assert usage.history({}, 0.0).usage_s == {"a": 8.0, "b": 8.0}


def test_a_clock_that_was_months_ahead_and_is_set_right_stops_nobody(farm: Farm) -> None:
    farm.run(plan_of(farm.devices(), TORCH))
    farm.clock.jump(60 * _DAY_S)
    farm.run(plan_of(farm.devices(), TORCH, salt="ahead"))
    farm.clock.jump(-60 * _DAY_S)
    farm.run(plan_of(farm.devices(), TORCH, salt="right"))
    with reading(farm.engine) as connection:
        usage = Usage.read(connection, farm.clock())
    assert usage.history({}, farm.clock().timestamp()).usage_s == {"tester": pytest.approx(4.0, rel=0.01)}
    farm.dispatcher.leave()
    farm.dispatcher = farm.new_dispatcher()  # it reads of ends that lie ahead
    farm.run(plan_of(farm.devices(), TORCH, salt="restarted"))
    assert len(farm.results()) == 4
    check_counts(farm)
