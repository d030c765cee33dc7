"""scheduler.verdicts: faster, slower, same, inconclusive."""

from __future__ import annotations

import math
import statistics
from collections import Counter

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from scheduler.verdicts import (
    LEAST_EFFECT,
    Verdict,
    compare,
    mann_whitney_exact_p,
    relative_noise,
)
from workers.statistics import bootstrap_ratio_interval, process_ratio_interval

TEN = [10.0, 10.1, 10.2, 9.9, 9.8, 10.05, 9.95, 10.15, 9.85, 10.01]
#: Process medians: of one device, so within a factor of a hundred.
MEDIANS = st.lists(st.floats(0.1, 10.0), min_size=1, max_size=14)
OPPOSITE = {"faster": "slower", "slower": "faster", "same": "same", "inconclusive": "inconclusive"}


def scaled(values: list[float], factor: float) -> list[float]:
    """Every value times the same."""
    return [value * factor for value in values]


def test_what_is_a_tenth_faster_is_faster_and_says_by_how_much() -> None:
    found = compare(scaled(TEN, 1.1), TEN)
    assert found.answer == "faster"
    assert found.ratio == pytest.approx(1.1)
    assert found.interval is not None
    assert 1 < found.interval[0] < 1.1 < found.interval[1] < 1.2
    assert found.p is not None
    assert found.p < 0.01
    assert "10.0%" in found.why


def test_higher_is_better_of_throughputs() -> None:
    assert compare(TEN, scaled(TEN, 1.1), better="higher").answer == "faster"
    assert compare(TEN, scaled(TEN, 1.1), better="lower").answer == "slower"


def test_what_lies_inside_two_percent_is_the_same_and_the_bound_is_told() -> None:
    quiet = [10 + (value - 10) / 20 for value in TEN]
    found = compare(quiet, scaled(quiet, 1.004))
    assert (found.answer, found.bound) == ("same", LEAST_EFFECT)
    assert "2.0%" in found.why


def test_an_effect_below_two_percent_is_never_faster_however_sure_it_is() -> None:
    quiet = [10 + (value - 10) / 200 for value in TEN]
    assert compare(scaled(quiet, 1.015), quiet).answer == "same"


def test_an_effect_below_the_noise_of_the_series_is_no_verdict() -> None:
    noisy = [8.0, 9.0, 10.0, 11.0, 12.0] * 6
    noisy = [value + number / 1000 for number, value in enumerate(noisy)]
    found = compare(scaled(noisy, 1.1), noisy)
    assert found.answer == "inconclusive"
    assert found.least_effect > 0.1


def test_a_known_noise_floor_widens_what_counts_as_the_same_and_a_guessed_one_does_not() -> None:
    other = scaled(TEN, 1.01)
    assert compare(TEN, other).answer == "inconclusive"
    found = compare(TEN, other, noise_floor=0.03)
    assert (found.answer, found.bound) == ("same", 0.06)


@pytest.mark.parametrize(("before", "after"), [(1, 1), (4, 10), (10, 4)])
def test_few_processes_show_nothing_and_how_many_are_needed_is_said(before: int, after: int) -> None:
    found = compare(TEN[:before], scaled(TEN[:after], 5))
    assert (found.answer, found.interval, found.p, found.detectable) == ("inconclusive", None, None, None)
    assert found.ratio is not None  # a ratio with ~
    assert f"{before} + {after} processes" in found.why
    assert "5 + 5 are the fewest, 10 + 10 the rule" in found.why


def test_five_against_five_can_be_told_apart() -> None:
    assert compare([11.0, 11.1, 11.2, 11.3, 11.4], [1.0, 1.1, 1.2, 1.3, 1.4]).answer == "faster"


@pytest.mark.parametrize(
    ("before", "after"), [([], [1.0]), ([1.0], []), ([0.0] * 9, [1.0] * 9), ([-1.0] * 9, [1.0] * 9), ([None], [1.0])]
)
def test_what_has_no_ratio_has_none(before: list[float | None], after: list[float | None]) -> None:
    found = compare(before, after)
    assert (found.answer, found.ratio, found.interval) == ("inconclusive", None, None)
    assert found.why


