"""Sigma of a series: without its steps and spikes, and never zero for coarse values. And p adjusted for many looks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from scheduler.regressions.hampel import clipped
from scheduler.regressions.judge import normal_deviate
from scheduler.regressions.sigma import difference_sigma, spread_sigma
from workers.statistics import benjamini_hochberg


def test_steps_and_spikes_do_not_widen_it() -> None:
    values = np.random.default_rng(1).normal(100, 2, 400)
    plain = difference_sigma(values)
    values[200:] += 50
    values[::50] += 40
    assert difference_sigma(values) == pytest.approx(plain, rel=0.15)
    assert plain == pytest.approx(2, rel=0.15)


def test_coarse_values_have_their_spread_and_constants_a_floor() -> None:
    mostly_equal = np.array([100.0] * 8 + [101.0, 102.0] * 1 + [100.0] * 8 + [99.0, 98.0])
    assert difference_sigma(mostly_equal) > 0.3
    assert spread_sigma(mostly_equal) > 0.3
    assert difference_sigma(np.full(20, 50.0)) == pytest.approx(0.05)
    assert spread_sigma(np.zeros(20)) == 0.0


def test_up_to_three_points_are_a_spike_and_four_a_level() -> None:
    for count, kept in ((1, False), (3, False), (4, True)):
        for start in (0, 20, 40 - count):
            values = np.full(40, 100.0)
            values[start : start + count] = 150.0
            assert bool((clipped(values, 1.0) > 125).any()) is kept


@pytest.mark.parametrize("freedom", [6, 14, 60])
@pytest.mark.parametrize("t", [1.0, 3.0, 6.0, 12.0])
def test_the_normal_deviate_of_student_t(t: float, freedom: int) -> None:
    exact = stats.norm.isf(stats.t.sf(t, freedom))
    assert float(normal_deviate(np.array(t), np.array(freedom))) == pytest.approx(exact, rel=0.02)


@given(st.lists(st.floats(0, 1), max_size=30))
def test_benjamini_hochberg_is_that_of_scipy(p_values: list[float]) -> None:
    expected = stats.false_discovery_control(p_values).tolist() if p_values else []
    assert benjamini_hochberg(p_values) == pytest.approx(expected)
