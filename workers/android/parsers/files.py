"""Lines of `grep -H . FILE...`: many small files of the kernel in one process on the phone."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from workers.report import Quality

#: The last folder and the file name are all that counts; a folder may hold a colon (`iio:device0`), our files do not.
_ENTRY = re.compile(r"(?P<refused>grep: )?\S*/(?P<folder>[^/\s]+)/(?P<leaf>[a-z_]+):(?P<text>.*)")
_LONGEST_LINE = 400


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of one file, or the system's words for why it could not be read."""

    folder: str
    leaf: str
    text: str
    refused: bool

    @property
    def quality(self) -> Quality:
        """What a refusal makes of the value."""
        if "denied" in self.text or "not permitted" in self.text:
            return "no_permission"
        return "unsupported" if "No such" in self.text else "stale"


def entry(line: str) -> Entry | None:
    """Read one line; None where it is not of the form."""
    match = _ENTRY.fullmatch(line) if len(line) <= _LONGEST_LINE else None
    if match is None:
        return None
    return Entry(match["folder"], match["leaf"], match["text"].strip(), match["refused"] is not None)


def entries(lines: list[str], leaves: frozenset[str], unread: list[str]) -> Iterator[Entry]:
    """Entries of the files named; other lines that say something are added to `unread`."""
    for line in lines:
        read = entry(line)
        if read is not None and read.leaf in leaves:
            yield read
        elif line.strip():
            unread.append(line)
