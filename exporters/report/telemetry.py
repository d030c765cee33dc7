"""What the sensors read during a run: a picture for each device and quantity, timed parts and throttling marked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, case, func, select

from device_registry.database import one_of
from device_registry.registry import devices, label_of
from exporters.numbers import significant
from exporters.report.figures import Line, Stretch, over_time
from exporters.report.shapes import Chart, Facts
from scheduler.ingest import results
from scheduler.states import attempts
from scheduler.views import view_of

#: Pictures are of so many devices of a run and attempts of each: those that throttled first.
_MOST_DEVICES = 3
_MOST_ATTEMPTS = 16
_MOST_LINES = 8
#: Points of one line; of more, the least and the greatest of each stretch are kept.
MOST_POINTS = 1200
#: Readings that come later than this after one another are not joined.
_GAP_S = 15.0
#: Quantities in the order of their pictures; others follow by name.
_ORDER = ("temperature", "power", "clock", "frequency", "load")
#: Told by marks, not by a picture.
_EVENTS = "throttle_events"
_TIMED_FROM = ("result", "measurement", "timed_from")
_TIMED_TO = ("result", "measurement", "timed_to")


@dataclass(frozen=True)
class Reading:
    """One value at a time, in seconds."""

    at: float
    value: float | None


def telemetry_charts(connection: Connection, run_id: int) -> tuple[list[Chart], str]:
    """Pictures of a run's telemetry, and what to know of them.

    Args:
        connection: to read from.
        run_id: the run.
    """
    ranking = _devices(connection, run_id)
    if not ranking:
        return [], f"Run {run_id} has no results, so there is nothing that sensors were read for."
    charts = []
    for device_id, label in ranking[:_MOST_DEVICES]:
        charts += _device_charts(connection, run_id, device_id, label)
    note = f"Run {run_id}."
    if len(ranking) > _MOST_DEVICES:
        note += f" {_MOST_DEVICES} of its {len(ranking)} devices are shown, those that throttled first."
    if not charts:
        note += " No sensor of its devices gave a value (docs/fleet.md says what a host needs)."
    return charts, note


def _devices(connection: Connection, run_id: int) -> list[tuple[int, str]]:
    """Devices of a run with their labels; those that throttled first, then by how much they measured."""
    throttled = func.sum(case((results.c.verdict == "throttled", 1), else_=0))
    query = (
        select(devices.c.id, devices.c.name, devices.c.attributes)
        .join(results, results.c.device_id == devices.c.id)
        .where(results.c.sweep_run_id == run_id, results.c.stale.is_(False))
        .group_by(devices.c.id)
        .order_by(throttled.desc(), func.count().desc(), devices.c.id)
    )
    return [(row.id, label_of(row.name, row.attributes)) for row in connection.execute(query)]


def _device_charts(connection: Connection, run_id: int, device_id: int, label: str) -> list[Chart]:
    tries = connection.execute(
        select(
            results.c.attempt_id,
            results.c.verdict,
            results.c.document[_TIMED_FROM].as_float().label("timed_from"),
            results.c.document[_TIMED_TO].as_float().label("timed_to"),
            func.coalesce(attempts.c.clock_offset_s, 0.0).label("ahead_s"),
        )
        .join(attempts, attempts.c.id == results.c.attempt_id)
        .where(results.c.sweep_run_id == run_id, results.c.device_id == device_id, results.c.stale.is_(False))
        .order_by(results.c.verdict != "throttled", results.c.id)
        .limit(_MOST_ATTEMPTS)
    ).all()
    table = view_of("telemetry_reading")
    rows = connection.execute(
        select(
            table.c.at, table.c.domain, table.c.sensor, table.c.quantity, table.c.unit, table.c.value, table.c.quality
        )
        .where(one_of(table.c.attempt_id, [row.attempt_id for row in tries]))
        .order_by(table.c.at)
    ).all()
    if not rows:
        return []
    begin = rows[0].at.timestamp()
    stretches = _stretches(tries, begin)
    stretches += [
        Stretch(row.at.timestamp() - begin - 0.5, row.at.timestamp() - begin + 0.5, "throttle event", throttled=True)
        for row in rows
        if row.quantity == _EVENTS and (row.value or 0) > 0
    ]
    quantities: dict[tuple[str, str], dict[str, list[Reading]]] = {}
    for row in rows:
        if row.quantity != _EVENTS:
            name = row.domain if row.domain == row.sensor else f"{row.domain} ({row.sensor})"
            lines = quantities.setdefault((row.quantity, row.unit), {})
            lines.setdefault(name, []).append(Reading(row.at.timestamp() - begin, row.value))
    lacking = Counter(row.quality for row in rows if row.value is None)
    ordered = sorted(quantities.items(), key=lambda item: (_rank(item[0][0]), item[0]))
    return [
        chart
        for number, ((quantity, unit), lines) in enumerate(ordered)
        if (chart := _chart(f"telemetry-{device_id}-{number}", label, quantity, unit, lines, stretches, lacking))
    ]


def _stretches(tries: Iterable[Any], begin: float) -> list[Stretch]:
    """Timed parts, which a report tells by its host's clock: moved as the readings were."""
    return [
        Stretch(
            row.timed_from - row.ahead_s - begin,
            row.timed_to - row.ahead_s - begin,
            "throttled" if row.verdict == "throttled" else "",
            throttled=row.verdict == "throttled",
        )
        for row in tries
        if row.timed_from is not None and row.timed_to is not None
    ]


