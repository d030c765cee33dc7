"""The statistics that docs/measurement.md asks for. Pure; numpy only: it runs in the child, and scipy costs 0.6 s."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float64]

#: Least samples for a percentile to be published: the binomial bound with one over-latency at 99 % (MLPerf's rule).
LEAST_SAMPLES = {90: 64, 95: 130, 99: 662}
#: Resamples of more values are drawn: all of 60 have 1,830 medians.
_MOST_RESAMPLED = 60
#: Under six samples no two order statistics enclose the median with 95 %.
LEAST_FOR_INTERVAL = 6


def median_interval(samples: Sequence[float] | Samples, confidence: float = 0.95) -> tuple[float, float] | None:
    """Order-statistic interval of the median, exact by the binomial distribution; None where none exists.

    The interval (x[k], x[n-1-k]) covers the median with probability 1 - 2 P(Bin(n, 1/2) <= k); k is the largest that
    keeps the wanted confidence (Conover, Practical Nonparametric Statistics, 3.2).
    """
    ordered = np.sort(np.asarray(samples, dtype=np.float64))
    k = _interval_rank(len(ordered), confidence)
    return None if k is None else (float(ordered[k]), float(ordered[len(ordered) - 1 - k]))


def _interval_rank(n: int, confidence: float) -> int | None:
    tail = (1 - confidence) / 2
    if n > 1000:  # normal approximation with continuity correction: within one rank of the exact one at this size
        k = math.floor(n / 2 - 1 + 0.5 - _normal_quantile(1 - tail) * math.sqrt(n) / 2)
        return max(k, 0)
    cumulative, term, best = 0.0, 0.5**n, None
    for k in range(n // 2):
        cumulative += term
        if cumulative > tail:
            break
        best = k
        term *= (n - k) / (k + 1)
    return best


def _normal_quantile(p: float) -> float:
    from statistics import NormalDist

    return NormalDist().inv_cdf(p)


def percentile(samples: Sequence[float] | Samples, q: int) -> float | None:
    """The q-th percentile, or None without the samples that make it mean something (`LEAST_SAMPLES`)."""
    values = np.asarray(samples, dtype=np.float64)
    if len(values) < LEAST_SAMPLES[q]:
        return None
    return float(np.percentile(values, q, method="higher"))


@dataclass(frozen=True)
class Spread:
    """How far samples lie apart."""

    mad: float
    iqr_over_median: float
    outliers_mild: int
    outliers_extreme: int


def spread(samples: Sequence[float] | Samples) -> Spread:
    """Median absolute deviation, IQR over median, and outliers beyond 1.5 and 3 IQR (Tukey): counted, never dropped."""
    values = np.asarray(samples, dtype=np.float64)
    q1, q2, q3 = (float(q) for q in np.percentile(values, [25, 50, 75]))
    iqr = q3 - q1
    distance = np.maximum(q1 - values, values - q3)
    extreme = int(np.count_nonzero(distance > 3 * iqr))
    return Spread(
        mad=float(np.median(np.abs(values - q2))),
        iqr_over_median=iqr / q2 if q2 else 0.0,
        outliers_mild=int(np.count_nonzero(distance > 1.5 * iqr)) - extreme,
        outliers_extreme=extreme,
    )


def mann_whitney_p(first: Sequence[float] | Samples, second: Sequence[float] | Samples) -> float:
    """Two-sided p of the Mann-Whitney U test, normal approximation with tie and continuity correction."""
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    n, m = len(a), len(b)
    _, inverse, counts = np.unique(np.concatenate([a, b]), return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks = ((ends - counts + 1 + ends) / 2)[inverse]  # mean rank within each group of ties
    u = float(ranks[:n].sum()) - n * (n + 1) / 2
    total = n + m
    ties = float((counts.astype(np.float64) ** 3 - counts).sum())
    variance = n * m / 12 * ((total + 1) - ties / (total * (total - 1)))
    if variance <= 0:
        return 1.0
    z = max(abs(u - n * m / 2) - 0.5, 0.0) / math.sqrt(variance)
    return math.erfc(z / math.sqrt(2))


def process_median_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """Percentile bootstrap interval of the median over all resamples there are, which is what few values allow.

    A resample's median is an order statistic, or the mean of two, each with a known probability (Efron, The Jackknife,
    the Bootstrap and Other Resampling Plans, 10.3): nothing is drawn, and the order of the values means nothing. A
    thousandth of what drawing costs, so that every point can have it.
    """
    if len(values) > _MOST_RESAMPLED:
        return bootstrap_median_interval(sorted(values), confidence)
    ordered = sorted(values)
    medians = sorted(((ordered[i] + ordered[j]) / 2, share) for i, j, share in _middles(len(ordered)))
    tail = (1 - confidence) / 2
    return _reached(medians, tail), _reached(medians[::-1], tail)


def process_ratio_interval(
    numerator: Sequence[float], denominator: Sequence[float], confidence: float = 0.95
) -> tuple[float, float]:
    """Bootstrap interval of the ratio of two medians over all resamples of both: upside down for swapped sides."""
    if max(len(numerator), len(denominator)) > _MOST_RESAMPLED:
        above, below = sorted(numerator), sorted(denominator)
        if (len(above), above) <= (len(below), below):
            return bootstrap_ratio_interval(above, below, confidence)
        low, high = bootstrap_ratio_interval(below, above, confidence)
        return 1 / high, 1 / low
    above_values, above_shares = _resampled(numerator)
    below_values, below_shares = _resampled(denominator)
    ratios = np.divide.outer(above_values, below_values).ravel()
    shares = np.multiply.outer(above_shares, below_shares).ravel()
    order = np.argsort(ratios, kind="stable")
    ratios, shares = ratios[order], shares[order]
    tail = (1 - confidence) / 2
    last = len(ratios) - 1
    lowest = min(int(np.searchsorted(np.cumsum(shares), tail)), last)
    highest = last - min(int(np.searchsorted(np.cumsum(shares[::-1]), tail)), last)
    return float(ratios[lowest]), float(ratios[highest])


def _resampled(values: Sequence[float]) -> tuple[Samples, Samples]:
    """Medians that resamples of these values can have, and how often."""
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    first, second, shares = _middle_arrays(len(ordered))
    return (ordered[first] + ordered[second]) / 2, shares


@lru_cache(maxsize=_MOST_RESAMPLED)
def _middle_arrays(n: int) -> tuple[NDArray[np.intp], NDArray[np.intp], Samples]:
    """`_middles` as arrays, without what never happens."""
    likely = [middle for middle in _middles(n) if middle[2] > 1e-12]
    first, second, shares = zip(*likely, strict=True)
    return np.array(first, dtype=np.intp), np.array(second, dtype=np.intp), np.array(shares, dtype=np.float64)


def _reached(medians: Sequence[tuple[float, float]], tail: float) -> float:
    """The first at which so much of the probability has come together."""
    seen = 0.0
    for median, share in medians:
        seen += share
        if seen >= tail:
            return median
    return medians[-1][0]


@lru_cache(maxsize=_MOST_RESAMPLED)
def _middles(n: int) -> tuple[tuple[int, int, float], ...]:
    """Which order statistics are the two middle ones of a resample of n (one of them twice where n is odd), how often.

    Of an even n the lower half is h draws whose largest is i, the upper half h draws whose smallest is j.
    """
    half = n // 2
    middle = [_at_least(n - half, n, rank / n) for rank in range(n + 1)]
    if n % 2:
        return tuple((rank, rank, middle[rank + 1] - middle[rank]) for rank in range(n))
    largest = [((rank + 1) / n) ** half - (rank / n) ** half for rank in range(n)]
    ways = math.comb(n, half)
    found = []
    for i in range(n):
        apart = [(i, j, ways * largest[i] * largest[n - 1 - j]) for j in range(i + 1, n)]
        both = middle[i + 1] - middle[i] - math.fsum(share for _, _, share in apart)
        found += [(i, i, max(both, 0.0)), *apart]
    return tuple(found)


def _at_least(k: int, n: int, share: float) -> float:
    """Probability of at least k of n."""
    return math.fsum(math.comb(n, i) * share**i * (1 - share) ** (n - i) for i in range(k, n + 1))


def bootstrap_median_interval(
    samples: Sequence[float], confidence: float = 0.95, resamples: int = 4000, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of the median, seeded so that the same rows always print the same interval."""
    medians = _bootstrap_medians(samples, resamples, np.random.default_rng(seed))
    return _tails(medians, confidence)