def test_absent_values_and_what_is_no_number_are_left_out() -> None:
    found = compare([*TEN, None, math.nan, math.inf], TEN)
    assert found == compare(TEN, TEN)
    assert found.processes == (10, 10)


def test_the_smallest_effect_that_could_have_been_shown_would_have_been_shown() -> None:
    found = compare(TEN, TEN)
    assert found.detectable is not None
    assert found.answer == "inconclusive"
    assert compare(scaled(TEN, 1 + found.detectable * 1.01), TEN).answer == "faster"
    assert compare(scaled(TEN, 1 + found.detectable * 0.9), TEN).answer != "faster"


def test_how_many_processes_would_tell_grows_with_the_noise() -> None:
    noisy = [10 + 4 * (value - 10) for value in TEN]
    assert "about" in compare(TEN, scaled(TEN, 1.01)).why
    assert "lower the noise" in compare(noisy, scaled(noisy, 1.001)).why


def test_stored_repeats_that_did_not_alternate_say_so() -> None:
    assert compare(TEN, TEN).not_alternated
    assert not compare(TEN, TEN, alternated=True).not_alternated


@given(MEDIANS, MEDIANS)
def test_swapped_sides_get_the_opposite_answer(before: list[float], after: list[float]) -> None:
    one, other = compare(before, after), compare(after, before)
    assert other.answer == OPPOSITE[one.answer]
    assert other.ratio is not None
    assert one.ratio == pytest.approx(1 / other.ratio)
    if one.interval is not None:
        assert other.interval is not None
        assert one.interval == pytest.approx((1 / other.interval[1], 1 / other.interval[0]))
        assert one.p == pytest.approx(other.p)


@given(MEDIANS, MEDIANS, st.integers(-20, 20))
def test_the_unit_does_not_matter(before: list[float], after: list[float], power: int) -> None:
    """Powers of two, so that no rounding makes or breaks a tie."""
    factor = 2.0**power
    assert compare(scaled(before, factor), scaled(after, factor)) == compare(before, after)


@given(MEDIANS, MEDIANS, st.randoms(use_true_random=False))
def test_the_order_of_the_values_does_not_matter(before: list[float], after: list[float], random: object) -> None:
    mixed = list(before)
    random.shuffle(mixed)  # type: ignore[attr-defined]
    assert compare(mixed, after) == compare(before, after)


@given(MEDIANS, MEDIANS, st.none() | st.floats(0, 0.5))
def test_an_answer_rests_on_its_interval(before: list[float], after: list[float], floor: float | None) -> None:
    found = compare(before, after, noise_floor=floor)
    if found.answer == "inconclusive":
        return
    assert found.interval is not None
    assert found.ratio is not None
    low, high = found.interval
    if found.answer == "faster":
        assert low > 1
        assert found.ratio >= 1 + found.least_effect
    elif found.answer == "slower":
        assert high < 1
        assert 1 / found.ratio >= 1 + found.least_effect
    else:
        assert 1 / (1 + found.bound) <= low <= high <= 1 + found.bound


def spread_out(values: list[float], factor: float) -> list[float]:
    """The same median, the distances to it larger by a factor (of their logarithms)."""
    centre = math.log(statistics.median(values))
    return [math.exp(centre + factor * (math.log(value) - centre)) for value in values]


_ODD = st.sampled_from([5, 7, 9, 11])


