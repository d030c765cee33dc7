"""Which of the proposed changes are sure and large enough: Student's t-test between neighbouring levels, and an effect.

After Fleming et al., "Hunter: using change point detection to hunt for performance regressions", arXiv 2301.03034, with
three differences: the weakest change goes first, not the first one in order; noise that depends on itself widens the
test; p shrinks with the length of the series, for a longer one has more places to be wrong at.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from scheduler.regressions.running_sums import Places, RunningSums
from scheduler.regressions.sigma import Values

#: Two-sided p = 2.7e-5 as a normal deviate: what a change must reach in a series of a hundred points.
_Z_AT_100 = 4.2
#: Changes are named from 2 % of the level on ...
_LEAST_EFFECT = 0.02
#: ... and in quiet series from where they stand out of the noise by so many sigma, but never below 0.5 % ...
_SURE_SIGMAS = 4.0
_QUIET_EFFECT = 0.005
#: ... and nowhere below so many sigma, and so many more over the length of the shorter stretch: a lasting step of one
#: sigma is seen, a bump of a few points is not. Levels near zero, where no share means anything, have this alone.
_LEAST_SIGMAS = 0.7
_SHORT = 12.0
#: The first and the last level count for so many times their length: a bump has two borders, they may go on.
_UNFINISHED = 2.0
#: The expected noise of a stretch counts like so many values.
_PRIOR = 8
#: Correlation of neighbours is not believed above.
_MOST_CORRELATION = 0.9


def judged(sums: RunningSums, values: Values, places: list[int]) -> list[int]:
    """The weakest changes go first, until all that are left are sure and large enough.

    Those go at once that are weaker than both of their neighbours: what one leaves behind does not touch another.
    """
    borders = np.array([0, *places, len(values)], dtype=np.intp)
    while len(borders) > 2:
        means, _ = sums.level(borders[:-1], borders[1:])
        inflation = inflation_of(values - sums.offset - np.repeat(means, np.diff(borders)), len(borders) - 2)
        scores = _scores(sums, borders, inflation)
        around = np.concatenate([[np.inf], scores, [np.inf]])
        weak = (scores < 1) & (scores <= around[:-2]) & (scores < around[2:])
        if not weak.any():
            break
        borders = np.delete(borders, np.flatnonzero(weak) + 1)
    return [int(place) for place in borders[1:-1]]


def _scores(sums: RunningSums, borders: Places, inflation: float) -> Values:
    """At least 1 for each border whose sides are at different levels."""
    start, end = borders[:-1], borders[1:]
    level, error = sums.level(start, end)
    fit = Fit(level, error, sums.noise(start, end), inflation / (end - start), end - start - 1)
    return score(fit.first(), fit.second(), sums.offset, shorter_of(borders), z_limit(sums.count))


def shorter_of(borders: Places) -> Values:
    """Values on the shorter side of each border, of the first and the last level more than there are."""
    lengths = np.diff(borders).astype(np.float64)
    lengths[[0, -1]] *= _UNFINISHED
    return np.minimum(lengths[:-1], lengths[1:])


@dataclass(frozen=True)
class Fit:
    """What stretches are fitted with, at their borders."""

    #: Value of the fit.
    value: Values
    #: Squared error of the values about it.
    error: Values
    #: Variance of the noise that is expected.
    expected: Values
    #: Variance of `value` for a variance of one.
    width: Values
    #: Values beyond those that the fit took.
    freedom: Places

    def first(self) -> Fit:
        """Of the stretches before each border."""
        return Fit(self.value[:-1], self.error[:-1], self.expected[:-1], self.width[:-1], self.freedom[:-1])

    def second(self) -> Fit:
        """Of those after."""
        return Fit(self.value[1:], self.error[1:], self.expected[1:], self.width[1:], self.freedom[1:])


def score(before: Fit, after: Fit, offset: float, shorter: Values, limit: float) -> Values:
    """How sure and how large the gap between two fits is, the lesser of both; 1 is enough.

    Both sides share their variance. The expected noise counts like eight values: four alike points have no variance to
    be trusted.

    Args:
        before: fits on the one side.
        after: fits on the other.
        offset: of zero; a share is of the side nearer to it, so that both directions of time have the same.
        shorter: values on the shorter side.
        limit: normal deviate that is sure enough.
    """
    gap = np.abs(after.value - before.value)
    level = np.minimum(np.abs(before.value + offset), np.abs(after.value + offset))
    freedom = np.maximum(before.freedom + after.freedom, 0.0) + _PRIOR
    variance = (_PRIOR / 2 * (before.expected + after.expected) + before.error + after.error) / freedom
    noise = np.sqrt(variance)
    quiet = np.maximum(_QUIET_EFFECT * level, _SURE_SIGMAS * noise)
    least = np.maximum((_LEAST_SIGMAS + _SHORT / shorter) * noise, np.minimum(_LEAST_EFFECT * level, quiet))
    z = normal_deviate(gap / np.sqrt(variance * (before.width + after.width)), freedom)
    return np.asarray(np.minimum(z / limit, gap / least), dtype=np.float64)


def normal_deviate(t: Values, freedom: Values) -> Values:
    """The normal deviate whose tail is that of this value of Student's t (Wallace, "Bounds on normal approximations to
    Student's and the chi-square distributions", 1959).
    """
    return np.asarray((8 * freedom + 1) / (8 * freedom + 3) * np.sqrt(freedom * np.log1p(t * t / freedom)))


def z_limit(count: int) -> float:
    """The deviate that a change must reach in a series of this length: p = 2.7e-5 at a hundred points, in proportion to
    one over the length (the tail of the normal distribution, roughly), at fewer than fifty as at fifty.
    """
    return math.sqrt(_Z_AT_100**2 + 2 * math.log(max(count, 50) / 100))


def inflation_of(residuals: Values, changes: int) -> float:
    """By how much the variance of means is larger than of independent values, were the noise autoregressive.

    The correlation of neighbours must exceed what chance makes of independent ones, and levels that are estimated from
    the values themselves hide some of it.
    """
    count = len(residuals)
    total = float(residuals @ residuals)
    if total <= 0:
        return 1.0
    correlation = float(residuals[1:] @ residuals[:-1]) / total + (changes + 1) / count - 1 / math.sqrt(count)
    correlation = min(max(correlation, 0.0), _MOST_CORRELATION)
    return (1 + correlation) / (1 - correlation)
