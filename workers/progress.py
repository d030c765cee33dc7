"""How far a child is, as one line of text: written to its attempt's folder, read by the agent that watches it."""

from __future__ import annotations

import json
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path

#: Beside the order and the result.
PROGRESS_FILE = "progress.json"
#: Written so often at most.
_PERIOD_S = 1.0
#: Longer texts are cut; more bytes are no such file.
_LONGEST = 200
_MOST_BYTES = 4096


def silent(text: str) -> None:
    """Nobody looks."""


class Progress:
    """What a child says of itself while it works. Whoever is told too often keeps the latest for later."""

    def __init__(self, folder: Path, clock: Callable[[], float] = time.monotonic) -> None:
        """Nothing is written before `tell`.

        Args:
            folder: the attempt's.
            clock: seconds that never jump.
        """
        self._path = folder / PROGRESS_FILE
        self._clock = clock
        self._written_at: float | None = None

    def tell(self, text: str) -> None:
        """Say how far it is, in one line; at most one in a second is written."""
        now = self._clock()
        if self._written_at is not None and now - self._written_at < _PERIOD_S:
            return
        self._written_at = now
        partial = self._path.with_name(self._path.name + ".part")
        partial.write_text(json.dumps({"text": _line(text)}), encoding="utf-8")
        partial.replace(self._path)


def read_progress(folder: Path) -> str | None:
    """What a child said last; None: nothing yet, or nothing that can be read.

    A child runs code of models: whatever lies at that place, reading it neither waits nor takes much memory.
    """
    try:
        number = os.open(folder / PROGRESS_FILE, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
        with os.fdopen(number, "rb") as file:
            if not stat.S_ISREG(os.fstat(number).st_mode):
                return None
            said = json.loads(file.read(_MOST_BYTES))
    except (OSError, ValueError, RecursionError):
        return None
    text = said.get("text") if isinstance(said, dict) else None
    return _line(text) or None if isinstance(text, str) else None


def _line(text: str) -> str:
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"
