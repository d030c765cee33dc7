"""Noise of a series without its steps and spikes, never zero for values that are merely coarse."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

#: Of the median absolute deviation to the standard deviation of a normal distribution.
MAD_TO_SIGMA = 1.4826
#: Of the distance between the 5th and the 95th percentile likewise.
_SPREAD_TO_SIGMA = 1 / 3.2897
#: No measurement is better than this share of its level: a floor under sigma.
LEAST_SHARE = 0.001
#: Neighbours whose differences tell whether a stretch is louder than the series, and by how much it must be. Of a dozen
#: neighbours a few spikes move most differences, and real histories have such dozens.
_BLOCK = 30
_LOUDER = 2.0
#: Beyond, sums of weights would lose the loud stretch.
_LOUDEST = 1000.0


def difference_sigma(values: Values) -> float:
    """Standard deviation of the noise, from differences of neighbours: a step is one of them and moves no median.

    Where most neighbours are equal (a coarse clock, counts), the median of the differences is zero; their 5-95 % spread
    tells instead. The floor is 0.1 % of the median.
    """
    floor = level_floor(values)
    if len(values) < 3:
        return floor
    steps = np.diff(values)
    sigma = MAD_TO_SIGMA * float(np.median(np.abs(steps))) / math.sqrt(2)
    if sigma <= floor:
        low, high = np.percentile(steps, [5, 95])
        sigma = max(sigma, float(high - low) * _SPREAD_TO_SIGMA / math.sqrt(2))
    return max(sigma, floor)


def local_sigma(values: Values, sigma: float) -> Values:
    """Sigma at each value: that of the whole series, or where it is much louder that of its neighbourhood.

    A change of the noise is no change of the level, and must not be clipped and judged by the noise of quieter times.
    """
    blocks = (len(values) - 1) // _BLOCK
    everywhere = np.full(len(values), sigma)
    if blocks < 2:
        return everywhere
    steps = np.abs(np.diff(values))[: blocks * _BLOCK].reshape(blocks, _BLOCK)
    near = MAD_TO_SIGMA * np.median(steps, axis=1) / math.sqrt(2)
    near = np.maximum(near, np.maximum(np.append(near[1:], 0), np.append(0, near[:-1])))
    near = np.repeat(np.where(near > _LOUDER * sigma, np.minimum(near, _LOUDEST * sigma), sigma), _BLOCK)
    everywhere[: len(near)] = near
    everywhere[len(near) :] = near[-1]
    return everywhere


def spread_sigma(values: Values) -> float:
    """Standard deviation about the median of values of one level, with the same floor."""
    floor = level_floor(values)
    if len(values) < 2:
        return floor
    distances = np.abs(values - np.median(values))
    sigma = MAD_TO_SIGMA * float(np.median(distances))
    if sigma <= floor:
        low, high = np.percentile(values, [5, 95])
        sigma = max(sigma, float(high - low) * _SPREAD_TO_SIGMA)
    return max(sigma, floor)


def level_floor(values: Values) -> float:
    """The least sigma that values of this level are believed to have."""
    return LEAST_SHARE * abs(float(np.median(values))) if len(values) else 0.0
