"""The tables of docs/experiments.md, written anew from a farm that ran the suites.

A table stands between `<!-- suite NAME [quick] BLOCK: COLUMN, COLUMN -->` and `<!-- end -->`; columns are those of
`benchfarm suite report`. Nothing is measured here: `benchfarm suite run NAME` does that, on a machine with nothing
else to do. A block that was not run keeps its text and is named.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from sqlalchemy import Connection

from benchfarm.config import load_home
from device_registry.database import reading
from device_registry.errors import UsageError
from exporters.suites.gather import gather
from exporters.suites.tables import comparison
from scheduler.farm import Farm
from scheduler.suites.shipped import load_named

PAGE = Path(__file__).parent.parent / "docs" / "experiments.md"
_TABLE = re.compile(
    r"(?P<mark><!-- suite (?P<suite>\S+)(?P<quick> quick)? (?P<block>\S+): (?P<columns>[^>]+) -->\n)"
    r"(?P<old>.*?)(?P<end><!-- end -->)",
    re.DOTALL,
)


def main() -> int:
    """Fill the tables; 1 where one could not be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, help="the farm that ran the suites; default: as benchfarm's")
    parser.add_argument("--page", type=Path, default=PAGE)
    wanted = parser.parse_args()
    text = wanted.page.read_text(encoding="utf-8")
    lacking: list[str] = []
    with reading(Farm(load_home(path=wanted.home)).engine) as connection:
        wanted.page.write_text(filled(connection, text, lacking), encoding="utf-8")
    for name in lacking:
        print(f"not run: {name}", file=sys.stderr)
    return 1 if lacking else 0


def filled(connection: Connection, text: str, lacking: list[str]) -> str:
    """The page with its tables; the names of blocks that were not run go into `lacking`."""

    def table(found: re.Match[str]) -> str:
        columns = [column.strip() for column in found["columns"].split(",")]
        lines = _lines(connection, found["suite"], found["block"], columns, quick=found["quick"] is not None)
        if not lines:
            lacking.append(f"{found['suite']}{found['quick'] or ''}, block {found['block']}")
            return found[0]
        return found["mark"] + "\n".join(lines) + "\n" + found["end"]

    return _TABLE.sub(table, text)


def _lines(connection: Connection, suite: str, block: str, columns: list[str], *, quick: bool) -> list[str]:
    try:
        found = gather(connection, load_named(suite, quick=quick))
    except UsageError:  # nothing of it was run
        return []
    [own] = [one for one in found.blocks if one.block.name == block]
    if not own.readings.rows:
        return []
    table = comparison(own.readings.rows, own.published, own.models)
    kept = [table.columns.index(column) for column in columns if column in table.columns]
    heads = ["", *(table.columns[number] for number in kept)]
    rows = [[f"*{line.whose}*", *(line.texts[number] for number in kept)] for line in table.lines]
    return [_row(heads), _row(["---"] * len(heads)), *map(_row, rows)]


def _row(texts: list[str]) -> str:
    return f"| {' | '.join(text.replace('|', '/') for text in texts)} |"


if __name__ == "__main__":
    sys.exit(main())
