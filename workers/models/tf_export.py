"""From a Keras model or a TensorFlow function to the canonical SavedModel: shared by every source of such models.

Runs in a child only. The program has fixed shapes, one signature, and outputs numbered in order; which layers the
Keras model has is kept beside it, where SavedModels keep what TensorFlow itself does not read.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from workers.contract import ModelRequest
from workers.errors import AttemptError, BadModelError, Cause, UnsupportedError, first_line
from workers.examples import Array, Examples
from workers.models.source import CALIBRATION_EXAMPLES, FIDELITY_EXAMPLES, Made, write_examples

SIGNATURE = "serving_default"
#: Where an artifact names the layers of its Keras model.
LAYERS_FILE = "assets.extra/layers.json"
#: Inputs of the pass that fresh weights are calibrated in.
_CALIBRATION_BATCH = 16
#: Standard deviation of a classifier's logits, about that of trained ones.
_LOGITS_DEVIATION = 2.5

#: Makes the stacked inputs of so many examples: name to (count, *input shape).
MakeInputs = Callable[[np.random.Generator, int], dict[str, Array]]


def import_keras() -> Any:
    """Keras on TensorFlow, whatever a user's configuration file says."""
    os.environ["KERAS_BACKEND"] = "tensorflow"
    import keras

    if keras.backend.backend() != "tensorflow":
        raise UnsupportedError(f"Keras runs on {keras.backend.backend()} in this process, not on TensorFlow")
    return keras


def export_canonical(
    model: Any,
    make_inputs: MakeInputs,
    request: ModelRequest,
    folder: Path,
    facts: dict[str, Any],
    *,
    fresh: bool = False,
) -> Made:
    """Export a Keras model once, with example inputs and the fp32 outputs of eager TensorFlow as the reference.

    Args:
        model: what to export.
        make_inputs: makes examples, in the order of the model's inputs.
        request: seed, batch, the user's calibration file.
        folder: where the files go.
        facts: named facts of the source.
        fresh: the weights are random: give batch norms and classes the spread that trained ones have.

    Raises:
        AttemptError: the model cannot be exported.
    """
    import keras

    inputs = make_inputs(np.random.default_rng(request.seed), FIDELITY_EXAMPLES)
    calibration = Examples(make_inputs(np.random.default_rng(request.seed + 1), CALIBRATION_EXAMPLES))
    examples = Examples(inputs)

    def call(values: Iterable[Any]) -> list[Any]:
        return list(keras.tree.flatten(model(_packed(model, list(values)), training=False)))

    try:
        if fresh:
            _calibrate_batch_norms(model, _first(calibration))
            _spread_classes(model, _first(calibration))
        references = [[np.asarray(out) for out in call(example.values())] for example in examples.each()]
        artifact = folder / "model.savedmodel"
        write_program(lambda values: call(values.values()), examples, artifact, layers=layer_names(model))
    except Exception as error:
        raise AttemptError(
            Cause.MODEL, "does_not_export", f"TensorFlow cannot export the model: {first_line(error)}"
        ) from error
    examples = Examples(inputs, tuple(np.stack(stack) for stack in zip(*references, strict=True)))
    examples_path, calibration_path = write_examples(folder, request, examples, calibration)
    facts = {"parameters": model.count_params(), "inputs": examples.shapes(), **facts}
    return Made(artifact, examples_path, calibration_path, facts=facts)


def write_program(
    call: Callable[[dict[str, Any]], list[Any]], examples: Examples, target: Path, *, layers: Iterable[str] = ()
) -> None:
    """Trace a function for the examples' shapes and write it as a SavedModel.

    Args:
        call: from tensors by input name to outputs in order.
        examples: inputs, in the order the program takes them; their names become the signature's.
        target: folder to write.
        layers: names of the Keras layers.
    """
    import tensorflow as tf

    specs = [
        tf.TensorSpec(value.shape, tf.as_dtype(value.dtype), name=name) for name, value in examples.input_at(0).items()
    ]

    def serve(*tensors: Any) -> dict[str, Any]:
        outputs = call(dict(zip(examples.inputs, tensors, strict=True)))
        return {f"output_{index}": tf.convert_to_tensor(out) for index, out in enumerate(outputs)}

    function = tf.function(serve, autograph=False).get_concrete_function(*specs)
    module = tf.Module()
    module.captured = list(function.variables)  # saved are the variables that the function uses, and nothing else
    tf.saved_model.save(module, str(target), signatures={SIGNATURE: function})
    if names := sorted(layers):
        path = target / LAYERS_FILE
        path.parent.mkdir()
        path.write_text(json.dumps(names), encoding="utf-8")


