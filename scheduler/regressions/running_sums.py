"""Sums from the first value on, by which the level or the line of any stretch of a series costs the same."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from scheduler.regressions.sigma import Values

Places = NDArray[np.intp]


class RunningSums:
    """Levels and lines of stretches [start, end) by least squares; for arrays of places as for single ones.

    Levels are measured from `offset`, the mean of all: sums of squares about it lose no digits.
    """

    def __init__(self, values: Values, sigma: Values) -> None:
        self.count = len(values)
        self.offset = float(values.mean())
        centred = values - self.offset
        self._sum = _from_zero(centred)
        self._square = _from_zero(centred * centred)
        self._noise = _from_zero(sigma * sigma)
        self._moment = _from_zero(centred * np.arange(self.count))

    def level(self, start: Places, end: Places) -> tuple[Values, Values]:
        """Mean of a stretch and the squared error about it."""
        length = end - start
        total = self._sum[end] - self._sum[start]
        error = self._square[end] - self._square[start] - total * total / length
        return total / length, np.maximum(error, 0.0)

    def line(self, start: Places, end: Places) -> tuple[Values, Values, Values]:
        """Mean of a stretch, its slope, and the squared error about that line."""
        length = (end - start).astype(np.float64)
        total = self._sum[end] - self._sum[start]
        tilt = self._moment[end] - self._moment[start] - middle(start, end) * total
        spread = np.maximum((length**3 - length) / 12, 1e-300)
        error = self._square[end] - self._square[start] - total * total / length - tilt * tilt / spread
        return total / length, tilt / spread, np.maximum(error, 0.0)

    def noise(self, start: Places, end: Places) -> Values:
        """Variance of the noise that is expected in a stretch."""
        return np.asarray((self._noise[end] - self._noise[start]) / (end - start))


def best_place(values: Values, margin: int) -> int:
    """Where values divide into two levels with the least squared error, each of `margin` values at least."""
    count = len(values)
    sums = np.cumsum(values - values.mean())
    places = np.arange(margin, count - margin + 1)
    before = sums[places - 1]
    return int(places[np.argmax(before * before * (1 / places + 1 / (count - places)))])


def middle(start: Places, end: Places) -> Values:
    """Where the mean of a line lies."""
    return np.asarray((start + end - 1) / 2, dtype=np.float64)


def _from_zero(values: Values) -> Values:
    return np.concatenate([[0.0], np.cumsum(values)])
