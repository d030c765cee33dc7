"""The first look at a new point: is it worth a confirmation run? Screening schedules work and raises nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from scheduler.regressions.sigma import spread_sigma

Outcome = Literal["steady", "slower", "faster", "few"]

#: Robust deviations from the level at which a point is suspect.
Z_LIMIT = 3.0
#: And the least change, of the level.
LEAST_CHANGE = 0.02
#: Fewer values are no level to compare with.
LEAST_POINTS = 4


@dataclass(frozen=True)
class Screened:
    """What the first look at a new point showed."""

    #: `few`: too few values at this level yet. Higher is slower.
    outcome: Outcome
    #: New / level - 1; None where there is no level, or it is not above zero.
    change: float | None
    #: In robust standard deviations of the level.
    z: float | None
    #: Robust standard deviation over the level.
    noise: float | None


def screen(segment_values: Sequence[float], value: float, *, noise_floor: float | None = None) -> Screened:
    """Look at a new point against the values of the last segment of its series.

    Args:
        segment_values: known values at the level that the point is expected to have; what is not finite is left out.
        value: the new point.
        noise_floor: relative noise of the series as its A/A runs taught; None where it is not known.
    """
    level = np.array([known for known in segment_values if math.isfinite(known)], dtype=np.float64)
    if len(level) < LEAST_POINTS or not math.isfinite(value):
        return Screened("few", None, None, None)
    median = float(np.median(level))
    if median <= 0:
        return Screened("few", None, None, None)
    sigma = max(spread_sigma(level), (noise_floor or 0.0) * median)
    change = value / median - 1
    z = (value - median) / sigma
    noise = sigma / median
    if abs(z) <= Z_LIMIT or abs(change) <= max(LEAST_CHANGE, noise):
        return Screened("steady", change, z, noise)
    return Screened("slower" if change > 0 else "faster", change, z, noise)
