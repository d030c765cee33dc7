"""Back up a farm that goes on, and put it back: the database as it was at one moment, then the files its rows name."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from sqlalchemy import Connection, create_engine, func, inspect, select, table, text
from sqlalchemy.engine import URL, make_url

from device_registry.database import open_engine, reading
from device_registry.errors import UsageError
from device_registry.tables import utc_now
from scheduler.backups import postgres, sqlite
from scheduler.backups.archive import ArchiveReader, ArchiveWriter, writing_archive
from scheduler.backups.manifest import (
    DATABASE,
    FILES,
    MANIFEST,
    BackupDamagedError,
    DatabaseKind,
    Manifest,
    Part,
    StoreState,
    check_restorable,
    decode,
    decode_files,
    encode,
    encode_files,
    file_name,
    major,
)
from scheduler.backups.named_files import named_files
from scheduler.home import Home
from scheduler.leases import is_led
from scheduler.schema import HEAD, SchemaError
from workers.artifacts import ArtifactStore

#: Every schema that this code can migrate from, and its own.
REVISIONS = tuple(f"{number:04}" for number in range(1, int(HEAD) + 1))
#: What is done, how many bytes of it are, and of how many (None: nobody knows).
Observe = Callable[[str, int, int | None], None]


def back_up(home: Home, target: Path, *, with_files: bool, observe: Observe) -> Manifest:
    """Write an archive of a farm, which may go on meanwhile. It is whole or it is not there.

    Args:
        home: the farm's.
        target: a name that nothing has yet; one file where it ends in .tar, else a folder.
        with_files: whether to take the artifact store's files too.
        observe: told how far it is.

    Raises:
        UsageError: the target is taken, there is no farm's database, or no program that can copy it.
        BenchfarmError: the database cannot be copied.
    """
    url = make_url(home.database_url)
    store = ArtifactStore(home.store_url, home.path / "cache")
    with writing_archive(target) as archive:
        made_at = datetime.now(UTC)
        picture = archive.workshop / "database"
        taking = _sqlite if _is_sqlite(url) else _postgres
        with taking(url, picture, observe) as seen:
            revision = _revision(seen.connection)
            rows = _count(seen.connection)
            named = named_files(seen.connection)
        parts = [archive.move(DATABASE[seen.kind], picture)]
        state: StoreState = "left_out" if not with_files else "copied" if store.is_local else "elsewhere"
        files, missing = _copy_files(archive, store, named, observe) if state == "copied" else ({}, 0)
        parts.append(archive.add_text(FILES, encode_files(files)))
        manifest = Manifest(
            benchfarm=version("benchfarm"),
            made_at=made_at.isoformat(timespec="seconds"),
            database=seen.kind,
            server=seen.server,
            tool=seen.tool,
            schema_revision=revision,
            rows=rows,
            parts=tuple(parts),
            store=state,
            files=len(files),
            files_bytes=sum(files.values()),
            files_missing=missing,
        )
        archive.add_text(MANIFEST, encode(manifest))
    return manifest


def restore(home: Home, source: Path, *, force: bool, observe: Observe) -> tuple[Manifest, Path | None]:
    """Put an archive back where there is nothing yet. Nothing is touched before all of it was found sound.

    Args:
        home: where to.
        source: the archive.
        force: put a SQLite database that is there aside, under another name.
        observe: told how far it is.

    Returns:
        What the archive held, and the new name of a database that was put aside.

    Raises:
        BackupDamagedError: a part of the archive is missing or has other bytes.
        UsageError: something is there, or the archive is of another kind or schema.
        BenchfarmError: the database refuses it.
    """
    url = make_url(home.database_url)
    archive = ArchiveReader(source)
    try:
        with archive.open(MANIFEST) as file:
            manifest = decode(file.read())
        server = None if _is_sqlite(url) else _server(home.database_url)
        kind = "sqlite" if _is_sqlite(url) else "postgresql"
        check_restorable(manifest, kind, REVISIONS, server)
        files = _check(archive, manifest, observe)
        home.prepare()
        if server is None:
            aside = _restore_sqlite(archive, _file_of(url), home, files, force, observe)
        else:
            aside = None
            _restore_postgres(archive, home, server, files, observe)
    finally:
        archive.close()
    return manifest, aside


@dataclass(frozen=True)
class _Seen:
    """A picture of a database, and a connection that sees the same."""

    kind: DatabaseKind
    connection: Connection
    server: str | None = None
    tool: str | None = None


@contextmanager
def _sqlite(url: URL, picture: Path, observe: Observe) -> Iterator[_Seen]:
    sqlite.take_picture(_file_of(url), picture, lambda done, all_: observe("copying the database", done, all_))
    # Not `open_engine`: it would give the copy a write-ahead log.
    engine = create_engine(f"sqlite:///{picture}")
    try:
        with engine.connect() as connection:
            yield _Seen("sqlite", connection)
    finally:
        engine.dispose()


@contextmanager
def _postgres(url: URL, picture: Path, observe: Observe) -> Iterator[_Seen]:
    shown = url.render_as_string(hide_password=False)
    engine = open_engine(shown)
    try:
        with postgres.snapshot(engine) as (connection, name):
            server = postgres.server_version(connection)
            _revision(connection)  # before minutes are spent on something else's database
            tool = postgres.dump(
                shown, name, picture, major(server) or 0, lambda done: observe("copying the database", done, None)
            )
            yield _Seen("postgresql", connection, server, tool)
    finally:
        engine.dispose()


def _copy_files(
    archive: ArchiveWriter, store: ArtifactStore, named: set[str], observe: Observe
) -> tuple[dict[str, int], int]:
    """Copy what rows name; returns digest to bytes, and how many of them are gone from the store, or damaged."""
    there = {sha256: path for sha256 in sorted(named) if (path := store.path_of(sha256)) is not None}
    total = sum(path.stat().st_size for path in there.values())
    done = 0

    def count(passed: int) -> None:
        nonlocal done
        done += passed
        observe("copying artifacts", done, total)

    files = {}
    for sha256, path in there.items():
        with suppress(FileNotFoundError):  # pruned meanwhile
            if _digest(path) == sha256:  # a damaged one is made again when it is wanted
                files[sha256] = archive.add(file_name(sha256), path, count).bytes
    return files, len(named) - len(files)


def _check(archive: ArchiveReader, manifest: Manifest, observe: Observe) -> dict[str, int]:
    total = sum(part.bytes for part in manifest.parts) + manifest.files_bytes
    done = 0

    def count(passed: int) -> None:
        nonlocal done
        done += passed
        observe("checking the backup", done, total)

    for part in manifest.parts:
        archive.check(part, count)
    if {part.name for part in manifest.parts} != {DATABASE[manifest.database], FILES}:
        raise BackupDamagedError(f"the backup {archive.path} is damaged: its manifest names other parts than there are")
    with archive.open(FILES) as file:
        files = decode_files(file.read().decode("ascii", errors="replace"))
    for sha256, size in files.items():
        archive.check(Part(name=file_name(sha256), bytes=size, sha256=sha256), count)
    return files


def _restore_sqlite(
    archive: ArchiveReader, database: Path, home: Home, files: dict[str, int], force: bool, observe: Observe
) -> Path | None:
    holds = sqlite.has_rows(database)
    if holds and not force:
        raise UsageError(
            f"{database} holds a farm already: set BENCHFARM_HOME to a new folder, or put it aside with --force"
        )
    if holds:
        engine = open_engine(f"sqlite:///{database}")
        try:
            with reading(engine) as connection:
                _refuse_led(connection)
        finally:
            engine.dispose()
    with tempfile.TemporaryDirectory(prefix=".restore-", dir=database.parent) as folder:
        copy = Path(folder) / "database"
        archive.copy(DATABASE["sqlite"], copy, lambda _: None)
        _put_files(archive, home, files, Path(folder), observe)
        # An empty one, too: what lies beside it must not be taken for the new one's log.
        aside = sqlite.put_aside(database, utc_now())
        sqlite.put_back(copy, database)
    return aside if holds else None


def _restore_postgres(archive: ArchiveReader, home: Home, server: int, files: dict[str, int], observe: Observe) -> None:
    engine = open_engine(home.database_url)
    try:
        with reading(engine) as connection:
            if inspect(connection).get_table_names():
                raise UsageError(
                    "the database that BENCHFARM_DATABASE_URL names holds tables already, and nothing is written over: "
                    "make a new one (createdb) and name that"
                )
    finally:
        engine.dispose()
    with tempfile.TemporaryDirectory(prefix=".restore-", dir=home.path) as folder:
        picture = Path(folder) / "database"
        archive.copy(DATABASE["postgresql"], picture, lambda _: None)
        _put_files(archive, home, files, Path(folder), observe)
        postgres.put_back(home.database_url, picture, server, lambda _: observe("restoring the database", 0, None))


def _put_files(archive: ArchiveReader, home: Home, files: dict[str, int], folder: Path, observe: Observe) -> None:
    """Before the database: then no row names a file that is not there."""
    store = ArtifactStore(home.store_url, home.path / "cache")
    total, done = sum(files.values()), 0
    for sha256, size in files.items():
        if not store.has(sha256):
            copy = folder / sha256
            archive.copy(file_name(sha256), copy, lambda _: None)
            store.put(copy, sha256)
            copy.unlink()
        done += size
        observe("restoring artifacts", done, total)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _revision(connection: Connection) -> str:
    if not inspect(connection).has_table("alembic_version"):
        raise UsageError("there is no farm in the database yet: nothing to back up")
    found = str(connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one())
    if found not in REVISIONS:
        raise SchemaError(f"the database has schema {found}, newer than this benchfarm's {HEAD}: upgrade benchfarm")
    return found


def _count(connection: Connection) -> dict[str, int]:
    names = sorted(inspect(connection).get_table_names())
    return {name: connection.execute(select(func.count()).select_from(table(name))).scalar_one() for name in names}


def _refuse_led(connection: Connection) -> None:
    if inspect(connection).has_table("lease") and is_led(connection, utc_now()):
        raise UsageError("a farm dispatches from this database: stop it first (benchfarm up, benchfarm run)")


def _server(url: str) -> int:
    engine = open_engine(url)
    try:
        with engine.connect() as connection:
            return major(postgres.server_version(connection)) or 0
    finally:
        engine.dispose()


def _is_sqlite(url: URL) -> bool:
    return url.get_backend_name() == "sqlite"


def _file_of(url: URL) -> Path:
    if not url.database or url.database == ":memory:":
        raise UsageError("the database is in memory: there is no file to back up or restore")
    return Path(url.database)
