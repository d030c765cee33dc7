"""How right an artifact's answers are: every labelled example once, on the artifact's own runtime."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workers.accuracy import macro_f1, pack_outcomes, top_k
from workers.errors import AttemptError, Cause

if TYPE_CHECKING:
    from workers.data_sets.labelled import Labelled
    from workers.examples import Array, Examples
    from workers.runtimes.runtime import LoadedModel

#: Below so many classes, one of the five largest says nothing.
_LEAST_FOR_TOP5 = 6


@dataclass(frozen=True)
class Answers:
    """What a model answered to a data set, example by example."""

    #: The class that it found the likeliest; of an answer with NaN or infinity -1.
    predicted: Array
    #: Whether the label is among the five likeliest; None where that says nothing.
    in_top5: Array | None
    seconds: float


def answer(model: LoadedModel, like: Examples, data: Labelled, tell: Callable[[str], None]) -> Answers:
    """Run a model over a data set, filled up to its fixed batch.

    Args:
        model: loaded, and compiled for such inputs.
        like: examples as the artifact takes them, each (batch, *shape).
        data: labelled examples, each (*shape).
        tell: called after each batch with how far it is.

    Raises:
        AttemptError: the data set does not fit the model.
    """
    began, done = time.monotonic(), 0
    predicted, in_top5 = [], []
    classes = len(data.classes)
    for batch, labels in _batches(fitted(like, data), data.labels, _batch_of(like)):
        model.bind(batch)()
        scores = _scores(model.outputs(), len(next(iter(batch.values()))), classes)[: len(labels)]
        finite = np.isfinite(scores).all(axis=1)
        predicted.append(np.where(finite, scores.argmax(axis=1), -1))
        if classes >= _LEAST_FOR_TOP5:
            in_top5.append(top_k(scores, labels, 5))
        done += len(labels)
        tell(f"{done} of {len(data.labels)} examples")
    top5 = np.concatenate(in_top5) if in_top5 else None
    return Answers(np.concatenate(predicted), top5, time.monotonic() - began)


def scored(answers: Answers, data: Labelled) -> dict[str, Any]:
    """The figures of an `Evaluation` of a classification."""
    labels = np.asarray(data.labels)
    right = answers.predicted == labels
    return {
        "task": "classification",
        "examples": len(labels),
        "correct": int(right.sum()),
        "not_finite": int((answers.predicted < 0).sum()),
        "top1": float(right.mean()),
        "top5": float(answers.in_top5.mean()) if answers.in_top5 is not None else None,
        "f1_macro": macro_f1(labels, answers.predicted, len(data.classes)),
        "wer": None,
        "outcomes_base64": pack_outcomes(right),
        "seconds": answers.seconds,
    }


def fitted(like: Examples, data: Labelled) -> dict[str, Array]:
    """A data set's inputs under the names and in the types that a model takes them, or in its order.

    Raises:
        AttemptError: there are others, or of another shape.
    """
    wanted = like.inputs
    given = dict(data.inputs)
    if set(given) != set(wanted):
        if len(given) != len(wanted):
            raise _misfit(f"it holds the inputs {', '.join(given)}; the model takes {', '.join(wanted)}")
        given = dict(zip(wanted, given.values(), strict=True))
    found = {}
    for name, stack in wanted.items():
        shape = stack.shape[2:]  # of examples, of batches
        if given[name].shape[1:] != shape:
            raise _misfit(f"an example of {name} has shape {given[name].shape[1:]}; the model takes {shape}")
        found[name] = given[name].astype(stack.dtype, copy=False)
    return found


def _batch_of(like: Examples) -> int:
    shapes = {name: stack.shape[1:] for name, stack in like.inputs.items()}
    batches = {shape[0] for shape in shapes.values() if shape}
    if len(batches) != 1 or not all(shapes.values()):
        raise AttemptError(Cause.MODEL, "no_batch", f"its inputs have no batch in common: {shapes}")
    return int(batches.pop())


def _batches(inputs: dict[str, Array], labels: Array, batch: int) -> Iterator[tuple[dict[str, Array], Array]]:
    """Examples in the model's fixed batch, the last one filled up with its last example; and their labels."""
    for begin in range(0, len(labels), batch):
        end = min(begin + batch, len(labels))
        rows = np.minimum(np.arange(begin, begin + batch), end - 1)
        yield {name: stack[rows] for name, stack in inputs.items()}, labels[begin:end]


def _scores(outputs: list[Array], batch: int, classes: int) -> Array:
    """The first output as one row of scores for each example."""
    first = outputs[0]
    scores: Array = first.reshape([*first.shape[:1], *(n for n in first.shape[1:] if n != 1)])
    if scores.ndim != 2 or scores.shape[0] != batch:
        raise _misfit(f"its labels are classes, and the model's first output is {first.shape}")
    if scores.shape[1] != classes:
        raise _misfit(f"it has {classes} classes, and the model answers with {scores.shape[1]}")
    return scores.astype(np.float64)


def _misfit(why: str) -> AttemptError:
    return AttemptError(Cause.USER, "data_misfit", f"the data set does not fit the model: {why}")
