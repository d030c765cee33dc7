"""What a terminal is shown, but that no name in it commands the terminal: rich passes escapes on."""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.segment import Segment

from exporters.escaping import printable


@dataclass(frozen=True)
class Harmless:
    """Anything that rich shows."""

    renderable: RenderableType

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """See rich."""
        for segment in console.render(self.renderable, options):
            yield segment if segment.control else Segment(printable(segment.text), segment.style)
