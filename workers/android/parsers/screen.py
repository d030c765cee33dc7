"""A few lines of `dumpsys power`: whether the screen is on and the battery saver at work."""

from __future__ import annotations

import re
from dataclasses import dataclass

_WAKEFULNESS = re.compile(r"^\s*mWakefulness(?:Raw)?=([A-Za-z]{1,20})\s*$", re.MULTILINE)
_DISPLAY = re.compile(r"Display Power: state=([A-Z_]{1,20})")
_SAVER = re.compile(r"^\s*(?:mLowPowerModeEnabled|mBatterySaverEnabled|mIsLowPower)=(true|false)\s*$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Screen:
    """None for what the text does not tell."""

    on: bool | None
    battery_saver: bool | None


def read_screen(text: str) -> Screen:
    """Read the lines; the display's own state goes before what the power service wants."""
    display, awake, saver = _DISPLAY.search(text), _WAKEFULNESS.search(text), _SAVER.search(text)
    on: bool | None = None
    if display is not None:
        on = display[1].startswith("ON")
    elif awake is not None:
        on = awake[1] in ("Awake", "Dreaming")
    return Screen(on=on, battery_saver=saver[1] == "true" if saver is not None else None)
