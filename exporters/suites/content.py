"""All that a suite's page tells, block by block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from exporters.report.shapes import Chart, Facts
from exporters.suites.charts import line_or_bars
from exporters.suites.fronts import front_charts
from exporters.suites.gather import BlockFound, SuiteFound
from exporters.suites.rooflines import roofline_charts
from exporters.suites.tables import Comparison, comparison, variant_text
from scheduler.suites.readings import Row
from scheduler.suites.suite import Plot

#: Tables of more rows are folded where there are charts.
_MOST_OPEN = 30
_MOST_NAMED = 6


@dataclass(frozen=True, kw_only=True)
class Part:
    """One block of a page."""

    title: str
    anchor: str
    about: str
    charts: tuple[Chart, ...]
    table: Comparison | None
    #: Whether the table stands open.
    open: bool
    #: Rows of ours and of others.
    ours: int
    theirs: int
    #: What could not be had, and why; None: nothing.
    lacking: Facts | None
    #: Which runs it is of, or that there is none yet.
    runs: str


@dataclass(frozen=True, kw_only=True)
class SuiteContent:
    """All of a page."""

    name: str
    title: str
    description: str
    source: str
    size: str
    made_at: str
    headline: tuple[tuple[str, str], ...]
    parts: tuple[Part, ...]


def content_of(found: SuiteFound, now: datetime) -> SuiteContent:
    """What a page tells of a suite."""
    suite = found.suite
    return SuiteContent(
        name=suite.name,
        title=suite.title,
        description=suite.description or "",
        source=suite.source or "",
        size="quick" if suite.quick else "full",
        made_at=f"{now:%Y-%m-%d %H:%M} UTC",
        headline=_headline(found),
        parts=tuple(_part(found, block) for block in found.blocks),
    )


def _headline(found: SuiteFound) -> tuple[tuple[str, str], ...]:
    rows = found.rows
    valid = sum(row["verdict"] == "valid" for row in rows)
    devices = sorted({row["device"] for row in rows})
    figures = [
        (f"{valid:,} of {len(rows):,}", "readings of ours valid"),
        (f"{sum(len(block.published) for block in found.blocks):,}", "published rows beside them"),
        (", ".join(devices[:3]) or "none", "device" if len(devices) == 1 else "devices"),
    ]
    counts = {
        "failed": sum(len(block.readings.failed) for block in found.blocks),
        "unsupported": sum(len(block.readings.unsupported) for block in found.blocks),
    }
    figures += [(f"{count:,}", what) for what, count in counts.items() if count]
    if missing := [block.block.name for block in found.blocks if not block.readings.run_ids]:
        figures.append((", ".join(missing), "not run yet"))
    return tuple(figures)


def _part(found: SuiteFound, own: BlockFound) -> Part:
    rows, anchor = own.readings.rows, f"block-{own.block.name}"
    charts = [
        chart
        for number, plot in enumerate(own.block.plots)
        for chart in _charts(found, own, plot, f"{anchor}-{number}")
    ]
    table = comparison(rows, own.published, own.models)
    wanted = any(plot.kind in ("table", "ladder") for plot in own.block.plots)
    return Part(
        title=own.block.title,
        anchor=anchor,
        about=own.block.about or "",
        charts=tuple(sorted(charts, key=lambda chart: chart.figure is None)),
        table=table if table.lines else None,
        open=wanted or not charts or len(table.lines) <= _MOST_OPEN,
        ours=len(rows),
        theirs=len(own.published),
        lacking=_lacking(own),
        runs=", ".join(f"run {number}" for number in own.readings.run_ids[-4:]) or "not run yet",
    )


def _charts(found: SuiteFound, own: BlockFound, plot: Plot, name: str) -> list[Chart]:
    rows = own.readings.rows
    if plot.kind in ("table", "ladder"):
        return []
    if plot.kind == "roofline":
        return roofline_charts(rows, found.roofs, plot.title or "Roofline", name)
    if plot.kind == "pareto":
        return front_charts(rows, plot.y or "size_mb", plot.title, name)
    beside = [(theirs, own.place_of(theirs.model)) for theirs in own.published]
    return [line_or_bars(plot, rows, beside, name)]


def _lacking(own: BlockFound) -> Facts | None:
    """What is not valid, what failed and what cannot be had, each reason once."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for row in own.readings.rows:
        if row["verdict"] != "valid":
            for reason in row["reasons"]:
                reasons.setdefault((row["verdict"], reason), []).append(_what(row))
    for state, entries in (("failed", own.readings.failed), ("unsupported", own.readings.unsupported)):
        for entry in entries:
            reasons.setdefault((state, str(entry["why"])), []).append(_what(entry))
    if not reasons:
        return None
    rows = [[state, _some(list(dict.fromkeys(what))), why] for (state, why), what in reasons.items()]
    return Facts(columns=["state", "what", "why"], rows=rows)


def _what(entry: Row) -> str:
    return f"{entry['model']}: {variant_text({'options': '', **entry})}"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more
