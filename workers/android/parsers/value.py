"""A value that was read from a text, or why there is none; and lines that could not be read."""

from __future__ import annotations

import re
from dataclasses import dataclass

from workers.report import Quality

_NUMBER = re.compile(r"[+-]?[0-9]{1,20}(?:\.[0-9]{1,20})?")
_INTEGER = re.compile(r"[+-]?[0-9]{1,20}")
#: Of lines that could not be read, so many are named, cut to so many characters; the raw text has them all.
_UNREAD_LINES = 20
_UNREAD_LENGTH = 160


@dataclass(frozen=True, slots=True)
class Value:
    """None unless the quality is ok or partial."""

    value: float | None
    quality: Quality = "ok"
    why: str | None = None


def absent(what: str) -> Value:
    """A value that the text does not have."""
    return Value(None, "unsupported", what)


def number(text: str) -> float | None:
    """A plain decimal number, never NaN or infinity; None for everything else."""
    text = text.strip()
    return float(text) if _NUMBER.fullmatch(text) else None


def integer(text: str) -> int | None:
    """A plain decimal integer of at most 20 digits; None for everything else."""
    text = text.strip()
    return int(text) if _INTEGER.fullmatch(text) else None


def plain_lines(text: str) -> list[str]:
    """Lines as a shell ends them, with or without carriage returns; other control characters end no line."""
    return [line.rstrip("\r") for line in text.split("\n")]


def shortened(lines: list[str]) -> tuple[str, ...]:
    """Lines that could not be read, as many and as long as a report can bear."""
    return tuple(line[:_UNREAD_LENGTH] for line in lines[:_UNREAD_LINES])
