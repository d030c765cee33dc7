"""The picture of an embedded database: SQLite's own backup, taken of a farm that goes on."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import datetime
from pathlib import Path
from urllib.parse import quote

from device_registry.errors import BenchfarmError, UsageError
from scheduler.backups.manifest import BackupDamagedError

#: Pages copied between two looks at whether to go on: 16 MiB.
_PAGES = 4096
_SIDES = ("", "-wal", "-shm")

#: Told of bytes done and bytes in all.
Progress = Callable[[int, int], None]


def take_picture(database: Path, target: Path, progress: Progress) -> None:
    """Copy a database into a file of its own, as it was at one moment. Whoever writes meanwhile is not disturbed.

    Raises:
        UsageError: there is no such file.
        BenchfarmError: it is damaged, or cannot be read.
    """
    if not database.is_file():
        raise UsageError(f"there is no database {database}")
    try:
        # Not read only: the shared memory of a write-ahead log that nobody has open must be made first.
        address = f"file:{quote(str(database))}?mode=rw"
        with (
            closing(sqlite3.connect(address, uri=True, isolation_level=None)) as source,
            closing(sqlite3.connect(target, isolation_level=None)) as copy,
        ):
            source.execute("PRAGMA busy_timeout=30000")
            # A snapshot that is held: without it each commit of somebody else's would begin the copy anew.
            source.execute("BEGIN")
            source.execute("SELECT count(*) FROM sqlite_master").fetchone()
            page = source.execute("PRAGMA page_size").fetchone()[0]
            source.backup(
                copy, pages=_PAGES, progress=lambda _, left, all_: progress((all_ - left) * page, all_ * page)
            )
            # One file, without a log beside it.
            copy.execute("PRAGMA journal_mode=DELETE")
            _check(copy)
    except sqlite3.DatabaseError as error:
        raise BenchfarmError(f"the database {database} cannot be copied: {error}") from error
    target.chmod(0o600)


def has_rows(database: Path) -> bool:
    """Whether there is a database with anything in it.

    Raises:
        BenchfarmError: what is there is no database.
    """
    if not database.exists() or database.stat().st_size == 0:
        return False
    try:
        with closing(sqlite3.connect(f"file:{quote(str(database))}?mode=rw", uri=True)) as connection:
            query = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT IN ('alembic_version')"
            tables = [name for (name,) in connection.execute(query) if not name.startswith("sqlite_")]
            found = (f'SELECT 1 FROM "{name}" LIMIT 1' for name in tables)  # noqa: S608 - names of its own tables
            return any(connection.execute(statement).fetchone() for statement in found)
    except sqlite3.DatabaseError as error:
        raise BenchfarmError(f"{database} is there and is no database of benchfarm's: {error}") from error


def put_aside(database: Path, now: datetime) -> Path | None:
    """Rename a database and what lies beside it; returns its new name, or None where there was none."""
    aside = database.with_name(f"{database.name}.before-restore-{now:%Y%m%dT%H%M%S}")
    for side in _SIDES:
        path = database.with_name(database.name + side)
        if path.exists():
            path.rename(aside.with_name(aside.name + side))
    return aside if aside.exists() else None


def put_back(copy: Path, database: Path) -> None:
    """Give a checked copy the database's name.

    Raises:
        BackupDamagedError: it is not sound.
    """
    try:
        with closing(sqlite3.connect(copy)) as connection:
            _check(connection)
    except sqlite3.DatabaseError as error:
        raise BackupDamagedError(f"the database in the backup is damaged: {error}") from error
    copy.replace(database)


def _check(connection: sqlite3.Connection) -> None:
    said = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if said != "ok":
        raise sqlite3.DatabaseError(said)
