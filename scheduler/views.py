"""The comparisons of the whole farm as SQL views: one source for CLI, exporters and dashboards, on both databases.

Each view says what a row of it is and what each of its columns means; docs/views.md is made of that:
`python -m scheduler.views`. Views hold no data, so no migration has to think of them: `schema.upgrade` drops them
before it changes tables (neither database lets a column go that a view reads) and makes them anew, from here, when the
schema is this code's. Nobody opens a database that is at another schema; so a view that changes needs a new revision,
be it an empty one, and a test keeps the digest of what the newest one has.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

from sqlalchemy import BigInteger, Boolean, Column, Connection, Date, Float, MetaData, Table, Text, inspect, text

from device_registry.tables import UtcDateTime
from scheduler.comparison_views import (
    DEVICE_VS_DEVICE,
    ENERGY_VS_LATENCY,
    LATEST_RESULT,
    POINT_HISTORY,
    VARIANT_VS_BASELINE,
)
from scheduler.conversions import digest
from scheduler.farm_views import COVERAGE, DEVICE_AVAILABILITY, JOB_OUTCOME, TELEMETRY_READING
from scheduler.view import AVAILABILITY_DAYS as AVAILABILITY_DAYS
from scheduler.view import STALE_DAYS as STALE_DAYS
from scheduler.view import WORDS, View
from scheduler.watch_views import REGRESSION, SERIES_NOISE

#: In the order in which they are made: a view may read those before it.
VIEWS: tuple[View, ...] = (
    LATEST_RESULT,
    VARIANT_VS_BASELINE,
    DEVICE_VS_DEVICE,
    ENERGY_VS_LATENCY,
    COVERAGE,
    DEVICE_AVAILABILITY,
    POINT_HISTORY,
    TELEMETRY_READING,
    JOB_OUTCOME,
    REGRESSION,
    SERIES_NOISE,
)
#: Names that earlier revisions had.
_RETIRED: tuple[str, ...] = ()
_TYPES: dict[str, Any] = {
    "integer": BigInteger,
    "number": Float,
    "text": Text,
    "yes or no": Boolean,
    "time": UtcDateTime,
    "date": Date,
}


@cache
def view_of(name: str) -> Table:
    """A view, for queries: `select(view_of("coverage").c.state)`.

    Raises:
        KeyError: there is no such view.
    """
    view = {view.name: view for view in VIEWS}[name]
    # Apart from the tables: nobody shall create or migrate it as one.
    return Table(name, MetaData(), *(Column(column.name, _TYPES[column.kind]()) for column in view.columns))


def make_views(connection: Connection) -> None:
    """Make every view; none is there."""
    for view in VIEWS:
        connection.execute(text(f"CREATE VIEW {view.name} AS {view.query(WORDS[connection.dialect.name])}"))


def drop_views(connection: Connection) -> None:
    """Drop every view of ours that is there; one that somebody else's view reads is not dropped behind their back."""
    there = set(inspect(connection).get_view_names())
    for name in (*reversed([view.name for view in VIEWS]), *_RETIRED):
        if name in there:
            connection.execute(text(f"DROP VIEW {name}"))


def fingerprint() -> str:
    """Digest of what the databases are told: another one needs another revision."""
    return digest([[view.name, *(view.query(words) for words in WORDS.values())] for view in VIEWS])


def page() -> str:
    """docs/views.md."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield "# Views"
    yield ""
    yield "Made by `python -m scheduler.views > docs/views.md` of what the code says of them; a test holds it equal."
    yield "What they are for: `docs/observability.md`. All times are UTC. NULL is absent, never 0."
    for view in VIEWS:
        yield ""
        yield f"## {view.name}"
        yield ""
        yield view.meaning
        yield ""
        yield "| column | kind | meaning |"
        yield "| --- | --- | --- |"
        for column in view.columns:
            yield f"| {column.name} | {column.kind} | {column.meaning} |"


if __name__ == "__main__":
    print(page(), end="")
