"""Figures of a report, as plain data for plotly: symbols, dashes, patterns and words beside every colour."""

from __future__ import annotations

import html
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

#: Hues that stand on light and dark grounds alike and are told apart by most eyes (Tol's bright scheme).
COLOURS = ("#4477aa", "#ee6677", "#228833", "#bba420", "#3399bb", "#aa3377", "#888888", "#cc7722")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x", "star", "cross", "hexagon2")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
_STATE_LOOKS = {
    "valid": ("#228833", ""),
    "stale": ("#bba420", "/"),
    "invalid": ("#ee6677", "x"),
    "failed": ("#aa3377", "\\"),
    "unsupported": ("#888888", "."),
    "missing": ("#4477aa", "-"),
}
#: Light enough throughout for dark words.
_SHADES = ((0.0, "#fdf3c8"), (0.5, "#f6bf6b"), (1.0, "#e0793a"))
#: More names than these are not written at their points.
_MOST_NAMED = 16
_MOST_LONG = 4


@dataclass(frozen=True, kw_only=True)
class Spot:
    """A point of a trade-off."""

    x: float
    y: float
    #: What its colour and symbol tell: the runtime.
    family: str
    #: Written beside it.
    name: str
    #: Shown where it is pointed at.
    detail: str
    #: Drawn hollow: it was judged invalid, and is shown because the user asked.
    doubtful: bool = False


@dataclass(frozen=True, kw_only=True)
class Line:
    """Readings over time, in seconds."""

    name: str
    seconds: Sequence[float]
    values: Sequence[float | None]


@dataclass(frozen=True)
class Stretch:
    """A part of a run's time that is marked."""

    begin_s: float
    end_s: float
    label: str
    throttled: bool = False


def plain(text: str) -> str:
    """Text as it is: plotly reads some HTML in labels."""
    return html.escape(text, quote=False).replace("\n", " ")


def trade_off(
    spots: Sequence[Spot], x_title: str, y_title: str, *, higher_is_better: bool, log_y: bool
) -> dict[str, Any]:
    """Points with a mark for each family, and the line along those that nothing beats in both."""
    front = pareto_front(spots, higher_is_better=higher_is_better)
    families = list(dict.fromkeys(spot.family for spot in sorted(spots, key=lambda spot: spot.family)))
    traces: list[dict[str, Any]] = []
    if len(front) > 1:
        traces.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": "nothing is better in both",
                "x": [spot.x for spot in front],
                "y": [spot.y for spot in front],
                "line": {"shape": "hv", "dash": "dot", "width": 2, "color": "#888888"},
                "hoverinfo": "skip",
            }
        )
    # Long names in a crowd only hide one another; every point has its own where it is pointed at, and in the table.
    crowded = len(spots) > _MOST_NAMED or (len(spots) > _MOST_LONG and max(len(spot.name) for spot in spots) > 14)
    # The same variant of many devices is named once: the mark tells the device.
    once = {spot.name: spot for spot in reversed([*front, *sorted(spots, key=lambda spot: spot.x)])}
    named = {id(spot) for spot in (front[:_MOST_LONG] if crowded else once.values())}
    for number, family in enumerate(families):
        own = [spot for spot in spots if spot.family == family]
        traces.append(
            {
                "type": "scatter",
                "mode": "markers+text",
                "name": plain(family),
                "x": [spot.x for spot in own],
                "y": [spot.y for spot in own],
                "text": [plain(spot.name) if id(spot) in named else "" for spot in own],
                "hovertext": [plain(spot.detail) for spot in own],
                "hoverinfo": "text",
                "textposition": "top center",
                "textfont": {"size": 11},
                "cliponaxis": False,
                "marker": {
                    "size": 11,
                    "color": COLOURS[number % len(COLOURS)],
                    "symbol": [SYMBOLS[number % len(SYMBOLS)] + ("-open" if spot.doubtful else "") for spot in own],
                    "line": {"width": 2 if any(spot.doubtful for spot in own) else 1},
                },
            }
        )
    layout = base_layout(height=380)
    heights = [spot.y for spot in spots]
    layout["xaxis"] = {"title": {"text": x_title, "standoff": 8}, **log_axis([spot.x for spot in spots])}
    layout["yaxis"] = {
        "title": {"text": y_title, "standoff": 8},
        **(log_axis(heights) if log_y else linear_axis(heights)),
    }
    layout["legend"] = {"orientation": "h", "y": -0.28, "x": 0}
    return {"data": traces, "layout": layout}


