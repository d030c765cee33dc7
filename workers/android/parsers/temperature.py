"""What a temperature sensor of a phone looks at, by its name, and which values no part of a phone can have."""

from __future__ import annotations

import math
import re
from typing import Literal

from workers.android.parsers.value import Value

#: `none`: no temperature at all, though it stands among them: voltages, currents, states of charge, cycle counts.
Part = Literal["cpu", "gpu", "npu", "battery", "skin", "usb", "power_amplifier", "none"]

#: Colder or hotter than this is a dead sensor, not a phone.
_PLAUSIBLE_C = (-30.0, 150.0)


def _words(alternatives: str) -> re.Pattern[str]:
    """Words that stand alone, between the signs that vendors put between them, with or without a number."""
    return re.compile(rf"(?:^|[^a-z0-9])(?:{alternatives})\d*(?![a-z])")


#: Tried in this order. A bare `soc` is a state of charge on Qualcomm's phones; `soc_thermal` elsewhere is not.
_PARTS: tuple[tuple[Part, re.Pattern[str]], ...] = (
    ("none", _words(r"vbat|ibat|vph|socd?$|bcl|lvl|battery_cycle")),
    ("skin", _words(r"skin|quiet|shell|surface|back_temp|frame")),
    ("battery", _words(r"batt?|battery")),
    ("gpu", _words(r"gpu|gpuss|g3d|mali|kgsl")),
    ("npu", _words(r"npu|tpu|nsp|nsphvx|nsphmx|nspss|apu|vpu|cdsp")),
    ("cpu", _words(r"cpu|cpuss|apc|cluster|big|mid|little|gold|silver|prime|soc_max")),
    ("usb", _words(r"usbc?")),
    ("power_amplifier", _words(r"pa|power_amplifier")),
)


def part_of(name: str) -> Part | None:
    """What a sensor looks at by its name; None where the name does not say."""
    plain = name.strip().lower().removeprefix("mtkts")  # MediaTek's zones: mtktscpu, mtktsbattery
    return next((part for part, words in _PARTS if words.search(plain)), None)


def plausible(celsius: float) -> Value:
    """A temperature in degrees Celsius, or why it cannot be one. Zero stands for absent on many phones."""
    if not math.isfinite(celsius) or celsius == 0 or not _PLAUSIBLE_C[0] <= celsius <= _PLAUSIBLE_C[1]:
        return Value(None, "implausible", f"{celsius:g} C")
    return Value(celsius)
