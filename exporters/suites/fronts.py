"""Pareto fronts: what nothing beats in latency and in accuracy, fidelity or size; a chart per model and device."""

from __future__ import annotations

import re
from collections.abc import Sequence

from exporters.numbers import significant
from exporters.report.figures import Spot, pareto_front, trade_off
from exporters.report.shapes import Chart, Facts
from exporters.suites.columns import LOWER_IS_BETTER, known, title_of, value_of
from exporters.suites.tables import variant_text
from scheduler.suites.readings import Row, is_sound


def front_charts(rows: Sequence[Row], y: str, title: str | None, name: str) -> list[Chart]:
    """A chart for each model and device that has such values.

    Args:
        rows: readings.
        y: the column against the latency.
        title: of the plot; None: made of what it shows.
        name: begin of the charts' ids.
    """
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["listed"], row["device"]), []).append(row)
    several = len({device for _, device in groups}) > 1
    charts = []
    for number, ((model, device), own) in enumerate(groups.items()):
        told = f"{title or f'Latency and {title_of(y)}'}: {model}{f' on {device}' if several else ''}"
        charts.append(_chart(own, y, told, f"{name}-{number}-{re.sub('[^a-z0-9]+', '-', model.lower()).strip('-')}"))
    drawn = [chart for chart in charts if chart.figure is not None]
    return drawn or charts[:1]


def _chart(rows: Sequence[Row], y: str, title: str, name: str) -> Chart:
    usable = [row for row in rows if row["p50_ms"] > 0 and "outputs_wrong" not in row["flags"]]
    spots = [_spot(row, y) for row in usable if value_of(row, y) is not None]
    if not spots:
        return Chart(id=name, title=title, empty=f"Not drawn: no reading here has a value of {title_of(y)} yet.")
    higher = known(y) not in LOWER_IS_BETTER
    front = {id(spot) for spot in pareto_front(spots, higher_is_better=higher)}
    caption = f"Left and {'up' if higher else 'down'} is better; the dotted line joins what nothing beats in both."
    if exact := [variant_text(row) for row in usable if known(y) == "snr_db" and row["identical"]]:
        caption += f" Not drawn, for they are exact to the bit: {', '.join(exact)}."
    if any(spot.doubtful for spot in spots):
        caption += " Hollow: judged not valid."
    facts = [
        [spot.detail, significant(spot.x), significant(spot.y), "yes" if id(spot) in front else "no"]
        for spot in sorted(spots, key=lambda spot: spot.x)
    ]
    log_y = not higher and min(spot.y for spot in spots) > 0
    return Chart(
        id=name,
        title=title,
        figure=trade_off(spots, title_of("p50_ms"), title_of(y), higher_is_better=higher, log_y=log_y),
        caption=caption,
        facts=Facts(columns=["variant", title_of("p50_ms"), title_of(y), "nothing is better in both"], rows=facts),
    )


def _spot(row: Row, y: str) -> Spot:
    value = float(value_of(row, y))
    variant = variant_text(row)
    return Spot(
        x=row["p50_ms"],
        y=value,
        family=row["runtime"],
        name=variant.removeprefix(f"{row['runtime']} "),
        detail=f"{variant}: {significant(row['p50_ms'])} ms, {significant(value)}",
        doubtful=not is_sound(row),
    )
