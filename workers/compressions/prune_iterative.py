"""`prune-iterative(sparsity,steps,kind)`: pruned little by little, fine-tuned after each time."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar

from workers.compressions.compression import Compression
from workers.compressions.prune_structured import cut_channels
from workers.compressions.zeros import zero_weights

if TYPE_CHECKING:
    from workers.compressions.work import Work


class PruneIterative(Compression):
    """Most goes at first, when there is most to spare: the share grows along a cubic (Zhu and Gupta, 2017).

    Epochs or seconds are those of one fine-tuning; there are as many as steps.
    """

    packages: ClassVar[tuple[str, ...]] = ("torch", "torch-pruning")

    def apply(self, work: Work) -> None:
        """See `Compression.apply`."""
        from workers.training.trainer import Trainer

        trainer = Trainer.of(work, epochs=1.0)
        shares = schedule(float(work.step["sparsity"]), int(work.step["steps"]))
        begun: dict[str, int] = {}
        rounds: list[dict[str, Any]] = []
        for number, (before, now) in enumerate(pairwise([0.0, *shares]), start=1):
            trainer.title = f"pruning {number} of {len(shares)}"
            if work.step["kind"] == "structured":
                cut_channels(work, now, begun)
            else:
                zero_weights(work.module, (now - before) / (1 - before), work.name)
            rounds.append(trainer.fit(work.module).facts())
        trainer.forget()
        work.facts["fine_tunings"] = rounds


def schedule(sparsity: float, steps: int) -> list[float]:
    """The share of all that is gone after each step."""
    return [sparsity * (1 - (1 - number / steps) ** 3) for number in range(1, steps + 1)]
