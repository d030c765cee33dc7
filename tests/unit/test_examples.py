"""workers.examples: order and values survive the file; a user's file that does not fit is the user's error."""

from __future__ import annotations

import gc
import io
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from workers.errors import AttemptError, Cause
from workers.examples import Array, Examples, load_examples, load_user_calibration

names = st.text(st.characters(codec="ascii", categories=("L", "N", "P")), min_size=1, max_size=8)


def like() -> Examples:
    """What the model takes."""
    return Examples({"image": np.zeros((8, 1, 2), np.float32), "ids": np.zeros((8, 3), np.int64)})


def written(path: Path, **arrays: Array) -> Path:
    """A user's file."""
    np.savez(path, **arrays)
    return path


@given(inputs=st.lists(names, min_size=1, max_size=12, unique=True), outputs=st.integers(0, 12))
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_names_order_and_values_come_back(inputs: list[str], outputs: int, tmp_path: Path) -> None:
    path = tmp_path / "examples.npz"
    saved = Examples(
        {name: np.full((2, 1), number, np.float32) for number, name in enumerate(inputs)},
        tuple(np.full((2, 3), number, np.int8) for number in range(outputs)),
    )
    saved.save(path)
    loaded = load_examples(path)
    assert list(loaded.inputs) == inputs
    assert [stack[0, 0] for stack in loaded.inputs.values()] == list(range(len(inputs)))
    assert [stack[0, 0] for stack in loaded.outputs] == list(range(outputs))
    assert {stack.dtype for stack in loaded.outputs} <= {np.dtype(np.int8)}


def test_each_example_is_one_slice_of_every_input() -> None:
    examples = Examples({"a": np.arange(6).reshape(3, 2), "b": np.asarray([7, 8, 9])})
    assert len(examples) == 3
    assert [(row["a"].tolist(), int(row["b"])) for row in examples.each()] == [([0, 1], 7), ([2, 3], 8), ([4, 5], 9)]


def test_pickled_arrays_are_never_loaded(tmp_path: Path) -> None:
    path = written(tmp_path / "examples.npz", **{"input:0:x": np.asarray([{"a": 1}], dtype=object)})
    with pytest.raises(ValueError, match="allow_pickle"):
        load_examples(path)


def test_calibration_is_taken_by_name_in_the_order_of_the_model(tmp_path: Path) -> None:
    path = written(tmp_path / "mine.npz", ids=np.ones((4, 3)), image=np.ones((4, 1, 2)))
    taken = load_user_calibration(path, like())
    assert list(taken.inputs) == ["image", "ids"]
    assert len(taken) == 4
    assert [stack.dtype for stack in taken.inputs.values()] == [np.float32, np.int64]
    assert taken.outputs == ()


def test_calibration_with_other_names_is_taken_in_order(tmp_path: Path) -> None:
    path = written(tmp_path / "mine.npz", arr_0=np.full((4, 1, 2), 1), arr_1=np.full((4, 3), 2))
    taken = load_user_calibration(path, like())
    assert [stack.flat[0] for stack in taken.inputs.values()] == [1, 2]


def refusal(path: Path) -> str:
    """The sentence that a calibration file is refused with."""
    with pytest.raises(AttemptError) as refused:
        load_user_calibration(path, like())
    assert (refused.value.cause, refused.value.code) == (Cause.USER, "bad_calibration")
    return refused.value.message


def test_calibration_with_too_few_inputs_says_which_are_wanted(tmp_path: Path) -> None:
    path = written(tmp_path / "mine.npz", image=np.ones((4, 1, 2)))
    assert refusal(path) == "calibration file mine.npz must hold the inputs image, ids"


@pytest.mark.parametrize("shape", [(4, 2, 2), (4, 2), (0, 1, 2)])
def test_calibration_of_another_shape_says_which_is_needed(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = written(tmp_path / "mine.npz", image=np.ones(shape), ids=np.ones((4, 3)))
    assert refusal(path) == f"calibration input image has shape {shape}; it needs (examples, *(1, 2))"


@pytest.mark.parametrize("content", [b"", b"no archive at all", b"\x93NUMPY"])
def test_calibration_that_is_no_archive_cannot_be_read(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "mine.npz"
    path.write_bytes(content)
    assert "mine.npz cannot be read" in refusal(path)


def test_calibration_that_is_not_there_cannot_be_read(tmp_path: Path) -> None:
    assert "mine.npz cannot be read" in refusal(tmp_path / "mine.npz")


def test_pickled_calibration_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "mine.npz", image=np.asarray([{}], dtype=object), ids=np.ones((4, 3)))
    assert "cannot be read" in refusal(path)


def test_a_truncated_calibration_archive_cannot_be_read(tmp_path: Path) -> None:
    path = written(tmp_path / "mine.npz", image=np.ones((4, 1, 2)), ids=np.ones((4, 3)))
    path.write_bytes(path.read_bytes()[:-40])
    refused = None
    with warnings.catch_warnings(action="ignore", category=ResourceWarning):  # numpy leaves such a file open
        try:
            load_user_calibration(path, like())
        except Exception as error:
            refused = getattr(error, "code", type(error).__name__)
        gc.collect()
    assert refused == "bad_calibration"


def test_a_single_array_in_the_place_of_an_archive_is_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.ones((4, 1, 2)))
    path = tmp_path / "mine.npy"
    path.write_bytes(buffer.getvalue())
    assert "mine.npy" in refusal(path)


def test_calibration_that_holds_text_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "mine.npz", image=np.full((4, 1, 2), "x"), ids=np.ones((4, 3)))
    assert "image" in refusal(path)


def test_calibration_inputs_need_equally_many_examples(tmp_path: Path) -> None:
    path = written(tmp_path / "mine.npz", image=np.ones((4, 1, 2)), ids=np.ones((3, 3)))
    assert "examples" in refusal(path)
