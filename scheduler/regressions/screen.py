"""The first look at a new point: is it worth a confirmation run? Screening schedules work and raises nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from scheduler.regressions.judge import normal_deviate
from scheduler.regressions.sigma import Values, spread_sigma

Outcome = Literal["steady", "slower", "faster", "few"]

#: Robust deviations from the level at which a point is suspect.
Z_LIMIT = 3.0
#: And the least change, of the level.
LEAST_CHANGE = 0.02
#: Fewer values are no level to compare with.
LEAST_POINTS = 4
#: The new point is looked at alone, and together with up to so many before it: a step of 2.5 sigma seldom shows in one
#: night and nearly always in five, and by then its own points are among those of the level.
MOST_TOGETHER = 5
#: Values that must be left as a level beside points that are looked at together.
_LEAST_BESIDE = 8
#: A spike among points that are looked at together counts no more sigma than this.
_CLIP = 3.0


@dataclass(frozen=True)
class Screened:
    """What the first look at a new point showed."""

    #: `few`: too few values at this level yet. Higher is slower.
    outcome: Outcome
    #: New / level - 1; None where there is no level, or it is not above zero. Where several points together show the
    #: step it is their mean, against the level before them.
    change: float | None
    #: In robust standard deviations of the level (of that of the mean likewise), less where the level has few values.
    z: float | None
    #: Robust standard deviation over the level.
    noise: float | None


_FEW = Screened("few", None, None, None)


def screen(segment_values: Sequence[float], value: float, *, noise_floor: float | None = None) -> Screened:
    """Look at a new point against the values of the last segment of its series.

    Args:
        segment_values: known values at the level that the point is expected to have, in order of time; what is not
            finite is left out.
        value: the new point.
        noise_floor: relative noise of the series as its A/A runs taught; None where it is not known.
    """
    level = np.array([known for known in segment_values if math.isfinite(known)], dtype=np.float64)
    if len(level) < LEAST_POINTS or not math.isfinite(value) or np.median(level) <= 0:
        return _FEW
    alone = _look(level, np.array([value]), noise_floor or 0.0)
    if alone.outcome != "steady":
        return alone
    for count in range(1, MOST_TOGETHER):
        if len(level) - count < _LEAST_BESIDE or np.median(level[:-count]) <= 0:
            break
        together = _look(level[:-count], np.append(level[-count:], value), noise_floor or 0.0)
        if together.outcome != "steady":
            return together
    return alone


def _look(level: Values, newest: Values, noise_floor: float) -> Screened:
    median = float(np.median(level))
    sigma = max(spread_sigma(level), noise_floor * median)
    noise = sigma / median
    distances = np.clip(newest - median, -_CLIP * sigma, _CLIP * sigma) if len(newest) > 1 else newest - median
    distance = float(distances.mean())
    # Of several points most must have left the level: one spike does not make a step.
    typical = float(np.sort(np.abs(distances))[(len(distances) - 1) // 2])
    same_side = np.count_nonzero(np.sign(distances) == np.sign(distance)) > len(distances) / 2
    errors = abs(distance) / sigma / math.sqrt(1 / len(newest) + 1 / len(level))
    z = math.copysign(float(normal_deviate(np.array(errors), np.array(len(level) - 1))), distance)
    change = distance / median
    least = max(LEAST_CHANGE, noise)
    if abs(z) <= Z_LIMIT or min(abs(change), typical / median) <= least or not same_side:
        return Screened("steady", change, z, noise)
    return Screened("slower" if change > 0 else "faster", change, z, noise)
