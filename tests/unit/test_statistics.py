"""workers.statistics against exact values."""

from __future__ import annotations

import itertools
import math
import random
import statistics
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.statistics import (
    LEAST_FOR_INTERVAL,
    LEAST_SAMPLES,
    bootstrap_median_interval,
    bootstrap_ratio_interval,
    mann_whitney_p,
    median_interval,
    percentile,
    process_median_interval,
    spread,
)

latencies = st.floats(min_value=1e-3, max_value=1e6, allow_nan=False)
confidences = st.sampled_from([0.5, 0.8, 0.9, 0.95, 0.99, 0.999])


def rank_of(n: int, confidence: float) -> int | None:
    """Which order statistic the interval begins at: the samples are their own ranks."""
    interval = median_interval(range(n), confidence)
    return None if interval is None else int(interval[0])


def coverage(n: int, k: int) -> Fraction:
    """Exact probability that (x[k], x[n-1-k]) of n samples encloses the median of a continuous distribution."""
    return 1 - Fraction(2 * sum(math.comb(n, i) for i in range(k + 1)), 2**n)


def exact_rank(n: int, confidence: float) -> int:
    """The largest rank that keeps the confidence."""
    tail, cumulative, k = Fraction(1 - Fraction(confidence)) / 2 * 2**n, 0, -1
    while (cumulative := cumulative + math.comb(n, k + 1)) <= tail:
        k += 1
    return k


@given(n=st.integers(2, 400), confidence=confidences)
def test_median_interval_is_the_narrowest_that_covers_with_the_wanted_confidence(n: int, confidence: float) -> None:
    k = rank_of(n, confidence)
    if k is None:
        assert coverage(n, 0) < confidence
    else:
        assert coverage(n, k) >= confidence - 1e-12
        assert k + 1 >= n // 2 or coverage(n, k + 1) < confidence + 1e-12


@pytest.mark.parametrize("n", [1001, 1500, 3000])
@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.99])
def test_median_interval_of_many_samples_is_within_one_rank_of_the_exact_one(n: int, confidence: float) -> None:
    assert rank_of(n, confidence) == pytest.approx(exact_rank(n, confidence), abs=1)


def test_under_six_samples_there_is_no_interval() -> None:
    assert [median_interval(range(n)) is None for n in range(9)] == [True] * LEAST_FOR_INTERVAL + [False] * 3


def test_median_interval_of_ten_known_samples() -> None:
    # Conover's table: n = 10, 95 %: second smallest to second largest.
    assert median_interval([3, 1, 2, 10, 9, 8, 4, 5, 7, 6]) == (2.0, 9.0)


@given(samples=st.lists(latencies, min_size=6, max_size=80), confidence=confidences)
def test_median_interval_contains_the_median(samples: list[float], confidence: float) -> None:
    interval = median_interval(samples, confidence)
    if interval is not None:
        assert interval[0] <= statistics.median(samples) <= interval[1]


@given(samples=st.lists(latencies, min_size=6, max_size=80), seed=st.integers(0, 9))
def test_median_interval_does_not_depend_on_the_order_of_samples(samples: list[float], seed: int) -> None:
    shuffled = list(samples)
    random.Random(seed).shuffle(shuffled)
    assert median_interval(shuffled) == median_interval(samples)


@given(samples=st.lists(latencies, min_size=6, max_size=80), low=confidences, high=confidences)
def test_more_confidence_never_narrows_the_median_interval(samples: list[float], low: float, high: float) -> None:
    wide, narrow = median_interval(samples, max(low, high)), median_interval(samples, min(low, high))
    if wide is not None:
        assert narrow is not None
        assert wide[0] <= narrow[0]
        assert narrow[1] <= wide[1]


@pytest.mark.parametrize("q", sorted(LEAST_SAMPLES))
def test_percentile_is_absent_below_the_samples_that_make_it_mean_something(q: int) -> None:
    least = LEAST_SAMPLES[q]
    assert percentile(range(least - 1), q) is None
    assert percentile(range(least), q) is not None


