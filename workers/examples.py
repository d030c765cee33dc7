"""Example inputs with their reference outputs, and calibration inputs: `.npz` files without pickles."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers.errors import AttemptError, Cause

Array = NDArray[Any]


@dataclass(frozen=True)
class Examples:
    """Stacked examples: each input has shape (examples, *input shape), in the order the program takes them."""

    inputs: dict[str, Array]
    #: Reference outputs, each (examples, *output shape); empty for calibration data and where there is no reference.
    outputs: tuple[Array, ...] = ()

    def __len__(self) -> int:
        return len(next(iter(self.inputs.values())))

    def input_at(self, index: int) -> dict[str, Array]:
        """The inputs of one example."""
        return {name: stack[index] for name, stack in self.inputs.items()}

    def each(self) -> Iterator[dict[str, Array]]:
        """The inputs of each example."""
        return (self.input_at(index) for index in range(len(self)))

    def shapes(self) -> dict[str, tuple[Any, ...]]:
        """Each input's type and shape, as documents carry it: ("float32", 1, 3, 224, 224)."""
        return {name: (str(stack.dtype), *stack.shape[1:]) for name, stack in self.inputs.items()}

    def save(self, path: Path) -> None:
        """Write as `.npz`; order is kept in the names."""
        arrays = {f"input:{index}:{name}": stack for index, (name, stack) in enumerate(self.inputs.items())}
        arrays |= {f"output:{index}": stack for index, stack in enumerate(self.outputs)}
        with path.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]  # the stubs confuse names with options


def load_examples(path: Path) -> Examples:
    """Read what `Examples.save` wrote."""
    inputs: dict[str, Array] = {}
    outputs = []
    with np.load(path, allow_pickle=False) as archive:
        for key in archive.files:
            role, _, name = key.partition(":")
            if role == "input":
                inputs[name.partition(":")[2]] = archive[key]
            else:
                outputs.append(archive[key])
    return Examples(inputs, tuple(outputs))


def load_user_calibration(path: Path, like: Examples) -> Examples:
    """Read a user's calibration file: one array per input, by name or in order, with a leading axis of examples.

    Raises:
        AttemptError: the file cannot be read or does not fit the model's inputs.
    """
    try:
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            arrays = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise AttemptError(
            Cause.USER, "bad_calibration", f"calibration file {path.name} cannot be read: {error}"
        ) from error
    if set(arrays) != set(like.inputs):
        if len(arrays) != len(like.inputs):
            wanted = ", ".join(like.inputs)
            raise AttemptError(
                Cause.USER, "bad_calibration", f"calibration file {path.name} must hold the inputs {wanted}"
            )
        arrays = dict(zip(like.inputs, arrays.values(), strict=True))
    inputs = {}
    counts = {len(given) for given in arrays.values() if given.ndim}
    for name, stack in like.inputs.items():
        given = arrays[name]
        numeric = np.issubdtype(given.dtype, np.number) or given.dtype == np.bool_
        if given.shape[1:] != stack.shape[1:] or len(counts) != 1 or counts == {0} or not numeric:
            raise AttemptError(
                Cause.USER,
                "bad_calibration",
                f"calibration input {name} has shape {given.shape}; it needs (examples, *{stack.shape[1:]})",
            )
        inputs[name] = given.astype(stack.dtype)
    return Examples(inputs)
