"""Databases with the schema and no rows, a fresh one for each test: on SQLite a file, on PostgreSQL a database."""

from __future__ import annotations

import secrets
import shutil
from pathlib import Path
from typing import Protocol

from sqlmodel import SQLModel

from scheduler import schema
from scheduler.schema import open_database
from tests.postgres import PostgresServer


class Databases(Protocol):
    """Where tests get databases from. Migrating costs more than most tests, so it is done once and copied."""

    def fresh(self, folder: Path) -> str:
        """The URL of an empty database; on SQLite `farm.db` in the folder."""

    def drop(self, url: str) -> None:
        """Give up what `fresh` made; nobody is connected any more."""


class SqliteDatabases:
    """Copies of a file."""

    def __init__(self, folder: Path) -> None:
        """Make the file to copy."""
        self._template = folder / "farm.db"
        engine = open_database(f"sqlite:///{self._template}")
        with engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        engine.dispose()

    def fresh(self, folder: Path) -> str:
        """See `Databases.fresh`."""
        return f"sqlite:///{shutil.copyfile(self._template, folder / 'farm.db')}"

    def drop(self, url: str) -> None:
        """See `Databases.drop`: the file goes with its folder."""


class PostgresDatabases:
    """Databases that are emptied and used again: making one costs twenty times as much."""

    def __init__(self, server: PostgresServer) -> None:
        """Use a server; databases are made as they are needed."""
        self._server = server
        self._free: list[str] = []
        self._made = 0
        # Each folder of tests that takes these fixtures over has its own, on the one server of the session.
        self._prefix = f"farm_{secrets.token_hex(4)}"

    def fresh(self, folder: Path) -> str:
        """See `Databases.fresh`."""
        if not self._free:
            self._made += 1
            name = f"{self._prefix}_{self._made}"
            self._server.execute(f"CREATE DATABASE {name}")
            schema.migrate(self._server.url(name))
            self._free.append(name)
        return self._server.url(self._free.pop())

    def drop(self, url: str) -> None:
        """See `Databases.drop`."""
        name = url.partition("@/")[2].partition("?")[0]
        tables = list(reversed(SQLModel.metadata.sorted_tables))
        numbered = [table.name for table in tables if "id" in table.c]
        self._server.execute(
            "; ".join(f"DELETE FROM {table.name}" for table in tables),
            "SELECT " + ", ".join(f"setval('{name}_id_seq', 1, false)" for name in numbered),
            database=name,
        )
        self._free.append(name)
