"""The change-point detector: what it finds, what it leaves alone, and what must not matter to it."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduler.regressions.detect import History, change_points


def noisy(*levels: tuple[float, int], noise: float = 0.01, seed: int = 1) -> list[float]:
    """Levels of so many points each, with relative noise."""
    generator = np.random.default_rng(seed)
    parts = [level * (1 + generator.normal(0, noise, count)) for level, count in levels]
    return [float(value) for value in np.concatenate(parts)]


@pytest.mark.parametrize(
    ("values", "found"),
    [
        (noisy((100, 50), (105, 50)), [50]),
        (noisy((100, 30), (90, 30), (100, 30)), [30, 60]),
        (noisy((1e9, 20), (1.5e9, 10)), [20]),
        (noisy((1e-9, 20), (1.5e-9, 10)), [20]),
        (noisy((-100, 30), (-110, 30)), [30]),
        ([1.0] * 4 + [2.0] * 4, [4]),
        ([0.0] * 30 + [1.0] * 6, [30]),
        ([100, 101] * 20 + [110, 111] * 20, [40]),
        # Quiet: one percent is sure where the noise is a tenth of it.
        (noisy((100, 30), (101, 30), noise=0.0002), [30]),
    ],
)
def test_steps_are_found_at_the_first_point_of_the_new_level(values: list[float], found: list[int]) -> None:
    assert change_points(values) == found


@pytest.mark.parametrize(
    "values",
    [
        [],
        [1.0],
        [1.0, 2.0, 3.0],
        [None, None, math.nan],
        [1.0] * 3 + [2.0] * 3,
        [0.0] * 50,
        [5.0] * 600,
        noisy((100, 100)),
        noisy((100, 400), noise=0.05),
        # Three points are a spike, at the end too.
        noisy((100, 40), (150, 3)),
        noisy((100, 40), (150, 3), (100, 40)),
        # Louder, not slower.
        noisy((100, 60), noise=0.01) + noisy((100, 60), noise=0.04, seed=2),
        # Below half a percent no change has a name.
        noisy((100, 30), (100.3, 30), noise=0.0002),
    ],
)
def test_what_is_no_change_is_left_alone(values: list[float | None]) -> None:
    assert change_points(values) == []


def test_a_spike_at_the_step_moves_it_by_nothing() -> None:
    values = noisy((100, 40), (110, 40))
    values[37], values[45] = 200.0, 50.0
    assert change_points(values) == [40]


def test_spikes_of_one_stretch_hide_no_steps_within_it() -> None:
    values = noisy((350, 48), (275, 12), (315, 12), (265, 12), (325, 12), (285, 12), noise=0.015)
    for spike in (51, 54, 57, 63, 67, 75, 78, 81, 88, 91):
        values[spike] *= 1.4
    assert change_points(values) == [48, 60, 72, 84, 96]


def test_a_slope_is_no_change_point_but_a_jump_beside_it_is() -> None:
    generator = np.random.default_rng(3)
    slope = 100 * (1 + np.linspace(0, 0.2, 150)) * (1 + generator.normal(0, 0.01, 150))
    assert change_points(slope.tolist()) == []
    jump = [*noisy((130, 40)), *slope.tolist()]
    assert change_points(jump) == [40]


def test_noise_that_depends_on_itself_is_not_chopped_into_levels() -> None:
    flagged = 0
    for seed in range(20):
        noise = np.random.default_rng(seed).normal(0, 1, 250)
        for index in range(1, 250):
            noise[index] += 0.7 * noise[index - 1]
        flagged += bool(change_points((100 + noise[50:]).tolist()))
    assert flagged <= 3


@pytest.mark.parametrize("louder", [5, 25])
def test_noise_that_grows_is_no_change(louder: int) -> None:
    flagged = 0
    for seed in range(20):
        quiet = noisy((100, 60), noise=0.002, seed=seed)
        flagged += bool(change_points(quiet + noisy((100, 60), noise=0.002 * louder, seed=seed + 100)))
    assert flagged <= 2


def test_gaps_take_an_index_and_nothing_else() -> None:
    values: list[float | None] = [*noisy((100, 30), (110, 30))]
    values[28:28] = [None, math.nan]
    values[35:35] = [math.inf, None, -math.inf]
    assert change_points(values) == [32]
    assert History.of(values).segments()[0].last == 31


def test_huge_and_tiny_values_neither_overflow_nor_vanish() -> None:
    values = noisy((100, 30), (110, 30))
    for scale in (1e-300, 1e300):
        assert change_points([value * scale for value in values]) == [30]


def test_long_series_keep_what_was_settled() -> None:
    values = noisy(*[(100 if number % 2 else 110, 90) for number in range(14)], noise=0.02)
    found = change_points(values)
    assert len(found) == 13
    assert all(abs(place - 90 * number) <= 2 for number, place in enumerate(found, 1))


def test_segments_tell_the_levels() -> None:
    first, second = History.of(noisy((100, 40), (110, 20))).segments()
    assert (first.first, first.last, first.count) == (0, 39, 40)
    assert (second.first, second.last, second.count) == (40, 59, 20)
    assert second.median == pytest.approx(110, rel=0.01)
    assert 0.005 < first.sigma / first.median < 0.02
    assert History().segments() == []


finite = st.floats(-1e12, 1e12, allow_nan=False)
series = st.lists(st.one_of(finite, st.none(), st.sampled_from([math.nan, math.inf, 0.0, 100.0])), max_size=60)


@st.composite
def steps(draw: st.DrawFn) -> list[float]:
    """Levels that are well apart, of six points at least, with a little noise."""
    seed = draw(st.integers(0, 2**32 - 1))
    lengths = draw(st.lists(st.integers(6, 25), min_size=1, max_size=4))
    generator = np.random.default_rng(seed)
    level = 100.0
    parts = []
    for length in lengths:
        parts.append(level * (1 + generator.normal(0, 0.01, length)))
        level *= draw(st.sampled_from([0.8, 0.9, 1.12, 1.3]))
    return [float(value) for value in np.concatenate(parts)]


@given(series)
@settings(deadline=None, max_examples=60)
def test_indices_are_sorted_valid_and_known(values: list[float | None]) -> None:
    found = change_points(values)
    known = [index for index, value in enumerate(values) if value is not None and math.isfinite(value)]
    assert found == sorted(set(found))
    assert set(found) <= set(known[4:])
    borders = [0, *(known.index(place) for place in found), len(known)]
    assert not found or min(after - before for before, after in pairwise(borders)) >= 4


@given(finite, st.integers(0, 80))
@settings(deadline=None, max_examples=40)
def test_nothing_is_reported_of_a_constant(value: float, count: int) -> None:
    assert change_points([value] * count) == []


@given(steps(), st.integers(-60, 60), st.floats(0.1, 10))
@settings(deadline=None, max_examples=40)
def test_scale_means_nothing(values: list[float], power: int, factor: float) -> None:
    found = change_points(values)
    assert change_points([math.ldexp(value, power) for value in values]) == found
    assert change_points([value * factor for value in values]) == found
    assert change_points([-value for value in values]) == found


@given(steps())
@settings(deadline=None, max_examples=40)
def test_time_backwards_has_the_same_changes(values: list[float]) -> None:
    forward = change_points(values)
    backward = sorted(len(values) - place for place in change_points(values[::-1]))
    assert len(forward) == len(backward)
    assert all(abs(one - other) <= 1 for one, other in zip(forward, backward, strict=True))


@given(steps(), st.lists(st.integers(0, 100), max_size=8))
@settings(deadline=None, max_examples=40)
def test_absent_values_shift_and_change_nothing(values: list[float], gaps: list[int]) -> None:
    with_gaps: list[float | None] = [*values]
    for place in gaps:
        with_gaps.insert(min(place, len(with_gaps)), None)
    known = [index for index, value in enumerate(with_gaps) if value is not None]
    assert change_points(with_gaps) == [known[place] for place in change_points(values)]


@given(st.integers(0, 2**32 - 1), st.integers(500, 1400), st.lists(st.integers(1, 1400), max_size=6))
@settings(deadline=None, max_examples=8)
def test_appending_equals_the_full_pass(seed: int, count: int, asked: list[int]) -> None:
    generator = np.random.default_rng(seed)
    level = np.repeat(generator.choice([100.0, 104.0, 112.0], 24), 60)[:count]
    values = [float(value) for value in level * (1 + generator.normal(0, 0.02, count))]
    history = History()
    for number, value in enumerate(values, 1):
        history.append(value)
        if number in asked:  # what is asked in between changes nothing
            assert history.change_points == change_points(values[:number])
    assert history.change_points == change_points(values)
