"""`/sys/class/thermal`: the kernel's thermal zones. One phone may mix degrees, tenths and thousandths."""

from __future__ import annotations

from dataclasses import dataclass

from workers.android.parsers.files import entries
from workers.android.parsers.temperature import Part, part_of, plausible
from workers.android.parsers.value import Value, absent, integer, plain_lines, shortened

_LEAVES = frozenset({"type", "temp"})


@dataclass(frozen=True, slots=True)
class Zone:
    """One zone; the numbering changes from boot to boot, the type does not."""

    type: str
    part: Part | None
    celsius: Value


@dataclass(frozen=True, slots=True, kw_only=True)
class ThermalZones:
    """One look. Zones whose type says that they tell no temperature are left out."""

    zones: tuple[Zone, ...]
    #: Why there is none, where there is none.
    missing: Value | None = None
    unread: tuple[str, ...] = ()


def read_thermal_zones(text: str) -> ThermalZones:
    """Read lines `.../thermal_zoneN/type:NAME` and `.../thermal_zoneN/temp:NUMBER` in any order."""
    unread: list[str] = []
    types: dict[str, str] = {}
    temperatures: dict[str, Value] = {}
    refusal: Value | None = None
    for entry in entries(plain_lines(text), _LEAVES, unread):
        if entry.refused:
            refusal = refusal or Value(None, entry.quality, entry.text)
            if entry.leaf == "temp":
                temperatures[entry.folder] = Value(None, entry.quality, entry.text)
        elif entry.leaf == "type":
            types[entry.folder] = entry.text
        elif (raw := integer(entry.text)) is not None:
            temperatures[entry.folder] = zone_celsius(raw)
        else:
            unread.append(f"{entry.folder}/temp: {entry.text}")
    zones = [
        Zone(kind, part, temperatures.get(folder, absent("no temp")))
        for folder, kind in types.items()
        if (part := part_of(kind)) != "none"
    ]
    missing = None if zones else refusal or absent("the phone shows no thermal zones")
    return ThermalZones(zones=tuple(zones), missing=missing, unread=shortened(unread))


def zone_celsius(raw: int) -> Value:
    """Degrees Celsius of a zone's number, whatever its unit; numbers that two units explain are implausible.

    The kernel's rule is thousandths. 100 to 150 may be hot degrees or cold tenths; 1000 to 1500 may be hot tenths or
    icy thousandths: neither is guessed.
    """
    size = abs(raw)
    if 100 <= size <= 150 or 1000 <= size <= 1500:
        return Value(None, "implausible", f"{raw} is a temperature in either of two units")
    if size < 100:
        return plausible(raw)
    return plausible(raw / 10 if size < 1000 else raw / 1000)
