"""One model in a report: its matrix, its trade-offs, and how its devices compare."""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from exporters.matrix_tables import age_text, setting_text
from exporters.numbers import NONE, significant
from exporters.report.figures import Spot, heat_map, pareto_front, trade_off
from exporters.report.places import MOST_VARIANTS, Places, cell_of_many, cell_of_one, places_of
from exporters.report.shapes import Cell, Chart, Facts, Grid, Section
from scheduler.cells import shared_options, variant_label
from workers.judge import OUTPUTS_WRONG

Row = Mapping[str, Any]
#: A table below a chart has at most so many rows.
MOST_FACTS = 200
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
    return section


def _settings(rows: Sequence[Row]) -> list[list[Row]]:
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        key = (row["weights"], row["threads"], row["batch"], row["mode"], shared_options(row))
        groups.setdefault(key, []).append(row)
    return [group for _, group in sorted(groups.items(), key=lambda item: item[0])]


def _grid(rows: Sequence[Row]) -> Grid:
    places = places_of(rows)
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


def _by_cell(rows: Sequence[Row], places: Places) -> dict[tuple[str, str], list[Row]]:
    inside: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        inside.setdefault((variant_label(row), places.of(row)), []).append(row)
    return inside


def _trade_offs(rows: Sequence[Row], name: str) -> list[Chart]:
    """Latency against energy, fidelity and size: what nothing beats is joined by a line."""
    usable = [row for row in rows if row["p50_ms"] and OUTPUTS_WRONG not in (row["flags"] or "")]
    places = places_of(usable, _MOST_DEVICES)
    made_up = " (simulated devices)" if rows[0]["simulated"] else ""
    wanted = (
        ("energy", "energy_per_inference_mj", "energy, mJ per inference", 1.0, False, _why_no_energy(usable)),
        ("fidelity", "snr_db", "fidelity, SNR in dB (higher is better)", 1.0, True, "no variant has a measured SNR"),
        ("size", "artifact_bytes", "size of the artifact, MB", 1e6, False, "the sizes are not known"),
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


_NO_VALUE = "there is no valid latency"


def _why_no_energy(rows: Sequence[Row]) -> str:
    whys = sorted({str(row["energy_quality"] or "no energy was read") for row in rows})
    return f"energy: {', '.join(whys)}" if whys else _NO_VALUE


def _groups(rows: Sequence[Row], places: Places) -> dict[tuple[str, str, str], list[Row]]:
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        if (place := places.of(row)) in places.names:
            groups.setdefault((row["runtime"], variant_label(row), place), []).append(row)
    return groups


def _spots(rows: Sequence[Row], places: Places, column: str, unit: float) -> list[Spot]:
    spots = []
    for (runtime, variant, place), members in _groups(rows, places).items():
        known = [row for row in members if row[column] is not None]
        if not known:
            continue
        x = statistics.median(row["p50_ms"] for row in known)
        y = statistics.median(row[column] for row in known) / unit
        several = f", median of {len(known)} units" if places.summed else ""
        name = variant.removeprefix(f"{runtime} ") + (f" · {place}" if len(places.names) > 1 else "")
        detail = f"{variant} on {place}{several}: {significant(x)} ms, {significant(y)}"
        spots.append(Spot(x=x, y=y, family=runtime, name=name, detail=detail))
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
    values: list[list[float | None]] = []
    texts, details, facts = [], [], []
    for variant in variants:
        medians = {place: _median(inside.get((variant, place), ())) for place in places.names}
        fastest = min(value for value in medians.values() if value is not None)
        values.append([None if value is None else value / fastest for value in medians.values()])
        told = [_told(inside.get((variant, place), ()), medians[place], fastest) for place in places.names]
        texts.append([text for text, _ in told])
        details.append([f"{variant} on {place}: {detail}" for place, (_, detail) in zip(medians, told, strict=True)])
        facts += [[variant, place, detail] for place, (_, detail) in zip(medians, told, strict=True)]
    return Chart(
        id=name,
        title=title,
        figure=heat_map(variants, places.names, values, texts, details, "times the fastest"),
        caption=f"By p50; each column a {places.what}. The dagger marks what is stale: older than seven days.",
        facts=_facts(["variant", "device", "p50"], facts),
    )


def _median(rows: Sequence[Row]) -> float | None:
    values = [row["p50_ms"] for row in rows if row["p50_ms"] is not None]
    return statistics.median(values) if values else None


def _told(rows: Sequence[Row], value: float | None, fastest: float) -> tuple[str, str]:
    """What stands in a field, and what is told where it is pointed at."""
    if value is None:
        states = sorted({row["state"] for row in rows}) or ["not wanted"]
        return ", ".join(states) if rows else NONE, ", ".join(states)
    ages = [row["age_s"] for row in rows if row["p50_ms"] is not None]
    age = age_text(statistics.median(ages))
    stale = "†" if any(row["state"] == "stale" for row in rows) else ""
    text = f"{value / fastest:.2f}x {stale}"
    return text.strip(), f"{significant(value)} ms, {value / fastest:.2f} times the fastest, {age} old{stale}"


def _facts(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Facts:
    return Facts(columns=columns, rows=rows[:MOST_FACTS], left_out=max(0, len(rows) - MOST_FACTS))
