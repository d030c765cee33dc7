"""workers.data_sets.attach: whose data a model has, as its own outputs; and what to calibrate with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from workers.contract import ModelRequest
from workers.data_sets.attach import attach_data, class_names, with_data
from workers.data_sets.labelled import load_labelled
from workers.errors import AttemptError
from workers.examples import Examples, load_examples
from workers.models.source import Made, Resolved

Y = np.arange(20) % 2


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Twenty examples of two named classes; each example is its own number."""
    path = tmp_path / "set.npz"
    x = np.arange(20, dtype=np.float32)[:, np.newaxis]
    np.savez(path, x=x, y=np.array(["dog", "cat"])[Y])
    return path


def attached(
    folder: Path, data: Path, outputs: tuple[int, ...] = (2,), facts: dict[str, Any] | None = None, **request: Any
) -> Made:
    """What a classifier of one number, in batches of three, is given."""
    out = folder / "out"
    out.mkdir(exist_ok=True)
    examples = Examples({"value": np.zeros((4, 3, 1), np.float32)}, (np.zeros((4, 3, *outputs), np.float32),))
    examples.save(out / "examples.npz")
    examples.save(out / "calibration.npz")
    made = Made(out / "model.pt2", out / "examples.npz", out / "calibration.npz", facts=facts or {})
    return attach_data(made, ModelRequest(name="m", data=f"npz:{data}", **request), out)


def test_train_test_and_calibration_come_of_the_data(tmp_path: Path, data: Path) -> None:
    made = attached(tmp_path, data)
    assert made.train is not None
    assert made.test is not None
    assert made.calibration is not None
    train, test = load_labelled(made.train), load_labelled(made.test)
    assert not set(train.inputs["value"][:, 0]) & set(test.inputs["value"][:, 0])
    calibration = load_examples(made.calibration).inputs["value"]
    assert calibration.shape == (32, 3, 1)
    assert set(calibration.ravel()) == set(train.inputs["value"].ravel())
    assert made.facts["data"] == {
        "name": "npz:set.npz", "train": 16, "test": 4, "classes": 2, "skipped": 0, "skipped_files": []
    }  # fmt: skip


def test_the_users_own_calibration_stands(tmp_path: Path, data: Path) -> None:
    made = attached(tmp_path, data, calibration="mine.npz")
    assert made.calibration is not None
    assert not load_examples(made.calibration).inputs["value"].any()


def test_nothing_is_attached_unasked(tmp_path: Path) -> None:
    made = Made(tmp_path / "model.pt2")
    assert attach_data(made, ModelRequest(name="m"), tmp_path) is made


def test_labels_become_the_models_own_by_name(tmp_path: Path, data: Path) -> None:
    made = attached(tmp_path, data, (3,), {"classes": ["Dog", "cow", "cat"]})
    assert made.test is not None
    test = load_labelled(made.test)
    assert test.classes == ("Dog", "cow", "cat")
    parities = (test.inputs["value"][:, 0] % 2).astype(int)
    assert [(0, 2)[parity] for parity in parities] == test.labels.tolist()  # even: dog, odd: cat


def test_numbers_are_the_models_outputs(tmp_path: Path) -> None:
    path = tmp_path / "numbered.npz"
    np.savez(path, x=np.zeros((20, 1)), y=np.array(["1", "4"])[Y])
    made = attached(tmp_path, path, (5,), {"classes": list("abcde")})
    assert made.test is not None
    assert set(load_labelled(made.test).labels) == {1, 4}


@pytest.mark.parametrize(
    ("outputs", "facts", "says"),
    [
        ((5,), {}, r"has 2 classes \(cat, dog\), and the model answers with 5"),
        ((1, 5), {"classes": list("abcde")}, "and the model answers with 5"),
        ((2,), {"classes": ["dog", "cow"]}, r"has the class cat, which is none of the model's \(dog, cow\)"),
        ((4, 5), {}, r"labelled data is for classifiers, and the first output of m has the shape \(3, 4, 5\)"),
    ],
)
def test_classes_that_are_not_the_models_are_refused(
    tmp_path: Path, data: Path, outputs: tuple[int, ...], facts: dict[str, Any], says: str
) -> None:
    with pytest.raises(AttemptError, match=says):
        attached(tmp_path, data, outputs, facts)


def test_a_class_that_is_called_like_another_is_told_apart() -> None:
    assert class_names(["crane", "maillot", "crane"]) == ("crane", "maillot", "crane (2)")
    assert class_names(None) is None


def test_the_data_is_part_of_what_a_model_is(data: Path) -> None:
    def resolved(spec: str | None, limit: int | None = None) -> Resolved:
        request = ModelRequest(name="m", data=spec, data_limit=limit)
        return with_data(Resolved("m", "pt2", "fp32", {"versions": {}}, request, data="own"))

    plain, given, fewer = resolved(None), resolved(f"npz:{data}"), resolved(f"npz:{data}", 5)
    assert (plain.data, plain.identity) == ("own", {"versions": {}})
    assert given.data == "npz:set.npz"
    assert given.identity != fewer.identity
    np.savez(data, x=np.zeros((20, 1)), y=Y)
    assert resolved(f"npz:{data}").identity != given.identity
