"""`getprop`: properties of a phone, `[NAME]: [VALUE]`; a value may span lines."""

from __future__ import annotations

import re
from dataclasses import dataclass

from workers.android.parsers.value import plain_lines, shortened

_BEGIN = re.compile(r"\[([^\]\[]+)\]: \[(.*)")


@dataclass(frozen=True, slots=True)
class Properties:
    """What was read; empty values are kept, for a property may be there and say nothing."""

    values: dict[str, str]
    unread: tuple[str, ...] = ()


def read_properties(text: str) -> Properties:
    """Read a listing of any Android."""
    values: dict[str, str] = {}
    unread: list[str] = []
    name: str | None = None
    parts: list[str] = []
    for line in plain_lines(text):
        match = _BEGIN.fullmatch(line)
        if match is not None:
            if name is not None:  # the one before never ended: its first line is all that is sure
                unread.extend(parts)
            name, parts = match[1], [match[2]]
        elif name is not None:
            parts.append(line)
        elif line.strip():
            unread.append(line)
        if name is not None and parts[-1].endswith("]"):
            values.setdefault(name, "\n".join(parts)[:-1])
            name, parts = None, []
    return Properties(values, shortened(unread + parts))
