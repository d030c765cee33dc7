"""How a dispatcher hears of what others did to the database: NOTIFY on PostgreSQL, the data version on SQLite."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import OperationalError

_CHANNEL = "benchfarm"


def announce(connection: Connection) -> None:
    """Wake the dispatcher when this transaction is committed. SQLite tells by itself."""
    if connection.dialect.name == "postgresql":
        connection.execute(text(f"NOTIFY {_CHANNEL}"))


class Watcher:
    """Says whether others changed the database. Has a connection of its own, on which its owner works.

    On SQLite a connection is not told of its own changes: so whoever works on `connection` hears of others only.
    """

    def __init__(self, engine: Engine) -> None:
        """Begin to watch."""
        self.connection = engine.connect()
        self._listener: Any = None
        self._version: int | None = None
        try:
            if engine.dialect.name == "postgresql":
                with self._naming_errors():
                    self._listener = engine.raw_connection()
                    driver: Any = self._listener.driver_connection
                    driver.autocommit = True
                    driver.execute(f"LISTEN {_CHANNEL}")
            else:
                self._version = self._data_version()
        except BaseException:
            self.close()
            raise

    def changed(self) -> bool:
        """Whether anything was announced (PostgreSQL) or committed by others (SQLite) since the last call.

        Raises:
            OperationalError: the database is gone.
        """
        if self._listener is not None:
            with self._naming_errors():
                return any(True for _ in self._listener.driver_connection.notifies(timeout=0))
        before, self._version = self._version, self._data_version()
        return before != self._version

    def close(self) -> None:
        """Give the connections back; not to the pool, for they may be broken."""
        self.connection.invalidate()
        self.connection.close()
        if self._listener is not None:
            self._listener.invalidate()

    def _data_version(self) -> int:
        raw: Any = self.connection.connection.driver_connection
        with self._naming_errors():
            return int(raw.execute("PRAGMA data_version").fetchone()[0])

    @contextmanager
    def _naming_errors(self) -> Iterator[None]:
        """The driver itself is asked, so that SQLAlchemy does not name its errors."""
        try:
            yield
        except self.connection.dialect.loaded_dbapi.Error as error:
            raise OperationalError("watch", None, error) from error
