"""The database engine: SQLite (WAL) embedded, PostgreSQL for a farm; one transaction style for both."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any, cast

from sqlalchemy import (
    Boolean,
    ColumnElement,
    Connection,
    Dialect,
    Engine,
    Table,
    Text,
    bindparam,
    column,
    create_engine,
    event,
    insert,
    select,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import make_url
from sqlalchemy.exc import (
    ArgumentError,
    DBAPIError,
    IntegrityError,
    InterfaceError,
    NoSuchModuleError,
    OperationalError,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator, TypeEngine
from sqlmodel import SQLModel

from device_registry.errors import BenchfarmError, UsageError

#: What psycopg is told unless the URL says otherwise. A server whose machine is gone, or whose cable is pulled, is
#: noticed within 15 s: the dispatcher's lease must not run out while it waits for a dead connection.
_POSTGRES: dict[str, Any] = {
    "connect_timeout": 10,
    "application_name": "benchfarm",
    "keepalives_idle": 5,
    "keepalives_interval": 5,
    "keepalives_count": 2,
    "tcp_user_timeout": 15_000,
    # As long as SQLite waits for its one writer. A statement has no business to take minutes, nor may a client that
    # was stopped in the middle of a transaction keep others from the rows that it locked. Nor does any take so long
    # that it pays to compile it: of a view over a large farm that took longer than the view (m).
    "options": "-c lock_timeout=30s -c statement_timeout=120s -c idle_in_transaction_session_timeout=60s -c jit=off",
}
#: Beginnings of SQLSTATEs of what passes by itself: the connection broke, a deadlock, a lock timeout, no room on the
#: disk or for another connection, the server is shut down, starts or recovers, a timeout of ours, its disk fails.
_PASSING = ("08", "25P03", "40", "53", "55P03", "57", "58")
#: The same of SQLite.
_PASSING_SQLITE = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CANTOPEN,
}


class DatabaseUrlError(UsageError):
    """The database URL cannot be used."""


def open_engine(url: str) -> Engine:
    """Open an engine. SQLite gets WAL, foreign keys and a 30 s busy timeout; PostgreSQL like limits.

    Raises:
        DatabaseUrlError: the URL is not one SQLAlchemy can use; the message never repeats it (it may hold a password).
    """
    try:
        parsed = make_url(url)
        if parsed.get_backend_name() == "sqlite":
            engine = create_engine(parsed)
        else:
            told = {name: value for name, value in _POSTGRES.items() if name not in parsed.query}
            # Pinged before use: after a restart of the server the pool holds nothing but dead connections.
            engine = create_engine(parsed, pool_pre_ping=True, connect_args=told)
    except (ArgumentError, NoSuchModuleError) as error:
        raise DatabaseUrlError(
            "the database URL cannot be used; write sqlite:///FILE or postgresql+psycopg://..."
        ) from error
    except ModuleNotFoundError as error:
        raise DatabaseUrlError(
            f"the database URL needs the Python package {error.name}, which is not installed; for PostgreSQL write "
            "postgresql+psycopg://... and pip install 'benchfarm[postgres]'"
        ) from error
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    return engine


def passes(error: Exception) -> bool:
    """Whether a failure is the database's and passes by itself: whoever serves goes on and tries again.

    The server restarts or cannot be reached, somebody holds a lock for too long, two writers were in each other's way.
    """
    if not isinstance(error, DBAPIError):
        return False
    if isinstance(error.orig, sqlite3.Error):
        return getattr(error.orig, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF in _PASSING_SQLITE
    state = getattr(error.orig, "sqlstate", None)  # of psycopg's errors; None where no server answered
    if state is None:
        return error.connection_invalidated or isinstance(error, OperationalError | InterfaceError)
    return error.connection_invalidated or str(state).startswith(_PASSING)


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A transaction that only reads, and sees one state throughout: it never blocks a writer."""
    with engine.connect() as connection:
        if engine.dialect.name == "postgresql":  # SQLite gives every transaction a snapshot
            connection = connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        with connection.begin():
            yield connection


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """A transaction that writes; on SQLite it takes the write lock at once, so that it never fails half-way."""
    with engine.connect() as connection:
        connection = connection.execution_options(benchfarm_write=True)
        with connection.begin():
            yield connection


@contextmanager
def without_foreign_keys(engine: Engine) -> Iterator[Connection]:
    """A transaction that may make tables anew: SQLite checks references at its end instead of at each statement.

    Raises:
        BenchfarmError: a row refers to one that is not there.
    """
    if engine.dialect.name != "sqlite":
        with writing(engine) as connection:
            yield connection
        return
    with engine.connect() as connection:
        raw = connection.connection.dbapi_connection
        assert raw is not None
        raw.execute("PRAGMA foreign_keys=OFF")  # has no effect inside a transaction
        try:
            connection = connection.execution_options(benchfarm_write=True)
            with connection.begin():
                yield connection
                if broken := connection.exec_driver_sql("PRAGMA foreign_key_check").first():
                    raise BenchfarmError(f"the database is damaged: a row of {broken[0]} refers to none of {broken[2]}")
        finally:
            raw.execute("PRAGMA foreign_keys=ON")


