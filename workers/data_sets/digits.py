"""To be built (issue 9)."""

from __future__ import annotations

from workers.data_sets.data_set import DataSet


class Digits(DataSet):
    """To be built."""
