"""Inputs of model files: seeded values of the shapes that a file names, and never of shapes made up here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from workers.contract import ModelRequest
from workers.errors import AttemptError, Cause
from workers.examples import Array, Examples
from workers.models.channels_last import photographs, pixels
from workers.models.source import CALIBRATION_EXAMPLES, FIDELITY_EXAMPLES, Made, images, write_examples

#: Name of an input to its shape (free dimensions are no whole numbers) and type.
Specs = dict[str, tuple[list[Any], np.dtype[Any]]]
#: The same with every dimension known.
Shapes = dict[str, tuple[tuple[int, ...], np.dtype[Any]]]


def made_of(
    artifact: Path,
    request: ModelRequest,
    folder: Path,
    examples: Examples,
    outputs: list[Any],
    calibration: Examples,
    facts: dict[str, Any],
) -> Made:
    """What a file became: the artifact with its companions."""
    stacks = tuple(np.stack([np.asarray(row[i]) for row in outputs]) for i in range(len(outputs[0]))) if outputs else ()
    examples = Examples(examples.inputs, stacks)
    examples_path, calibration_path = write_examples(folder, request, examples, calibration)
    facts = {"weights": "of the file", "inputs": examples.shapes(), **facts}
    return Made(artifact, examples_path, calibration_path, facts=facts)


def make_examples(specs: Specs, request: ModelRequest) -> tuple[Examples, Examples]:
    """Seeded example and calibration inputs of the model's shapes; see `fixed_shapes`."""
    shapes = fixed_shapes(specs, request)

    def make(seed: int, count: int) -> Examples:
        return Examples(make_values(np.random.default_rng(seed), count, shapes))

    return make(request.seed, FIDELITY_EXAMPLES), make(request.seed + 1, CALIBRATION_EXAMPLES)


def fixed_shapes(specs: Specs, request: ModelRequest) -> Shapes:
    """The shapes that a model is measured with; a free first dimension becomes the batch.

    Raises:
        AttemptError: another dimension is free (a size made up here would be measured as if it were the user's), or the
            first is fixed and not the batch that was asked for.
    """
    shapes: Shapes = {}
    for name, (shape, dtype) in specs.items():
        free = [index for index, size in enumerate(shape) if not isinstance(size, int) or size <= 0]
        if any(index > 0 for index in free):
            message = (
                f"{Path(request.name).name}: input {name} has the shape {shape}; fix all but the first when exporting"
            )
            raise AttemptError(Cause.USER, "free_dimensions", message)
        sizes = [request.batch if index in free else size for index, size in enumerate(shape)]
        if request.batch != 1 and (not sizes or sizes[0] != request.batch):
            raise AttemptError(
                Cause.USER,
                "fixed_batch",
                f"{Path(request.name).name}: input {name} has the fixed shape {sizes}, not a batch of {request.batch}",
            )
        shapes[name] = (tuple(sizes), dtype)
    return shapes


def make_values(
    generator: np.random.Generator, count: int, shapes: Shapes, *, of_pixels: bool = False
) -> dict[str, Array]:
    """Seeded stacks of so many inputs.

    Args:
        generator: draws them.
        count: examples in a stack.
        shapes: name to shape and type.
        of_pixels: the model scales pixels itself: images hold values from 0 to 255.
    """
    return {name: _values(generator, count, shape, dtype, of_pixels) for name, (shape, dtype) in shapes.items()}


def _values(
    generator: np.random.Generator, count: int, shape: tuple[int, ...], dtype: np.dtype[Any], of_pixels: bool
) -> Array:
    if np.issubdtype(dtype, np.floating):
        if len(shape) == 4 and shape[1] == 3 and min(shape[2:]) >= 8:
            return images(generator, count, shape).astype(dtype)
        if len(shape) == 4 and shape[3] == 3 and min(shape[1:3]) >= 8:
            return (pixels if of_pixels else photographs)(generator, count, shape).astype(dtype)
        return generator.standard_normal(size=(count, *shape)).astype(dtype)
    if dtype == np.bool_:
        return generator.integers(0, 2, size=(count, *shape)).astype(dtype)
    info = np.iinfo(dtype)
    low, high = (info.min, info.max + 1) if info.bits == 8 else (0, 1000)  # ids must fit unknown vocabularies
    return generator.integers(low, high, size=(count, *shape)).astype(dtype)
