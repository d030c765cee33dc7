"""What a phone told during a run, as readings: each value with its quality, and one for each sensor it lacks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from workers.android.energy import charger_is_off, discharge_percent_per_hour
from workers.android.parsers.cpu_clocks import Policy
from workers.android.parsers.temperature import Part
from workers.android.parsers.value import Value, absent
from workers.android.power import charge_mah, currents_ma, voltages_mv
from workers.android.snapshot import Snapshot
from workers.report import Reading

#: From moderate on a phone slows what it runs.
_THROTTLING_STATUS = 2
#: A limit this far below where it stood at the start is one that heat or power has lowered.
_LOWERED = 0.99
#: The level moves by whole percents: below this no rate of discharge is told.
_DISCHARGE_WINDOW_S = 300.0

#: Of a phone that runs nothing: what shows how it fares over weeks.
_WHILE_IDLE = {
    *(("android-battery", quantity) for quantity in ("level", "temperature", "voltage", "current", "charge")),
    *((sensor, "temperature") for sensor in ("android-thermal", "android-zones")),
    ("android-thermal", "thermal_status"),
    ("android-memory", "available"),
}

_Moment = tuple[float, Value]


def readings(snapshots: Sequence[Snapshot], since: float, until: float, *, model: str = "") -> tuple[Reading, ...]:
    """Readings of the timed part of a run, and those of the last full snapshot before it.

    Temperatures are the hottest of each part of the phone; every single sensor is in the snapshots' raw text.

    Args:
        snapshots: of one phone, in order.
        since: epoch seconds, when the phone was prepared: a clock limit that falls later is a throttle event.
        until: epoch seconds, before the preparations were undone.
        model: the phone's model, for the habits of its battery driver.
    """
    before = [snapshot for snapshot in snapshots if snapshot.at < since]
    start = next((snapshot for snapshot in reversed(before) if snapshot.full), None)
    timed = [snapshot for snapshot in snapshots if since <= snapshot.at <= until]
    inside = [start, *timed] if start is not None else timed
    told = _Told(until)
    _battery(told, inside, model)
    if until - since >= _DISCHARGE_WINDOW_S:
        _discharge(told, snapshots, since, until)
    _thermal(told, inside)
    _zones(told, inside)
    # Clocks from within the run alone: just before it, its preparation may have limited them on purpose.
    _clocks(told, timed or before[-1:])
    _rails(told, inside)
    _memory(told, inside)
    return tuple(told.readings)


def idle_readings(full: Snapshot | None, latest: Snapshot, *, model: str = "") -> tuple[Reading, ...]:
    """What is told of a phone that runs nothing: battery, heat and memory, where they have a value.

    Args:
        full: the newest full snapshot, if there is one.
        latest: the newest of all.
        model: as for `readings`.
    """
    snapshots = [full, latest] if full is not None and full.at < latest.at else [latest]
    newest: dict[tuple[str, str, str], Reading] = {}
    for reading in readings(snapshots, snapshots[0].at, latest.at, model=model):
        if reading.value is not None and (reading.sensor, reading.quantity) in _WHILE_IDLE:
            newest[reading.sensor, reading.domain, reading.quantity] = reading
    return tuple(newest.values())


class _Told:
    """Collects readings."""

    def __init__(self, until: float) -> None:
        self.readings: list[Reading] = []
        self.until = until

    def add(self, sensor: str, domain: str, quantity: str, unit: str, values: Iterable[_Moment]) -> None:
        """Values in order of time; where none is one, a single reading says why, dated at the end."""
        moments = list(values)
        if all(value.value is None for _, value in moments):
            moments = [(self.until, moments[-1][1] if moments else absent("it was not asked in this window"))]
        for at, value in moments:
            self.readings.append(
                Reading(
                    sensor=sensor,
                    domain=domain,
                    quantity=quantity,
                    unit=unit,
                    value=None if value.value is None else float(value.value),
                    quality=value.quality,
                    at=at,
                    why=value.why,
                )
            )


def _battery(told: _Told, snapshots: Sequence[Snapshot], model: str) -> None:
    dumps = [(snapshot.at, snapshot.battery) for snapshot in snapshots if snapshot.battery is not None]
    told.add("android-battery", "battery", "level", "%", [(at, battery.level_percent) for at, battery in dumps])
    told.add("android-battery", "battery", "temperature", "C", [(at, battery.temperature_c) for at, battery in dumps])
    moments = [snapshot.at for snapshot in snapshots]
    told.add("android-battery", "battery", "voltage", "mV", zip(moments, voltages_mv(snapshots), strict=True))
    told.add("android-battery", "battery", "current", "mA", zip(moments, currents_ma(snapshots, model), strict=True))
    full = [snapshot for snapshot in snapshots if snapshot.full]
    told.add("android-battery", "battery", "charge", "mAh", [(snapshot.at, charge_mah(snapshot)) for snapshot in full])


def _discharge(told: _Told, snapshots: Sequence[Snapshot], since: float, until: float) -> None:
    rate = discharge_percent_per_hour(snapshots, since, until)
    why = charger_is_off(snapshots, since, until) or "the level was not told often enough"
    value = absent(why) if rate is None else Value(rate, "partial", "levels are whole percents")
    told.add("android-battery", "battery", "discharge", "%/h", [(until, value)])


def _thermal(told: _Told, snapshots: Sequence[Snapshot]) -> None:
    dumps = [(snapshot.at, snapshot.thermal) for snapshot in snapshots if snapshot.thermal is not None]
    statuses = [(at, dump.status) for at, dump in dumps if dump.status is not None]
    missing = absent("the phone tells no thermal status (Android 10 and later do)")
    values = [(at, Value(status)) for at, status in statuses] or [(told.until, missing)]
    told.add("android-thermal", "phone", "thermal_status", "0-6", values)
    if statuses:
        events = sum(status >= _THROTTLING_STATUS for _, status in statuses)
        told.add("android-thermal", "phone", "throttle_events", "count", [(told.until, Value(events))])
    hottest = [(at, [(sensor.part, sensor.celsius) for sensor in dump.temperatures]) for at, dump in dumps]
    _temperatures(told, "android-thermal", hottest, absent("the thermal HAL tells no temperatures"))


def _zones(told: _Told, snapshots: Sequence[Snapshot]) -> None:
    looks = [(snapshot.at, snapshot.zones) for snapshot in snapshots if snapshot.zones is not None]
    missing = next((zones.missing for _, zones in reversed(looks) if zones.missing is not None), None)
    hottest = [(at, [(zone.part, zone.celsius) for zone in zones.zones]) for at, zones in looks]
    _temperatures(told, "android-zones", hottest, missing or absent("no thermal zone names a part of the phone"))


def _temperatures(
    told: _Told, sensor: str, looks: Sequence[tuple[float, Sequence[tuple[Part | None, Value]]]], missing: Value
) -> None:
    """The hottest sensor of each part; where no part was told at all, one reading says so."""
    parts = sorted({part for _, sensors in looks for part, _ in sensors if part is not None})
    for part in parts:
        told.add(sensor, part, "temperature", "C", [(at, _hottest(sensors, part)) for at, sensors in looks])
    if not parts:
        told.add(sensor, "phone", "temperature", "C", [(told.until, missing)])


def _hottest(sensors: Sequence[tuple[Part | None, Value]], part: Part) -> Value:
    own = [value for of, value in sensors if of == part]
    known = [value for value in own if value.value is not None]
    if known:
        return max(known, key=lambda value: value.value or 0.0)
    return own[0] if own else absent("it was not told this time")


def _clocks(told: _Told, snapshots: Sequence[Snapshot]) -> None:
    names = sorted({policy.name for snapshot in snapshots for policy in snapshot.clocks.policies})
    if not names:
        missing = snapshots[-1].clocks.missing if snapshots else None
        told.add("android-clocks", "cpu", "clock", "MHz", [(told.until, missing or absent("no clock was told"))])
    for name in names:
        looks = [
            (snapshot.at, policy)
            for snapshot in snapshots
            for policy in snapshot.clocks.policies
            if policy.name == name
        ]
        told.add("android-clocks", name, "clock", "MHz", _megahertz(looks, lambda policy: policy.current_khz))
        limits = _megahertz(looks, lambda policy: policy.limit_khz)
        changes = [limit for at, limit in enumerate(limits) if at == 0 or limit[1] != limits[at - 1][1]]
        told.add("android-clocks", name, "clock_limit", "MHz", changes)
        known = [value.value for _, value in limits if value.value is not None]
        if known:
            events = sum(limit < known[0] * _LOWERED for limit in known)
            told.add("android-clocks", name, "throttle_events", "count", [(told.until, Value(events))])


def _megahertz(looks: Sequence[tuple[float, Policy]], clock: Callable[[Policy], Value]) -> list[_Moment]:
    moments = []
    for at, policy in looks:
        value = clock(policy)
        moments.append((at, value if value.value is None else Value(value.value / 1000)))
    return moments


def _rails(told: _Told, snapshots: Sequence[Snapshot]) -> None:
    with_rails = [snapshot for snapshot in snapshots if snapshot.rails.rails]
    if not with_rails:
        missing = snapshots[-1].rails.missing if snapshots else None
        told.add("android-rails", "rails", "energy", "mJ", [(told.until, missing or absent("no rail was told"))])
    names = {rail.name: None for snapshot in with_rails for rail in snapshot.rails.rails if rail.part is not None}
    for name in names:
        told.add(
            "android-rails",
            f"rail:{name}",
            "energy",
            "mJ",
            [
                (snapshot.at, Value(rail.energy_uj / 1000))
                for snapshot in with_rails
                for rail in snapshot.rails.rails
                if rail.name == name
            ],
        )


def _memory(told: _Told, snapshots: Sequence[Snapshot]) -> None:
    looks = [(snapshot.at, snapshot.memory) for snapshot in snapshots]
    free = [(at, Value(memory.available_bytes)) for at, memory in looks if memory.available_bytes is not None]
    told.add("android-memory", "phone", "available", "bytes", free or [(told.until, absent("/proc/meminfo is hidden"))])
    resident = [(at, Value(sum(memory.resident_bytes.values()))) for at, memory in looks if memory.resident_bytes]
    none = [(told.until, absent("no process of the job was there when the phone was looked at"))]
    told.add("android-memory", "process", "rss", "bytes", resident or none)
