"""Training to answer as a larger model does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from workers.compressions.compression import Compression
from workers.compressions.work import Work
from workers.errors import AttemptError, Cause, first_line

if TYPE_CHECKING:
    import torch

    from workers.training.distillation import Distillation

#: Where the recipe does not say.
EPOCHS, RATE = 10.0, 1e-3


class Distill(Compression):
    """Goes on from the weights that the student has, with a teacher that its own source builds."""

    packages: ClassVar[tuple[str, ...]] = ("torch",)

    def apply(self, work: Work) -> None:
        """See `Compression.apply`."""
        from workers.training.batches import accuracy_of
        from workers.training.trainer import Trainer

        trainer = Trainer.of(work, epochs=EPOCHS, rate=RATE)
        assert work.train is not None  # else `of` says so
        assert work.teacher is not None
        name = str(work.step["teacher"])
        work.progress(f"building the teacher {name}")
        teacher = work.teacher().eval()
        _check_teacher(work, teacher, name)
        facts: dict[str, Any] = {"teacher": name}
        if work.test is not None:
            facts["teacher_accuracy"] = round(accuracy_of(teacher, work.test), 4)
        fitted = trainer.fit(work.module, _loss(work, teacher, len(work.train.labels)))
        trainer.forget()
        work.facts["distill"] = {**fitted.facts(), **facts}


def _loss(work: Work, teacher: torch.nn.Module, examples: int) -> Distillation:
    from workers.training.distillation import Feature, Relation, Response

    alpha, kind = float(work.step["alpha"]), work.step["kind"]
    if kind == "response":
        return Response(teacher, examples, alpha, float(work.step["temperature"]))
    return Feature(teacher, examples, alpha) if kind == "feature" else Relation(teacher, examples, alpha)


def _check_teacher(work: Work, teacher: torch.nn.Module, name: str) -> None:
    """Look whether a teacher can teach.

    Raises:
        AttemptError: it takes other inputs or tells other classes apart.
        UnsupportedError: it or the student is no classifier.
    """
    import torch

    from workers.training.batches import batch_of, check_fits, scores_of

    assert work.train is not None
    classes = check_fits(work.module, work.train)
    sample = batch_of(work.train, np.arange(min(2, len(work.train.labels))))
    try:
        with torch.no_grad():
            output = teacher(*sample.inputs)
    except Exception as error:
        shapes = ", ".join(f"{stack.dtype} {stack.shape[1:]}" for stack in work.train.inputs.values())
        message = f"teacher {name} does not take the inputs of {work.name}, {shapes}: {first_line(error)}"
        raise AttemptError(Cause.USER, "other_inputs", message) from error
    taught = scores_of(output).shape[1]
    if taught != classes:
        message = f"teacher {name} has {taught} classes, {work.name} has {classes}"
        raise AttemptError(Cause.USER, "other_classes", message)