def bootstrap_ratio_interval(
    numerator: Sequence[float],
    denominator: Sequence[float],
    confidence: float = 0.95,
    resamples: int = 4000,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile bootstrap interval of the ratio of two medians of independent samples."""
    generator = np.random.default_rng(seed)
    ratios = _bootstrap_medians(numerator, resamples, generator) / _bootstrap_medians(denominator, resamples, generator)
    return _tails(ratios, confidence)


def _bootstrap_medians(samples: Sequence[float], resamples: int, generator: np.random.Generator) -> Samples:
    values = np.asarray(samples, dtype=np.float64)
    picks = generator.integers(0, len(values), size=(resamples, len(values)))
    return np.asarray(np.median(values[picks], axis=1), dtype=np.float64)


def _tails(values: Samples, confidence: float) -> tuple[float, float]:
    tail = (1 - confidence) / 2 * 100
    low, high = np.percentile(values, [tail, 100 - tail])
    return float(low), float(high)


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """p adjusted for how many were looked at: those at most q hold at most that share of false ones.

    Benjamini & Hochberg, "Controlling the false discovery rate", 1995; the step-up rule as adjusted p, in the order
    given.
    """
    count = len(p_values)
    adjusted = [1.0] * count
    least = 1.0
    for rank, index in zip(range(count, 0, -1), sorted(range(count), key=lambda i: -p_values[i]), strict=True):
        least = min(least, p_values[index] * count / rank)
        adjusted[index] = least
    return adjusted
