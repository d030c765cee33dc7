"""What grows for ever is deleted when it is old: readings, and the bulky files of attempts. Never what was found out.

Results, profiles, evaluations, points, artifacts and events stay. In portions, each a short transaction: whoever waits
for a lock waits for a moment, and what was interrupted goes on where it was. A file is deleted before the row forgets
it, so that none is left that nobody names.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import chain
from typing import Any, Final

from sqlalchemy import Connection, Engine, delete, func, or_, select, update

from device_registry.database import one_of, passes, reading, writing
from device_registry.errors import BenchfarmError
from device_registry.tables import utc_now
from scheduler.outcomes import evaluations, profiles, results
from scheduler.points import points
from scheduler.queue import artifacts
from scheduler.states import attempts
from scheduler.telemetry import telemetry
from workers.artifacts import ArtifactStore
from workers.errors import first_line

log = logging.getLogger(__name__)

#: Days that readings, logs, raw times and full-rate telemetry are kept; 0: for ever.
DEFAULT_DAYS: Final = 90
#: Ids of rows that are looked at in one transaction, and attempts whose files are.
_ROWS, _ATTEMPTS = 5_000, 100
#: Rows come nearly in order of time: after so many portions without an old one, the index by time says if there is one.
_EMPTY_PORTIONS = 4
_FILES: Final = ("log_sha256", "telemetry_sha256", "raw_sha256")
_HAS_FILES: Final = or_(*(attempts.c[name].is_not(None) for name in _FILES))
#: A service looks so often, and the first time so long after it began.
_EVERY_S, _FIRST_S = 86_400.0, 600.0


@dataclass(frozen=True, kw_only=True)
class Pruned:
    """What was deleted, or would be."""

    rows: int = 0
    files: int = 0
    bytes: int = 0
    #: Attempts that have no files any more.
    attempts: int = 0


def prune(
    engine: Engine,
    store: ArtifactStore,
    before: datetime,
    *,
    dry_run: bool = False,
    observe: Callable[[Pruned], None] = lambda _: None,
    pause: Callable[[float], bool] = lambda _: False,
) -> Pruned:
    """Delete what is older than a moment.

    Args:
        engine: of the database.
        store: of artifacts.
        before: readings before it, and files of attempts that ended before it.
        dry_run: only count.
        observe: called after each portion with what was deleted so far.
        pause: called after each portion with the seconds that it took; whether to end here.

    Raises:
        BenchfarmError: the artifact store does not let a file go.
    """
    done = Pruned()
    steps = chain(_prune_rows(engine, before, dry_run), _prune_files(engine, store, before, dry_run))
    began = time.monotonic()
    for step in steps:
        done = Pruned(
            rows=done.rows + step.rows,
            files=done.files + step.files,
            bytes=done.bytes + step.bytes,
            attempts=done.attempts + step.attempts,
        )
        observe(done)
        if pause(time.monotonic() - began):
            break
        began = time.monotonic()
    return done


def _prune_rows(engine: Engine, before: datetime, dry_run: bool) -> Iterator[Pruned]:
    """The ids of telemetry in portions, the old ones among them deleted."""
    low, left = 0, _EMPTY_PORTIONS
    while left:
        ids = select(telemetry.c.id).where(telemetry.c.id > low).order_by(telemetry.c.id).limit(_ROWS).subquery()
        with reading(engine) if dry_run else writing(engine) as connection:
            high = connection.execute(select(func.max(ids.c.id))).scalar_one()
            if high is None:
                return
            old = (telemetry.c.id > low, telemetry.c.id <= high, telemetry.c.at < before)
            if dry_run:
                rows = connection.execute(select(func.count()).where(*old)).scalar_one()
            else:
                rows = connection.execute(delete(telemetry).where(*old)).rowcount
        yield Pruned(rows=rows)
        low, left = high, _EMPTY_PORTIONS if rows else left - 1
        if not left and _has_older(engine, before, low):
            left = _EMPTY_PORTIONS


def _has_older(engine: Engine, before: datetime, low: int) -> bool:
    """Whether an old row stands behind young ones: a clock that was years ahead keeps none of the others for ever."""
    query = select(telemetry.c.id).where(telemetry.c.at < before, telemetry.c.id > low).limit(1)
    with reading(engine) as connection:
        return connection.execute(query).first() is not None


def _prune_files(engine: Engine, store: ArtifactStore, before: datetime, dry_run: bool) -> Iterator[Pruned]:
    """Old attempts that have files, in portions; all of their files go that nothing else names.

    No transaction waits for the store, which may be far away.
    """
    with reading(engine) as connection:
        stays = _artifacts(connection)
    columns = [attempts.c[name] for name in _FILES]
    low = 0
    while True:
        old = (attempts.c.id > low, attempts.c.finished_at < before, _HAS_FILES)
        with reading(engine) as connection:
            query = select(attempts.c.id, *columns).where(*old).order_by(attempts.c.id).limit(_ATTEMPTS)
            rows = connection.execute(query).all()
            named = {sha256 for row in rows for sha256 in row[1:] if sha256 is not None}
            gone = named - stays - _of_younger(connection, named, before)
        if not rows:
            return
        try:
            sizes = [store.size(sha256) if dry_run else store.remove(sha256) for sha256 in sorted(gone)]
        except OSError as error:
            raise BenchfarmError(f"a file of the artifact store cannot be deleted: {first_line(error)}") from error
        ids = [row.id for row in rows]
        if not dry_run:
            with writing(engine) as connection:
                forget = update(attempts).where(one_of(attempts.c.id, ids)).values(dict.fromkeys(_FILES))
                connection.execute(forget)
        known = [size for size in sizes if size is not None]
        yield Pruned(files=len(known), bytes=sum(known), attempts=len(ids))
        low = ids[-1]


def _artifacts(connection: Connection) -> set[str]:
    """Everything that is an artifact or comes with one, or that a result or the like was made with."""
    stays: set[str] = set()
    made_with = (results, profiles, evaluations, points)
    for column in (artifacts.c.sha256, *(table.c.artifact_sha256 for table in made_with)):
        stays.update(connection.execute(select(column).distinct().where(column.is_not(None))).scalars())
    for companions in connection.execute(select(artifacts.c.companions)).scalars():
        stays.update(companions.values())
    return stays


def _of_younger(connection: Connection, named: Collection[str], before: datetime) -> set[str]:
    """Those of these files that an attempt names which is not old, or not over: equal logs are one file."""
    columns = [attempts.c[name] for name in _FILES]
    young = or_(attempts.c.finished_at.is_(None), attempts.c.finished_at >= before)
    query = select(*columns).where(young, or_(*(one_of(column, named) for column in columns)))
    return {sha256 for row in connection.execute(query) for sha256 in row if sha256 is not None}


class Retention:
    """A thread of the service that prunes once a day, gently: it rests for as long as it works."""

    def __init__(self, engine: Engine, store: ArtifactStore, days: int) -> None:
        """Nothing is deleted before `kept`.

        Args:
            engine: of the database.
            store: of artifacts.
            days: how long things are kept; 0: for ever.
        """
        self._engine, self._store, self._days = engine, store, days
        self._stop = threading.Event()

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Prune meanwhile."""
        thread = threading.Thread(target=self._loop, name="retention", daemon=True)
        if self._days > 0:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            if self._days > 0:
                thread.join()

    def _loop(self) -> None:
        wait_s = _FIRST_S
        while not self._stop.wait(wait_s):
            wait_s = _EVERY_S
            try:
                done = prune(self._engine, self._store, utc_now() - timedelta(days=self._days), pause=self._stop.wait)
            except Exception as error:  # the farm goes on without; what is old is old tomorrow as well
                known = isinstance(error, BenchfarmError) or passes(error)
                reason = first_line(getattr(error, "orig", error))
                log.warning(
                    "what is old was not pruned: %s", reason, exc_info=not known, extra={"action": "prune_failed"}
                )
                continue
            told: dict[str, Any] = {"action": "pruned", "rows": done.rows, "files": done.files, "bytes": done.bytes}
            log.info("pruned %d readings and %d files (%d bytes)", done.rows, done.files, done.bytes, extra=told)