def table_of(model: type[SQLModel]) -> Table:
    """The Core table behind a SQLModel class."""
    return cast(Table, model.__table__)  # type: ignore[attr-defined]


def insert_row(connection: Connection, table: Table, **values: Any) -> int:
    """Insert one row; returns its id."""
    key = connection.execute(insert(table).values(**values)).inserted_primary_key
    assert key is not None  # every table of ours has one
    return int(key[0])


def shared_row(connection: Connection, table: Table, digest: str, **values: Any) -> int:
    """The row of that digest, which many rows refer to, made if there is none yet; returns its id.

    Args:
        connection: inside a transaction that writes.
        table: with a unique column `digest`.
        digest: of the values.
        values: the other columns.
    """
    query = select(table.c.id).where(table.c.digest == digest)
    known = connection.execute(query).scalar_one_or_none()
    if known is not None:
        return int(known)
    try:
        with connection.begin_nested():
            return insert_row(connection, table, digest=digest, **values)
    except IntegrityError:  # somebody else made it in the same moment
        return int(connection.execute(query).scalar_one())


def one_of(column: Any, values: Collection[Any] | str) -> ColumnElement[bool]:
    """Whether a column holds one of these values, however many: they go down as one parameter.

    Args:
        column: of numbers or text.
        values: all of the column's type; or the name of the parameter that they are given as when it is executed.
    """
    name, given = (values, None) if isinstance(values, str) else (None, values)
    return _OneOf(column, bindparam(name, given, type_=_Listed(column.type), required=name is not None))


class _OneOf(FunctionElement[bool]):
    """`one_of`, in the words of either database."""

    type = Boolean()
    inherit_cache = True

    def self_group(self, against: Any = None) -> Any:
        # A condition already: "= 1" behind it would keep SQLite from any index.
        return self


@compiles(_OneOf, "sqlite")
def _one_of_on_sqlite(element: _OneOf, compiler: Any, **given: Any) -> str:
    column, values = (compiler.process(part, **given) for part in element.clauses)
    return f"{column} IN (SELECT value FROM json_each({values}))"  # noqa: S608 - of a column and a parameter


@compiles(_OneOf, "postgresql")
def _one_of_on_postgresql(element: _OneOf, compiler: Any, **given: Any) -> str:
    column, values = (compiler.process(part, **given) for part in element.clauses)
    return f"{column} = ANY ({values})"


def each_of(kind: TypeEngine[Any], name: str) -> Any:
    """The values of a list as rows of one column, to select from: the counterpart of `one_of`.

    Args:
        kind: type of the values.
        name: of the parameter that they are given as when it is executed.
    """
    listed = _EachOf(bindparam(name, type_=_Listed(kind), required=True))
    # PostgreSQL calls the one column of a function by the function's alias.
    return listed.table_valued(column("value", kind), name="value").c.value


class _EachOf(FunctionElement[Any]):
    """`each_of`, in the words of either database."""

    inherit_cache = True


@compiles(_EachOf, "sqlite")
def _each_of_on_sqlite(element: _EachOf, compiler: Any, **given: Any) -> str:
    return f"json_each({compiler.process(element.clauses, **given)})"


@compiles(_EachOf, "postgresql")
def _each_of_on_postgresql(element: _EachOf, compiler: Any, **given: Any) -> str:
    return f"unnest({compiler.process(element.clauses, **given)})"


class _Listed(TypeDecorator[Collection[Any]]):
    """Values in one parameter: an array, or JSON where there is none."""

    impl = Text
    cache_ok = True

    def __init__(self, kind: TypeEngine[Any]) -> None:
        super().__init__()
        self.kind = kind

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(postgresql.ARRAY(self.kind) if dialect.name == "postgresql" else Text())

    def process_bind_param(self, value: Collection[Any] | None, dialect: Dialect) -> Any:
        listed = list(value or ())
        return listed if dialect.name == "postgresql" else json.dumps(listed)


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # we begin transactions ourselves, see _begin_sqlite
    cursor = connection.cursor()
    cursor.execute("PRAGMA busy_timeout=30000")
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.execute("PRAGMA foreign_keys=ON")
    # A busy dispatcher changes the same pages of the indexes again and again: 64 MiB of them are kept (as the default,
    # 2 MiB), and they are written to the database when 32 MiB of changes have come together (4 MiB).
    cursor.execute("PRAGMA cache_size=-65536")
    cursor.execute("PRAGMA wal_autocheckpoint=8192")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    write = connection.get_execution_options().get("benchfarm_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")
