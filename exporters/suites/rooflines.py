"""Rooflines: what readings achieve, below the roofs that were measured on the same device with the same runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from exporters.numbers import significant
from exporters.report.figures import COLOURS, SYMBOLS, base_layout, log_axis, plain
from exporters.report.shapes import Chart, Facts
from exporters.suites.charts import legend_above
from exporters.suites.columns import operator_of
from scheduler.roofline import Roofline
from scheduler.suites.readings import Row, is_sound, roof_key

_FIGURES = ("flops_per_byte", "gflops_per_s", "gb_per_s")
#: The axis reaches so far on both sides of what is drawn.
_ROOM = 2.0


def roofline_charts(
    rows: Sequence[Row], roofs: Mapping[tuple[Any, ...], Roofline], title: str, name: str
) -> list[Chart]:
    """One chart for each device, runtime, number of threads, batch and options of a block."""
    keys = list(dict.fromkeys(roof_key(row) for row in rows))
    return [
        _chart([row for row in rows if roof_key(row) == key], roofs[key], f"{title}: {_told(key)}", f"{name}-{number}")
        for number, key in enumerate(keys)
    ]


def _told(key: tuple[Any, ...]) -> str:
    device, runtime, threads, batch, options = key
    plural = "" if threads == 1 else "s"
    batches = f", batch {batch}" if batch != 1 else ""
    return f"{runtime} on {device}, {threads} thread{plural}{batches}{f', {options}' if options else ''}"


def _chart(rows: Sequence[Row], roof: Roofline, title: str, name: str) -> Chart:
    points = [row for row in rows if row["flops_per_byte"] and row["gflops_per_s"]]
    if not points:
        return Chart(
            id=name, title=title, empty="Not drawn: no fp32 reading here has both FLOPs and bytes that are known."
        )
    traces = [_family(family, own, number) for number, (family, own) in enumerate(_families(points).items())]
    xs = [row["flops_per_byte"] for row in points]
    ys = [row["gflops_per_s"] for row in points]
    caption = []
    if (ridge := roof.ridge_flops_per_byte) is not None and roof.gflops_per_s and roof.gb_per_s:
        low, high = min([*xs, ridge]) / _ROOM, max([*xs, ridge]) * _ROOM
        corners = [low, ridge, high]
        heights = [roof.attainable_gflops_per_s(corner) for corner in corners]
        traces.insert(0, _roof(corners, heights))
        xs, ys = [*xs, low, high], [*ys, *(height for height in heights if height)]
        caption.append(
            f"Roofs as measured: {significant(roof.gflops_per_s.value)} GFLOP/s by {roof.gflops_per_s.by}, "
            f"{significant(roof.gb_per_s.value)} GB/s by {roof.gb_per_s.by}; they meet at {significant(ridge)} FLOP "
            "per byte. What stays in caches may lie above the roof of memory."
        )
    else:
        caption.append("No roof: it takes valid readings of op/copy and op/matmul (suite operators, block roofs).")
    if not all(is_sound(row) for row in points):
        caption.append("Hollow: judged not valid.")
    layout = base_layout(height=420)
    layout["xaxis"] = {"title": {"text": "FLOP per byte", "standoff": 8}, **log_axis(xs)}
    layout["yaxis"] = {"title": {"text": "GFLOP/s", "standoff": 8}, **log_axis(ys)}
    layout |= legend_above(layout, [trace["name"] for trace in traces])
    facts = [
        [row["listed"], *(significant(row[column]) for column in _FIGURES), row["bound"] or "not known"]
        for row in sorted(points, key=lambda row: row["flops_per_byte"])
    ]
    columns = ["model", "FLOP per byte", "GFLOP/s", "GB/s", "bound by"]
    return Chart(
        id=name,
        title=title,
        figure={"data": traces, "layout": layout},
        caption=" ".join(caption),
        facts=Facts(columns=columns, rows=facts),
    )


def _families(rows: Sequence[Row]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(operator_of(row["model"]), []).append(row)
    return found


def _family(name: str, rows: Sequence[Row], number: int) -> dict[str, Any]:
    symbol = SYMBOLS[number % len(SYMBOLS)]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": plain(name),
        "x": [row["flops_per_byte"] for row in rows],
        "y": [row["gflops_per_s"] for row in rows],
        "hovertext": [
            plain(
                f"{row['listed']}: {significant(row['gflops_per_s'])} GFLOP/s, bound by {row['bound'] or 'not known'}"
            )
            for row in rows
        ],
        "hoverinfo": "text",
        "marker": {
            "size": 9,
            "color": COLOURS[number % len(COLOURS)],
            "symbol": [symbol if is_sound(row) else f"{symbol}-open" for row in rows],
        },
    }


def _roof(corners: Sequence[float], heights: Sequence[float | None]) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": "roof as measured",
        "x": list(corners),
        "y": list(heights),
        "line": {"color": "#888888", "width": 2, "dash": "dot"},
        "hoverinfo": "skip",
    }
