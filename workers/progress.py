"""How far a child is, as one line of text: written to its attempt's folder, read by the agent that watches it."""

from __future__ import annotations

import json
import math
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path

#: Beside the order and the result.
PROGRESS_FILE = "progress.json"
#: Read so often.
_PERIOD_S = 1.0
#: Longer texts are cut; more bytes are no such file.
_LONGEST = 200
_MOST_BYTES = 4096

#: Of the attempt that this process does.
_folder: Path | None = None


def tell_in(folder: Path) -> None:
    """From now on this process does the attempt of a folder, and `tell` writes there."""
    global _folder
    _folder = folder


def tell(text: str) -> None:
    """Say in one line how far this process is; where it does no attempt, nobody looks.

    It is read once a second: whoever has more to say says it through `Seldom`.
    """
    if _folder is None:
        return
    path = _folder / PROGRESS_FILE
    partial = path.with_name(path.name + ".part")
    partial.write_text(json.dumps({"text": _line(text)}), encoding="utf-8")
    partial.replace(path)


class Seldom:
    """Passes on what is said no more often than it is read; what comes between is dropped."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        """Pass on to `tell`."""
        self._tell = tell
        self._told_at = -math.inf

    def __call__(self, text: str) -> None:
        """Say it, unless something was said less than a second ago."""
        if time.monotonic() - self._told_at >= _PERIOD_S:
            self._tell(text)
            self._told_at = time.monotonic()


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
