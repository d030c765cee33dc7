"""Markdown files: one for each digest, and one of all that became of incidents, to which is appended."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from device_registry.errors import BenchfarmError
from exporters.files import whole_file
from exporters.notifiers.channel import DeliveryError
from exporters.notifiers.links import Links
from exporters.notifiers.text import markdown
from exporters.notifiers.words import words_of
from scheduler.notifications.delivery import Message

INCIDENTS = "incidents.md"


@dataclass(frozen=True, kw_only=True)
class MarkdownFolder:
    """A folder."""

    name: str
    folder: Path
    tells: frozenset[str]
    links: Links

    def wants(self, kind: str) -> bool:
        """See `Channel`."""
        return kind == "test" or kind.partition(".")[0] in self.tells

    def warnings(self) -> list[str]:
        """See `Channel`."""
        return []

    def send(self, message: Message) -> str | None:
        """See `Channel`."""
        words = words_of(message.kind, message.document, self.links)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if message.kind == "digest":
                with whole_file(self.folder / f"digest-{message.document['run']['id']}.md") as file:
                    file.write(markdown(words).encode())
            else:
                when = f"{message.created_at:%Y-%m-%d %H:%M} UTC"
                text = markdown(words, level=2).replace("\n", f"\n\n{when}\n", 1)
                _append(self.folder / INCIDENTS, text, mark=f"<!-- {message.idempotency_key} -->")
        except (OSError, BenchfarmError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            raise DeliveryError(f"{self.folder} cannot be written: {why}") from error
        return None


def _append(file: Path, text: str, *, mark: str) -> None:
    """Append a text once: a try that was cut off before its report left its mark. One write, so that none is torn."""
    with file.open("a+b", buffering=0) as opened:
        opened.seek(0)
        there = opened.read()
        if mark.encode() in there:
            return
        opened.write(f"{mark}\n{text}\n".encode())
        os.fsync(opened.fileno())