@settings(max_examples=200)
@given(_ODD, _ODD, st.floats(0.8, 1.25), st.floats(0.001, 0.05), st.floats(1.05, 4.0), st.integers(0, 2**31))
def test_more_noise_never_makes_a_verdict_appear(
    n: int, m: int, ratio: float, sigma: float, factor: float, seed: int
) -> None:
    """Odd counts, whose medians are values: spreading them out leaves the medians where they are."""
    random = np.random.default_rng(seed)
    before = [float(value) for value in ratio * np.exp(random.normal(0, sigma, n))]
    after = [float(value) for value in np.exp(random.normal(0, sigma, m))]
    if compare(before, after).answer == "inconclusive":
        assert compare(spread_out(before, factor), spread_out(after, factor)).answer == "inconclusive"


@given(st.lists(st.floats(0.5, 2), min_size=5, max_size=12))
def test_a_set_compared_with_itself_is_never_faster_or_slower(values: list[float]) -> None:
    assert compare(values, values).answer in ("same", "inconclusive")


@given(st.lists(st.floats(0, 100), min_size=1, max_size=9), st.lists(st.floats(0, 100), min_size=1, max_size=9))
def test_the_exact_p_is_that_of_scipy(first: list[float], second: list[float]) -> None:
    assume(len({*first, *second}) == len(first) + len(second))
    wanted = stats.mannwhitneyu(first, second, method="exact").pvalue
    assert mann_whitney_exact_p(first, second) == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize(("n", "m"), [(5, 5), (6, 9), (10, 10)])
def test_the_interval_over_all_resamples_is_that_of_very_many(n: int, m: int) -> None:
    random = np.random.default_rng(n * m)
    above, below = list(random.normal(10, 0.5, n)), list(random.normal(9, 0.5, m))
    drawn = bootstrap_ratio_interval(above, below, 0.99, resamples=100_000)
    assert process_ratio_interval(above, below, 0.99) == pytest.approx(drawn, rel=0.004)


def test_large_sets_have_an_interval_too() -> None:
    many = [10 + number / 100 for number in range(80)]
    low, high = process_ratio_interval(many, TEN)
    assert low < statistics.median(many) / statistics.median(TEN) < high
    assert process_ratio_interval(TEN, many) == pytest.approx((1 / high, 1 / low))


def test_noise_of_a_coarse_clock_is_not_zero() -> None:
    assert relative_noise([10.0] * 6 + [11.0] * 3) > 0.01
    assert relative_noise([10.0] * 9) == 0


def _answers(n: int, noise: float, ratio: float, trials: int, seed: int) -> Counter[str]:
    random = np.random.default_rng(seed)
    found: Counter[str] = Counter()
    for _ in range(trials):
        before, after = ratio * np.exp(random.normal(0, noise, n)), np.exp(random.normal(0, noise, n))
        found[compare(before.tolist(), after.tolist()).answer] += 1
    return found


@pytest.mark.parametrize(("n", "noise"), [(5, 0.02), (10, 0.01), (10, 0.05), (20, 0.03)])
def test_of_alike_things_at_most_one_in_a_hundred_is_told_apart(n: int, noise: float) -> None:
    """A/A: 400 comparisons of the same thing; 10 would be beyond what 1 % gives by chance once in a hundred."""
    found = _answers(n, noise, 1.0, 400, seed=8)
    assert found["faster"] + found["slower"] < 10


def test_a_step_of_five_percent_at_two_percent_noise_is_nearly_always_seen_by_ten_and_ten() -> None:
    assert _answers(10, 0.02, 1.05, 200, seed=9)["faster"] >= 180


def test_the_answer_is_told_by_a_frozen_value() -> None:
    found = compare(TEN, TEN)
    assert isinstance(found, Verdict)
    with pytest.raises(AttributeError):
        found.answer = "same"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([1e308] * 5, [1e-308] * 5),
        ([5e-324] * 10, [1e308] * 10),
        ([1e155, 2e155, 1, 2, 3], [1e-155, 1, 2, 3, 4]),
    ],
)
def test_values_that_no_arithmetic_holds_are_inconclusive(before: list[float], after: list[float]) -> None:
    told = compare(before, after)
    assert (told.answer, told.ratio, told.interval) == ("inconclusive", None, None)
    assert "too far apart" in told.why
