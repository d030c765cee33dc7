"""workers.models.keras_safety: what a configuration may name. Whole files: integration/test_hostile_tensorflow.py."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.errors import BadModelError
from workers.models.keras_safety import copy_safely, refuse_config

DENSE: dict[str, Any] = {
    "module": "keras.layers",
    "class_name": "Dense",
    "config": {
        "units": 3,
        "activation": "relu",
        "dtype": {"module": "keras", "class_name": "DTypePolicy", "config": {"name": "float32"}},
        "kernel_initializer": {"module": "keras.initializers", "class_name": "GlorotUniform", "config": {}},
    },
    "registered_name": None,
    "inbound_nodes": [{"args": [{"class_name": "__keras_tensor__", "config": {"shape": [None, 4]}}], "kwargs": {}}],
}
EVIL: list[dict[str, Any]] = [
    {"module": "keras.layers", "class_name": "Lambda", "config": {}},
    {"module": "os", "class_name": "system", "config": {}},
    {"module": "keras.layers", "class_name": "Dense", "config": {}, "registered_name": "evil>Dense"},
    {"module": "builtins", "class_name": "function", "config": "eval"},
    {"module": "keras.utils", "class_name": "function", "config": "get_file"},
    {"module": "keras.src.ops.core", "class_name": "Map", "config": {}},
    {"class_name": "Dense", "config": {}},
    {"class_name": "__lambda__", "config": {"value": "x"}},
    {"class_name": ["Dense"], "module": "keras.layers", "config": {}},
    {"module": "os", "class_name": "__numpy__", "config": {}},
]


def model_of(*layers: Any) -> dict[str, Any]:
    """A functional model's configuration."""
    return {"module": "keras.src.models.functional", "class_name": "Functional", "config": {"layers": list(layers)}}


def test_compute_layers_and_what_belongs_to_them_pass() -> None:
    add = {"module": "keras.src.ops.numpy", "class_name": "Add", "config": {"name": "add"}, "registered_name": "Add"}
    refuse_config(model_of(DENSE, add, model_of(DENSE)), "m.keras")


@pytest.mark.parametrize("evil", EVIL)
@pytest.mark.parametrize("hidden", [lambda e: e, lambda e: {"config": [{"x": e}]}, lambda e: [[e]]])
def test_anything_else_is_refused_wherever_it_stands(evil: dict[str, Any], hidden: Any) -> None:
    with pytest.raises(BadModelError, match="benchfarm does not load it"):
        refuse_config(model_of(DENSE, hidden(evil)), "m.keras")


def test_what_a_model_was_compiled_with_is_left_out_and_so_may_be_anything(tmp_path: Path) -> None:
    refuse_config({**model_of(DENSE), "compile_config": {"loss": EVIL[1]}}, "m.keras")
    with pytest.raises(BadModelError):  # without a class around it, it is a value like any other
        refuse_config({"compile_config": {"loss": EVIL[1]}}, "m.keras")


NESTED = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=20,
)


@given(NESTED, st.sampled_from(EVIL), st.text(min_size=1, max_size=5))
def test_no_nesting_hides_it(value: Any, evil: dict[str, Any], key: str) -> None:
    with pytest.raises(BadModelError):
        refuse_config([value, {"kept": {key: [value, evil]}}], "m.keras")


def test_nesting_without_end_is_a_sentence_too(tmp_path: Path) -> None:
    path = tmp_path / "deep.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", '{"a":' + "[" * 100_000 + "]" * 100_000 + "}")
        archive.writestr("model.weights.h5", b"")
    with pytest.raises(BadModelError, match="not a readable"):
        copy_safely(path, tmp_path / "copy.keras")


@pytest.mark.parametrize("members", [{}, {"config.json": b"{}"}, {"config.json": b"[]", "model.weights.h5": b""}])
def test_an_archive_that_is_no_model_is_refused(tmp_path: Path, members: dict[str, bytes]) -> None:
    path = tmp_path / "m.keras"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    with pytest.raises(BadModelError, match=r"not in the \.keras format"):
        copy_safely(path, tmp_path / "copy.keras")


@given(st.binary(max_size=200))
def test_bytes_that_are_no_archive_are_refused(data: bytes) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "m.keras")
        path.write_bytes(data)
        with pytest.raises(BadModelError):
            copy_safely(path, Path(folder, "copy.keras"))


def test_the_refusal_names_the_file_and_what_it_holds() -> None:
    with pytest.raises(BadModelError, match=r"m\.keras holds 'os\.system'"):
        refuse_config(json.loads(json.dumps(EVIL[1])), "m.keras")
