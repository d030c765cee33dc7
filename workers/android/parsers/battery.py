"""`dumpsys battery`: what Android last heard of the battery.

Only the first block counts, by its lines of exactly two blanks: Samsung adds event logs with keys of the same names
below it, and Android 16 lines of one blank between its own. The header may be missing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from workers.android.parsers.value import Value, absent, integer, number, plain_lines, shortened

_KEY = re.compile(r"  ([A-Za-z][^:]*): ?(.*)")
_FIRST_KEY = re.compile(r"([A-Za-z][^:]*): ?(.*)")
_STATUS = {1: "unknown", 2: "charging", 3: "discharging", 4: "not charging", 5: "full"}
_SUPPLIES = {"AC powered": "ac", "USB powered": "usb", "Wireless powered": "wireless", "Dock powered": "dock"}
#: One cell, or two in a row, and the packs of boxes: volts between which a battery's can lie.
_PLAUSIBLE_V = (2.5, 20.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Battery:
    """One dump. Current and charge are as told: their units differ by vendor (`workers.android.power`)."""

    #: Whether anything of a battery service was in the text.
    seen: bool
    level_percent: Value
    voltage_mv: Value
    temperature_c: Value
    status: str | None
    #: Kinds of charger that feed the phone; None where the dump does not say.
    plugged: tuple[str, ...] | None
    present: bool | None
    #: `Charge counter` or Samsung's `charge counter`: micro- or milliampere-hours.
    charge_raw: float | None
    #: Samsung's `current now`: milli- or microamperes of either sign.
    current_raw: float | None
    #: Somebody set values by hand (`dumpsys battery set`, `unplug`): what stands here is made up.
    updates_stopped: bool
    unread: tuple[str, ...] = ()


def read_battery(text: str) -> Battery:
    """Read a dump of any Android."""
    fields, stopped = _fields(text)
    unread: list[str] = []

    def told(key: str) -> float | None:
        if key not in fields:
            return None
        if (value := number(fields[key])) is None:
            unread.append(f"{key}: {fields[key]}")
        return value

    plugged: list[str] = []
    answers = {kind: fields[key].strip() for key, kind in _SUPPLIES.items() if key in fields}
    for kind, answer in answers.items():
        if answer == "true":
            plugged.append(kind)
        elif answer != "false":
            unread.append(f"{kind} powered: {answer}")
    known = any(answer in ("true", "false") for answer in answers.values())
    status = integer(fields.get("status", ""))
    if "status" in fields and status not in _STATUS:
        unread.append(f"status: {fields['status']}")
    charge = told("Charge counter")
    seen = bool(fields.keys() & {"level", "status", "voltage", "temperature", *_SUPPLIES})
    if not seen:  # what stands there instead says why
        unread.extend(line for line in plain_lines(text) if line.strip())
    return Battery(
        seen=seen,
        level_percent=_level(told("level"), told("scale")),
        voltage_mv=_voltage(told("voltage")),
        temperature_c=_temperature(told("temperature")),
        status=_STATUS.get(status) if status is not None else None,
        plugged=tuple(plugged) if known else None,
        present={"true": True, "false": False}.get(fields.get("present", "").strip()),
        charge_raw=charge if charge is not None else told("charge counter"),
        current_raw=told("current now"),
        updates_stopped=stopped,
        unread=shortened(unread),
    )


def _fields(text: str) -> tuple[dict[str, str], bool]:
    """Keys of the first block, the first of each name, and whether updates are stopped."""
    lines = plain_lines(text)
    first = next((at for at, line in enumerate(lines) if line.strip()), 0)
    fields: dict[str, str] = {}
    stopped = False
    for at, line in enumerate(lines[first:]):
        if not line.strip():
            break
        stopped = stopped or "UPDATES STOPPED" in line
        # Tools that strip a text take the indentation of its first line with them.
        if match := _KEY.fullmatch(line) or (at == 0 and _FIRST_KEY.fullmatch(line)) or None:
            fields.setdefault(match[1], match[2])
    return fields, stopped


def _level(level: float | None, scale: float | None) -> Value:
    if level is None:
        return absent("the dump has no level")
    percent = level * 100 / scale if scale is not None and scale > 0 else level
    return Value(percent) if 0 <= percent <= 100 else Value(None, "implausible", f"level {level:g} of {scale or 100:g}")


def _voltage(raw: float | None) -> Value:
    """In millivolts; boxes tell volts, some gauges microvolts."""
    if raw is None:
        return absent("the dump has no voltage")
    for per_volt in (1, 1000, 1_000_000):
        if _PLAUSIBLE_V[0] <= raw / per_volt <= _PLAUSIBLE_V[1]:
            millivolts = raw * 1000 / per_volt
            whole = per_volt == 1 and raw == int(raw)
            return Value(millivolts, "partial", "told in whole volts") if whole else Value(millivolts)
    return Value(None, "implausible", f"voltage {raw:g}")


def _temperature(raw: float | None) -> Value:
    """Told in tenths of a degree; some gauges in thousandths. Zero stands for absent."""
    if raw is None:
        return absent("the dump has no temperature")
    celsius = raw / 10 if abs(raw) < 1000 else raw / 1000
    if raw == 0 or not -30 <= celsius <= 100:
        return Value(None, "implausible", f"temperature {raw:g}")
    return Value(celsius)
