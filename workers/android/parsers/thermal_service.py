"""`dumpsys thermalservice` (Android 10 and later): thermal status, and the temperatures that the HAL tells now.

Only the section `Current temperatures from HAL` counts: cached ones can be tens of degrees off. Not every value in it
is a temperature, and some Samsung builds number the types one higher than Android does, so names go before numbers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from workers.android.parsers.temperature import Part, part_of, plausible
from workers.android.parsers.value import Value, integer, number, plain_lines, shortened

_STATUS_NAMES = ("none", "light", "moderate", "severe", "critical", "emergency", "shutdown")
#: android.os.Temperature.TYPE_*; 6 to 8 are a battery's voltage, current and state of charge.
_TYPES: dict[int, Part] = {
    0: "cpu",
    1: "gpu",
    2: "battery",
    3: "skin",
    4: "usb",
    5: "power_amplifier",
    6: "none",
    7: "none",
    8: "none",
    9: "npu",
}
_SECTION = "Current temperatures from HAL"
_ENTRY = re.compile(
    r"\s*Temperature\{\s*m?[vV]alue\s*=\s*(?P<value>[^,]*),\s*m?[tT]ype\s*=\s*(?P<type>[^,]*),"
    r"\s*m?[nN]ame\s*=\s*(?P<name>.*),\s*m?(?:[sS]tatus|throttlingStatus)\s*=\s*(?P<status>[^,}]*)\}\s*"
)
_LONGEST_LINE = 400


@dataclass(frozen=True, slots=True)
class Temperature:
    """One sensor of the HAL. `part` is None where neither its name nor its number says what it looks at."""

    name: str
    type: int | None
    part: Part | None
    celsius: Value
    #: Its own thermal status, 0 to 6.
    status: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ThermalService:
    """One dump."""

    #: Of the phone as a whole, 0 (none) to 6 (shutdown).
    status: int | None
    #: Somebody set the status by hand.
    overridden: bool
    #: Where this is False only the kernel's zones tell temperatures.
    hal_ready: bool | None
    #: Sensors of temperatures; voltages, currents and states of charge are left out.
    temperatures: tuple[Temperature, ...]
    unread: tuple[str, ...] = ()

    @property
    def status_name(self) -> str:
        """Android's word for the status."""
        return _STATUS_NAMES[self.status] if self.status is not None else "unknown"


def read_thermal_service(text: str) -> ThermalService:
    """Read a dump of any Android."""
    unread: list[str] = []
    status: int | None = None
    overridden, hal_ready, inside = False, None, False
    found: list[re.Match[str]] = []
    for line in plain_lines(text):
        plain = line.strip()
        if inside and not plain.startswith("Temperature{"):
            # Any other heading ends the section: cooling devices, thresholds, what later versions add.
            inside = not plain or not (plain.endswith(":") or plain.startswith(("Current", "Cached")))
            if inside and plain:
                unread.append(line)
        if inside and plain.startswith("Temperature{"):
            match = _ENTRY.fullmatch(line) if len(line) <= _LONGEST_LINE else None
            if match is None:
                unread.append(line)
            else:
                found.append(match)
        elif plain.startswith(_SECTION):
            inside = True
        elif plain.startswith("Thermal Status:"):
            value = integer(plain.partition(":")[2])
            if value is not None and 0 <= value < len(_STATUS_NAMES):
                status = value
            else:
                unread.append(line)
        elif plain.startswith("IsStatusOverride:"):
            overridden = plain.partition(":")[2].strip() == "true"
        elif plain.startswith("HAL Ready:"):
            hal_ready = {"true": True, "false": False}.get(plain.partition(":")[2].strip())
    if status is None and not found and hal_ready is None:  # what stands there instead says why
        unread = [line for line in plain_lines(text) if line.strip()]
    return ThermalService(
        status=status,
        overridden=overridden,
        hal_ready=hal_ready,
        temperatures=tuple(_temperatures(found)),
        unread=shortened(unread),
    )


def _temperatures(found: list[re.Match[str]]) -> list[Temperature]:
    named = [(match["name"].strip(), integer(match["type"])) for match in found]
    shift = 1 if _is_shifted(named) else 0
    temperatures = []
    for match, (name, kind) in zip(found, named, strict=True):
        by_number = _TYPES.get(kind - shift) if kind is not None else None
        by_name = part_of(name)
        # A number that says "no temperature" stands against a name like battery_cycle; else the name goes first.
        part = by_number if by_number == "none" else by_name or by_number
        if part != "none":
            temperatures.append(Temperature(name, kind, part, _celsius(match["value"]), _severity(match["status"])))
    return temperatures


def _is_shifted(named: list[tuple[str, int | None]]) -> bool:
    """Whether at least two names stand one number higher than Android has them, and none stands where it should."""
    pairs = [(part_of(name), kind) for name, kind in named if kind is not None]
    known = {(part, kind) for part, kind in pairs if part not in (None, "none")}
    high = {part for part, kind in known if _TYPES.get(kind - 1) == part}
    right = any(_TYPES.get(kind) == part for part, kind in known)
    return len(high) >= 2 and not right


def _celsius(text: str) -> Value:
    value = number(text)
    if value is None:
        return Value(None, "implausible", f"{text.strip()[:40]!r} is no temperature")
    return plausible(value)


def _severity(text: str) -> int | None:
    value = integer(text)
    return value if value is not None and 0 <= value < len(_STATUS_NAMES) else None
