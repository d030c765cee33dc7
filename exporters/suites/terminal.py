"""A suite on a terminal: ours, then what was published, in the columns that fit; the page has them all."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text
from sqlalchemy import Connection

from exporters.numbers import NONE
from exporters.suites.gather import BlockFound, gather
from exporters.suites.tables import Comparison, comparison
from exporters.tables import console_width
from scheduler.suites.suite import Suite

#: Never shown here, and what gives way first where all do not fit.
_NEVER = ("mean ms", "std ms", "p95 ms")
_LEAST_WANTED = (
    *("GB/s", "other than 0 M", "parameters M", "per s", "p99 ms", "GFLOP/s", "nodes", "GMAC", "mJ per inference"),
    *("fidelity dB", "size MB"),
)
#: Said in the title where all rows say the same.
_SHARED = ("hardware", "runtime", "recipe", "setting", "note")
#: Columns whose words may be broken into lines.
_WRAPPED = ("model", "hardware", "recipe", "note")


def suite_view(connection: Connection, suite: Suite, width: int | None = None) -> RenderableType:
    """All that a suite found so far.

    Args:
        connection: to read from.
        suite: what was run.
        width: characters per line; None: the terminal's.

    Raises:
        UsageError: no block of it was ever run.
    """
    found = gather(connection, suite)
    size = ", quick" if suite.quick else ""
    title = Text(f"{suite.title} (suite {suite.name}{size})", style="bold")
    return Group(title, *(_block(block, width or console_width()) for block in found.blocks))


def _block(found: BlockFound, width: int) -> RenderableType:
    title, readings = found.block.title, found.readings
    parts: list[RenderableType] = []
    if readings.rows:
        parts += _fitting(f"{title}: measured here", comparison(readings.rows, (), found.models), width)
    else:
        parts.append(Text(f"{title}: not run yet", style="dim"))
    if found.published:
        parts += _fitting(f"{title}: published", comparison((), found.published, found.models), width)
    lacking = [
        f"{len(entries)} {what}"
        for what, entries in (("failed", readings.failed), ("unsupported", readings.unsupported))
        if entries
    ]
    if lacking:
        parts.append(Text(f"{', '.join(lacking)}: the report says why", style="dim"))
    return Group(*parts)


def _fitting(title: str, found: Comparison, width: int) -> list[RenderableType]:
    """The widest table that fits, and the names of the columns that did not; what all rows share is in its title."""
    shown = [name for name in found.columns if name not in _NEVER]
    shared = [name for name in shown if name in _SHARED and _shared(found, name) is not None]
    common = [text for name in shared if (text := _shared(found, name)) not in (None, NONE)]
    shown = [name for name in shown if name not in shared]
    heading = f"{title}, {', '.join(common)}" if common else title
    hidden: list[str] = []
    left_out = [name for name in _LEAST_WANTED if name in shown]
    while True:
        table = _table(heading, found, [name for name in shown if name not in hidden])
        if Console(width=1000).measure(table).maximum <= width or len(hidden) == len(left_out):
            break
        hidden.append(left_out[len(hidden)])
    note = Text(f"no room for {', '.join(hidden)}: widen the terminal, or look at the report", style="dim")
    return [table, note] if hidden else [table]


def _shared(found: Comparison, column: str) -> str | None:
    """What a column says in every one of several rows; None: they differ."""
    number = found.columns.index(column)
    texts = {line.texts[number] for line in found.lines}
    return texts.pop() if len(texts) == 1 and len(found.lines) > 1 else None


def _table(title: str, found: Comparison, columns: Sequence[str]) -> Table:
    table = Table(
        title=Text(title), title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), title_style="bold"
    )
    for name in columns:
        table.add_column(name, no_wrap=name not in _WRAPPED)
    for line in found.lines:
        cells = [line.texts[found.columns.index(name)] for name in columns]
        table.add_row(*(Text(cell) for cell in cells), style="dim" if line.doubtful else None)
    return table
