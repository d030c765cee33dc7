"""Charts of a suite: ours with full marks, what others published with dashes and hatches; hollow is not valid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from exporters.numbers import significant
from exporters.report.figures import COLOURS, DASHES, SYMBOLS, base_layout, log_axis, plain, short_names
from exporters.report.shapes import Chart, Facts
from exporters.suites.columns import figure_text, known, published_value, title_of, value_of
from exporters.suites.series import series_of
from scheduler.suites.readings import is_sound

Row = Mapping[str, Any]
_OUTSIDE = "of others' hardware"


def line_or_bars(plot: Any, rows: Sequence[Row], published: Sequence[tuple[Any, Any]], name: str) -> Chart:
    """A figure over a dimension.

    Args:
        plot: kind, x, y, series, title and log of the suite's file.
        rows: readings.
        published: rows of others, each with the place in the grid of the model that it is of.
        name: id of the chart.
    """
    title = plot.title or f"{title_of(plot.y)} by {title_of(plot.x)}"
    drawn = [row for row in rows if _number(value_of(row, plot.y)) and value_of(row, plot.x) is not None]
    if not drawn:
        return Chart(id=name, title=title, empty=f"Not drawn: no reading here has a value of {title_of(plot.y)} yet.")
    lines = {
        label: [_spot(row, plot) for row in found] for label, found in series_of(drawn, plot.x, plot.series).items()
    }
    others: dict[str, list[_Spot]] = {}
    for theirs, place in published:
        x, y = place.get(plot.x) if plot.x != "model" else theirs.model, published_value(theirs.figures, plot.y)
        if plot.x == "recipe":
            x = theirs.recipe
        if x is not None and _number(y):
            others.setdefault(f"published: {theirs.hardware}", []).append((x, float(y), None, True, ""))
    spots = [spot for found in (*lines.values(), *others.values()) for spot in found]
    places = list(dict.fromkeys(spot[0] for spot in spots))
    numeric = all(isinstance(place, int | float) for place in places)
    make = _bars if plot.kind == "bar" or not numeric else _lines
    names = dict(zip(places, short_names([str(place) for place in places]), strict=True))
    traces = [
        make(label, sorted(found, key=lambda spot: places.index(spot[0]) if not numeric else spot[0]), number, names)
        for number, (label, found) in enumerate([*lines.items(), *others.items()])
    ]
    layout = base_layout(height=400)
    layout["xaxis"] = {"title": {"text": plain(title_of(plot.x)), "standoff": 8}}
    if make is _bars:
        layout["xaxis"] |= {"type": "category", "tickangle": -30}
    elif "x" in plot.log:
        layout["xaxis"] |= log_axis([float(place) for place in places])
    heights = [spot[1] for spot in spots]
    layout["yaxis"] = {"title": {"text": plain(title_of(plot.y)), "standoff": 8}}
    if "y" in plot.log and min(heights) > 0:
        layout["yaxis"] |= log_axis(heights)
    else:
        layout["yaxis"]["rangemode"] = "tozero"
    layout["legend"] = {"orientation": "h", "y": -0.32, "x": 0}
    caption = f"Dashed or hatched: published, {_OUTSIDE}; for shape, not for equality." if others else ""
    if any(not spot[3] for spot in spots):
        caption += " Hollow or pale: judged not valid (the table says why)."
    facts = [
        [label, str(x), figure_text(y), "" if sound else "not valid"]
        for label, found in (*lines.items(), *others.items())
        for x, y, _, sound, _ in found
    ]
    return Chart(
        id=name,
        title=title,
        figure={"data": traces, "layout": layout},
        caption=caption.strip(),
        facts=Facts(columns=["series", title_of(plot.x), title_of(plot.y), "note"], rows=facts),
    )


#: x, y, interval of y, whether it is valid, what is told where it is pointed at.
_Spot = tuple[Any, float, Any, bool, str]


def _spot(row: Row, plot: Any) -> _Spot:
    y = float(value_of(row, plot.y))
    interval = row.get(
        f"{known(plot.y).removesuffix('_ms')}_ci_ms" if plot.y.endswith("_ms") else f"{known(plot.y)}_ci"
    )
    told = f"{row['listed']}: {row['runtime']} {row['recipe']}, {significant(y)}"
    return value_of(row, plot.x), y, interval, is_sound(dict(row)), told


def _lines(name: str, spots: Sequence[_Spot], number: int, names: Mapping[Any, str]) -> dict[str, Any]:
    theirs = name.startswith("published: ")
    symbol = SYMBOLS[number % len(SYMBOLS)]
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": plain(name),
        "x": [spot[0] for spot in spots],
        "y": [spot[1] for spot in spots],
        "hovertext": [plain(spot[4] or f"{name}: {significant(spot[1])}") for spot in spots],
        "hoverinfo": "text",
        "line": {
            "color": COLOURS[number % len(COLOURS)],
            "dash": "dash" if theirs else DASHES[0],
            "width": 1.5 if theirs else 2,
        },
        "marker": {
            "size": 8,
            "symbol": [symbol + ("" if spot[3] and not theirs else "-open") for spot in spots],
            "color": COLOURS[number % len(COLOURS)],
        },
        **_errors(spots),
    }


def _bars(name: str, spots: Sequence[_Spot], number: int, names: Mapping[Any, str]) -> dict[str, Any]:
    theirs = name.startswith("published: ")
    return {
        "type": "bar",
        "name": plain(name),
        "x": [names[spot[0]] for spot in spots],
        "y": [spot[1] for spot in spots],
        "hovertext": [plain(spot[4] or f"{name}: {significant(spot[1])}") for spot in spots],
        "hoverinfo": "text",
        "marker": {
            "color": COLOURS[number % len(COLOURS)],
            "opacity": [1.0 if spot[3] else 0.45 for spot in spots],
            "pattern": {"shape": "/" if theirs else "", "fillmode": "replace", "size": 6},
        },
        **_errors(spots),
    }


def _errors(spots: Sequence[_Spot]) -> dict[str, Any]:
    """Intervals between processes, where there are any."""
    if not any(spot[2] for spot in spots):
        return {}
    above = [spot[2][1] - spot[1] if spot[2] else 0 for spot in spots]
    below = [spot[1] - spot[2][0] if spot[2] else 0 for spot in spots]
    return {"error_y": {"type": "data", "array": above, "arrayminus": below, "symmetric": False, "thickness": 1}}


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
