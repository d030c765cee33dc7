"""Charts of a suite: ours with full marks, what others published with dashes and hatches; hollow is not valid."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from exporters.numbers import significant
from exporters.report.figures import COLOURS, SYMBOLS, base_layout, log_axis, plain, short_names
from exporters.report.shapes import Chart, Facts
from exporters.suites.columns import figure_text, known, published_value, title_of, value_of
from exporters.suites.series import series_of
from scheduler.suites.readings import Row, is_sound
from scheduler.suites.suite import Plot, Published

#: A published row, and the place in the grid of the model that it is of.
Beside = tuple[Published, Mapping[str, Any]]
_THEIRS = "published: "
#: Characters that a row of a legend has room for, and those that a mark takes.
_CHARACTERS, _BESIDE_NAME = 55, 7


def line_or_bars(plot: Plot, rows: Sequence[Row], published: Sequence[Beside], name: str) -> Chart:
    """A figure over a dimension.

    Args:
        plot: what is wanted.
        rows: readings.
        published: rows of others, each with the place in the grid of the model that it is of.
        name: id of the chart.
    """
    x, y = plot.x or "model", plot.y or "p50_ms"
    title = plot.title or f"{title_of(y)} by {title_of(x)}"
    drawn = [row for row in rows if _number(value_of(row, y)) and value_of(row, x) is not None]
    if not drawn:
        return Chart(id=name, title=title, empty=f"Not drawn: no reading here has a value of {title_of(y)} yet.")
    ours = {label: [_spot(row, x, y) for row in found] for label, found in series_of(drawn, x, plot.series).items()}
    lines = {**ours, **_published(published, x, y)}
    spots = [spot for found in lines.values() for spot in found]
    numeric = all(_number(spot.x) for spot in spots)
    places = _in_order(spots, numeric)
    bars = plot.kind == "bar" or not numeric
    traces = []
    for number, (label, found) in enumerate(lines.items()):
        found.sort(key=lambda spot: places.index(spot.x))
        traces.append((_bars if bars else _lines)(label, found, number, places))
    layout = base_layout(height=420)
    layout["xaxis"] = {"title": {"text": plain(title_of(x)), "standoff": 8}}
    if bars:  # slanted names have no room for a title below them
        layout["xaxis"] = {"type": "category", "tickangle": 0 if numeric else -30}
        layout["xaxis"] |= {"title": {"text": plain(title_of(x))}} if numeric else {}
    elif "x" in plot.log and min(places) > 0:
        layout["xaxis"] |= log_axis(places)
    layout["yaxis"] = {"title": {"text": plain(title_of(y)), "standoff": 8}}
    heights = [spot.y for spot in spots]
    layout["yaxis"] |= log_axis(heights) if "y" in plot.log and min(heights) > 0 else {"rangemode": "tozero"}
    layout |= legend_above(layout, lines)
    facts = [
        [label, str(spot.x), figure_text(spot.y), "" if spot.sound else "not valid"]
        for label, found in lines.items()
        for spot in found
    ]
    return Chart(
        id=name,
        title=title,
        figure={"data": traces, "layout": layout},
        caption=_caption(spots, theirs=len(lines) > len(ours)),
        facts=Facts(columns=["series", title_of(x), title_of(y), "note"], rows=facts),
    )


def legend_above(layout: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    """A legend between the buttons of a chart and what it shows, with room for as many rows as the names need."""
    rows = math.ceil(sum(len(name) + _BESIDE_NAME for name in names) / _CHARACTERS)
    return {
        "margin": {**layout["margin"], "t": 34 + 20 * rows},
        "legend": {"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0},
    }


@dataclass(frozen=True, kw_only=True)
class _Spot:
    """A point of a line, or a bar."""

    x: Any
    y: float
    #: Interval of y between processes.
    interval: tuple[float, float] | None = None
    sound: bool = True
    #: What is told where it is pointed at.
    told: str


def _spot(row: Row, x: str, y: str) -> _Spot:
    column, value = known(y), float(value_of(row, y))
    interval = row.get(f"{column.removesuffix('_ms')}_ci_ms" if column.endswith("_ms") else f"{column}_ci")
    told = f"{row['listed']}: {row['runtime']} {row['recipe']}, {significant(value)}"
    return _Spot(x=value_of(row, x), y=value, interval=interval, sound=is_sound(row), told=told)


def _published(published: Sequence[Beside], x: str, y: str) -> dict[str, list[_Spot]]:
    found: dict[str, list[_Spot]] = {}
    for theirs, place in published:
        at = {"model": theirs.model, "recipe": theirs.recipe}.get(x, place.get(x))
        value = published_value(theirs.figures, y)
        if at is not None and _number(value):
            label = f"{_THEIRS}{theirs.hardware}"
            found.setdefault(label, []).append(_Spot(x=at, y=float(value), told=f"{label}: {significant(value)}"))
    return found


def _in_order(spots: Sequence[_Spot], numeric: bool) -> list[Any]:
    """Places along x: numbers by size, names as they come, which is the order of the suite's file."""
    places = list(dict.fromkeys(spot.x for spot in spots))
    return sorted(places) if numeric else places


def _caption(spots: Sequence[_Spot], *, theirs: bool) -> str:
    parts = ["Dashed or hatched: published, of other hardware; for shape, not for equality."] if theirs else []
    if not all(spot.sound for spot in spots):
        parts.append("Hollow or pale: judged not valid; the table says why.")
    return " ".join(parts)


def _lines(name: str, spots: Sequence[_Spot], number: int, places: Sequence[Any]) -> dict[str, Any]:
    theirs = name.startswith(_THEIRS)
    colour, symbol = COLOURS[number % len(COLOURS)], SYMBOLS[number % len(SYMBOLS)]
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": plain(name),
        "x": [spot.x for spot in spots],
        "y": [spot.y for spot in spots],
        "hovertext": [plain(spot.told) for spot in spots],
        "hoverinfo": "text",
        "line": {"color": colour, "dash": "dash" if theirs else "solid", "width": 1.5 if theirs else 2},
        "marker": {
            "size": 8,
            "symbol": [symbol if spot.sound and not theirs else f"{symbol}-open" for spot in spots],
            "color": colour,
        },
        **_errors(spots),
    }


def _bars(name: str, spots: Sequence[_Spot], number: int, places: Sequence[Any]) -> dict[str, Any]:
    names = dict(zip(places, short_names([str(place) for place in places]), strict=True))
    return {
        "type": "bar",
        "name": plain(name),
        "x": [names[spot.x] for spot in spots],
        "y": [spot.y for spot in spots],
        "hovertext": [plain(spot.told) for spot in spots],
        "hoverinfo": "text",
        "marker": {
            "color": COLOURS[number % len(COLOURS)],
            "opacity": [1.0 if spot.sound else 0.45 for spot in spots],
            "pattern": {"shape": "/" if name.startswith(_THEIRS) else "", "fillmode": "replace", "size": 6},
        },
        **_errors(spots),
    }


def _errors(spots: Sequence[_Spot]) -> dict[str, Any]:
    """Intervals between processes, where there are any."""
    if not any(spot.interval for spot in spots):
        return {}
    above = [spot.interval[1] - spot.y if spot.interval else 0 for spot in spots]
    below = [spot.y - spot.interval[0] if spot.interval else 0 for spot in spots]
    return {"error_y": {"type": "data", "array": above, "arrayminus": below, "symmetric": False, "thickness": 1}}


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
