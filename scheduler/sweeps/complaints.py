"""What is wrong with a sweep file, each with the place where it stands: FILE:LINE:COLUMN, as compilers say it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from device_registry.errors import UsageError

#: Of a file that is wrong altogether, a page is enough.
_MOST_TOLD = 20


@dataclass(frozen=True, order=True)
class Position:
    """A place in a file; both are counted from 1."""

    line: int = 1
    column: int = 1


@dataclass(frozen=True, order=True)
class Complaint:
    """One thing that is wrong, in a sentence without a full stop."""

    at: Position
    sentence: str


class SweepFileError(UsageError):
    """A sweep file (or a suite's) cannot be used."""

    def __init__(self, source: str, complaints: Iterable[Complaint]) -> None:
        """Tell of each, in the order of the file, a line each."""
        self.complaints = tuple(sorted(set(complaints)))
        told = [
            f"{source}:{one.at.line}:{one.at.column}: {' '.join(one.sentence.splitlines())}"
            for one in self.complaints[:_MOST_TOLD]
        ]
        if (more := len(self.complaints) - _MOST_TOLD) > 0:
            told.append(f"{source}: and {more} more")
        super().__init__("\n".join(told))
