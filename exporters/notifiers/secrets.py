"""Secrets of channels: from the environment, or from a file that nobody else can read; read anew when one is needed."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from exporters.notifiers.channel import DeliveryError

_MOST_BYTES = 4096


@dataclass(frozen=True)
class Secret:
    """Where a secret is; its value never becomes part of a text or of a row."""

    variable: str | None = None
    file: Path | None = None

    def read(self) -> str:
        """The value.

        Raises:
            DeliveryError: it is not there, or others can read it; the text says where it was looked for.
        """
        value = self._from_environment() if self.file is None else self._from_file(self.file)
        if not value or not value.isprintable() or not value.isascii() or " " in value:
            raise DeliveryError(f"the secret in {self} is not one line of printable characters without spaces")
        return value

    def __str__(self) -> str:
        """Where it is."""
        return f"the variable {self.variable}" if self.file is None else f"the file {self.file}"

    def _from_environment(self) -> str:
        assert self.variable is not None
        if (value := os.environ.get(self.variable)) is None:
            raise DeliveryError(f"{self} is not set where the farm runs")
        return value.strip()

    def _from_file(self, file: Path) -> str:
        try:
            with file.open("rb") as opened:
                if stat.S_IMODE(os.fstat(opened.fileno()).st_mode) & 0o077:
                    raise DeliveryError(f"others can read {self}: chmod 600 {file}")
                text = opened.read(_MOST_BYTES).decode("ascii", "replace")
        except OSError as error:
            raise DeliveryError(f"{self} cannot be read: {error.strerror}") from error
        return text.strip()
