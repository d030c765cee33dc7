"""workers.evaluate: every example once, filled up to the fixed batch; what is no answer is wrong and said."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from workers.contract import RuntimeFacts
from workers.data_sets.labelled import Labelled
from workers.errors import AttemptError
from workers.evaluate import answer, scored
from workers.examples import Array, Examples
from workers.progress import tell
from workers.runtimes.runtime import LoadedModel

CLASSES = tuple("abcdefgh")


class Echo(LoadedModel):
    """Scores are its inputs; counts its runs, and keeps the shapes that it was bound to."""

    def __init__(self, change: Callable[[Array], Array] = lambda scores: scores) -> None:
        self.bound: list[tuple[int, ...]] = []
        self._change = change

    def bind(self, inputs: dict[str, Array]) -> Callable[[], object]:
        (given,) = inputs.values()
        self.bound.append(given.shape)

        def run() -> None:
            self._scores = self._change(given)

        return run

    def outputs(self) -> list[Array]:
        return [self._scores]

    def facts(self, inputs: dict[str, Array]) -> RuntimeFacts:
        raise NotImplementedError


def like(batch: int = 4, classes: int = len(CLASSES)) -> Examples:
    """What the artifact takes."""
    return Examples({"x": np.zeros((2, batch, classes), np.float32)})


def data(count: int = 10, classes: tuple[str, ...] = CLASSES, **changed: Any) -> Labelled:
    """Labelled examples whose own values are the scores that an echo answers; the third is answered wrong."""
    labels = np.arange(count) % len(classes)
    scores = np.eye(len(classes), dtype=np.float64)[labels]
    if count > 2:
        scores[2] = np.roll(scores[2], 1)
    values: dict[str, Any] = {"inputs": {"x": scores}, "labels": labels, "classes": classes}
    return Labelled(**(values | changed))


def evaluated(model: Echo, of: Labelled, batch: int = 4) -> dict[str, Any]:
    """The figures."""
    return scored(answer(model, like(batch), of, tell), of)


def test_every_example_is_answered_once_in_the_fixed_batch() -> None:
    model = Echo()
    found = evaluated(model, data(10))
    assert model.bound == [(4, 8)] * 3
    assert (found["examples"], found["correct"], found["top1"]) == (10, 9, 0.9)
    assert found["top5"] >= found["top1"]
    bits = np.unpackbits(np.frombuffer(base64.b64decode(found["outcomes_base64"]), np.uint8))[:10]
    assert bits.tolist() == [1, 1, 0, 1, 1, 1, 1, 1, 1, 1]


@pytest.mark.parametrize("batch", [1, 3, 16])
def test_the_batch_changes_nothing(batch: int) -> None:
    found, other = evaluated(Echo(), data(10)), evaluated(Echo(), data(10), batch)
    del found["seconds"], other["seconds"]
    assert found == other


def test_answers_with_nan_are_wrong_and_counted() -> None:
    def spoil(scores: Array) -> Array:
        spoilt = scores.copy()
        spoilt[0, 1] = np.nan  # the first of each batch
        return spoilt

    found = evaluated(Echo(spoil), data(8))
    assert (found["not_finite"], found["correct"]) == (2, 5)


def test_few_classes_have_no_top_5() -> None:
    few = data(6, tuple("abc"))
    found = scored(answer(Echo(), like(2, 3), few, tell), few)
    assert found["top5"] is None
    assert found["top1"] == pytest.approx(5 / 6)


def test_scores_with_axes_of_one_are_scores() -> None:
    found = evaluated(Echo(lambda scores: scores.reshape(*scores.shape, 1, 1)), data(10))
    assert found["correct"] == 9


def test_a_single_input_of_another_name_is_taken_and_progress_is_told() -> None:
    said: list[str] = []
    other = data(5, inputs={"image": data(5).inputs["x"]})
    answers = answer(Echo(), like(), other, said.append)
    assert scored(answers, other)["correct"] == 4
    assert said == ["4 of 5 examples", "5 of 5 examples"]


@pytest.mark.parametrize(
    ("model", "of", "says"),
    [
        (Echo(), data(4, inputs={"x": np.zeros((4, 9))}), r"an example of x has shape \(9,\); the model takes \(8,\)"),
        (Echo(), data(4, inputs={"x": np.zeros((4, 8)), "y": np.zeros((4, 8))}), "it holds the inputs x, y"),
        (Echo(lambda scores: scores[:, :5]), data(4), "it has 8 classes, and the model answers with 5"),
        (Echo(lambda scores: scores[:2]), data(4), "the model's first output is"),
    ],
)
def test_a_data_set_that_does_not_fit_is_refused_with_what_does_not(model: Echo, of: Labelled, says: str) -> None:
    with pytest.raises(AttemptError, match=says) as refused:
        evaluated(model, of)
    assert (refused.value.cause, refused.value.code) == ("user", "data_misfit")
