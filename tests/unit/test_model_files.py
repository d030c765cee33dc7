"""workers.models.files and factory: what an identity covers, and shapes that are never made up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from workers.contract import ModelRequest
from workers.errors import AttemptError
from workers.models.factory import Factory
from workers.models.file_inputs import make_examples
from workers.models.files import ModelFile
from workers.runtimes.lite_rt import in_signature

FLOAT = np.dtype(np.float32)


def identity(path: Path) -> Any:
    resolved = ModelFile().resolve(ModelRequest(name=str(path)))
    assert resolved is not None
    return resolved.identity


@pytest.mark.parametrize("external", ["weights.bin", "m.data", "deep/down.raw"])
def test_external_data_of_any_name_is_part_of_the_model(tmp_path: Path, external: str) -> None:
    (tmp_path / "model[1].onnx").write_bytes(b"\x08 a graph whose tensors lie in " + external.encode() + b"\x12")
    data = tmp_path / external
    data.parent.mkdir(exist_ok=True)
    data.write_bytes(b"1")
    first = identity(tmp_path / "model[1].onnx")
    (tmp_path / "unrelated.txt").write_bytes(b"x")
    assert identity(tmp_path / "model[1].onnx") == first
    data.write_bytes(b"2")
    assert identity(tmp_path / "model[1].onnx") != first


@pytest.mark.parametrize("beside", ["mine.py", "config.yaml", "checkpoint.pt"])
def test_what_lies_beside_a_factory_is_part_of_the_model(tmp_path: Path, beside: str) -> None:
    (tmp_path / "mine.py").write_text("def make(): ...")
    request = ModelRequest(name="mine:make", allow_code=True, search_path=(str(tmp_path),))
    first = Factory().resolve(request)
    (tmp_path / beside).write_text("def make(): return 1")
    second = Factory().resolve(request)
    assert first is not None
    assert second is not None
    assert first.identity != second.identity
    assert second.weights == "of the factory"


def test_a_free_first_dimension_is_the_batch() -> None:
    examples, _ = make_examples({"image": (["N", 3, 8, 8], FLOAT)}, ModelRequest(name="m.onnx", batch=4))
    assert examples.inputs["image"].shape[1:] == (4, 3, 8, 8)


@pytest.mark.parametrize("shape", [["batch", "sequence"], [1, 3, -1, 224], [1, None]])
def test_any_other_free_dimension_is_refused_and_not_made_up(shape: list[Any]) -> None:
    with pytest.raises(AttemptError, match="fix all but the first"):
        make_examples({"x": (shape, FLOAT)}, ModelRequest(name="m.onnx"))


def test_inputs_find_their_place_in_a_signature() -> None:
    a, b = np.zeros(1), np.ones(2)
    assert in_signature(["mask_of_it", "ids"], {"ids": a, "mask_of_it": b})["mask_of_it"] is b
    numbered = [f"args_{i}" for i in (10, 2, 1, 0, 3, 4, 5, 6, 7, 8, 9)]
    inputs = {f"x{i}": np.array(i) for i in range(11)}
    assert all(int(value) == int(name[5:]) for name, value in in_signature(numbered, inputs).items())
