"""The database engine: SQLite (WAL) embedded, PostgreSQL for a farm; one transaction style for both."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from sqlalchemy import Connection, Engine, Table, create_engine, event, insert
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError
from sqlmodel import SQLModel

from device_registry.errors import UsageError


class DatabaseUrlError(UsageError):
    """The database URL cannot be used."""


def open_engine(url: str) -> Engine:
    """Open an engine. SQLite gets WAL, foreign keys and a 30 s busy timeout.

    Raises:
        DatabaseUrlError: the URL is not one SQLAlchemy can use; the message never repeats it (it may hold a password).
    """
    try:
        parsed = make_url(url)
        engine = create_engine(parsed, pool_pre_ping=parsed.get_backend_name() != "sqlite")
    except (ArgumentError, NoSuchModuleError, ModuleNotFoundError) as error:
        raise DatabaseUrlError(
            "the database URL cannot be used; write sqlite:///FILE or postgresql+psycopg://..."
        ) from error
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    return engine


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A transaction that only reads: it never blocks a writer."""
    with engine.connect() as connection, connection.begin():
        yield connection


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """A transaction that writes; on SQLite it takes the write lock at once, so that it never fails half-way."""
    with engine.connect() as connection:
        connection = connection.execution_options(benchfarm_write=True)
        with connection.begin():
            yield connection


def table_of(model: type[SQLModel]) -> Table:
    """The Core table behind a SQLModel class."""
    return cast(Table, model.__table__)  # type: ignore[attr-defined]


def insert_row(connection: Connection, table: Table, **values: Any) -> int:
    """Insert one row; returns its id."""
    key = connection.execute(insert(table).values(**values)).inserted_primary_key
    assert key is not None  # every table of ours has one
    return int(key[0])


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # we begin transactions ourselves, see _begin_sqlite
    cursor = connection.cursor()
    cursor.execute("PRAGMA busy_timeout=30000")
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    write = connection.get_execution_options().get("benchfarm_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")
