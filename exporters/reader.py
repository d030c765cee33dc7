"""One look at a farm's database: its state and what happened, as series within the budget, in bounded time."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, text
from sqlalchemy.engine import make_url

from device_registry.database import open_engine, reading
from device_registry.errors import BenchfarmError
from device_registry.tables import utc_now
from exporters import snapshot, watch_snapshot
from exporters.budget import DEFAULT_SERIES, size_of, within
from exporters.events import EventCounts
from exporters.families import Family, Filling, Rows
from exporters.metrics import FARM, Metric
from scheduler.schema import HEAD, SchemaError

#: A look takes no longer, give or take a statement; one that does fails, and the last one is shown.
LOOK_S: Final = 10.0
#: Nobody's lock is waited for longer: a migration holds them all.
_LOCK_S = 2.0
#: A part that took a second to read is not read again within ten. Hosts, devices and their readings always are.
_REST: Final = 10
#: SQLite asks whether to go on after so many steps of its own.
_STEPS: Final = 100_000
_LIMIT: Final = text("SELECT set_config(:name, :value, true)")


@dataclass(frozen=True)
class Snapshot:
    """What is shown of the farm; never changed."""

    families: tuple[Family, ...]
    series: int
    #: Metrics to how many of their series the budget left out.
    dropped: dict[str, int]
    #: metric.label to how many values were refused so far.
    refused: dict[str, int]
    events_behind: int


_Read = Callable[[Connection, Filling, datetime], None]


@dataclass
class _Part:
    """A part of the picture, and when it is read again."""

    read: _Read
    #: When something happened since, or after so many seconds; None: at every look.
    every_s: float | None = None
    rows: dict[Metric, Rows] = field(default_factory=dict)
    read_at_s: float | None = None
    cost_s: float = 0.0
    #: What it was read at: the newest event, and which devices there were.
    seen: Any = None

    def due(self, now_s: float, seen: Any) -> bool:
        if self.read_at_s is None:
            return True
        if self.every_s is None:
            return True
        age_s = now_s - self.read_at_s
        return age_s >= _REST * self.cost_s and (seen != self.seen or age_s >= self.every_s)


class FarmReader:
    """Reads a farm's database, again and again. Reads only: it neither makes nor migrates one."""

    def __init__(
        self,
        url: str,
        home: Path,
        *,
        budget: int = DEFAULT_SERIES,
        look_s: float = LOOK_S,
        clock: Callable[[], datetime] = utc_now,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Open nothing yet.

        Args:
            url: of the database.
            home: the data directory, whose disk is looked at.
            budget: series at most.
            look_s: how long a look may take.
            clock: tells the time.
            monotonic: seconds that never jump.

        Raises:
            UsageError: the URL cannot be used.
        """
        self._engine = open_engine(url)
        self._file = Path(make_url(url).database or "") if self._engine.dialect.name == "sqlite" else None
        self._budget, self._look_s, self._clock, self._monotonic = budget, look_s, clock, monotonic
        self._refused: Counter[str] = Counter()
        self._events = EventCounts(monotonic=monotonic)
        self._fleet, self._readings = snapshot.Fleet(), snapshot.Readings()
        self._families: dict[Metric, Family] = {}
        self._first = _Part(self._fleet.read)
        self._parts = (
            _Part(lambda c, f, now: self._readings.read(c, f, self._fleet.known, now)),
            _Part(snapshot.read_queue, every_s=30.0),
            _Part(lambda c, f, _: snapshot.read_sizes(c, f, home)),
            _Part(lambda c, f, _: snapshot.read_results(c, f, self._fleet.known), every_s=300.0),
            _Part(lambda c, f, _: snapshot.read_evaluations(c, f, self._fleet.known), every_s=300.0),
            _Part(lambda c, f, _: snapshot.read_coverage(c, f), every_s=300.0),
            _Part(lambda c, f, _: watch_snapshot.read_incidents(c, f)),
            _Part(watch_snapshot.read_notifications),
            _Part(lambda c, f, _: watch_snapshot.read_missing(c, f)),
            _Part(lambda c, f, _: watch_snapshot.read_sight(c, f), every_s=300.0),
        )

    def read(self) -> Snapshot:
        """Look once.

        Raises:
            SchemaError: the database has another schema than this code.
            BenchfarmError: there is none.
            Exception: whatever the database says.
        """
        if self._file is not None and not self._file.is_file():
            raise BenchfarmError(f"there is no database at {self._file} yet")
        refused, began = self._refused.copy(), self._monotonic()
        with reading(self._engine) as connection, self._bounded(connection):
            _check_schema(connection)
            now = self._clock()
            self._events.read(connection, refused)
            self._look(self._first, connection, refused, now, None)
            seen = (self._events.newest, self._fleet.known)
            for part in self._parts:
                if self._monotonic() - began > self._look_s:
                    raise BenchfarmError(f"the database took longer than {self._look_s:g} s")
                self._look(part, connection, refused, now, seen)
        self._refused = refused
        self._events.begin_kinds({device.kind for device in self._fleet.known.values()})
        return self._made()

    def close(self) -> None:
        """Give up its connections."""
        self._engine.dispose()

    def _look(self, part: _Part, connection: Connection, refused: Counter[str], now: datetime, seen: Any) -> None:
        began = self._monotonic()
        if not part.due(began, seen):
            return
        filling = Filling(refused)
        part.read(connection, filling, now)
        part.rows = dict(filling.rows)
        part.read_at_s, part.cost_s, part.seen = began, self._monotonic() - began, seen

    def _made(self) -> Snapshot:
        found: dict[Metric, Rows] = dict(self._events.filling.rows)
        for part in (self._first, *self._parts):
            found |= part.rows
        kept, dropped = within(found, FARM, self._budget)
        for metric, rows in kept.items():
            before = self._families.get(metric)
            if before is None or before.rows != rows:
                self._families[metric] = made = Family(metric, dict(rows))
                made.text  # noqa: B018 - made here, not while somebody waits for it
        return Snapshot(
            families=tuple(self._families[metric] for metric in FARM),
            series=size_of(kept),
            dropped={metric.name: count for metric, count in dropped.items()},
            refused=dict(self._refused),
            events_behind=self._events.behind,
        )

    @contextmanager
    def _bounded(self, connection: Connection) -> Iterator[None]:
        """No statement goes on for longer than the look may take."""
        if self._file is None:
            limits = {"statement_timeout": self._look_s / 2, "lock_timeout": min(_LOCK_S, self._look_s / 2)}
            for name, seconds in limits.items():
                connection.execute(_LIMIT, {"name": name, "value": f"{seconds * 1000:.0f}ms"})
            yield
            return
        raw: Any = connection.connection.dbapi_connection
        deadline = self._monotonic() + self._look_s
        raw.set_progress_handler(lambda: self._monotonic() > deadline, _STEPS)
        try:
            yield
        finally:
            raw.set_progress_handler(None, 0)


def _check_schema(connection: Connection) -> None:
    found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    if found != HEAD:
        raise SchemaError(f"the database has schema {found}, this exporter reads {HEAD}")
