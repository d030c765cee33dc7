"""To be built (issue 9)."""

from __future__ import annotations

from typing import Any, ClassVar

from workers.compressions.compression import Compression


class PruneUnstructured(Compression):
    """To be built."""

    packages: ClassVar[tuple[str, ...]] = ("torch",)

    def apply(self, work: Any) -> None:
        """See `Compression.apply`."""
        raise NotImplementedError
