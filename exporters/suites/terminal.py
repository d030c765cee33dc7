"""A suite on a terminal: ours and published readings of each block, in the columns that fit; the page has them all."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text
from sqlalchemy import Connection

from exporters.suites.gather import BlockFound, gather
from exporters.suites.tables import comparison
from exporters.tables import simple_table
from scheduler.suites.suite import Suite

#: What a terminal shows of a table.
_SHOWN = (
    *(
        "model",
        "hardware",
        "runtime",
        "recipe",
        "setting",
        "latency ms",
        "p99 ms",
        "real-time factor",
        "size MB",
        "nodes",
    ),
    *("GMAC", "GFLOP/s", "accuracy %", "fidelity dB", "speed-up", "over own fp32", "mJ per inference"),
    "note",
)


def suite_view(connection: Connection, suite: Suite) -> RenderableType:
    """All that a suite found so far.

    Raises:
        UsageError: no block of it was ever run.
    """
    found = gather(connection, suite)
    size = ", quick" if suite.quick else ""
    return Group(Text(f"{suite.title} (suite {suite.name}{size})", style="bold"), *map(_block, found.blocks))


def _block(found: BlockFound) -> RenderableType:
    readings = found.readings
    table = comparison(readings.rows, found.published, found.models)
    if not table.lines:
        return Text(f"{found.block.title}: not run yet", style="dim")
    kept = [number for number, column in enumerate(table.columns) if column in _SHOWN]
    rows = [[line.whose, *(line.texts[number] for number in kept)] for line in table.lines]
    view = simple_table(found.block.title, ["whose", *(table.columns[number] for number in kept)], rows)
    lacking = [
        f"{len(entries)} {what}"
        for what, entries in (("failed", readings.failed), ("unsupported", readings.unsupported))
        if entries
    ]
    notes = [Text(f"{', '.join(lacking)}: the report says why", style="dim")] if lacking else []
    return Group(view, *notes)
