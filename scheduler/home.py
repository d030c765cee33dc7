"""The data directory. A module of its own: every command reads it, and most need nothing else of the scheduler."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from device_registry.errors import UsageError


class HomeError(UsageError):
    """The data directory cannot be used."""


@dataclass(frozen=True)
class Home:
    """The data directory."""

    path: Path
    database_url: str
    store_url: str

    @property
    def has_own_database(self) -> bool:
        """Whether the database lies here: this machine's alone, as far as anybody can tell."""
        return self.database_url.startswith(f"sqlite:///{self.path}")

    def prepare(self) -> None:
        """Make the folder.

        Raises:
            HomeError: it cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            probe = self.path / f".probe-{os.getpid()}"
            probe.write_bytes(b"1")
            probe.unlink()
        except OSError as error:
            raise HomeError(
                f"the data directory {self.path} cannot be written ({error.strerror}); set BENCHFARM_HOME to another"
            ) from error
