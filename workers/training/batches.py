"""Labelled data in batches, and how a module answers them. Imports torch: for children only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from workers.errors import AttemptError, Cause, UnsupportedError, first_line
from workers.examples import Array

if TYPE_CHECKING:
    from workers.data_sets.labelled import Labelled

#: Examples of a batch, where there are many small ones. Halved while its inputs are larger than this, and while an
#: epoch is fewer steps than this.
_BATCH = 64
_BATCH_BYTES = 16 * 2**20
_STEPS = 20
#: Batch norms need some.
_LEAST_BATCH = 8
#: Answered at once where nothing is learnt.
_ANSWERED = 128


@dataclass(frozen=True)
class Batch:
    """Some examples of a data set."""

    #: Which they are.
    indices: Array
    #: Each (examples, *shape), in the order the module takes them.
    inputs: list[torch.Tensor]
    #: (examples,), the class of each.
    labels: torch.Tensor


def batch_size(data: Labelled) -> int:
    """How many examples one step of a training takes."""
    each = sum(stack.nbytes // max(1, len(stack)) for stack in data.inputs.values())
    size = _BATCH
    while size > _LEAST_BATCH and (size * each > _BATCH_BYTES or len(data.labels) < _STEPS * size):
        size //= 2
    return min(size, len(data.labels))


def batch_of(data: Labelled, indices: Array) -> Batch:
    """The examples of these indices."""
    inputs = [torch.from_numpy(np.ascontiguousarray(stack[indices])) for stack in data.inputs.values()]
    return Batch(indices, inputs, torch.from_numpy(data.labels[indices].astype(np.int64)))


def shuffled(data: Labelled, size: int, seed: int, epoch: int) -> list[Array]:
    """Indices of an epoch's batches, the same for the same seed; all full, so that batch norms see enough."""
    order = np.random.default_rng([seed, epoch]).permutation(len(data.labels))
    return [order[start : start + size] for start in range(0, len(order) - size + 1, size)]


def in_order(data: Labelled, limit: int | None = None) -> Iterator[Batch]:
    """All of a data set, or its first so many."""
    count = len(data.labels) if limit is None else min(limit, len(data.labels))
    for start in range(0, count, _ANSWERED):
        yield batch_of(data, np.arange(start, min(start + _ANSWERED, count)))


def scores_of(output: Any) -> torch.Tensor:
    """A module's answer as scores of classes, (examples, classes): the first tensor of what it returns.

    Raises:
        UnsupportedError: it answers with something else.
    """
    while not isinstance(output, torch.Tensor):
        values = list(output.values()) if isinstance(output, dict) else list(output)
        output = values[0]
    if output.ndim != 2 or output.shape[1] < 2 or not output.is_floating_point():
        shape = tuple(output.shape)
        raise UnsupportedError(
            f"training knows classification: outputs of shape (examples, classes), and this model's is {shape}"
        )
    return output


def answer(module: torch.nn.Module, batch: Batch) -> torch.Tensor:
    """Scores of a batch, (examples, classes); with gradients where they are on."""
    return scores_of(module(*batch.inputs))


def accuracy_of(module: torch.nn.Module, data: Labelled, limit: int | None = None) -> float:
    """Share of the examples, or of the first so many, whose largest score is that of their label.

    The module is left as it was: in training or not.
    """
    training = module.training
    module.eval()
    right = count = 0
    with torch.no_grad():
        for batch in in_order(data, limit):
            scores = answer(module, batch)
            finite = torch.isfinite(scores).all(dim=1)
            right += int(((scores.argmax(dim=1) == batch.labels) & finite).sum())
            count += len(batch.labels)
    module.train(training)
    return right / count


def check_fits(module: torch.nn.Module, data: Labelled) -> int:
    """Look whether a module can learn from labelled data; returns how many classes it tells apart.

    Raises:
        AttemptError: the inputs are other ones, or there are more classes than it has outputs for.
        UnsupportedError: it is no classifier.
    """
    training = module.training
    module.eval()
    sample = batch_of(data, np.arange(min(2, len(data.labels))))
    try:
        with torch.no_grad():
            output = module(*sample.inputs)
    except Exception as error:
        shapes = ", ".join(f"{name} {stack.dtype} {stack.shape[1:]}" for name, stack in data.inputs.items())
        message = f"the model does not take the data set's examples ({shapes}): {first_line(error)}"
        raise AttemptError(Cause.USER, "other_inputs", message) from error
    finally:
        module.train(training)
    classes = int(scores_of(output).shape[1])
    if (most := int(data.labels.max()) + 1) > classes:
        message = f"the data set has {most} classes, and the model answers with {classes}"
        raise AttemptError(Cause.USER, "other_classes", message)
    return classes
