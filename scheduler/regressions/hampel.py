"""Spikes brought back to their neighbours (Hampel identifier: the median of a moving window, and a scale).

Davies & Gather, "The identification of multiple outliers", 1993; Pearson, "Outliers in process modelling", 2002.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from scheduler.regressions.sigma import Values

#: Neighbours on each side. Three: up to three points in a row are a spike, and a new level of four is the majority of
#: every window that is centred on it.
NEIGHBOURS = 3
#: Standard deviations from the median of the window to which a value is clipped.
_CLIP = 3.0
#: From which it tells nothing, not even a direction, and takes the median itself.
_IGNORE = 7.0


def clipped(values: Values, sigma: Values) -> Values:
    """Values without spikes: clipped to three sigma of the median of their window, put upon it from seven on.

    The scale is not that of the window, for the MAD of seven values is too noisy to clip by. The points at
    both ends share the window of seven there: there, too, three are a spike and four a level.
    """
    middle = _moving_median(values)
    distance = values - middle
    kept = np.clip(distance, -_CLIP * sigma, _CLIP * sigma)
    return np.asarray(middle + np.where(np.abs(distance) > _IGNORE * sigma, 0.0, kept), dtype=np.float64)


def _moving_median(values: Values) -> Values:
    width = 2 * NEIGHBOURS + 1
    if len(values) < width:
        return np.full(len(values), np.median(values))
    middle = np.partition(sliding_window_view(values, width), NEIGHBOURS, axis=1)[:, NEIGHBOURS]
    return np.concatenate([np.full(NEIGHBOURS, middle[0]), middle, np.full(NEIGHBOURS, middle[-1])])
