"""Segments: stretches of a series at one level."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Segment:
    """A stretch of a series at one level."""

    #: Index of its first and of its last value, in the series as given.
    first: int
    last: int
    #: Values that are known in between.
    count: int
    median: float
    #: Robust standard deviation about the median, with a floor for coarse values.
    sigma: float
