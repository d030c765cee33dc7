"""E-divisive for changes of the level: where a stretch of values divides best, and how sure that is.

Matteson & James, "A nonparametric approach for multiple change point analysis of multivariate data", arXiv 1306.4933:
a stretch is divided where the energy distance between its two parts is greatest. With their exponent alpha = 2 that
distance is the squared difference of the means (their equation 5), so it sees changes of the level and no others, and
running sums give it for every place at once. Fleming et al., "Hunter", arXiv 2301.03034, look in windows, so that a far
change does not hide a near one, and judge by Student's t-test instead of permutations: deterministic. We look in windows
of many widths, for a window of one width sees changes of one size.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from scheduler.regressions.sigma import Values

#: Fewer values on a side are no level.
LEAST_POINTS = 4
#: Widths of the windows on each side of a place.
_WIDTHS = (4, 6, 9, 14, 21, 30, 45, 68, 100, 150, 225)
#: Standard errors between two windows from which their border is a candidate. Lenient: candidates are judged later.
_PROPOSED = 2.5
#: What one more change must save, in squared standard deviations, when candidates are chosen from. Lenient likewise.
_PRICE = 9.0


def candidates(values: Values, sigma: float) -> NDArray[np.intp]:
    """Places where the windows before and after differ most among their neighbours, in any width."""
    count = len(values)
    places = np.arange(LEAST_POINTS, count - LEAST_POINTS + 1)
    if len(places) == 0 or sigma <= 0:
        return places[:0]
    sums = np.concatenate([[0.0], np.cumsum(values)])
    chosen = np.zeros(len(places), dtype=bool)
    for width in _WIDTHS:
        if width > LEAST_POINTS and 2 * width > count + width // 2:
            break
        start = np.maximum(places - width, 0)
        end = np.minimum(places + width, count)
        before, after = places - start, end - places
        distance = (sums[end] - sums[places]) / after - (sums[places] - sums[start]) / before
        score = np.abs(distance) * np.sqrt(before * after / (before + after)) / sigma
        reach = max(width // 3, 1)
        padded = np.concatenate([np.full(reach, -1.0), score, np.full(reach, -1.0)])
        best = padded[reach:-reach].copy()
        for shift in range(1, reach + 1):
            np.maximum(best, padded[reach - shift : len(padded) - reach - shift], out=best)
            np.maximum(best, padded[reach + shift : len(padded) - reach + shift], out=best)
        chosen |= (score >= best) & (score >= _PROPOSED)
    return places[chosen]


def best_division(values: Values, places: NDArray[np.intp], sigma: float) -> list[int]:
    """Of the candidates those that divide the values with the least squared error, each change at a price.

    Exact, by dynamic programming over the candidates (Jackson et al., "Optimal partitioning", 2005).
    """
    if len(places) == 0:
        return []
    count = len(values)
    borders = np.concatenate([[0], places, [count]])
    centred = values - values.mean()
    sums = np.concatenate([[0.0], np.cumsum(centred)])[borders]
    squares = np.concatenate([[0.0], np.cumsum(centred**2)])[borders]
    lengths = borders[None, :] - borders[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        error = squares[None, :] - squares[:, None] - (sums[None, :] - sums[:, None]) ** 2 / lengths
    error = np.where(lengths >= LEAST_POINTS, error / sigma**2, np.inf)
    best = np.zeros(len(borders))
    origin = np.zeros(len(borders), dtype=np.intp)
    for index in range(1, len(borders)):
        totals = best[:index] + error[:index, index]
        origin[index] = int(np.argmin(totals))
        best[index] = totals[origin[index]] + _PRICE
    found: list[int] = []
    at = int(origin[-1])
    while at > 0:
        found.append(int(borders[at]))
        at = int(origin[at])
    return found[::-1]


def normal_deviate(t: float, freedom: float) -> float:
    """The normal deviate as far out as this value of Student's t (Wallace 1959): right to 2 % from 3 degrees on."""
    return (8 * freedom + 1) / (8 * freedom + 3) * math.sqrt(freedom * math.log1p(t * t / freedom))
