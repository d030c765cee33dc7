"""`npz:FILE`: arrays of numpy, with a leading axis of examples.

One array per input of the model, by name or in order, and `y` (or `label`, `labels`): whole numbers, or names of
classes. With `_train` and `_test` behind all names the parts are as given (`x_train`, `y_train`, `x_test`, `y_test`);
without, a seeded fifth is for tests. `classes` names the classes, in the order of the model's outputs.
"""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np

from device_registry.errors import UsageError
from workers.data_sets.classes import classes_of, indices
from workers.data_sets.data_set import MOST_BYTES, DataSet, Identity, Split, Wanted
from workers.data_sets.fitting import fitted
from workers.data_sets.labelled import Labelled, bad_data
from workers.data_sets.parts import first, parted
from workers.errors import first_line
from workers.examples import Array
from workers.models.source import file_digest

_LABELS = ("y", "label", "labels")
_ENDINGS = ("_train", "_test")


class NpzFile(DataSet):
    """Never unpickles: an array of Python objects is refused."""

    def identify(self, rest: str, limit: int | None) -> Identity:
        """See `DataSet.identify`."""
        path = Path(rest).expanduser().absolute()
        if not rest or not path.is_file():
            raise UsageError(f"there is no data set npz:{rest}: name a file, npz:FILE")
        try:
            with zipfile.ZipFile(path) as archive:
                held = archive.infolist()
        except (OSError, zipfile.BadZipFile) as error:
            raise UsageError(f"{_name(path)} cannot be read: {first_line(error)}") from error
        if sum(member.file_size for member in held) > MOST_BYTES:
            raise UsageError(f"{_name(path)} holds more than {MOST_BYTES / 2**30:.0f} GiB")
        if not held:
            raise UsageError(f"{_name(path)} holds no arrays")
        return Identity(name=_name(path), digest=file_digest(path), spec=f"npz:{path}")

    def load(self, rest: str, wanted: Wanted) -> Split:
        """See `DataSet.load`."""
        path = Path(rest)
        name = _name(path)
        arrays = _read(path)
        named = arrays.pop("classes", None)
        parts = _parts(arrays, name)
        labels = {part: _labels_of(held, name) for part, held in parts.items()}
        classes = classes_of(list(labels.values()), named, wanted.outputs)
        made = {
            part: fitted(Labelled(held, indices(labels[part], classes, name), classes, name), wanted)
            for part, held in parts.items()
        }
        if "" in made:
            train, test = parted(made[""], limit=wanted.limit)
            return Split(train=train, test=test)
        learnt = made.get("_train")
        return Split(
            train=None if learnt is None else first(learnt, wanted.limit), test=first(made["_test"], wanted.limit)
        )


def _name(path: Path) -> str:
    return f"npz:{path.name}"


def _read(path: Path) -> dict[str, Array]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}
    except (OSError, ValueError, EOFError, KeyError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
        raise bad_data(f"{_name(path)} cannot be read: {first_line(error)}") from error


def _parts(arrays: dict[str, Array], name: str) -> dict[str, dict[str, Array]]:
    """The arrays of each part, without its ending: of the whole under "", or of _test and perhaps of _train."""
    parts: dict[str, dict[str, Array]] = {}
    for key, value in arrays.items():
        part = next((ending for ending in _ENDINGS if key.endswith(ending)), "")
        parts.setdefault(part, {})[key.removesuffix(part)] = value
    if "" in parts and len(parts) > 1:
        raise bad_data(f"{name} holds {next(iter(parts['']))} beside parts that end in _train and _test")
    if "_train" in parts and "_test" not in parts:
        raise bad_data(f"{name} holds arrays for training and none for tests; without _train it is parted here")
    return parts


def _labels_of(held: dict[str, Array], name: str) -> Array:
    """Take the labels out of a part: (examples,)."""
    keys = [key for key in held if key in _LABELS]
    if len(keys) != 1:
        raise bad_data(f"{name} must hold its labels under y (or {', '.join(_LABELS[1:])}); it holds {', '.join(held)}")
    labels = held.pop(keys[0])
    return labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels  # as Keras' own files have them
