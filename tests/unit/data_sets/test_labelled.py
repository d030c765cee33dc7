"""workers.data_sets.labelled and parts: what belongs together, and which examples are for what."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.data_sets.labelled import Labelled, load_labelled
from workers.data_sets.parts import limited, mixed, parted, parting
from workers.errors import AttemptError


def labelled(count: int = 6, **changed: Any) -> Labelled:
    values: dict[str, Any] = {
        "inputs": {"b": np.arange(count, dtype=np.float32)[:, np.newaxis], "a": np.ones((count, 2, 2), np.int64)},
        "labels": np.arange(count) % 2,
        "classes": ("no", "ja: über"),
        "name": "npz:small.npz",
        "skipped": 3,
    }
    return Labelled(**(values | changed))


def test_a_file_gives_back_what_was_saved_in_order(tmp_path: Path) -> None:
    data, path = labelled(), tmp_path / "test.npz"
    data.save(path)
    read = load_labelled(path)
    assert list(read.inputs) == ["b", "a"]
    assert all((read.inputs[name] == data.inputs[name]).all() for name in data.inputs)
    assert (read.labels == data.labels).all()
    assert (read.classes, read.name, read.skipped, len(read)) == (data.classes, data.name, 3, 6)
    first = path.read_bytes()
    read.save(path)
    assert path.read_bytes() == first  # its digest is which examples they are


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"labels": np.array([0, 1, 2, 0, 1, 0])}, "has the label 2; with 2 classes they are below that"),
        ({"labels": np.array([0, 1, -1, 0, 1, 0])}, "has the label -1"),
        ({"labels": np.zeros(6)}, "labels of npz:small.npz are float64 (6,)"),
        ({"labels": np.zeros((6, 2), np.int64)}, "must be one whole number for each example"),
        ({"labels": np.zeros(5, np.int64)}, "has 5 labels, and its input b is of shape (6, 1)"),
        ({"classes": ("one",), "labels": np.zeros(6, np.int64)}, "has 1 class: there must be at least two"),
        ({"classes": ("one", "one")}, "two classes of one name"),
        ({"inputs": {}}, "holds no examples"),
        ({"inputs": {"x": np.zeros((0, 2))}, "labels": np.zeros(0, np.int64)}, "holds no examples"),
    ],
)
def test_what_does_not_belong_together_is_refused(changed: dict[str, Any], says: str) -> None:
    with pytest.raises(AttemptError) as raised:
        labelled(**changed)
    assert says in raised.value.message
    assert raised.value.code == "bad_data"


LABELS = st.lists(st.integers(0, 3), min_size=1, max_size=60).map(np.array)


@given(LABELS)
def test_any_first_part_of_the_mixed_order_is_like_the_whole(labels: np.ndarray) -> None:
    order = mixed(labels)
    assert sorted(order) == list(range(len(labels)))
    for count in range(1, len(labels) + 1):
        for label in set(labels):
            expected = count * (labels == label).mean()
            assert abs((labels[order[:count]] == label).sum() - expected) <= 4


@given(LABELS, st.floats(0.1, 0.5), st.integers(1, 70))
def test_no_example_is_in_both_parts(labels: np.ndarray, share: float, limit: int) -> None:
    train, test = parting(labels, share)
    assert sorted([*train, *test]) == list(range(len(labels)))
    assert len(test) >= 1
    for whole, some in zip((train, test), parting(labels, share, limit), strict=True):
        assert some.tolist() == whole[:limit].tolist()


def test_examples_keep_their_labels_through_all_of_it() -> None:
    data = labelled(20)
    for part in (*parted(data), data.taken(limited(data.labels, 7))):
        assert (part.inputs["b"][:, 0].astype(int) % 2 == part.labels).all()
