"""`benchfarm noise`: how much each series scatters by itself."""

from __future__ import annotations


def noise() -> None:
    """Measure A/A what the process medians of each series scatter by themselves."""