@given(q=st.sampled_from(sorted(LEAST_SAMPLES)), extra=st.integers(0, 50), seed=st.integers(0, 99))
def test_percentile_is_a_sample_with_the_wanted_share_at_or_below_it(q: int, extra: int, seed: int) -> None:
    samples = np.random.default_rng(seed).lognormal(size=LEAST_SAMPLES[q] + extra)
    value = percentile(samples, q)
    assert value in samples
    below = np.count_nonzero(samples <= value) / len(samples)
    assert q / 100 <= below <= q / 100 + 2 / len(samples)


def test_spread_of_known_samples() -> None:
    # Quartiles 25, 50, 75: beyond 112.5 or below -12.5 is mild, beyond 150 or below -50 extreme.
    apart = spread([*range(101)])
    assert (apart.mad, apart.iqr_over_median) == (25.0, 1.0)
    assert (apart.outliers_mild, apart.outliers_extreme) == (0, 0)


def test_outliers_are_counted_once_each_by_how_far_they_lie() -> None:
    around_ten = [9.0, 9.5, 10.0, 10.5, 11.0] * 20  # quartiles 9.5 and 10.5
    apart = spread([*around_ten, 12.5, 7.5, 99.0])
    assert (apart.outliers_mild, apart.outliers_extreme) == (2, 1)


@given(value=latencies, n=st.integers(1, 20))
def test_equal_samples_have_no_spread(value: float, n: int) -> None:
    apart = spread([value] * n)
    assert (apart.mad, apart.iqr_over_median, apart.outliers_mild, apart.outliers_extreme) == (0.0, 0.0, 0, 0)


def u_of(first: list[float], second: list[float]) -> float:
    """U by its definition: pairs in which the first is larger, ties half."""
    return sum((a > b) + (a == b) / 2 for a in first for b in second)


@given(
    first=st.lists(st.integers(0, 6).map(float), min_size=2, max_size=5),
    second=st.lists(st.integers(0, 6).map(float), min_size=2, max_size=5),
)
@settings(max_examples=40)
def test_mann_whitney_uses_the_exact_mean_and_variance_of_u_ties_included(
    first: list[float], second: list[float]
) -> None:
    pooled, n = first + second, len(first)
    every = []
    for chosen in itertools.combinations(range(len(pooled)), n):
        rest = [pooled[i] for i in range(len(pooled)) if i not in chosen]
        every.append(u_of([pooled[i] for i in chosen], rest))
    mean, deviation = statistics.fmean(every), statistics.pstdev(every)
    distance = max(abs(u_of(first, second) - mean) - 0.5, 0.0)
    expected = math.erfc(distance / deviation / math.sqrt(2)) if deviation else 1.0
    assert mann_whitney_p(first, second) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_mann_whitney_is_near_the_brute_force_permutation_test(seed: int) -> None:
    generator = np.random.default_rng(seed)
    first, second = list(generator.normal(size=6)), list(generator.normal(0.8, size=6))
    pooled = first + second
    observed = abs(u_of(first, second) - 18)
    more_extreme = total = 0
    for chosen in itertools.combinations(range(12), 6):
        rest = [pooled[i] for i in range(12) if i not in chosen]
        total += 1
        more_extreme += abs(u_of([pooled[i] for i in chosen], rest) - 18) >= observed - 1e-9
    assert mann_whitney_p(first, second) == pytest.approx(more_extreme / total, abs=0.02)


def test_mann_whitney_of_thirty_that_are_all_slower_is_far_below_one_in_a_thousand() -> None:
    # U = 0, mean 450, variance 4575: z = 449.5 / 67.639.
    expected = math.erfc(449.5 / math.sqrt(4575) / math.sqrt(2))
    assert mann_whitney_p(range(30), range(30, 60)) == pytest.approx(expected, rel=1e-9)
    assert expected < 0.001


