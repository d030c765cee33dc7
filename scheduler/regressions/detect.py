"""Change points of a series: the first points of its levels (docs/regressions.md, "How a change is found")."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np

from scheduler.regressions.drift import without_drift
from scheduler.regressions.e_divisive import LEAST_POINTS, divided
from scheduler.regressions.hampel import clipped
from scheduler.regressions.judge import judged
from scheduler.regressions.running_sums import RunningSums, best_place
from scheduler.regressions.segments import Segment
from scheduler.regressions.sigma import Values, difference_sigma, local_sigma, spread_sigma

#: Points that are looked at together. When so many are there, changes that are not among the newest are settled, and
#: what comes later starts at the last of them; where there is none the older half is left behind.
_WINDOW = 512
_NEWEST = 64
#: Of values of up to one: below are their last digits.
_LEAST_SIGMA = 1e-12


def change_points(values: Sequence[float | None]) -> list[int]:
    """Indices of the first point of each new level. What is absent or not finite is left out first.

    Deterministic, and what a `History` says to which the values were appended one by one.
    """
    return History.of(values).change_points


class History:
    """A series that grows. A new point costs one look at the last 512 points at most, however long the series is."""

    def __init__(self) -> None:
        self._length = 0
        self._indices: list[int] = []
        self._values: list[float] = []
        self._settled: list[int] = []
        self._start = 0
        self._open: list[int] | None = []

    @classmethod
    def of(cls, values: Iterable[float | None]) -> History:
        """The history of these values."""
        history = cls()
        for value in values:
            history.append(value)
        return history

    def append(self, value: float | None) -> None:
        """Add the newest point; one that is absent or not finite takes an index and is left out."""
        if value is not None and math.isfinite(value):
            self._indices.append(self._length)
            self._values.append(float(value))
            self._open = None
            if len(self._values) - self._start == _WINDOW:
                self._settle()
        self._length += 1

    @property
    def change_points(self) -> list[int]:
        """Indices of the first point of each new level."""
        return [self._indices[place] for place in self._places()]

    def segments(self) -> list[Segment]:
        """The levels, oldest first; none where nothing is known."""
        if not self._values:
            return []
        known = np.array(self._values)
        return [
            Segment(
                first=self._indices[start],
                last=self._indices[end - 1],
                count=end - start,
                median=float(np.median(known[start:end])),
                sigma=spread_sigma(known[start:end]),
            )
            for start, end in pairwise([0, *self._places(), len(known)])
        ]

    def _places(self) -> list[int]:
        if self._open is None:
            self._open = self._found()
        return [*self._settled, *self._open]

    def _settle(self) -> None:
        settled = [place for place in self._found() if place <= len(self._values) - _NEWEST]
        self._settled += settled
        self._start = settled[-1] if settled else self._start + _WINDOW // 2

    def _found(self) -> list[int]:
        """Changes within the window that is open."""
        window = np.array(self._values[self._start :], dtype=np.float64)
        return [self._start + place for place in _changes(window)]


def _changes(values: Values) -> list[int]:
    """Change points of values that are all known, looked at together."""
    if len(values) < 2 * LEAST_POINTS:
        return []
    # To a size whose squares neither overflow nor vanish; a power of two, so that no digit changes.
    largest = float(np.abs(values).max())
    values = np.ldexp(values, -math.frexp(largest)[1])
    # The last is for a few values that differ from many alike ones about zero.
    sigma = difference_sigma(values) or spread_sigma(values) or float(values.std())
    if sigma <= 0:
        return []
    sigma = max(sigma, _LEAST_SIGMA)
    noise = local_sigma(values, sigma)
    calm = clipped(values, noise)
    places = divided(calm, noise)
    if not places:
        return []
    sums = RunningSums(calm, noise)
    places, sloped = without_drift(sums, calm, judged(sums, calm, places))
    return _located(values, places, sloped)


def _located(values: Values, places: list[int], sloped: list[bool]) -> list[int]:
    """Each change moved to where its two levels, as they are now, divide best; beside a slope it stays.

    Values beyond the medians of the two levels count like these: a spike beside the border tells no more than its side.
    """
    borders = [0, *places, len(values)]
    for index in range(1, len(borders) - 1):
        if not (sloped[index - 1] or sloped[index]):
            before, place, after = borders[index - 1 : index + 2]
            low, high = sorted((np.median(values[before:place]), np.median(values[place:after])))
            borders[index] = before + best_place(np.clip(values[before:after], low, high), LEAST_POINTS)
    return borders[1:-1]
