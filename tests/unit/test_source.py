"""workers.models.source: seeded images, and digests that depend on every byte."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.contract import ModelRequest
from workers.examples import Examples, load_examples
from workers.models.source import file_digest, images, write_examples

#: (0 - mean) / std and (1 - mean) / std of ImageNet's channels.
LOW = np.asarray([-2.1180, -2.0357, -1.8045])
HIGH = np.asarray([2.2490, 2.4286, 2.6400])


@given(
    seed=st.integers(0, 2**31), count=st.integers(1, 3), batch=st.integers(1, 2), side=st.sampled_from([8, 9, 32, 57])
)
@settings(max_examples=25)
def test_images_lie_in_the_range_of_normalised_photographs(seed: int, count: int, batch: int, side: int) -> None:
    made = images(np.random.default_rng(seed), count, (batch, 3, side, side + 1))
    assert (made.shape, made.dtype) == ((count, batch, 3, side, side + 1), np.float32)
    channels = np.moveaxis(made, 2, 0).reshape(3, -1)
    assert (channels.min(axis=1) >= LOW - 1e-3).all()
    assert (channels.max(axis=1) <= HIGH + 1e-3).all()


def test_images_are_the_same_for_the_same_seed_and_differ_otherwise() -> None:
    def make(seed: int) -> bytes:
        return images(np.random.default_rng(seed), 2, (1, 3, 32, 32)).tobytes()

    assert make(1) == make(1)
    assert make(1) != make(2)


def test_images_differ_from_each_other_and_are_smooth_as_photographs_are() -> None:
    made = images(np.random.default_rng(0), 2, (1, 3, 64, 64))
    assert not np.array_equal(made[0], made[1])
    neighbours = np.abs(np.diff(made, axis=-1)).mean()
    assert neighbours < made.std() / 2


def test_a_digest_of_a_file_is_of_its_bytes_only(tmp_path: Path) -> None:
    for name, data in (("a", b"1"), ("b", b"1"), ("c", b"2")):
        (tmp_path / name).write_bytes(data)
    assert file_digest(tmp_path / "a") == file_digest(tmp_path / "b") != file_digest(tmp_path / "c")


@pytest.mark.parametrize(
    "other", [{"x/a": b"12", "b": b"3"}, {"x/a": b"1", "b": b"32"}, {"x/a": b"1", "c": b"23"}, {"a": b"1", "b": b"23"}]
)
def test_a_digest_of_a_folder_depends_on_names_and_where_bytes_stand(tmp_path: Path, other: dict[str, bytes]) -> None:
    for folder, files in (("first", {"x/a": b"1", "b": b"23"}), ("other", other)):
        for name, data in files.items():
            (tmp_path / folder / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / folder / name).write_bytes(data)
    assert file_digest(tmp_path / "first") != file_digest(tmp_path / "other")


def made_inputs(value: float) -> Examples:
    """Two examples of one input."""
    return Examples({"image": np.full((2, 1, 3), value, np.float32)})


def test_the_calibration_file_of_the_user_wins_over_that_of_the_source(tmp_path: Path) -> None:
    np.savez(tmp_path / "mine.npz", image=np.full((5, 1, 3), 9.0))
    request = ModelRequest(name="x", calibration=str(tmp_path / "mine.npz"))
    _, path = write_examples(tmp_path, request, made_inputs(1.0), made_inputs(2.0))
    assert load_examples(path).inputs["image"].tolist() == np.full((5, 1, 3), 9.0).tolist()


def test_without_calibration_the_examples_calibrate_without_their_outputs(tmp_path: Path) -> None:
    examples = Examples(made_inputs(1.0).inputs, (np.zeros((2, 4)),))
    kept, calibration = write_examples(tmp_path, ModelRequest(name="x"), examples, None)
    assert len(load_examples(kept).outputs) == 1
    assert load_examples(calibration).outputs == ()
    assert load_examples(calibration).inputs["image"].tolist() == examples.inputs["image"].tolist()
