"""Labelled examples: `.npz` files without pickles."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from workers.errors import AttemptError, Cause
from workers.examples import Array


@dataclass(frozen=True)
class Labelled:
    """Examples with the class of each.

    Raises:
        AttemptError: labels and inputs do not belong together; the sentence says what is wrong.
    """

    #: Each (examples, *shape), without a batch, in the order the program takes them.
    inputs: dict[str, Array]
    #: (examples,) of integers: the index into `classes`.
    labels: Array
    #: Names, in the order of a model's outputs.
    classes: tuple[str, ...]
    #: As people name the data set, without folders of this machine.
    name: str = ""
    #: Examples of the data set that could not be read, and are left out here.
    skipped: int = 0

    def __post_init__(self) -> None:
        count = len(self.labels) if self.labels.ndim == 1 else None
        if count is None or not np.issubdtype(self.labels.dtype, np.integer):
            raise bad_data(
                f"labels of {self._shown} are {self.labels.dtype} {self.labels.shape}; they must be one whole number "
                "for each example"
            )
        for name, stack in self.inputs.items():
            if stack.ndim == 0 or len(stack) != count:
                raise bad_data(f"{self._shown} has {count} labels, and its input {name} is of shape {stack.shape}")
        if not self.inputs or count == 0:
            raise bad_data(f"{self._shown} holds no examples")
        if len(self.classes) < 2:
            raise bad_data(f"{self._shown} has {len(self.classes)} class: there must be at least two to tell apart")
        if len(set(self.classes)) < len(self.classes):
            raise bad_data(f"{self._shown} has two classes of one name")
        low, high = int(self.labels.min()), int(self.labels.max())
        if low < 0 or high >= len(self.classes):
            wrong = low if low < 0 else high
            raise bad_data(f"{self._shown} has the label {wrong}; with {len(self.classes)} classes they are below that")

    def __len__(self) -> int:
        return len(self.labels)

    def taken(self, rows: Array) -> Labelled:
        """Some of the examples, by their indices."""
        inputs = {name: stack[rows] for name, stack in self.inputs.items()}
        return Labelled(inputs, self.labels[rows], self.classes, self.name, self.skipped)

    def save(self, path: Path) -> None:
        """Write as `.npz`; order is kept in the names. The same examples give the same bytes."""
        arrays = {f"input:{index}:{name}": stack for index, (name, stack) in enumerate(self.inputs.items())}
        arrays |= {"labels": self.labels, "classes": np.array(self.classes)}
        arrays |= {"about": np.array(json.dumps({"name": self.name, "skipped": self.skipped}))}
        with path.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]  # the stubs confuse names with options

    @property
    def _shown(self) -> str:
        return self.name or "the data set"


def load_labelled(path: Path) -> Labelled:
    """Read what `Labelled.save` wrote."""
    with np.load(path, allow_pickle=False) as archive:
        inputs = {key.split(":", 2)[2]: archive[key] for key in archive.files if key.startswith("input:")}
        classes = tuple(str(name) for name in archive["classes"])
        about = json.loads(str(archive["about"]))
        return Labelled(inputs, archive["labels"], classes, about["name"], about["skipped"])


def bad_data(message: str) -> AttemptError:
    """What is wrong with a user's data set."""
    return AttemptError(Cause.USER, "bad_data", message)
