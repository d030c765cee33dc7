"""Power rails (ODPM): cumulative energy by rail, where the phone has them (Pixel 6 and later) and lets us read them.

The text is `t=MILLISECONDS` and then `CH<n>(T=MILLISECONDS)[RAIL], MICROWATTSECONDS` for each channel of a device.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from workers.android.parsers.files import entry
from workers.android.parsers.value import Value, absent, plain_lines, shortened

RailPart = Literal["cpu", "gpu", "npu", "memory", "soc"]

_CHANNEL = re.compile(r"CH([0-9]{1,3})\(T=([0-9]{1,20})\)\[([^\]]{1,80})\],\s*([0-9]{1,20})")
_HEAD = re.compile(r"t=[0-9]{1,20}")
#: Rails that a model's work goes through, by the names of Google's schematics. Display, radios and cameras are not.
_PARTS: tuple[tuple[RailPart, re.Pattern[str]], ...] = (
    ("cpu", re.compile(r"CPU")),
    ("gpu", re.compile(r"GPU|G3D")),
    ("npu", re.compile(r"TPU|NPU|AUR")),
    ("memory", re.compile(r"MIF|DDR|DRAM|LPDDR|SLC")),
    ("soc", re.compile(r"VDD_INT|VDD_SOC|_INT\b")),
)


@dataclass(frozen=True, slots=True)
class Rail:
    """One rail: its energy since an arbitrary beginning, which a reboot moves."""

    name: str
    energy_uj: int
    part: RailPart | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rails:
    """One look."""

    rails: tuple[Rail, ...]
    #: Why there is none, where there is none.
    missing: Value | None = None
    unread: tuple[str, ...] = ()


def read_rails(text: str) -> Rails:
    """Read `energy_value` of all devices, with or without the name of the file before each line."""
    unread: list[str] = []
    rails: dict[str, Rail] = {}
    refusal: Value | None = None
    for line in plain_lines(text):
        read = entry(line)
        if read is not None and read.refused:
            refusal = refusal or Value(None, read.quality, read.text)
            continue
        plain = (read.text if read is not None else line).strip()
        match = _CHANNEL.fullmatch(plain)
        if match is not None:
            rails.setdefault(match[3], Rail(match[3], int(match[4]), _part_of(match[3])))
        elif plain and not _HEAD.fullmatch(plain):
            unread.append(line)
    missing = None if rails else _missing(refusal)
    return Rails(rails=tuple(rails.values()), missing=missing, unread=shortened(unread))


def _part_of(name: str) -> RailPart | None:
    return next((part for part, words in _PARTS if words.search(name.upper())), None)


def _missing(refusal: Value | None) -> Value:
    if refusal is not None and refusal.quality == "no_permission":
        return Value(None, "no_permission", "the phone's power rails can be read by root alone")
    return absent("the phone has no power rails (Pixel 6 and later have)")