def _chart(
    name: str,
    label: str,
    quantity: str,
    unit: str,
    lines: Mapping[str, Sequence[Reading]],
    stretches: Sequence[Stretch],
    lacking: Mapping[str, int],
) -> Chart | None:
    known = {line: readings for line, readings in lines.items() if any(one.value is not None for one in readings)}
    if not known:
        return None
    # Most readings first: what a picture has no room for is what moved least.
    shown = sorted(known, key=lambda line: (-_range(known[line]), line))[:_MOST_LINES]
    drawn = [thinned(line, known[line]) for line in sorted(shown)]
    caption = "Grey bands: the timed parts of the measurements; dashed red ones: it throttled."
    if len(known) > len(shown):
        caption += f" {len(known) - len(shown)} more channels, which moved less, are not drawn."
    if lacking:
        caption += " Readings without a value: " + ", ".join(f"{n} {why}" for why, n in sorted(lacking.items())) + "."
    facts = []
    for line in sorted(known):
        values = [one.value for one in known[line] if one.value is not None]
        facts.append([line, *(significant(number, 4) for number in (values[0], min(values), max(values), values[-1]))])
    timed = [[f"timed part{' (throttled)' if s.throttled else ''}", f"{s.begin_s:.1f} to {s.end_s:.1f} s", "", "", ""]
             for s in stretches]  # fmt: skip
    return Chart(
        id=name,
        title=f"{label}: {quantity.replace('_', ' ')}, {unit}",
        figure=over_time(drawn, stretches, unit),
        caption=caption,
        facts=Facts(columns=["channel", f"first, {unit}", "least", "greatest", "last"], rows=[*facts, *timed[:50]]),
    )


def thinned(name: str, readings: Sequence[Reading], most: int = MOST_POINTS) -> Line:
    """A line of at most about so many points, which keeps every peak; it breaks where nothing was read."""
    kept = list(readings)
    if len(kept) > most:
        size = -(-2 * len(kept) // most)
        portions = [kept[start : start + size] for start in range(0, len(kept), size)]
        kept = [one for portion in portions for one in _extremes(portion)]
    seconds: list[float] = []
    values: list[float | None] = []
    for one in kept:
        if seconds and one.at - seconds[-1] > _GAP_S and len(readings) <= most:
            seconds.append(one.at)
            values.append(None)
        seconds.append(round(one.at, 2))
        values.append(one.value)
    return Line(name=name, seconds=seconds, values=values)


def _extremes(portion: Sequence[Reading]) -> list[Reading]:
    known = [one for one in portion if one.value is not None]
    if not known:
        return [portion[0]]
    ends = {id(one): one for one in (min(known, key=_value), max(known, key=_value))}
    return sorted(ends.values(), key=lambda one: one.at)


def _value(one: Reading) -> float:
    return one.value if one.value is not None else 0.0


def _range(readings: Sequence[Reading]) -> float:
    values = [one.value for one in readings if one.value is not None]
    return (max(values) - min(values)) / (abs(max(values)) or 1.0)


def _rank(quantity: str) -> int:
    return _ORDER.index(quantity) if quantity in _ORDER else len(_ORDER)
