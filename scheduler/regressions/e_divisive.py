"""E-divisive for changes of the level: where a stretch of values divides best.

Matteson & James, "A nonparametric approach for multiple change point analysis of multivariate data", arXiv 1306.4933:
a stretch is divided where the energy distance between its two parts is greatest. With their exponent alpha = 2 that
distance is the squared difference of the means, so it sees changes of the level and no others, and running sums give it
for every place at once. Fleming et al., "Hunter", arXiv 2301.03034, look in windows, so that a far change does not hide
a near one. We look in windows of many widths, for a window of one width sees changes of one size.
"""

from __future__ import annotations

import numpy as np

from scheduler.regressions.running_sums import Places
from scheduler.regressions.sigma import Values

#: Fewer values on a side are no level.
LEAST_POINTS = 4
#: Values in the windows before and after a place.
_WIDTHS = (4, 6, 10, 17, 30, 60, 130)
#: Standard errors between two windows from which their border is a candidate. Lenient: candidates are judged later.
_PROPOSED = 3.0
#: What one more change must save, in squared standard deviations, when candidates are chosen from. Lenient likewise.
_PRICE = 12.0


def divided(values: Values, sigma: Values) -> list[int]:
    """Places at which new levels may begin: more than there are, for whoever judges them."""
    places = _candidates(values, sigma)
    return _best_division(values, places, sigma) if len(places) else []


def _candidates(values: Values, sigma: Values) -> Places:
    """Places where the windows before and after differ more than at their neighbours, in any width."""
    count = len(values)
    places = np.arange(LEAST_POINTS, count - LEAST_POINTS + 1)
    sums = np.concatenate([[0.0], np.cumsum(values - values.mean())])
    chosen = np.zeros(len(places), dtype=bool)
    here = sums[places]
    for width in _WIDTHS:
        if width > LEAST_POINTS and width > count // 2 + 2:
            break
        # Windows are cut short at the ends of the series.
        before, after = np.minimum(places, width), np.minimum(count - places, width)
        gap = (sums[places + after] - here) / after - (here - sums[places - before]) / before
        score = np.abs(gap) / np.sqrt(1 / before + 1 / after) / sigma[places - 1]
        chosen |= (score >= _highest_near(score, width // 3)) & (score >= _PROPOSED)
    return places[chosen]


def _highest_near(score: Values, reach: int) -> Values:
    """The highest score within so many places on each side: windows of doubled length, each from two of the last."""
    edge = np.zeros(reach)
    best = np.concatenate([edge, score, edge])
    covered, wanted = 1, 2 * reach + 1
    while covered < wanted:
        shift = min(covered, wanted - covered)
        best = np.maximum(best[:-shift], best[shift:])
        covered += shift
    return best


def _best_division(values: Values, places: Places, sigma: Values) -> list[int]:
    """Of the candidates those that divide the values with the least squared error, each change at its price.

    Exact, by dynamic programming over the candidates (Jackson et al., "An algorithm for optimal partitioning of data on
    an interval", 2005).
    """
    borders = np.concatenate([[0], places, [len(values)]])
    weight = 1 / (sigma * sigma)
    centred = values - values.mean()
    weights, sums, squares = (
        np.concatenate([[0.0], np.cumsum(each)])[borders]
        for each in (weight, centred * weight, centred * centred * weight)
    )
    length = borders[None, :] - borders[:, None]
    total = sums[None, :] - sums[:, None]
    within = np.where(length > 0, weights[None, :] - weights[:, None], 1.0)
    error = squares[None, :] - squares[:, None] - total * total / within
    error = np.where(length >= LEAST_POINTS, error, np.inf)
    cost = np.zeros(len(borders))
    origin = np.zeros(len(borders), dtype=np.intp)
    for index in range(1, len(borders)):
        totals = cost[:index] + error[:index, index]
        origin[index] = np.argmin(totals)
        cost[index] = totals[origin[index]] + _PRICE
    found: list[int] = []
    at = int(origin[-1])
    while at > 0:
        found.append(int(borders[at]))
        at = int(origin[at])
    return found[::-1]
