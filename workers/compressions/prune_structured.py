"""`prune-structured(sparsity)`: whole channels are removed, so that less is computed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar

from workers.compressions.compression import Compression
from workers.errors import UnsupportedError

if TYPE_CHECKING:
    import torch

    from workers.compressions.work import Work


class PruneStructured(Compression):
    """Sparsity is the share of each layer's channels; of a layer between two cut ones its square is left."""

    packages: ClassVar[tuple[str, ...]] = ("torch", "torch-pruning")

    def apply(self, work: Work) -> None:
        """See `Compression.apply`."""
        share = float(work.step["sparsity"])
        if not cut_channels(work, share):
            raise UnsupportedError(f"no layer of {work.name} has so many channels that a share of {share:g} is one")


def cut_channels(work: Work, share: float, begun: dict[str, int] | None = None) -> bool:
    """Remove a share of the channels of a work's module; returns whether that came to any.

    Batch norms get statistics of what the cut layers now give them, where inputs like those that the weights were
    learnt on are at hand: the old ones are of activations that are no more.

    Args:
        work: what it is done to.
        share: of the channels of each layer.
        begun: see `remove_channels`.
    """
    from workers.compressions.channels import remove_channels
    from workers.models.torch_export import calibrate_batch_norms

    cut = remove_channels(work.module, work.examples, share, work.name, begun)
    if not cut:
        return False
    work.cuts.append(cut)
    if work.representative is not None:
        with _learning_as_before(work.module):
            calibrate_batch_norms(work.module, work.representative)
    return True


@contextmanager
def _learning_as_before(module: torch.nn.Module) -> Iterator[None]:
    """Batch norms average over all they see while they are calibrated; a training that follows is not to."""
    norms = [layer for layer in module.modules() if hasattr(layer, "momentum")]
    before = [norm.momentum for norm in norms]
    yield
    for norm, momentum in zip(norms, before, strict=True):
        norm.momentum = momentum
