"""Training that knows of int8: the weights that come out lose little when they are rounded."""

from __future__ import annotations

from typing import ClassVar

from workers.compressions.compression import Compression
from workers.compressions.work import Work
from workers.errors import UnsupportedError

#: Where the recipe does not say.
EPOCHS, RATE = 2.0, 1e-4


class Qat(Compression):
    """Fine-tunes with int8 rounding simulated, and hands on weights in fp32: any format's int8-static follows."""

    packages: ClassVar[tuple[str, ...]] = ("torch",)

    def apply(self, work: Work) -> None:
        """See `Compression.apply`."""
        from workers.training.rounding import rounding_simulated
        from workers.training.trainer import Trainer

        trainer = Trainer.of(work, epochs=EPOCHS, rate=RATE)
        with rounding_simulated(work.module) as layers:
            if not layers:
                raise UnsupportedError(f"{work.name} has no convolution or linear layer whose rounding could be learnt")
            fitted = trainer.fit(work.module)
        trainer.forget()
        work.facts["qat"] = {**fitted.facts(), "layers": layers}
