"""Models that TensorFlow runs: `.keras` files and SavedModel folders, checked before anything loads them.

Either becomes a SavedModel of fixed shapes that benchfarm writes itself: what is measured and converted later is of
the file's arithmetic and weights, and of nothing else that it holds.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from workers.contract import ModelRequest
from workers.errors import AttemptError, BadModelError, Cause, UnsupportedError, first_line
from workers.examples import Array
from workers.models.file_inputs import Specs, fixed_shapes, made_of, make_examples, make_values
from workers.models.source import Made


def take_keras(path: Path, request: ModelRequest, folder: Path) -> Made:
    """Load a `.keras` file and export it; see `workers.models.keras_safety`."""
    from workers.models.keras_safety import copy_safely
    from workers.models.tf_export import export_canonical, import_keras

    checked = folder / "checked.keras"
    copy_safely(path, checked)
    keras = import_keras()
    try:
        model = keras.saving.load_model(checked, compile=False, safe_mode=True)
        tensors = list(model.inputs or ())
    except Exception as error:
        reason = first_line(error).replace(str(checked), path.name)
        raise BadModelError(f"Keras does not load {path.name}: {reason}") from error
    checked.unlink()
    if not tensors:
        raise BadModelError(f"{path.name} names no inputs; build the model before it is saved")
    names = _names([tensor.name for tensor in tensors])
    specs: Specs = {
        name: (list(tensor.shape), _numbers(tensor.dtype, name, path))
        for name, tensor in zip(names, tensors, strict=True)
    }
    shapes = fixed_shapes(specs, request)
    scales_itself = any(isinstance(layer, keras.layers.Rescaling) for layer in model.layers)

    def make_inputs(generator: np.random.Generator, count: int) -> dict[str, Array]:
        return make_values(generator, count, shapes, of_pixels=scales_itself)

    return export_canonical(model, make_inputs, request, folder, {"weights": "of the file"})


def take_saved_model(path: Path, request: ModelRequest, folder: Path) -> Made:
    """Load the signature that a SavedModel serves and write it anew; see `workers.models.savedmodel_safety`."""
    from workers.models.savedmodel_safety import refuse_code
    from workers.models.tf_export import in_order, load_program, signature_of, write_program

    refuse_code(path)
    checked = folder / "checked.savedmodel"  # never the artifact's own path, whatever the user's folder is called
    shutil.copytree(path, checked, symlinks=True)
    # Checked once more: the copy is what is loaded, whatever became of the folder meanwhile.
    try:
        program = load_program(checked)
    except AttemptError:
        raise
    except Exception as error:
        raise BadModelError(f"TensorFlow does not load {path.name}: {first_line(error)}") from error
    function = signature_of(program, path.name)
    specs: Specs = {}
    for name, spec in function.structured_input_signature[1].items():
        if spec.shape.rank is None:
            raise AttemptError(
                Cause.USER, "free_dimensions", f"{path.name}: input {name} has no shape; give it one when exporting"
            )
        specs[name] = (spec.shape.as_list(), _numbers(spec.dtype.name, name, path))
    if not specs:
        raise BadModelError(f"{path.name}: its signature takes no inputs")
    examples, calibration = make_examples(specs, request)

    def call(values: dict[str, Any]) -> list[Any]:
        return in_order(function(**values))

    artifact = folder / "model.savedmodel"
    try:
        import tensorflow as tf

        def run() -> list[list[Array]]:
            feeds = ({name: tf.constant(given) for name, given in example.items()} for example in examples.each())
            return [[np.asarray(value) for value in call(feed)] for feed in feeds]

        outputs, again = run(), run()
        write_program(call, examples, artifact)
    except Exception as error:
        raise BadModelError(f"TensorFlow does not run {path.name}: {first_line(error)}") from error
    shutil.rmtree(checked)
    pairs = ((a, b) for first, second in zip(outputs, again, strict=True) for a, b in zip(first, second, strict=True))
    if not all(np.allclose(a, b, rtol=1e-3, atol=1e-5, equal_nan=True) for a, b in pairs):
        # Keras' own export leaves augmentation layers switched on.
        raise BadModelError(
            f"{path.name} gives other outputs for the same inputs each time; save it for inference only"
        )
    return made_of(artifact, request, folder, examples, outputs, calibration, {})


def _names(given: list[str]) -> list[str]:
    """Names that a signature takes, none of them twice."""
    names: list[str] = []
    for index, name in enumerate(given):
        plain = re.sub(r"\W", "_", name)
        names.append(plain if plain.isidentifier() and plain not in names else f"input_{index}")
    return names


def _numbers(dtype: str, name: str, path: Path) -> np.dtype[Any]:
    if not re.fullmatch(r"bool|u?int\d+|float(16|32|64)", dtype):
        raise UnsupportedError(f"{path.name}: input {name} is of the type {dtype}; benchfarm makes numbers only")
    return np.dtype(dtype)
