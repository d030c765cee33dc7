"""One model in a report: its matrix, its trade-offs, and how its devices compare."""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from exporters.matrix_tables import age_text, setting_text, units_text
from exporters.numbers import NONE, significant
from exporters.report.figures import Spot, heat_map, pareto_front, trade_off
from exporters.report.places import MOST_VARIANTS, Places, cell_of_many, cell_of_one, places_of
from exporters.report.shapes import Cell, Chart, Facts, Grid, Section
from scheduler.cells import METRICS, shared_options, variant_label
from workers.judge import OUTPUTS_WRONG

Row = Mapping[str, Any]
#: A table below a chart has at most so many rows.
MOST_FACTS = 200
#: Fields of a heat map of more columns have no room for an age; it is told where they are pointed at.
_MOST_WITH_AGE = 4
#: With more devices, points of a trade-off are models of device.
_MOST_DEVICES = 4


def section_of(model: str, rows: Sequence[Row], number: int) -> Section:
    """All of one model; simulated devices apart from real ones in every matrix and picture."""
    anchor = f"model-{number}-{re.sub('[^a-z0-9]+', '-', model.lower()).strip('-')}"
    section = Section(model=model, anchor=anchor)
    for simulated in (False, True):
        own = [row for row in rows if row["simulated"] is simulated]
        if not own:
            continue
        groups = _settings(own)
        section.grids += [_grid(group) for group in groups]
        # Pictures are of the setting that was measured most: points of different settings do not compare.
        main = max(groups, key=lambda group: sum(row["value"] is not None for row in group))
        section.charts += _trade_offs(main, f"{anchor}-{'simulated' if simulated else 'real'}")
        section.charts.append(_devices(main, f"{anchor}-{'simulated' if simulated else 'real'}-devices"))
    section.charts.sort(key=lambda chart: chart.figure is None)
    return section


def _settings(rows: Sequence[Row]) -> list[list[Row]]:
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        key = (row["weights"], row["threads"], row["batch"], row["mode"], shared_options(row))
        groups.setdefault(key, []).append(row)
    return [group for _, group in sorted(groups.items(), key=lambda item: item[0])]


def _grid(rows: Sequence[Row]) -> Grid:
    places = places_of(rows)
    if len(places.names) == 1 and not places.summed:
        return _one_device(rows, places.names[0])
    variants = list(dict.fromkeys(variant_label(row) for row in rows))
    inside = _by_cell(rows, places)
    make: Callable[[Sequence[Row]], Cell] = cell_of_many if places.summed else cell_of_one
    lines = [
        (
            variant,
            [
                make(inside[variant, place]) if (variant, place) in inside else Cell(value=NONE)
                for place in places.names
            ],
        )
        for variant in variants[:MOST_VARIANTS]
    ]
    left_out = [f"{len(variants) - MOST_VARIANTS} more variants"] if len(variants) > MOST_VARIANTS else []
    left_out += [f"{places.left_out} more models of device"] if places.left_out else []
    return Grid(
        title=setting_text(rows[0]) + (f"; each column a {places.what}" if places.summed else ""),
        simulated=rows[0]["simulated"],
        columns=places.names,
        rows=lines,
        left_out=" and ".join(left_out),
    )


def _one_device(rows: Sequence[Row], device: str) -> Grid:
    """A single device has room for a column of everything."""
    lines = []
    for row in rows[:MOST_VARIANTS]:
        cell = cell_of_one([row])
        could = NONE if row["detectable"] is None else f"{row['detectable']:.1%}"
        columns = [
            replace(cell, age="", ratio="", answer="", state="", off=bool(cell.state)),
            Cell(value="", ratio=cell.ratio or NONE),
            Cell(value="", answer=cell.answer, kind=cell.kind) if cell.answer else Cell(value="", ratio=NONE),
            Cell(value="", ratio=could),
            Cell(value="", state=cell.state) if cell.state else Cell(value="", ratio=row["state"]),
            Cell(value="", age=cell.age.removesuffix(" old")),
        ]
        lines.append((variant_label(row), columns))
    title = METRICS[rows[0]["metric"]].title
    return Grid(
        title=f"{setting_text(rows[0])}, on {device}",
        simulated=rows[0]["simulated"],
        columns=(title, "speed-up", "verdict", "could show", "state", "age"),
        rows=lines,
        left_out=f"{len(rows) - MOST_VARIANTS} more variants" if len(rows) > MOST_VARIANTS else "",
    )