def load_program(folder: Path) -> Any:
    """Load a SavedModel without what its loading has no need of (see `workers.models.savedmodel_safety`)."""
    from workers.models.savedmodel_safety import write_without_saver

    with tempfile.TemporaryDirectory() as target:
        write_without_saver(folder, Path(target))
        import tensorflow as tf

        return tf.saved_model.load(target)


def signature_of(program: Any, name: str) -> Any:
    """The function that a loaded SavedModel serves.

    Raises:
        BadModelError: it has none, or several of which none is the default.
    """
    signatures: Mapping[str, Any] = program.signatures
    if SIGNATURE in signatures:
        return signatures[SIGNATURE]
    if len(signatures) == 1:
        return next(iter(signatures.values()))
    known = ", ".join(sorted(signatures)) or "none"
    raise BadModelError(f"{name} has no signature {SIGNATURE!r} (it has {known}); save it with one")


def in_order(outputs: Mapping[str, Any]) -> list[Any]:
    """A signature's outputs as the program gives them: output_2 before output_10."""
    return [outputs[name] for name in sorted(outputs, key=lambda name: (len(name), name))]


def layer_names(model: Any) -> set[str]:
    """Names of all layers of a Keras model, those of models inside it included."""
    found: set[str] = set()
    for layer in model.layers:
        found |= {layer.name, *(layer_names(layer) if hasattr(layer, "layers") else ())}
    return found


def _packed(model: Any, values: list[Any]) -> Any:
    """Inputs in the structure that a model is called with: one, a list, a dictionary."""
    import keras

    return values[0] if isinstance(model, keras.Sequential) else keras.tree.pack_sequence_as(model.input, values)


def _first(calibration: Examples) -> list[Array]:
    """So many inputs in one batch, in the model's order."""
    return [stack.reshape(-1, *stack.shape[2:])[:_CALIBRATION_BATCH] for stack in calibration.inputs.values()]


def _calibrate_batch_norms(model: Any, values: list[Array]) -> None:
    """Give batch norms the statistics of seeded inputs.

    A fresh network's batch norms divide by 1 whatever the activations' size, so that after fifty layers the outputs
    are near 1e-13 and fidelity would compare noise with noise.
    """
    import keras

    layers = list(_all_layers(model))
    norms = [layer for layer in layers if isinstance(layer, keras.layers.BatchNormalization)]
    if not norms:
        return
    # In training mode, so that norms take statistics; without dropout, which would be part of them.
    rates = {layer: layer.rate for layer in layers if isinstance(getattr(layer, "rate", None), float)}
    momenta = {norm: norm.momentum for norm in norms}
    for layer in rates:
        layer.rate = 0.0
    for norm in norms:
        norm.momentum = 0.0  # the statistics of this pass, and nothing of what stood there
    model(_packed(model, values), training=True)
    for layer, rate in rates.items():
        layer.rate = rate
    for norm, momentum in momenta.items():
        norm.momentum = momentum


def _spread_classes(model: Any, values: list[Array]) -> None:
    """Scale the classifier of a model that ends in a softmax, so that its classes differ as a trained model's do.

    Fresh, a thousand classes have a thousandth each, which is nothing at the 256th parts that int8 gives a softmax.
    """
    import keras

    outputs = keras.tree.flatten(model(_packed(model, values), training=False))
    chances = np.asarray(outputs[0], dtype=np.float64)
    classifier = next((layer for layer in reversed(model.layers) if getattr(layer, "kernel", None) is not None), None)
    is_softmax = chances.ndim == 2 and bool((chances > 0).all()) and np.allclose(chances.sum(axis=1), 1, atol=1e-3)
    if classifier is None or len(outputs) != 1 or not is_softmax:
        return
    deviation = float(np.log(chances).std(axis=1).mean())  # logits, but for a constant that each row has of its own
    if deviation > 0:
        classifier.kernel.assign(classifier.kernel * (_LOGITS_DEVIATION / deviation))


def _all_layers(model: Any) -> Iterable[Any]:
    for layer in model.layers:
        yield layer
        if hasattr(layer, "layers"):
            yield from _all_layers(layer)
