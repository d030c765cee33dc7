"""Slow drifts: a slope that was chopped into steps is no change point; a jump within or beside a slope is one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from scheduler.regressions.judge import Fit, inflation_of, score, shorter_of, z_limit
from scheduler.regressions.running_sums import Places, RunningSums, middle
from scheduler.regressions.sigma import Values

Flags = NDArray[np.bool_]

#: For what is left a change whatever the test of its jump would say.
_STEP = 9.0
#: Share of the squared error of a level that its line may leave for it to be called a slope.
_TILTED = 0.5


def without_drift(sums: RunningSums, values: Values, places: list[int]) -> tuple[list[int], list[bool]]:
    """The changes at which the series jumps, and whether each stretch between them is a slope.

    Two levels that one straight line through both explains better are a slope, unless the lines of the two sides still
    jump at their border. The least jump goes first; what is joined is a slope from then on.
    """
    borders = np.array([0, *places, len(values)], dtype=np.intp)
    sloped = np.zeros(len(borders) - 1, dtype=bool)
    while len(borders) > 2:
        scores = _jumps(sums, values, borders, sloped)
        least = int(np.argmin(scores))
        if scores[least] >= 1:
            break
        borders = np.delete(borders, least + 1)
        sloped = np.delete(sloped, least)
        sloped[least] = True
    return [int(place) for place in borders[1:-1]], [bool(slope) for slope in sloped]


def _jumps(sums: RunningSums, values: Values, borders: Places, sloped: Flags) -> Values:
    """At least 1 for each border at which the series jumps."""
    start, end = borders[:-1], borders[1:]
    level, level_error = sums.level(start, end)
    _, slope, line_error = sums.line(start, end)
    _, _, error_of_both = sums.line(borders[:-2], borders[2:])
    flat = ~(sloped[:-1] | sloped[1:])
    steps = flat & (error_of_both >= level_error[:-1] + level_error[1:])
    if steps.all():
        return np.full(len(steps), _STEP)
    length, centre = end - start, middle(start, end)
    tilt = np.where(sloped, slope, 0.0)
    fitted = np.repeat(level, length) + np.repeat(tilt, length) * (np.arange(len(values)) - np.repeat(centre, length))
    inflation = inflation_of(values - sums.offset - fitted, len(borders) - 2)

    # Beside a slope a level of which a line explains more than half is part of a slope as well.
    as_line = sloped | (line_error < _TILTED * level_error)
    before, after = np.where(flat, ~steps, as_line[:-1]), np.where(flat, ~steps, as_line[1:])
    first = _fit(sums, start[:-1], end[:-1], before, end[:-1].astype(np.float64) - 0.5, inflation)
    second = _fit(sums, start[1:], end[1:], after, start[1:].astype(np.float64) - 0.5, inflation)
    jumps = score(first, second, sums.offset, shorter_of(borders), z_limit(0))
    # Against the direction of the levels: the lines cross, and neither tells of a step.
    jumps[flat & ((second.value - first.value) * (level[1:] - level[:-1]) < 0)] = 0.0
    jumps[steps] = _STEP
    return jumps


def _fit(sums: RunningSums, start: Places, end: Places, as_line: Flags, at: Values, inflation: float) -> Fit:
    """Lines of stretches where so flagged, levels elsewhere, and what they are at a border."""
    level, level_error = sums.level(start, end)
    _, slope, line_error = sums.line(start, end)
    error = np.where(as_line, line_error, level_error)
    value = level + np.where(as_line, slope * (at - middle(start, end)), 0.0)
    # A line is four times as uncertain at its end as a level.
    width = np.where(as_line, 4, 1) / (end - start) * inflation
    return Fit(value, error, sums.noise(start, end), width, end - start - np.where(as_line, 2, 1))
