"""`prune-unstructured(sparsity)`: the weights smallest in size become zero, over all layers together."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from workers.compressions.compression import Compression
from workers.compressions.zeros import zero_weights
from workers.errors import UnsupportedError

if TYPE_CHECKING:
    from workers.compressions.work import Work


class PruneUnstructured(Compression):
    """Global L1 over convolutions and linear layers. Shapes stay, so only what stores or runs sparse weights gains."""

    packages: ClassVar[tuple[str, ...]] = ("torch",)

    def apply(self, work: Work) -> None:
        """See `Compression.apply`."""
        share = float(work.step["sparsity"])
        if zero_weights(work.module, share, work.name) == 0:
            raise UnsupportedError(f"{work.name} has so few weights that a share of {share:g} is none")
