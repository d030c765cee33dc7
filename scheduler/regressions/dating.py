"""Since which point, or night, a step is there, once it is known that it is, and how large. Pure."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

#: Starts that are at least so likely, beside the likeliest, are not ruled out.
_PLAUSIBLE = 0.02
#: A spike counts no more sigma than this for or against a start.
_CLIP = 5.0
#: What a trial of one device rules out counts so much: more than its points do, less than what most others say.
_RULED_OUT = 10.0


@dataclass(frozen=True)
class Dated:
    """Numbers among the points that were asked about."""

    #: The last that is surely at the old level, the likeliest first at the new one, and the last that may be the first.
    good: int
    step: int
    bad: int


def date_step(
    values: Sequence[float], artifacts: Sequence[str | None], old: float, change: float, sigma: float
) -> Dated:
    """Where a step of known size began: by likelihood, at a change of the artifact.

    Args:
        values: from a point that is at the old level to one that is at the new level, at least two.
        artifacts: of each; None is like no other.
        old: level before.
        change: new / old - 1.
        sigma: relative noise of the points.
    """
    costs = start_costs(values, artifacts, old, change, sigma)
    best, plausible = _likely(costs)
    return Dated(good=min(plausible) - 1, step=best, bad=max(plausible))


def start_costs(
    values: Sequence[float], artifacts: Sequence[str | None], old: float, change: float, sigma: float
) -> dict[int, float]:
    """Of each number at which the step may have begun, how little that fits; arguments as of `date_step`."""
    new = old * (1 + change)
    # Of few points the noise is hardly known: what lies nearer to one of the levels tells so all the same.
    spread = max(sigma * old, abs(new - old) / (2 * _CLIP), 1e-12)

    def cost(value: float, level: float) -> float:
        return min(abs(value - level) / spread, _CLIP) ** 2 / 2

    last = len(values) - 1
    starts = [at for at in range(1, last + 1) if artifacts[at] is None or artifacts[at] != artifacts[at - 1]] or [last]
    return {
        at: sum(cost(value, old) for value in values[1:at]) + sum(cost(value, new) for value in values[at:last])
        for at in starts
    }


@dataclass(frozen=True, kw_only=True)
class Dating:
    """What one series tells of a step that several have."""

    #: Series of one unit share its nights, and count as one together.
    unit: int
    #: The night that a trial found good, and of later nights on which it may have begun, how little that fits.
    good: int
    costs: Mapping[int, float]
    #: Nights on which it had a point, from that one on; on those without a cost nothing can have begun.
    nights: Sequence[int] = ()


def date_together(datings: Sequence[Dating]) -> Dated:
    """On which night a step began that several series have, by what all of them tell together.

    The likeliest nights of all are not those that each of them finds likely: of many, one is misled.

    Args:
        datings: at least one; numbers of nights rise with time.
    """
    nights = sorted({night for one in datings for night in one.costs})
    units: dict[int, list[Dating]] = {}
    for one in datings:
        units.setdefault(one.unit, []).append(one)
    costs = {
        night: sum(sum(_cost(one, night) for one in mine) / len(mine) for mine in units.values()) for night in nights
    }
    best, plausible = _likely(costs)
    seen = sorted({*nights, *(night for one in datings for night in (one.good, *one.nights))})
    return Dated(good=seen[bisect_left(seen, min(plausible)) - 1], step=best, bad=max(plausible))


def _cost(one: Dating, night: int) -> float:
    least = min(one.costs.values())
    # Whatever began on a night without a point of the series shows in its next one.
    later = [at for at in one.costs if at >= night]
    if night <= one.good or not later:
        return _RULED_OUT
    return min(one.costs[min(later)] - least, _RULED_OUT)


def _likely(costs: Mapping[int, float]) -> tuple[int, list[int]]:
    """The likeliest of several starts, and those that are not ruled out."""
    best = min(costs, key=lambda at: (costs[at], at))
    return best, [at for at, cost in costs.items() if cost - costs[best] <= -math.log(_PLAUSIBLE)]
