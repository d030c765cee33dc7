"""Change points of a series: the first points of its levels (docs/regressions.md, "How a change is found")."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np

from scheduler.regressions.e_divisive import LEAST_POINTS, best_division, candidates, normal_deviate
from scheduler.regressions.hampel import clipped
from scheduler.regressions.segments import Segment
from scheduler.regressions.sigma import Values, difference_sigma, spread_sigma

#: Two-sided p = 1e-4 of Student's t, as a normal deviate.
_Z_LIMIT = 3.89
#: Below, neighbouring segments are one.
_LEAST_EFFECT = 0.02


def change_points(values: Sequence[float | None]) -> list[int]:
    """Indices of the first point of each new level. What is absent or not finite is left out first.

    Deterministic; the same as appending the values to a `History` one by one.
    """
    return History.of(values).change_points


class History:
    """A series that grows: appending a point costs far less than the whole series."""

    def __init__(self) -> None:
        self._indices: list[int] = []
        self._values: list[float] = []
        self._length = 0
        self._found: list[int] | None = None

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
            self._found = None
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
        if self._found is None:
            self._found = _changes(np.array(self._values, dtype=np.float64))
        return self._found


def _changes(values: Values) -> list[int]:
    if len(values) < 2 * LEAST_POINTS:
        return []
    sigma = difference_sigma(values)
    if sigma <= 0:
        sigma = spread_sigma(values)
    if sigma <= 0:
        return []
    calm = clipped(values, sigma)
    return _judged(calm, best_division(calm, candidates(calm, sigma), sigma), sigma)


def _judged(values: Values, places: list[int], sigma: float) -> list[int]:
    """The weakest change goes first, until every change that is left is sure and large enough."""
    places = list(places)
    while places:
        borders = [0, *places, len(values)]
        scores = [_score(values[a:b], values[b:c], sigma) for a, b, c in zip(borders, borders[1:], borders[2:])]
        weakest = min(range(len(places)), key=scores.__getitem__)
        if scores[weakest] >= 1:
            break
        del places[weakest]
    return places


def _score(before: Values, after: Values, sigma: float) -> float:
    """At least 1 where the two are at different levels."""
    n, m = len(before), len(after)
    low, high = float(before.mean()), float(after.mean())
    gap = abs(high - low)
    freedom = n + m - 2
    variance = (8 * sigma**2 + float(((before - low) ** 2).sum() + ((after - high) ** 2).sum())) / (8 + freedom)
    t = gap / math.sqrt(variance * (1 / n + 1 / m))
    effect = gap / max(_LEAST_EFFECT * min(abs(low), abs(high)), math.sqrt(variance))
    return min(normal_deviate(t, freedom + 8) / _Z_LIMIT, effect)
