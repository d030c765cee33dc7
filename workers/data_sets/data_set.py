"""The seam of labelled data sets."""

from __future__ import annotations

from abc import ABC
from typing import ClassVar


class DataSet(ABC):
    """Knows a kind of data set. Constructing one imports nothing heavy."""

    packages: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[str] = "data"
