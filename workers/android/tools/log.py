"""Lines and numbers of tool logs: prefixes off, and no number that is none."""

from __future__ import annotations

import math
import re

#: A number as C++ streams print it; never part of a longer word.
NUMBER = r"[0-9]{1,30}(?:\.[0-9]{0,30})?(?:[eE][-+]?[0-9]{1,3})?"
#: Longer lines are cut: no line of a tool is, and patterns would search a megabyte of digits for long.
_LONGEST_LINE = 2000
_MOST_ERRORS = 20
_MOST_CHARACTERS = 300
_LOGCAT = re.compile(r"^\s*\d\d-\d\d \d\d:\d\d:\d\d\.\d+\s+\d+\s+\d+\s+([VDIWEF])\s+[^:]{1,60}:\s?")
_BRIEF = re.compile(r"^\s*([VDIWEF])/[^(]{1,60}\(\s*\d+\):\s?")
_LEVEL = re.compile(r"^\s*(INFO|WARN|WARNING|ERROR|FATAL|VERBOSE|DEBUG): ?")
_SOURCE = re.compile(r"^\s*\[[\w./-]{1,100}:\d+\] ?")
_COMPLAINT = re.compile(
    r"^(failed to|benchmarking failed|cannot link executable|segmentation fault|aborted|illegal instruction|"
    r"error[: ]|could not|unable to|disallowed cpu fallback|internal error|killed\b|out of memory|dlopen failed)",
    re.IGNORECASE,
)


def number(text: str | None) -> float | None:
    """A finite number that is not negative, or None."""
    try:
        value = float(text) if text is not None else math.nan
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None


def whole(text: str | None) -> int | None:
    """A whole number of a size that counts and bytes have, or None."""
    text = (text or "").strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else None


def scaled(value: float | None, factor: float) -> float | None:
    """A number in another unit."""
    return None if value is None else value * factor


def mebibytes(text: str | None) -> int | None:
    """Bytes of a number of MiB; none where it is zero, which tools print where they could not look."""
    value = number(text)
    return round(value * 2**20) if value and value < 2**40 else None


def plain(line: str) -> tuple[str, bool]:
    """A line without the prefixes of logcat, of TensorFlow's and of LiteRT's logger, and whether they say "error"."""
    error = False
    line = line[:_LONGEST_LINE]
    for pattern in (_LOGCAT, _BRIEF, _LEVEL, _SOURCE):
        if (found := pattern.match(line)) is not None:
            error |= bool(found.groups()) and found[1] in ("E", "F", "ERROR", "FATAL")
            line = line[found.end() :]
    return line.rstrip("\r\n \t"), error


def lines(text: str) -> list[str]:
    """All lines, without prefixes."""
    return [plain(line)[0] for line in text.splitlines()]


def complaints(text: str) -> tuple[str, ...]:
    """Lines in which the tool or the linker complains, the last of them at most."""
    found = []
    for line in text.splitlines():
        said, error = plain(line)
        if said and (error or _COMPLAINT.match(said)):
            found.append(said[:_MOST_CHARACTERS])
    return tuple(found[-_MOST_ERRORS:])