def _by_cell(rows: Sequence[Row], places: Places) -> dict[tuple[str, str], list[Row]]:
    inside: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        inside.setdefault((variant_label(row), places.of(row)), []).append(row)
    return inside


def _trade_offs(rows: Sequence[Row], name: str) -> list[Chart]:
    """Latency against energy, fidelity and size: what nothing beats is joined by a line."""
    usable = [row for row in rows if _has_p50(row) and OUTPUTS_WRONG not in (row["flags"] or "")]
    places = places_of(usable, _MOST_DEVICES)
    made_up = " (simulated devices)" if rows[0]["simulated"] else ""
    unit_name, unit_bytes = _size_unit([row["artifact_bytes"] for row in usable if row["artifact_bytes"]])
    wanted = (
        ("energy", "energy_per_inference_mj", "energy, mJ per inference", 1.0, False, _why_no_energy(usable)),
        ("fidelity", "snr_db", "SNR, dB (higher is better)", 1.0, True, "no variant has a measured SNR"),
        ("size", "artifact_bytes", f"size of the artifact, {unit_name}", unit_bytes, False, "the sizes are not known"),
    )
    found = []
    for what, column, y_title, unit, higher, why in wanted:
        spots = _spots(usable, places, column, unit)
        title = f"Latency and {what}{made_up}"
        if not spots:
            found.append(Chart(id=f"{name}-{what}", title=title, empty=f"Not drawn: {why if usable else _NO_VALUE}."))
            continue
        # Fidelity has decibels, and energy and size are never 0 but where a counter failed to move.
        log_y = not higher and min(spot.y for spot in spots) > 0
        absent = len(_groups(usable, places)) - len(spots)
        front = pareto_front(spots, higher_is_better=higher)
        known = {id(spot) for spot in front}
        caption = f"Left and {'up' if higher else 'down'} is better; the dotted line joins what nothing beats in both."
        if absent:
            exact = "exact, or not compared" if higher else why
            caption += f" {absent} not drawn ({exact})."
        if any(spot.doubtful for spot in spots):
            caption += " Hollow: judged invalid, shown because --invalid was given."
        facts = [
            [spot.detail, significant(spot.x), significant(spot.y), "yes" if id(spot) in known else "no"]
            for spot in sorted(spots, key=lambda spot: spot.x)
        ]
        found.append(
            Chart(
                id=f"{name}-{what}",
                title=title,
                figure=trade_off(spots, "latency p50, ms", y_title, higher_is_better=higher, log_y=log_y),
                caption=caption,
                facts=_facts(["variant", "p50 ms", y_title, "nothing is better in both"], facts),
            )
        )
    return found


def _size_unit(sizes: Sequence[float]) -> tuple[str, float]:
    """The unit in which the largest has at least one digit before the point."""
    largest = max(sizes, default=1e6)
    return next(((name, unit) for name, unit in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)) if largest >= unit), ("B", 1.0))


_NO_VALUE = "there is no valid latency"


def _why_no_energy(rows: Sequence[Row]) -> str:
    lacking = [row for row in rows if row["energy_per_inference_mj"] is None]
    whys = sorted({str(row["energy_quality"] or "no energy was read") for row in lacking})
    return f"energy: {', '.join(whys)}" if whys else _NO_VALUE


def _groups(rows: Sequence[Row], places: Places) -> dict[tuple[str, str, str], list[Row]]:
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        if (place := places.of(row)) in places.names:
            groups.setdefault((row["runtime"], variant_label(row), place), []).append(row)
    return groups


