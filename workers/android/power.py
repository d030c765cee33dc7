"""Power of a phone, made comparable: currents and charges in the units and signs of one convention, and who feeds it.

Android's rule is microamperes, negative while discharging, and vendors keep neither. What they mean is found by
plausibility, and by a table of models whose habits are known from reports of others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from workers.android.parsers.value import Value, absent
from workers.android.snapshot import Snapshot

#: What feeds a phone; `silent` is a snapshot that does not say.
Feed = Literal["battery", "charger", "faked", "unclear", "silent"]


@dataclass(frozen=True, slots=True)
class _Habit:
    """How a model tells its current."""

    per_milliampere: int
    discharge_is_positive: bool


#: By the beginning of the model, its code or the name it is sold by. Sources: community-code/amps#1 (Mi A1, P8 Lite),
#: BatteryNotification#13 (OnePlus 7T), home-assistant/android#2846 (Galaxy S21). None was seen by us.
_HABITS = {
    "Mi A1": _Habit(1000, discharge_is_positive=True),
    "ALE-L": _Habit(1, discharge_is_positive=False),
    "HD190": _Habit(1, discharge_is_positive=True),
    "OnePlus 7T": _Habit(1, discharge_is_positive=True),
    "SM-G991": _Habit(1, discharge_is_positive=False),
    "SM-G996": _Habit(1, discharge_is_positive=False),
    "SM-G998": _Habit(1, discharge_is_positive=False),
}
#: No phone draws or takes more; and 10,000 told in microamperes would be a phone at 10 mA, which is asleep.
_MOST_MILLIAMPERES = 15_000
_LEAST_MICROAMPERES = 10_000
#: Between these lies the capacity of a phone's or tablet's battery.
_CAPACITY_MAH = (500.0, 40_000.0)


def currents_ma(snapshots: Sequence[Snapshot], model: str = "") -> list[Value]:
    """The current of each snapshot in milliamperes, negative while the battery discharges.

    Args:
        snapshots: of one phone; its unit is judged over all of them, for one small value may be of either.
        model: the phone's model, for the table of habits.
    """
    raws = [_raw_current(snapshot) for snapshot in snapshots]
    habit = next((habit for beginning, habit in _HABITS.items() if model.startswith(beginning)), None)
    sizes = [abs(raw.value) for raw in raws if raw.value is not None]
    if habit is not None:
        per_milliampere = habit.per_milliampere
    else:
        per_milliampere = 1000 if max(sizes, default=0.0) >= _LEAST_MICROAMPERES else 1
    sign = -1 if habit is not None and habit.discharge_is_positive else 1
    alone = [feed == "battery" for feed in carried_feeds(snapshots)]
    signs = {raw.value > 0 for raw, is_alone in zip(raws, alone, strict=True) if is_alone and raw.value is not None}
    return [
        raw if raw.value is None else _signed(raw.value * sign / per_milliampere, proven=is_alone and len(signs) == 1)
        for raw, is_alone in zip(raws, alone, strict=True)
    ]


def _raw_current(snapshot: Snapshot) -> Value:
    told = snapshot.supply.current_raw
    if told.value is None and snapshot.battery is not None and snapshot.battery.current_raw:
        return Value(snapshot.battery.current_raw)
    return told


def _signed(milliamperes: float, *, proven: bool) -> Value:
    if abs(milliamperes) > _MOST_MILLIAMPERES:
        return Value(None, "implausible", f"a current of {milliamperes:g} mA")
    if proven:  # whatever the driver's sign: a battery that alone feeds the phone discharges
        return Value(-abs(milliamperes))
    return Value(
        milliamperes, "partial", "the sign is the driver's: nothing proves it while a charger may feed the phone"
    )


def charge_mah(snapshot: Snapshot) -> Value:
    """Charge in the battery in milliampere-hours: in which unit it is told follows from the capacity it implies."""
    told, battery = snapshot.supply.charge_raw, snapshot.battery
    raw = battery.charge_raw if battery is not None and battery.charge_raw is not None else told.value
    if raw is None:
        return told
    level = battery.level_percent.value if battery is not None else None
    if raw <= 0:
        return absent("the charge counter is 0, which stands for absent")
    if not level:
        return Value(None, "implausible", f"a charge counter of {raw:g} without a level to tell its unit by")
    for per_milliampere_hour in (1000, 1):
        charge = raw / per_milliampere_hour
        if _CAPACITY_MAH[0] <= charge * 100 / level <= _CAPACITY_MAH[1]:
            return Value(charge)
    return Value(None, "implausible", f"a charge counter of {raw:g} at {level:g} %")


def voltages_mv(snapshots: Sequence[Snapshot]) -> list[Value]:
    """The battery's voltage at each snapshot: the kernel's, else what Android last told, which is seldom."""
    values, last = [], absent("the phone tells no voltage")
    for snapshot in snapshots:
        if snapshot.battery is not None:
            last = snapshot.battery.voltage_mv
        own = snapshot.supply.voltage_mv
        values.append(own if own.value is not None else last)
    return values


def feed_of(snapshot: Snapshot) -> Feed:
    """Who feeds the phone, as one snapshot tells: Android's word where it was asked, else the kernel's."""
    battery, supply = snapshot.battery, snapshot.supply
    if battery is not None and battery.seen:
        if battery.updates_stopped:
            return "faked"
        if battery.plugged or any(supply.online.values()):
            return "charger"
        return "battery" if battery.plugged is not None and battery.status == "discharging" else "unclear"
    if any(supply.online.values()) or supply.status == "charging":
        return "charger"
    return "battery" if supply.status == "discharging" and supply.online else "silent"


def carried_feeds(snapshots: Sequence[Snapshot]) -> list[Feed]:
    """Who feeds the phone at each snapshot; silent ones are taken to be as the one before them."""
    feeds: list[Feed] = []
    for snapshot in snapshots:
        feed = feed_of(snapshot)
        feeds.append(feeds[-1] if feed == "silent" and feeds else feed)
    return feeds


def chargers(snapshot: Snapshot) -> str:
    """The kinds of charger that feed the phone, for people."""
    named = snapshot.battery.plugged if snapshot.battery is not None else None
    return ", ".join(kind.upper() if kind in ("ac", "usb") else kind for kind in named or ()) or "a charger"
