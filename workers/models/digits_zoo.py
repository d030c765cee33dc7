"""To be built (issue 9)."""

from __future__ import annotations

from pathlib import Path

from workers.contract import ModelRequest
from workers.models.source import Made, ModelSource, Resolved


class DigitsZoo(ModelSource):
    """To be built."""

    def names(self) -> list[str]:
        """None yet."""
        return []

    def resolve(self, request: ModelRequest) -> Resolved | None:
        """None yet."""
        return None

    def materialise(self, request: ModelRequest, folder: Path) -> Made:
        """Not yet."""
        raise NotImplementedError
