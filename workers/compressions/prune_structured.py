"""To be built (issue 9)."""

from __future__ import annotations

from typing import Any, ClassVar

from workers.compressions.compression import Compression


class PruneStructured(Compression):
    """To be built."""

    packages: ClassVar[tuple[str, ...]] = ("torch", "torch-pruning")

    def apply(self, work: Any) -> None:
        """See `Compression.apply`."""
        raise NotImplementedError
