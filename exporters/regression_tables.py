"""Incidents in the terminal: the list, and one with its series, distributions and what it is put down to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from exporters.numbers import NONE, significant
from exporters.tables import simple_table

Row = Mapping[str, Any]
#: Series, and distributions, that a terminal shows; --json has every one.
_MOST_SERIES, _MOST_DRAWN = 30, 6
#: Fields of a distribution, and the marks of how full one is.
_FIELDS, _MARKS = 32, " ▁▂▃▄▅▆▇█"
_STYLES = {"open": "red", "acknowledged": "yellow", "resolved": "green"}
_ANSWER_STYLES = {"slower": "red", "faster": "green", "same": "green"}


def incidents_table(incidents: Sequence[Row]) -> Table:
    """Incidents as `regressions list` shows them."""
    columns = ["incident", "state", "cause", "what", "change", "revisions", "run", "opened"]
    table = simple_table("Incidents", columns, [])
    for one in incidents:
        cells = [
            str(one["id"]),
            one["state"],
            one["cause"],
            one["title"],
            change_text(one["change"], one["change_interval"]),
            revisions_text(one),
            str(one["sweep_run_id"]),
            one["opened_at"][:16].replace("T", " "),
        ]
        table.add_row(*(Text(cell, style=_STYLES[one["state"]] if cell == one["state"] else "") for cell in cells))
    return table


def incident_view(one: Row) -> RenderableType:
    """One incident as `regressions show` shows it."""
    series = one["series"]
    parts: list[RenderableType] = [
        Text(f"Incident {one['id']}: {one['title']}", style="bold"),
        Text.assemble((one["state"], _STYLES[one["state"]]), f"{_by(one)}, opened {one['opened_at'][:16]} UTC"),
        Text(f"change     {change_text(one['change'], one['change_interval'])}"),
        Text(f"cause      {one['cause']}: {one['cause_why']}"),
        Text(f"revisions  {revisions_text(one)}"),
        Text(f"found in   run {one['sweep_run_id']}" + (f" of the sweep {one['sweep']}" if one["sweep"] else "")),
    ]
    if one["canary"]:
        parts.append(Text(f"canary     {one['canary']}"))
    if one["note"]:
        parts.append(Text(f"note       {one['note']}"))
    columns = ["series", "before ms", "after ms", "change", "p", "found by", "last good", "first bad", "back"]
    parts.append(simple_table("Series", columns, [_series_cells(row) for row in series[:_MOST_SERIES]]))
    if len(series) > _MOST_SERIES:
        parts.append(Text(f"and {len(series) - _MOST_SERIES} more; --json has every one", style="dim"))
    for row in series[:_MOST_DRAWN]:
        parts += _distributions(row)
    if whys := dict.fromkeys(f"{row['title']}: {why}" for row in series[:_MOST_DRAWN] for why in _doubts(row)):
        parts += [Text(why, style="yellow") for why in whys]
    parts.append(_environment(one["environment"]))
    rows = [[f"{e['at']:%Y-%m-%d %H:%M}", _step(e), e["who"], e["why"] or ""] for e in one["events"]]
    parts.append(simple_table("What became of it", ["when", "change", "who", "why"], rows))
    parts.append(Text(f"measure it again: {one['repeat']}"))
    return Group(*parts)


def trials_table(found: Sequence[Row]) -> Table:
    """What a repeated comparison came to."""
    table = simple_table("Measured again", ["what", "answer", "change", "p", "why"], [])
    for one in found:
        answer = one["answer"] or one["state"]
        ratio = one["ratio"]
        change = None if not ratio else 1 / ratio - 1
        interval = None if not one["ratio_low"] else [1 / one["ratio_high"] - 1, 1 / one["ratio_low"] - 1]
        cells = (one["title"], answer, change_text(change, interval), _p(one["p"]), one["why"] or "")
        table.add_row(*(Text(cell, style=_ANSWER_STYLES.get(cell, "")) for cell in cells))
    return table


def change_text(change: float | None, interval: Sequence[float] | None) -> str:
    """A change with its interval: "+5.2 % [+4.1, +6.0]"; above 0 is slower."""
    if change is None:
        return NONE
    text = f"{change * 100:+.1f} %"
    return text if interval is None else f"{text} [{interval[0] * 100:+.1f}, {interval[1] * 100:+.1f}]"


def revisions_text(one: Row) -> str:
    """The suspected range of revisions."""
    good, bad = one["revision_good"], one["revision_bad"]
    if good is None and bad is None:
        return "the runs told none"
    return f"{short_revision(good)} .. {short_revision(bad)}" if good != bad else f"{short_revision(bad)} on both sides"


def histogram(values: Sequence[float], low: float, high: float, fields: int = _FIELDS) -> str:
    """Values as a line of marks from low to high; the fullest field is the highest mark."""
    counts = [0] * fields
    for value in values:
        counts[min(int((value - low) / (high - low) * fields), fields - 1) if high > low else 0] += 1
    most = max(counts, default=0) or 1
    # One value is seen, too.
    return "".join(_MARKS[0 if not count else max(1, round(count / most * (len(_MARKS) - 1)))] for count in counts)


def _series_cells(row: Row) -> list[str]:
    trial, back = row["trial"], row["recovered"]
    return [
        row["title"],
        _point(row["baseline"]),
        _point(row["candidate"]),
        change_text(row["change"], row["change_interval"]),
        _p(row["p"]),
        row["found_by"] + (f", trial {trial['id']}" if trial is not None else ""),
        _run(row["baseline"]),
        _run(row["candidate"]),
        _run(back) if back is not None else NONE,
    ]


def _distributions(row: Row) -> list[RenderableType]:
    before, after = row["before_ms"], row["after_ms"]
    if not before or not after:
        return []
    low, high = min(*before, *after), max(*before, *after)
    lines: list[RenderableType] = [Text(f"{row['title']}: {significant(low)} to {significant(high)} ms, by process")]
    for name, values, style in (("before", before, "green"), ("after", after, "red")):
        middle = sorted(values)[len(values) // 2]
        line = Text(f"  {name:<7}{len(values):>4} ")
        lines.append(line.append(f"|{histogram(values, low, high)}|", style=style).append(f" {significant(middle)} ms"))
    return lines


def _doubts(row: Row) -> list[str]:
    trial = row["trial"]
    if trial is None:
        return ["no trial: the history alone shows it"]
    found = []
    if trial["not_alternated"]:
        found.append("its two sides did not alternate within the hour")
    if trial["clock_agrees"] is False:
        found.append("in clock cycles it is not slower")
    if trial["state"] == "void":
        found.append(f"its trial came to nothing: {trial['why']}")
    return found


def _environment(changed: Row) -> RenderableType:
    if not changed:
        return Text("environment: the two points tell no difference", style="dim")
    rows = [[name, str(before or NONE), str(after or NONE)] for name, (before, after) in sorted(changed.items())]
    return simple_table("Environment: what differs", ["what", "before", "after"], rows)


def _step(event: Row) -> str:
    before, after = event["before"], event["after"]
    return str(after) if before in (None, after) else f"{before} -> {after}"


def _by(one: Row) -> str:
    who = {"acknowledged": one["acknowledged_by"], "resolved": one["resolved_by"]}.get(one["state"])
    return f" by {who}" if who else ""


def _point(point: Row | None) -> str:
    if point is None:
        return NONE
    interval = point["p50_ci_ms"]
    text = significant(point["p50_ms"])
    return f"~{text}" if interval is None else f"{text} [{significant(interval[0])}, {significant(interval[1])}]"


def _run(point: Row | None) -> str:
    if point is None:
        return NONE
    at = point["at"]
    day = f"{at:%m-%d}" if isinstance(at, datetime) else str(at)[5:10]
    return f"run {point['run']}, {day}" + (f", {short_revision(point['revision'])}" if point["revision"] else "")


def short_revision(revision: str | None) -> str:
    """A commit in twelve letters; other names as they are."""
    if revision is None:
        return "unknown"
    return revision[:12] if len(revision) == 40 and set(revision) <= set("0123456789abcdef") else revision


def _p(p: float | None) -> str:
    return NONE if p is None else f"{p:.2g}"
