"""The picture of an incident: each series over time, and its processes before and after. Needs matplotlib."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from device_registry.errors import UsageError
from exporters.escaping import visible
from exporters.regression_tables import short_revision

Row = Mapping[str, Any]
#: Series that have a row of their own; the title says how many there are.
_MOST_ROWS = 6
#: Characters of a revision.
_MOST_NAME = 14
_BEFORE, _AFTER, _ODD = "#228833", "#cc3311", "#888888"


def write_png(incident: Row, file: Path) -> None:
    """Draw an incident, as `scheduler.regressions.records.incident_record` tells it.

    Raises:
        UsageError: matplotlib is not installed, or the file cannot be written.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UsageError("pictures need matplotlib: pip install 'benchfarm[report]'") from error
    series = incident["series"][:_MOST_ROWS]
    figure = Figure(figsize=(11, 1.2 + 2.4 * len(series)), layout="constrained")
    FigureCanvasAgg(figure)
    more = len(incident["series"]) - len(series)
    title = f"Incident {incident['id']}: {incident['title']}" + (f" ({more} more series)" if more > 0 else "")
    told = f"{visible(title)}\n{incident['cause']}: {visible(incident['cause_why'])}"
    figure.suptitle(told, fontsize=10, parse_math=False)
    axes = figure.subplots(len(series), 2, squeeze=False, width_ratios=(3, 1))
    for row, (left, right) in zip(series, axes, strict=True):
        _history(left, row)
        _processes(right, row)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph")  # of a character that the font lacks it draws a box
            figure.savefig(file, format="png", dpi=120)
    except OSError as error:
        raise UsageError(f"cannot write {file}: {error.strerror}") from error


def _history(axes: Any, row: Row) -> None:
    valid = [point for point in row["points"] if point["verdict"] == "valid"]
    odd = [point for point in row["points"] if point["verdict"] != "valid"]
    bad, back = row["candidate"], row["recovered"]
    slow = [
        bad is not None and point["at"] >= bad["at"] and (back is None or point["at"] < back["at"]) for point in valid
    ]
    for is_slow, colour, mark, name in ((False, _BEFORE, "o", "at its level"), (True, _AFTER, "s", "slower")):
        own = [point for point, one in zip(valid, slow, strict=True) if one is is_slow]
        low = [point["p50_ms"] - (point["p50_ci_ms"] or [point["p50_ms"]] * 2)[0] for point in own]
        high = [(point["p50_ci_ms"] or [point["p50_ms"]] * 2)[1] - point["p50_ms"] for point in own]
        if own:
            at, values = [point["at"] for point in own], [point["p50_ms"] for point in own]
            ends = [[max(0.0, end) for end in side] for side in (low, high)]
            axes.errorbar(at, values, yerr=ends, fmt=mark, ms=3.5, color=colour, elinewidth=0.8, label=name)
    if odd:
        at, values = [point["at"] for point in odd], [point["p50_ms"] for point in odd]
        axes.plot(at, values, "x", color=_ODD, ms=4, label="not valid")
    if bad is not None:
        said = f"first slower: {_cut(bad['revision'])}" if bad["revision"] else "first slower"
        axes.axvline(bad["at"], color=_AFTER, linestyle="--", linewidth=1)
        axes.annotate(
            said,
            (bad["at"], 1),
            xytext=(3, -3),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            fontsize=7,
            va="top",
            rotation=90,
            parse_math=False,
            in_layout=False,
        )
    for before, after in pairwise(valid):
        if before["environment"] != after["environment"]:
            axes.axvline(after["at"], color=_ODD, linestyle=":", linewidth=1)
    axes.set_title(visible(row["title"]), fontsize=8, loc="left", parse_math=False)
    axes.set_ylabel("ms", fontsize=8)
    axes.tick_params(labelsize=7)
    axes.tick_params(axis="x", labelrotation=20)
    axes.grid(visible=True, alpha=0.3)
    axes.legend(fontsize=6, loc="upper left")


def _cut(revision: str) -> str:
    """As much of a name as there is room for along the line."""
    name = visible(short_revision(revision))
    return name if len(name) <= _MOST_NAME else name[: _MOST_NAME - 1] + "…"


def _processes(axes: Any, row: Row) -> None:
    """Each process a mark: all of them are seen, however few."""
    for place, values, colour, mark in ((0, row["before_ms"], _BEFORE, "o"), (1, row["after_ms"], _AFTER, "s")):
        axes.plot(_spread(place, values), values, mark, color=colour, ms=3, alpha=0.7)
        if values:
            middle = sorted(values)[len(values) // 2]
            axes.hlines(middle, place - 0.3, place + 0.3, color="black", linewidth=1.2)
    axes.set_xticks([0, 1], [f"before ({len(row['before_ms'])})", f"after ({len(row['after_ms'])})"], fontsize=7)
    axes.set_xlim(-0.6, 1.6)
    axes.set_title(f"processes, {row['change'] * 100:+.1f} %", fontsize=8, loc="left")
    axes.tick_params(labelsize=7)
    axes.grid(visible=True, axis="y", alpha=0.3)


def _spread(place: int, values: Sequence[float]) -> list[float]:
    """Marks side by side, the same each time."""
    return [place + 0.22 * ((number * 0.618034) % 1 - 0.5) * 2 for number in range(len(values))]
