"""Bring a database to this code's schema, or say why not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Engine, func, inspect, select, text
from sqlalchemy.exc import DatabaseError, OperationalError

from device_registry.database import open_engine, reading, without_foreign_keys
from device_registry.errors import BenchfarmError, UsageError
from scheduler.views import drop_views, make_views

#: The newest revision in migrations/versions; a test holds the two together.
HEAD = "0008"
#: Key of the advisory lock under which a server's database is migrated.
_MIGRATING = 0x62656E6368  # "bench"
_SCRIPTS = Path(__file__).parent / "migrations"


class SchemaError(UsageError):
    """The database has another schema than this code."""


def open_database(url: str) -> Engine:
    """Open a database for use. An embedded SQLite migrates itself; a server's schema must be this code's.

    Raises:
        SchemaError: the schema is newer, or older on a server (`benchfarm db upgrade` mends that).
        BenchfarmError: the database cannot be opened.
    """
    engine = open_engine(url)
    with _explaining(engine):
        current = _known_revision(engine)
        if current != HEAD and engine.dialect.name != "sqlite":
            raise SchemaError(
                f"the database has schema {current or 'none'}, this benchfarm needs {HEAD}: run `benchfarm db upgrade`"
            )
        if current != HEAD:
            upgrade(engine)
    return engine


def migrate(url: str) -> str | None:
    """Bring a database, a server's too, to this code's schema. Returns the revision it had.

    Raises:
        SchemaError: the schema is newer.
        BenchfarmError: the database cannot be opened, or its rows break a reference.
    """
    engine = open_engine(url)
    with _explaining(engine):
        before = _known_revision(engine)
        if before != HEAD:
            upgrade(engine)
    engine.dispose()
    return before


@contextmanager
def _explaining(engine: Engine) -> Iterator[None]:
    """Say in a sentence why a database cannot be used, and leave no connection open."""
    try:
        yield
    except BaseException as error:
        engine.dispose()
        if isinstance(error, OperationalError):
            raise BenchfarmError(f"the database cannot be opened: {error.orig}") from error
        if isinstance(error, DatabaseError):
            what = "is damaged" if engine.dialect.name == "sqlite" else "refuses"
            raise BenchfarmError(f"the database {what}: {error.orig}") from error
        raise


def _known_revision(engine: Engine) -> str | None:
    current = current_revision(engine)
    if current is not None and current > HEAD:
        raise SchemaError(f"the database has schema {current}, newer than this benchfarm's {HEAD}: upgrade benchfarm")
    return current


def current_revision(engine: Engine) -> str | None:
    """The revision a database is at; None for an empty one."""
    with reading(engine) as connection:
        if not inspect(connection).has_table("alembic_version"):
            return None
        row = connection.execute(text("SELECT version_num FROM alembic_version")).first()
    return str(row[0]) if row is not None else None


def upgrade(engine: Engine, revision: str = HEAD) -> None:
    """Migrate to a revision, in one transaction; whoever comes second waits, and finds it done.

    SQLite changes a table by making it anew; foreign keys are off meanwhile and checked before the commit.

    Raises:
        BenchfarmError: the rows that are there break a reference.
    """
    from alembic import command  # slow to import and rarely needed
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS))
    with without_foreign_keys(engine) as connection:
        if engine.dialect.name == "postgresql":
            # A migration takes as long as there are rows; and it waits for another's to end, whatever that takes.
            connection.execute(text("SET LOCAL statement_timeout = 0"))
            connection.execute(text("SET LOCAL lock_timeout = 0"))
            connection.execute(select(func.pg_advisory_xact_lock(_MIGRATING)))
        config.attributes["connection"] = connection
        drop_views(connection)
        command.upgrade(config, revision)
        if revision == HEAD:
            make_views(connection)
