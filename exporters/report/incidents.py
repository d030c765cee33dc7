"""The incidents of a report: a list of them, and for those that are not resolved a picture of each series."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from typing import Any

from sqlalchemy import Connection

from exporters.numbers import significant
from exporters.regression_tables import change_text, revisions_text
from exporters.report.figures import base_layout, plain
from exporters.report.shapes import Chart, Facts
from scheduler.regressions.records import incident_record, list_incidents

Row = Mapping[str, Any]
#: Incidents that are listed and drawn, and series of one that are.
_MOST_LISTED, _MOST_DRAWN, _MOST_SERIES = 50, 6, 3
_COLUMNS = ("incident", "state", "cause", "what", "change", "revisions", "opened")


def incident_parts(
    connection: Connection, models: Collection[str], device_ids: Collection[int] | None
) -> tuple[Facts | None, list[Chart]]:
    """A table of incidents that concern these models and devices, and pictures of those that are not resolved.

    Args:
        connection: to read from.
        models: only these; none: all.
        device_ids: only on these; None: on all.
    """
    rows: list[list[str]] = []
    charts: list[Chart] = []
    found = list_incidents(connection, limit=4 * _MOST_LISTED)
    found.sort(key=lambda one: (one["state"] == "resolved", -one["id"]))
    for short in found:
        if len(rows) == _MOST_LISTED:
            break
        # Of many that are resolved the list is enough, where all are wanted.
        whole = bool(models) or device_ids is not None or short["state"] != "resolved"
        record = incident_record(connection, short["id"]) if whole else None
        if record is not None:
            record["series"] = [row for row in record["series"] if _fits(row, models, device_ids)]
            if not record["series"]:
                continue
            if short["state"] != "resolved" and len({chart.id.split("-")[1] for chart in charts}) < _MOST_DRAWN:
                charts += [_chart(record, row) for row in record["series"][:_MOST_SERIES]]
        rows.append(
            [
                str(short["id"]),
                short["state"] + (f" by {short['resolved_by']}" if short["resolved_by"] else ""),
                short["cause"],
                short["title"],
                change_text(short["change"], short["change_interval"]),
                revisions_text(short),
                short["opened_at"][:16].replace("T", " "),
            ]
        )
    return (Facts(columns=_COLUMNS, rows=rows) if rows else None), charts


def _fits(row: Row, models: Collection[str], device_ids: Collection[int] | None) -> bool:
    return (not models or row["model"] in models) and (device_ids is None or row["device_id"] in device_ids)


def _chart(record: Row, row: Row) -> Chart:
    points: Sequence[Row] = [point for point in row["points"] if point["verdict"] == "valid"]
    bad, back = row["candidate"], row["recovered"]
    traces = []
    for name, colour, symbol, slow in (
        ("at its level", "#228833", "circle", False),
        ("slower", "#cc3311", "square", True),
    ):
        own = [one for one in points if _is_slow(one, bad, back) is slow]
        low = [one["p50_ms"] - (one["p50_ci_ms"] or [one["p50_ms"]])[0] for one in own]
        high = [(one["p50_ci_ms"] or [one["p50_ms"]])[-1] - one["p50_ms"] for one in own]
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": name,
                "x": [one["at"].isoformat() for one in own],
                "y": [one["p50_ms"] for one in own],
                "error_y": {"type": "data", "symmetric": False, "array": high, "arrayminus": low, "thickness": 1},
                "marker": {"color": colour, "symbol": symbol, "size": 7},
                "hovertext": [plain(f"run {one['run']}, {one['revision'] or 'no revision'}") for one in own],
                "hovertemplate": "%{x}: %{y:.4g} ms<br>%{hovertext}<extra></extra>",
            }
        )
    # A line where it became slower, dotted ones where the environment changed.
    lines = [(bad["at"], "dash", "#cc3311")] if bad is not None else []
    lines += [
        (after["at"], "dot", "#888888")
        for before, after in pairwise(points)
        if before["environment"] != after["environment"]
    ]
    layout = base_layout(height=300)
    layout["yaxis"] = {"title": {"text": "ms"}}
    layout["xaxis"] = {"type": "date"}
    layout["legend"] = {"orientation": "h", "y": -0.25, "x": 0}
    layout["shapes"] = [
        {"type": "line", "xref": "x", "yref": "paper", "x0": at.isoformat(), "x1": at.isoformat(), "y0": 0, "y1": 1,
         "line": {"dash": dash, "width": 1, "color": colour}}
        for at, dash, colour in lines
    ]  # fmt: skip
    before, after = (sorted(row[name]) for name in ("before_ms", "after_ms"))
    sizes = [f"{significant(side[len(side) // 2])} ms of {len(side)}" for side in (before, after) if side]
    first = f"first slower: {bad['revision'] or 'run ' + str(bad['run'])}" if bad is not None else ""
    told = [change_text(row["change"], row["change_interval"]), first]
    told.append(f"processes before and after: {' and '.join(sizes)}" if len(sizes) == 2 else "")
    return Chart(
        id=f"incident-{record['id']}-{row['series_id']}",
        title=f"Incident {record['id']}: {row['title']}",
        figure={"data": traces, "layout": layout},
        caption=f"{'; '.join(part for part in told if part)}. {record['cause']}: {record['cause_why']}.",
        facts=Facts(
            columns=["when", "run", "revision", "p50 ms", "level"],
            rows=[
                [
                    f"{one['at']:%Y-%m-%d %H:%M}",
                    str(one["run"]),
                    one["revision"] or "",
                    significant(one["p50_ms"]),
                    "slower" if _is_slow(one, bad, back) else "at its level",
                ]
                for one in points[-60:]
            ],
            left_out=max(0, len(points) - 60),
        ),
    )


def _is_slow(point: Row, bad: Row | None, back: Row | None) -> bool:
    return bad is not None and point["at"] >= bad["at"] and (back is None or point["at"] < back["at"])
