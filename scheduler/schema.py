"""Bring a database to this code's schema, or say why not."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Engine, inspect, text
from sqlalchemy.exc import DatabaseError, OperationalError

from device_registry.database import open_engine, reading, writing
from device_registry.errors import BenchfarmError, UsageError

#: The newest revision in migrations/versions; a test holds the two together.
HEAD = "0002"
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
    try:
        current = current_revision(engine)
        if current == HEAD:
            return engine
        if current is not None and current > HEAD:
            raise SchemaError(
                f"the database has schema {current}, newer than this benchfarm's {HEAD}: upgrade benchfarm"
            )
        if engine.dialect.name != "sqlite":
            raise SchemaError(
                f"the database has schema {current or 'none'}, this benchfarm needs {HEAD}: run `benchfarm db upgrade`"
            )
        upgrade(engine)
    except OperationalError as error:
        raise BenchfarmError(f"the database cannot be opened: {error.orig}") from error
    except DatabaseError as error:
        raise BenchfarmError(f"the database is damaged: {error.orig}") from error
    return engine


def current_revision(engine: Engine) -> str | None:
    """The revision a database is at; None for an empty one."""
    with reading(engine) as connection:
        if not inspect(connection).has_table("alembic_version"):
            return None
        row = connection.execute(text("SELECT version_num FROM alembic_version")).first()
    return str(row[0]) if row is not None else None


def upgrade(engine: Engine) -> None:
    """Migrate to the newest revision, in one transaction."""
    from alembic import command  # slow to import and rarely needed
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS))
    with writing(engine) as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