def pareto_front(spots: Sequence[Spot], *, higher_is_better: bool) -> list[Spot]:
    """Those that no other is at least as good as in both and better in one; from left to right. Lower x is better."""
    sign = -1.0 if higher_is_better else 1.0
    front: list[Spot] = []
    for spot in sorted(spots, key=lambda spot: (spot.x, sign * spot.y)):
        if not front or sign * spot.y < sign * front[-1].y:
            front.append(spot)
    return front


def heat_map(
    rows: Sequence[str],
    columns: Sequence[str],
    values: Sequence[Sequence[float | None]],
    texts: Sequence[Sequence[str]],
    details: Sequence[Sequence[str]],
    bar_title: str,
    span: tuple[float, float],
) -> dict[str, Any]:
    """Numbers by shade and in words; where there is none, the ground shows and the word says why.

    Args:
        rows: names down.
        columns: names across.
        values: what the shade tells, row by row.
        texts: what stands in each field.
        details: what is told where it is pointed at.
        bar_title: what the shades mean.
        span: least and greatest value that the shades reach at least.
    """
    least, most = span
    known = [value for line in values for value in line if value is not None]
    trace = {
        "type": "heatmap",
        "x": short_names(columns),
        "y": short_names(rows),
        "z": [list(line) for line in values],
        "text": [[plain(text) for text in line] for line in texts],
        "texttemplate": "%{text}",
        "textfont": {"size": 11, "color": "#1b1f26"},
        "hovertext": [[plain(text) for text in line] for line in details],
        "hoverinfo": "text",
        "colorscale": [list(step) for step in _SHADES],
        "zmin": least,
        "zmax": max([most, *known]),
        "xgap": 2,
        "ygap": 2,
        "colorbar": {"title": {"text": bar_title, "side": "right"}, "thickness": 12},
    }
    layout = base_layout(height=150 + 34 * max(len(rows), 3))
    layout["xaxis"] = {"type": "category", "tickangle": -35, "showgrid": False}
    layout["yaxis"] = {"type": "category", "autorange": "reversed", "showgrid": False}
    return {"data": [trace], "layout": layout}