@given(first=st.lists(latencies, min_size=2, max_size=20), second=st.lists(latencies, min_size=2, max_size=20))
def test_mann_whitney_is_symmetric_and_a_probability(first: list[float], second: list[float]) -> None:
    p = mann_whitney_p(first, second)
    assert 0 <= p <= 1
    assert mann_whitney_p(second, first) == pytest.approx(p)


@given(samples=st.lists(latencies, min_size=2, max_size=20))
def test_mann_whitney_of_samples_with_themselves_finds_nothing(samples: list[float]) -> None:
    assert mann_whitney_p(samples, samples) == 1.0


@given(samples=st.lists(latencies, min_size=1, max_size=12))
@settings(max_examples=30)
def test_bootstrap_interval_is_the_same_every_time_and_contains_the_median(samples: list[float]) -> None:
    low, high = bootstrap_median_interval(samples)
    assert (low, high) == bootstrap_median_interval(samples)
    assert min(samples) <= low <= statistics.median(samples) <= high <= max(samples)


@given(samples=st.lists(latencies, min_size=1, max_size=6), confidence=confidences)
@settings(max_examples=40)
def test_the_interval_over_processes_is_that_of_every_resample(samples: list[float], confidence: float) -> None:
    """Against all of them, one by one."""
    n = len(samples)
    medians = sorted(statistics.median(drawn) for drawn in itertools.product(samples, repeat=n))
    below = Fraction(n**n) * (1 - Fraction(confidence)) / 2
    first = max(math.ceil(below), 1) - 1
    low, high = process_median_interval(samples, confidence)
    # Where the tail ends between two resamples that differ in the last bit, either is right.
    assert low in medians[max(first - 1, 0) : first + 2]
    assert high in medians[len(medians) - first - 2 : len(medians) - first + 1]
    assert low <= statistics.median(samples) <= high


@given(samples=st.lists(latencies, min_size=1, max_size=60), seed=st.integers(0, 9))
@settings(max_examples=40)
def test_the_interval_over_processes_minds_no_order(samples: list[float], seed: int) -> None:
    mixed = random.Random(seed).sample(samples, len(samples))
    assert process_median_interval(mixed) == process_median_interval(samples)


@pytest.mark.parametrize("n", [5, 6, 10, 25, 60, 61])
def test_the_interval_over_processes_is_what_drawing_comes_near_to(n: int) -> None:
    samples = list(np.random.default_rng(n).lognormal(size=n))
    low, high = process_median_interval(samples)
    drawn = bootstrap_median_interval(samples, resamples=20_000)
    assert (low, high) == pytest.approx(drawn, rel=0.1)


def test_bootstrap_interval_follows_its_seed() -> None:
    samples = np.random.default_rng(0).lognormal(size=15)
    few = {bootstrap_median_interval(samples, resamples=50, seed=seed) for seed in range(5)}
    assert len(few) > 1


def test_bootstrap_interval_widens_with_confidence() -> None:
    samples = np.random.default_rng(0).lognormal(size=15)
    low, high = bootstrap_median_interval(samples, 0.99)
    narrow = bootstrap_median_interval(samples, 0.8)
    assert low < narrow[0] < narrow[1] < high


@given(samples=st.lists(latencies, min_size=1, max_size=12))
@settings(max_examples=30)
def test_ratio_interval_of_samples_with_themselves_contains_one(samples: list[float]) -> None:
    low, high = bootstrap_ratio_interval(samples, samples)
    assert low <= 1 <= high


def test_ratio_interval_finds_a_known_ratio_and_excludes_one() -> None:
    generator = np.random.default_rng(0)
    slow, fast = generator.normal(20, 0.1, size=10), generator.normal(10, 0.1, size=10)
    low, high = bootstrap_ratio_interval(slow, fast)
    assert 1.9 < low < 2.0 < high < 2.1
    assert bootstrap_ratio_interval(slow, fast) == (low, high)