def _spots(rows: Sequence[Row], places: Places, column: str, unit: float) -> list[Spot]:
    spots = []
    groups = _groups(rows, places)
    one_runtime = len({runtime for runtime, _, _ in groups}) == 1 and len(places.names) > 1
    for (runtime, variant, place), members in groups.items():
        known = [row for row in members if row[column] is not None]
        if not known:
            continue
        x = statistics.median(row["p50_ms"] for row in known)
        y = statistics.median(row[column] for row in known) / unit
        several = f", median of {units_text(len(known))}" if places.summed else ""
        name = variant.removeprefix(f"{runtime} ")
        if len(places.names) > 1 and not one_runtime:
            name += f" · {place}"
        detail = f"{variant} on {place}{several}: {significant(x)} ms, {significant(y)}"
        family = place if one_runtime else runtime
        doubtful = all(row["state"] == "invalid" for row in known)
        spots.append(Spot(x=x, y=y, family=family, name=name, detail=detail, doubtful=doubtful))
    return spots


def _devices(rows: Sequence[Row], name: str) -> Chart:
    """How many times as long each device takes as the fastest of the same variant, with the age of each value."""
    made_up = " (simulated devices)" if rows[0]["simulated"] else ""
    title = f"Devices: times the fastest of the row, and how old{made_up}"
    places = places_of(rows)
    if len(places.names) < 2:
        why = "one model of device" if places.summed else "one device"
        return Chart(id=name, title=title, empty=f"Not drawn: {why}, so there is nothing to compare it with.")
    inside = _by_cell([row for row in rows if OUTPUTS_WRONG not in (row["flags"] or "")], places)
    variants = [
        variant
        for variant in dict.fromkeys(variant_label(row) for row in rows)
        if any(_median(inside.get((variant, place), ())) for place in places.names)
    ][:MOST_VARIANTS]
    if not variants:
        return Chart(id=name, title=title, empty=f"Not drawn: {_NO_VALUE}.")
    room = len(places.names) <= _MOST_WITH_AGE
    values: list[list[float | None]] = []
    texts, details, facts = [], [], []
    for variant in variants:
        medians = {place: _median(inside.get((variant, place), ())) for place in places.names}
        fastest = min(value for value in medians.values() if value is not None)
        values.append([None if value is None else value / fastest for value in medians.values()])
        told = [_told(inside.get((variant, place), ()), medians[place], fastest, room) for place in places.names]
        texts.append([text for text, _ in told])
        details.append([f"{variant} on {place}: {detail}" for place, (_, detail) in zip(medians, told, strict=True)])
        facts += [[variant, place, detail] for place, (_, detail) in zip(medians, told, strict=True)]
    return Chart(
        id=name,
        title=title,
        figure=heat_map(variants, places.names, values, texts, details, "times the fastest", (1.0, 2.0)),
        caption=f"By p50; each column a {places.what}. The dagger marks what is stale: older than seven days.",
        facts=_facts(["variant", "device", "p50"], facts),
    )


def _median(rows: Sequence[Row]) -> float | None:
    values = [row["p50_ms"] for row in rows if _has_p50(row)]
    return statistics.median(values) if values else None


def _has_p50(row: Row) -> bool:
    """Whether it has one that others can be compared with: a tool that prints two decimals may have said 0.00."""
    return (row["p50_ms"] or 0.0) > 0


def _told(rows: Sequence[Row], value: float | None, fastest: float, room: bool) -> tuple[str, str]:
    """What stands in a field, and what is told where it is pointed at."""
    if value is None:
        states = sorted({row["state"] for row in rows}) or ["not wanted"]
        return ", ".join(states) if rows else NONE, ", ".join(states)
    ages = [row["age_s"] for row in rows if _has_p50(row)]
    age = age_text(statistics.median(ages))
    stale = "†" if any(row["state"] == "stale" for row in rows) else ""
    text = f"{value / fastest:.2f}x" + (f" · {age}" if room else "") + stale
    return text, f"{significant(value)} ms, {value / fastest:.2f} times the fastest, {age} old{stale}"


def _facts(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Facts:
    return Facts(columns=columns, rows=rows[:MOST_FACTS], left_out=max(0, len(rows) - MOST_FACTS))
