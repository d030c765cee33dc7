"""Spikes clipped to what their neighbours allow (Hampel identifier: median and scaled MAD of a moving window).

Davies & Gather, "The identification of multiple outliers", 1993; Pearson, "Outliers in process modelling", 2002.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from scheduler.regressions.sigma import Values

#: Neighbours on each side. Three: a new level of four points, at the end of the series too, is the majority in every
#: window that is centred on it, so it is never taken for a spike.
NEIGHBOURS = 3
#: Standard deviations from the median of the window beyond which a value is clipped.
LIMIT = 3.0


def clipped(values: Values, sigma: float) -> Values:
    """Values with spikes brought back to `LIMIT` sigma from the median of their window.

    The scale is that of the whole series: the MAD of seven values is itself too noisy to clip by. Windows are cut short
    at the ends of the series.
    """
    if len(values) < 3 or sigma <= 0:
        return values
    middle = moving_median(values)
    return np.clip(values, middle - LIMIT * sigma, middle + LIMIT * sigma)


def moving_median(values: Values) -> Values:
    """Median of each value and its neighbours, of fewer at the ends."""
    count = len(values)
    middle = np.empty(count)
    width = 2 * NEIGHBOURS + 1
    if count >= width:
        middle[NEIGHBOURS : count - NEIGHBOURS] = np.partition(sliding_window_view(values, width), NEIGHBOURS, axis=1)[
            :, NEIGHBOURS
        ]
    ends = range(count) if count < width else (*range(NEIGHBOURS), *range(count - NEIGHBOURS, count))
    for index in ends:
        middle[index] = np.median(values[max(index - NEIGHBOURS, 0) : index + NEIGHBOURS + 1])
    return middle
