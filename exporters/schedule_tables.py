"""Tables of schedules: when they are due, by the clock on their wall and by UTC."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from exporters.numbers import NONE
from exporters.tables import simple_table

Row = Mapping[str, Any]
#: Missing cells that are listed; --json has all.
_MOST_CELLS = 30


def due_text(due: datetime, timezone: str) -> str:
    """A due time in its zone, and in UTC: "2026-12-01 02:00 Europe/Berlin (01:00 UTC)"."""
    utc = due.astimezone(UTC)
    try:
        wall = due.astimezone(ZoneInfo(timezone))
    except (ValueError, OSError, KeyError):  # of a machine that knows more zones
        return f"{utc:%Y-%m-%d %H:%M} UTC"
    if wall.utcoffset() == utc.utcoffset():
        return f"{wall:%Y-%m-%d %H:%M} {timezone}" + ("" if timezone.endswith("UTC") else " (UTC)")
    day = "" if wall.date() == utc.date() else f"{utc:%Y-%m-%d} "
    return f"{wall:%Y-%m-%d %H:%M} {timezone} ({day}{utc:%H:%M} UTC)"


def schedules_table(schedules: Sequence[Row]) -> Table:
    """Schedules as `benchfarm schedule list --json` prints them."""
    rows = [
        [
            one["name"],
            one["sweep"],
            one["cron"],
            _next(one),
            NONE if one["last_run"] is None else str(one["last_run"]) + (" (at work)" if one["open_run"] else ""),
            NONE if one["missing"] is None or one["last_run"] is None else str(one["missing"]),
            one["note"] or "",
        ]
        for one in schedules
    ]
    return simple_table("Schedules", ["name", "sweep", "cron", "next", "last run", "missing cells", "note"], rows)


def schedule_view(schedule: Row) -> RenderableType:
    """One schedule: what it is, when it is due, what it lacks, what became of its due times."""
    file, last = schedule["file"] or NONE, schedule["last_run"]
    if schedule["file_changed"]:
        file += " (it says something else by now: `benchfarm schedule add` takes it anew)"
    head = [
        ["sweep", schedule["sweep"]],
        ["read from", file],
        ["cron", f"{schedule['cron']}, {schedule['timezone']}"],
        ["missed due times", "one run makes up for them" if schedule["missed"] == "once" else "are skipped"],
        ["revision of", schedule["revision_of"] or NONE],
        ["owner", schedule["owner"]],
        ["last run", NONE if last is None else f"{last}, {_time(schedule['last_run_at'])}"],
        ["note", schedule["note"] or ""],
    ]
    due = [[due_text(at, schedule["timezone"])] for at in schedule["due"]]
    parts: list[RenderableType] = [
        simple_table(schedule["name"], ["", ""], head),
        simple_table("Due", [""], due or [["never: it is paused"]]),
    ]
    if missing := schedule["missing_cells"]:
        cells = [
            [cell["title"], NONE if cell["last_valid_at"] is None else _time(cell["last_valid_at"]), cell["why"]]
            for cell in missing[:_MOST_CELLS]
        ]
        parts.append(simple_table("Without a fresh valid point", ["cell", "last valid", "why"], cells))
        if len(missing) > _MOST_CELLS:
            parts.append(Text(f"and {len(missing) - _MOST_CELLS} more; --json has all", style="dim"))
    events = [[_time(event["at"]), event["after"], event["who"], event["why"] or ""] for event in schedule["events"]]
    parts.append(simple_table("Events", ["when", "what", "who", "why"], events))
    return Group(*parts)


def _next(schedule: Row) -> str:
    if schedule["paused"]:
        return "paused"
    due = schedule["next_due_at"]
    return NONE if due is None else due_text(due, schedule["timezone"])


def _time(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
