"""The first look at a new point."""

from __future__ import annotations

import math

import numpy as np
import pytest

from scheduler.regressions.screen import screen


def level(count: int, noise: float = 0.02) -> list[float]:
    return [float(value) for value in 100 * (1 + np.random.default_rng(5).normal(0, noise, count))]


@pytest.mark.parametrize(
    ("value", "outcome"), [(112.0, "slower"), (88.0, "faster"), (102.0, "steady"), (98.0, "steady")]
)
def test_a_point_is_suspect_beyond_three_sigma(value: float, outcome: str) -> None:
    screened = screen(level(40), value)
    assert screened.outcome == outcome
    assert screened.change == pytest.approx(value / 100 - 1, abs=0.01)
    assert screened.noise is not None
    assert 0.01 < screened.noise < 0.03


def test_two_percent_is_the_least_change() -> None:
    assert screen(level(40, noise=0.001), 101.5).outcome == "steady"
    assert screen(level(40, noise=0.001), 102.5).outcome == "slower"


def test_a_learnt_noise_floor_counts() -> None:
    assert screen(level(40), 112.0, noise_floor=0.05).outcome == "steady"


@pytest.mark.parametrize(
    ("values", "value"),
    [([], 1.0), ([1.0] * 3, 2.0), ([math.nan] * 9, 2.0), ([1.0] * 9, math.nan), ([0.0] * 9, 1.0), ([-1.0] * 9, 1.0)],
)
def test_too_little_is_said_so(values: list[float], value: float) -> None:
    screened = screen(values, value)
    assert (screened.outcome, screened.change, screened.z, screened.noise) == ("few", None, None, None)


def test_equal_values_have_a_noise_of_a_tenth_of_a_percent() -> None:
    screened = screen([100.0] * 20, 103.0)
    assert (screened.outcome, screened.noise) == ("slower", pytest.approx(0.001))


def test_a_step_too_small_for_one_night_is_suspect_within_five() -> None:
    base = [*level(60), 100.0, 99.5, 100.5, 100.0]
    tonight = 104.4  # about two sigma
    assert screen(base, tonight).outcome == "steady"
    together = screen([*base, tonight, tonight, tonight], tonight)
    assert together.outcome == "slower"
    assert together.change == pytest.approx(0.044, abs=0.01)


def test_a_spike_is_suspect_on_its_own_night_only() -> None:
    base = level(60)
    assert screen(base, 120.0).outcome == "slower"
    assert screen([*base, 120.0], 100.5).outcome == "steady"
    assert screen([*base, 120.0, 100.5], 99.5).outcome == "steady"
