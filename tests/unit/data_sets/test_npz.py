"""`npz:`: arrays by name or in order, parts, labels of both kinds, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from device_registry.errors import UsageError
from tests.unit.data_sets.conftest import wanted
from workers.data_sets.data_set import Split, Wanted, identify, load
from workers.errors import AttemptError

X = np.zeros((10, 3, 8, 8))
Y = np.arange(10) % 2
NAMES = np.array(["dog", "cat"] * 5)


def read(path: Path, asked: Wanted | None = None, **arrays: Any) -> Split:
    file = path / "set.npz"
    with file.open("wb") as stream:
        np.savez_compressed(stream, **arrays)
    return load(identify(f"npz:{file}", None).spec, asked or wanted())


def test_arrays_are_taken_in_order_and_in_the_models_types(tmp_path: Path) -> None:
    split = read(tmp_path, x=X, y=Y)
    assert split.train is not None
    assert (len(split.train), len(split.test)) == (8, 2)
    assert split.test.inputs["image"].dtype == np.float32
    assert (split.test.name, split.test.classes) == ("npz:set.npz", ("0", "1"))


def test_parts_and_columns_of_labels_as_keras_has_them(tmp_path: Path) -> None:
    split = read(tmp_path, x_train=X, y_train=Y[:, np.newaxis], x_test=X[:4], y_test=Y[:4, np.newaxis])
    assert split.train is not None
    assert (len(split.train), len(split.test)) == (10, 4)
    split = read(tmp_path, image_test=X, label_test=Y)
    assert split.train is None
    assert split.test.labels.tolist() == Y.tolist()


def test_labels_may_be_names(tmp_path: Path) -> None:
    split = read(tmp_path, image_test=X, label_test=NAMES)
    assert (split.test.classes, split.test.labels.tolist()) == (("cat", "dog"), [1, 0] * 5)
    split = read(tmp_path, image_test=X, label_test=NAMES, classes=np.array(["dog", "cat"]))
    assert split.test.labels.tolist() == [0, 1] * 5


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"x": X[:, :, :4], "y": Y}, r"has the shape \(3, 4, 8\), and image takes \(3, 8, 8\)"),
        ({"x": X[:6], "y": Y}, r"has 10 labels, and its input x is of shape \(6, 3, 8, 8\)"),
        ({"x": X, "z": X, "y": Y}, "holds the inputs x, z, and the model takes image"),
        ({"x": X}, r"must hold its labels under y \(or label, labels\); it holds x"),
        ({"x": X, "y": Y.astype(float)}, "labels of npz:set.npz are float64"),
        ({"x": X, "y": NAMES, "classes": np.array(["dog", "cow"])}, "has the label cat, which is none of its classes"),
        ({"x": X, "y": Y, "classes": np.array(["dog"])}, "has 1 class"),
        ({"x": X, "y": Y + 5, "classes": np.array(["dog", "cat"])}, "has the label 6; with 2 classes"),
        ({"x": np.full(X.shape, np.nan), "y": Y}, "holds NaN or infinity for image"),
        ({"x": X.astype(str), "y": Y}, "for image, which takes float32"),
        ({"x": X, "y_test": Y}, "holds x beside parts"),
        ({"x_train": X, "y_train": Y}, "holds arrays for training and none for tests"),
        ({"x": X.astype(object), "y": Y}, "cannot be read: Object arrays"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_sentence(tmp_path: Path, arrays: dict[str, Any], says: str) -> None:
    with pytest.raises(AttemptError, match=says):
        read(tmp_path, **arrays)


def test_whole_numbers_are_not_made_of_others(tmp_path: Path) -> None:
    asked = Wanted(inputs={"ids": ("int64", (4,))}, outputs=2)
    with pytest.raises(AttemptError, match="holds float64 for ids, which takes whole numbers"):
        read(tmp_path, asked, x=np.zeros((10, 4)), y=Y)


def test_what_is_no_such_file_is_refused_when_it_is_planned(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no data set npz:nothing"):
        identify("npz:nothing", None)
    (tmp_path / "bad.npz").write_text("text")
    with pytest.raises(UsageError, match=r"npz:bad.npz cannot be read: File is not a zip file"):
        identify(f"npz:{tmp_path / 'bad.npz'}", None)


def test_a_damaged_array_is_said_in_a_sentence(tmp_path: Path) -> None:
    file = tmp_path / "set.npz"
    np.savez(file, x=X, y=Y)
    held = bytearray(file.read_bytes())
    held[300:400] = b"\xff" * 100
    file.write_bytes(held)
    with pytest.raises(AttemptError, match=r"npz:set.npz cannot be read"):
        load(f"npz:{file}", wanted())