def state_bars(groups: Sequence[str], counts: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    """Cells by state: a bar for each group, a pattern for each state."""
    traces = []
    for state, numbers in counts.items():
        if not any(numbers):
            continue
        colour, pattern = _STATE_LOOKS[state]
        traces.append(
            {
                "type": "bar",
                "orientation": "h",
                "name": state,
                "y": short_names(groups),
                "x": list(numbers),
                "text": [str(number) if number else "" for number in numbers],
                "textposition": "inside",
                "insidetextanchor": "middle",
                "insidetextfont": {"color": "#ffffff", "size": 13},
                "hovertemplate": "%{y}: %{x} " + state + "<extra></extra>",
                "marker": {
                    "color": colour,
                    "pattern": {
                        "shape": pattern,
                        "fillmode": "overlay",
                        "fgcolor": "#ffffff",
                        "fgopacity": 0.6,
                        "size": 7,
                    },
                },
            }
        )
    layout = base_layout(height=150 + 34 * max(len(groups), 1))
    layout |= {"barmode": "stack", "legend": {"orientation": "h", "y": -0.2, "x": 0, "traceorder": "normal"}}
    layout["xaxis"] = {"rangemode": "tozero"}
    layout["yaxis"] = {"type": "category", "autorange": "reversed"}
    return {"data": traces, "layout": layout}


def over_time(lines: Sequence[Line], stretches: Sequence[Stretch], unit: str) -> dict[str, Any]:
    """Readings of a run, its timed parts as bands, and where it throttled."""
    traces = [
        {
            "type": "scatter",
            "mode": "lines",
            "name": plain(line.name),
            "x": list(line.seconds),
            "y": list(line.values),
            "line": {"color": COLOURS[number % len(COLOURS)], "dash": DASHES[number % len(DASHES)], "width": 2},
            "connectgaps": False,
            "hovertemplate": f"%{{x:.0f}} s: %{{y:.4g}} {plain(unit)}<extra>%{{fullData.name}}</extra>",
        }
        for number, line in enumerate(lines)
    ]
    layout = base_layout(height=330)
    layout["xaxis"] = {"title": {"text": "seconds since the run began"}}
    layout["yaxis"] = {"title": {"text": plain(unit)}}
    layout["legend"] = {"orientation": "h", "y": -0.32, "x": 0}
    layout["shapes"] = [
        {
            "type": "rect",
            "xref": "x",
            "yref": "paper",
            "x0": stretch.begin_s,
            "x1": stretch.end_s,
            "y0": 0,
            "y1": 1,
            "layer": "below",
            "fillcolor": "rgba(204, 51, 85, 0.22)" if stretch.throttled else "rgba(120, 130, 150, 0.18)",
            "line": {"width": 1 if stretch.throttled else 0, "dash": "dash", "color": "#cc3355"},
        }
        for stretch in stretches
    ]
    layout["annotations"] = [
        {
            "x": (stretch.begin_s + stretch.end_s) / 2,
            "xref": "x",
            "y": 1,
            "yref": "paper",
            "yanchor": "bottom",
            "text": plain(stretch.label),
            "showarrow": False,
            "font": {"size": 10},
        }
        for stretch in stretches
        if stretch.label
    ]
    return {"data": traces, "layout": layout}


def base_layout(height: int) -> dict[str, Any]:
    """What all figures have in common."""
    return {
        "height": height,
        "margin": {"l": 8, "r": 8, "t": 24, "b": 8},
        "autosize": True,
        "hovermode": "closest",
        "showlegend": None,
    }


def log_axis(values: Sequence[float]) -> dict[str, Any]:
    """Room around points, and ticks at round numbers: a short logarithmic axis would have none of its own."""
    low, high = math.log10(min(values)), math.log10(max(values))
    room = max(0.12 * (high - low), 0.06)
    low, high = low - room, high + room
    decades = range(math.floor(low), math.ceil(high) + 1)
    for steps in ((1,), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 6, 8), tuple(step / 10 for step in range(10, 100, 2))):
        ticks = [step * 10.0**decade for decade in decades for step in steps]
        ticks = [tick for tick in ticks if low <= math.log10(tick) <= high]
        if len(ticks) >= 4:
            break
    ticks = ticks[:: max(1, -(-len(ticks) // 9))]
    return {"type": "log", "range": [low, high], "tickvals": ticks, "ticktext": [f"{tick:g}" for tick in ticks]}


def linear_axis(values: Sequence[float]) -> dict[str, Any]:
    """Room around points for their names."""
    room = max(0.14 * (max(values) - min(values)), 0.02 * abs(max(values)), 1e-9)
    return {"range": [min(values) - room, max(values) + room]}


def short_names(names: Sequence[str], most: int = 34) -> list[str]:
    """Names for an axis, as different as they were: of two fields of one name only one would be seen.

    Args:
        names: no two are alike.
        most: characters that have room.
    """
    cut = [name if len(name) <= most else f"{name[: most - 1]}…" for name in names]
    alike = Counter(cut)
    # What begins alike differs in its options, at its end.
    half = (most - 1) // 2
    cut = [
        short if alike[short] == 1 or len(name) <= most else f"{name[:half]}…{name[-half:]}"
        for name, short in zip(names, cut, strict=True)
    ]
    alike, seen = Counter(cut), Counter[str]()
    for number, short in enumerate(cut):
        if alike[short] > 1:
            seen[short] += 1
            cut[number] = f"{short} ({seen[short]})"
    return [plain(short) for short in cut]
