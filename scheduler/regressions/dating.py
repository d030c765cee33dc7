"""Since which point a step is there, once it is known that it is, and how large. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

#: Starts that are at least so likely, beside the likeliest, are not ruled out.
_PLAUSIBLE = 0.02
#: A spike counts no more sigma than this for or against a start.
_CLIP = 5.0


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
    new, spread = old * (1 + change), max(sigma * old, 1e-12)

    def cost(value: float, level: float) -> float:
        return min(abs(value - level) / spread, _CLIP) ** 2 / 2

    last = len(values) - 1
    starts = [at for at in range(1, last + 1) if artifacts[at] is None or artifacts[at] != artifacts[at - 1]] or [last]
    costs = {
        at: sum(cost(value, old) for value in values[1:at]) + sum(cost(value, new) for value in values[at:last])
        for at in starts
    }
    best = min(costs, key=lambda at: (costs[at], at))
    plausible = [at for at in starts if costs[at] - costs[best] <= -math.log(_PLAUSIBLE)]
    return Dated(good=min(plausible) - 1, step=best, bad=max(plausible))
