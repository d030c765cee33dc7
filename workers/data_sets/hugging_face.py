"""`hf:NAME[:CONFIG]`: data sets of the Hugging Face Hub, from the local cache or where it can be reached.

`hf:FOLDER` is one that `save_to_disk` wrote; a path begins with `/`, `./`, `../` or `~`. Code of a repository never
runs: the library has no scripts any more. Images are prepared for the model; other columns must be its inputs, by name
or in order. The labels are the column of classes, or `label`, `labels` or `y`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from device_registry.errors import UsageError
from workers.data_sets.classes import classes_of, indices
from workers.data_sets.data_set import MOST_BYTES, DataSet, Identity, Split, Wanted
from workers.data_sets.fitting import fitted
from workers.data_sets.labelled import Labelled, bad_data
from workers.data_sets.parts import limited, parting
from workers.data_sets.pictures import ImageInput
from workers.errors import first_line
from workers.examples import Array
from workers.models.source import file_digest

_NAME = re.compile(r"(?P<name>[\w.-]+(/[\w.-]+)?)(:(?P<config>[\w.-]+))?(@(?P<hash>\w+))?")
_TESTS = ("test", "validation", "valid", "val", "dev")
_LABELS = ("label", "labels", "y")


class HuggingFace(DataSet):
    """What is loaded is what was planned: the revision is pinned."""

    packages: ClassVar[tuple[str, ...]] = ("datasets", "pillow")

    def identify(self, rest: str, limit: int | None) -> Identity:
        """See `DataSet.identify`."""
        if (folder := _folder(rest)) is not None:
            if not any((folder / name).is_file() for name in ("dataset_dict.json", "state.json")):
                raise UsageError(f"hf:{folder.name} is no folder that save_to_disk wrote")
            return Identity(name=f"hf:{folder.name}", digest=file_digest(folder), spec=f"hf:{folder}")
        match = _NAME.fullmatch(rest)
        if match is None:
            raise UsageError(f"hf:{rest} is no name of a data set: hf:NAME, hf:NAME:CONFIG or hf:FOLDER")
        builder = _builder(match)
        name = f"hf:{match['name']}" + (f":{match['config']}" if match["config"] else "")
        return Identity(name=name, digest=str(builder.hash), spec=f"{name}@{builder.hash}")

    def load(self, rest: str, wanted: Wanted) -> Split:
        """See `DataSet.load`."""
        name, splits = _loaded(rest)
        column = _label_column(next(iter(splits.values())), name)
        labels = {key: _labels(rows, column, name) for key, rows in splits.items()}
        # A test part whose labels are kept secret has -1 everywhere.
        test = next((key for key in _TESTS if key in splits and not _hidden(labels[key])), None)
        if test is None:
            whole = "train" if "train" in splits else next(iter(splits))
            learnt, asked = parting(labels[whole], limit=wanted.limit)
            chosen = {"train": (whole, learnt), "test": (whole, asked)}
        else:
            keys = {"train": "train"} if "train" in splits else {}
            keys["test"] = test
            chosen = {part: (key, limited(labels[key], wanted.limit)) for part, key in keys.items()}
        names = getattr(splits[chosen["test"][0]].features[column], "names", None)
        classes = classes_of([labels[key] for key, _ in chosen.values()], names, wanted.outputs)
        skipped: list[str] = []
        made = {}
        for part, (key, rows) in chosen.items():
            inputs, kept = _inputs(splits[key].select(rows), column, wanted, name, skipped)
            found = indices(labels[key], classes, name)[rows][kept]
            made[part] = fitted(Labelled(inputs, found, classes, name), wanted)
        counted = {part: replace(data, skipped=len(skipped)) for part, data in made.items()}
        return Split(train=counted.get("train"), test=counted["test"], skipped=tuple(skipped))


def _folder(rest: str) -> Path | None:
    """The folder that a path names; None of a name."""
    if not rest.startswith(("/", "./", "../", "~")):
        return None
    path = Path(rest).expanduser().absolute()
    if not path.is_dir():
        raise UsageError(f"there is no folder hf:{rest}")
    return path


def _builder(match: re.Match[str]) -> Any:
    """What loads a data set by its name, at the revision that is in the cache or on the Hub.

    Raises:
        UsageError: it is neither cached nor can be had.
    """
    import datasets

    name = match["name"]
    try:
        # So named, a folder that happens to be called so here is never taken for it.
        return datasets.load_dataset_builder(f"hf://datasets/{name}", match["config"])
    except (OSError, ValueError, RuntimeError) as error:
        raise UsageError(
            f"the data set hf:{name} is not cached, and cannot be had from the Hugging Face Hub: {first_line(error)}"
        ) from error


def _loaded(rest: str) -> tuple[str, dict[str, Any]]:
    """The data set's name as results have it, and its parts by their names.

    Raises:
        AttemptError: it cannot be read, or is not that any more that was planned.
    """
    import datasets

    datasets.disable_progress_bars()
    if (folder := _folder(rest)) is not None:
        name = f"hf:{folder.name}"
        try:
            found = datasets.load_from_disk(str(folder))
        except (OSError, ValueError, KeyError) as error:
            raise bad_data(f"{name} cannot be read: {first_line(error)}") from error
    else:
        match = _NAME.fullmatch(rest)
        assert match is not None
        name = f"hf:{match['name']}" + (f":{match['config']}" if match["config"] else "")
        builder = _builder(match)
        if str(builder.hash) != match["hash"]:
            raise bad_data(f"{name} has changed since this was planned: run it again")
        try:
            builder.download_and_prepare()
            found = builder.as_dataset()
        except (OSError, ValueError, RuntimeError) as error:
            raise bad_data(f"{name} cannot be read: {first_line(error)}") from error
    splits = dict(found) if isinstance(found, dict) else {"train": found}
    splits = {key: rows for key, rows in splits.items() if len(rows)}
    if not splits:
        raise bad_data(f"{name} holds no examples")
    return name, splits


def _label_column(rows: Any, name: str) -> str:
    named = [key for key, feature in rows.features.items() if type(feature).__name__ == "ClassLabel"]
    found = [key for key in _LABELS if key in rows.features] if len(named) != 1 else named
    if not found:
        raise bad_data(f"{name} has no column of labels ({', '.join(_LABELS)}); it holds {', '.join(rows.features)}")
    return found[0]


def _labels(rows: Any, column: str, name: str) -> Array:
    """(examples,) of whole numbers or names."""
    labels = np.asarray(rows[column][:])
    if labels.ndim != 1 or labels.dtype.kind not in "iuU":
        raise bad_data(f"labels of {name} ({column}) are {labels.dtype} {labels.shape}: no classes")
    return labels


def _hidden(labels: Array) -> bool:
    return labels.dtype.kind == "i" and bool((labels < 0).all())


def _inputs(rows: Any, label: str, wanted: Wanted, name: str, skipped: list[str]) -> tuple[dict[str, Array], list[int]]:
    """The inputs of some examples, and which of them could be read."""
    import datasets

    columns = [key for key in rows.features if key != label]
    pictures = [key for key in columns if isinstance(rows.features[key], datasets.Image)]
    if pictures:
        image = ImageInput.of(wanted, name)
        undecoded = rows.cast_column(pictures[0], datasets.Image(decode=False))
        stack, kept = image.read_all(_pictures(undecoded, pictures[0]), len(rows), name, skipped)
        return {image.name: stack}, kept
    if set(wanted.inputs) <= set(columns):
        columns = list(wanted.inputs)
    size = sum(int(np.prod(shape, dtype=np.int64)) * np.dtype(kind).itemsize for kind, shape in wanted.inputs.values())
    if len(rows) * size > MOST_BYTES:
        raise bad_data(f"{name}: {len(rows)} examples of {size} bytes are too many; take fewer with a limit")
    inputs = {}
    for column in columns:
        try:
            inputs[column] = np.array(rows[column][:])
        except ValueError as error:
            raise bad_data(f"{name}: examples of {column} are not all of one shape") from error
    return inputs, list(range(len(rows)))


def _pictures(rows: Any, column: str) -> Iterator[tuple[str, Path | bytes]]:
    for index in range(len(rows)):
        held = rows[index][column] or {}
        called = f"example {index}" + (f" ({Path(held['path']).name})" if held.get("path") else "")
        yield called, held["bytes"] if held.get("bytes") is not None else Path(held.get("path") or "")
