"""What grows for ever is deleted when it is old: readings, and the bulky files of attempts. Never what was found out.

Results, profiles, points, artifacts and events stay. In portions, each a short transaction: whoever waits for a lock
waits for a moment, and what was interrupted goes on where it was. A file is deleted before the row forgets it, so that
none is left that nobody names.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, Engine, delete, func, or_, select, update

from device_registry.database import one_of, passes, reading, writing
from device_registry.errors import BenchfarmError
from device_registry.tables import utc_now
from scheduler.outcomes import profiles, results
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
_ROWS, _ATTEMPTS = 5_000, 500
#: Rows come nearly in order of time: so many portions without an old one, and there is none.
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
    for portion in (_prune_rows, _prune_files):
        low = 0
        left = _EMPTY_PORTIONS
        while left:
            began = time.monotonic()
            try:
                with reading(engine) if dry_run else writing(engine) as connection:
                    step, high = portion(connection, store, low, before, dry_run=dry_run)
            except OSError as error:
                raise BenchfarmError(f"a file of the artifact store cannot be deleted: {first_line(error)}") from error
            if high is None:
                break
            low = high
            left = _EMPTY_PORTIONS if step.rows or portion is _prune_files else left - 1
            done = _sum(done, step)
            observe(done)
            if pause(time.monotonic() - began):
                return done
    return done


def _sum(one: Pruned, other: Pruned) -> Pruned:
    return replace(
        one,
        rows=one.rows + other.rows,
        files=one.files + other.files,
        bytes=one.bytes + other.bytes,
        attempts=one.attempts + other.attempts,
    )


def _prune_rows(
    connection: Connection, store: ArtifactStore, low: int, before: datetime, *, dry_run: bool
) -> tuple[Pruned, int | None]:
    """The next ids of telemetry after `low`, the old ones among them deleted; and where they end."""
    ids = select(telemetry.c.id).where(telemetry.c.id > low).order_by(telemetry.c.id).limit(_ROWS).subquery()
    high = connection.execute(select(func.max(ids.c.id))).scalar_one()
    if high is None:
        return Pruned(), None
    old = (telemetry.c.id > low, telemetry.c.id <= high, telemetry.c.at < before)
    if dry_run:
        return Pruned(rows=connection.execute(select(func.count()).where(*old)).scalar_one()), high
    return Pruned(rows=connection.execute(delete(telemetry).where(*old)).rowcount), high


def _prune_files(
    connection: Connection, store: ArtifactStore, low: int, before: datetime, *, dry_run: bool
) -> tuple[Pruned, int | None]:
    """The next old attempts after `low` that have files: all of which go that nothing else names."""
    columns = [attempts.c[name] for name in _FILES]
    old = (attempts.c.finished_at < before, _HAS_FILES)
    rows = connection.execute(
        select(attempts.c.id, *columns).where(attempts.c.id > low, *old).order_by(attempts.c.id).limit(_ATTEMPTS)
    ).all()
    if not rows:
        return Pruned(), None
    named = {sha256 for row in rows for sha256 in row[1:] if sha256 is not None}
    gone = named - _kept(connection, named, before)
    sizes = [store.size(sha256) if dry_run else store.remove(sha256) for sha256 in sorted(gone)]
    known = [size for size in sizes if size is not None]
    ids = [row.id for row in rows]
    if not dry_run:
        connection.execute(update(attempts).where(one_of(attempts.c.id, ids)).values(dict.fromkeys(_FILES)))
    return Pruned(files=len(known), bytes=sum(known), attempts=len(ids)), ids[-1]


def _kept(connection: Connection, named: Collection[str], before: datetime) -> set[str]:
    """Those of these files that something names which stays: equal logs are one file."""
    newer = or_(attempts.c.finished_at.is_(None), attempts.c.finished_at >= before)
    kept: set[str] = set()
    for name in _FILES:
        query = select(attempts.c[name]).where(newer, one_of(attempts.c[name], named))
        kept.update(connection.execute(query).scalars())
    for column in (artifacts.c.sha256, results.c.artifact_sha256, profiles.c.artifact_sha256, points.c.artifact_sha256):
        kept.update(connection.execute(select(column).where(one_of(column, named))).scalars())
    for companions in connection.execute(select(artifacts.c.companions)).scalars():
        kept.update(companions.values())
    return kept


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
