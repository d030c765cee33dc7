"""`folder:PATH`: images, one folder for each class; beneath train/ and test/ (or val/) where it is parted already.

Without, a seeded fifth is for tests; with test/ alone there is nothing to learn from, and all is for tests.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from device_registry.errors import UsageError
from workers.data_sets.data_set import DataSet, Identity, Split, Wanted
from workers.data_sets.labelled import Labelled, bad_data
from workers.data_sets.parts import limited, parting
from workers.data_sets.pictures import SUFFIXES, ImageInput
from workers.examples import Array
from workers.models.source import file_digest

_TRAIN, _TESTS = "train", ("test", "val", "validation")


@dataclass(frozen=True, kw_only=True)
class _Files:
    """Files of one part, in order, with the class of each."""

    paths: list[Path]
    labels: list[int]


class ImageFolder(DataSet):
    """A file that cannot be read is left out, counted and named. Nothing outside the folder is read."""

    packages: ClassVar[tuple[str, ...]] = ("pillow",)

    def identify(self, rest: str, limit: int | None) -> Identity:
        """See `DataSet.identify`."""
        root = Path(rest).expanduser().absolute()
        if not rest or not root.is_dir():
            raise UsageError(f"there is no data set folder:{rest}: name a folder of images, folder:PATH")
        classes, train, test = _listed(root, limit)
        digest = hashlib.sha256(repr(classes).encode())
        for part in (train, test):
            for path in part.paths:
                digest.update(f"{path.relative_to(root).as_posix()}\0{file_digest(path)}\0".encode())
            digest.update(b"\0\0")
        return Identity(name=_name(root), digest=digest.hexdigest(), spec=f"folder:{root}")

    def load(self, rest: str, wanted: Wanted) -> Split:
        """See `DataSet.load`."""
        root = Path(rest)
        image = ImageInput.of(wanted, _name(root))
        classes, train, test = _listed(root, wanted.limit)
        skipped: list[str] = []
        read = {part: _read(files, image, root, skipped) for part, files in (("train", train), ("test", test))}
        lost = {*train.labels, *test.labels} - {int(label) for _, labels in read.values() for label in labels}
        if lost:
            raise bad_data(f"{_name(root)}: no image of class {classes[min(lost)]} can be read: {skipped[0]}")
        made = {
            part: Labelled({image.name: stack}, labels, classes, _name(root), len(skipped))
            for part, (stack, labels) in read.items()
            if len(labels)
        }
        if "test" not in made:
            raise bad_data(f"{_name(root)}: no test image can be read: {skipped[0]}")
        return Split(train=made.get("train"), test=made["test"], skipped=tuple(skipped))


def _name(root: Path) -> str:
    return f"folder:{root.name}"


def _read(part: _Files, image: ImageInput, root: Path, skipped: list[str]) -> tuple[Array, Array]:
    named = ((path.relative_to(root).as_posix(), path) for path in part.paths)
    stack, rows = image.read_all(named, len(part.paths), _name(root), skipped)
    return stack, np.array(part.labels, np.int64)[rows]


def _listed(root: Path, limit: int | None) -> tuple[tuple[str, ...], _Files, _Files]:
    """Names of classes, and the files for training and for tests: the same for the same folder on every host.

    Raises:
        UsageError: it is no folder of classes, a class has no image, or a link leads out of it.
    """
    parts = {path.name: path for path in _folders(root, root)}
    test = next((parts[name] for name in _TESTS if name in parts), None)
    if test is None:
        classes, whole = _part(root, root, None)
        learnt_rows, test_rows = parting(np.array(whole.labels), limit=limit)
        return classes, _some(whole, learnt_rows), _some(whole, test_rows)
    train = parts.get(_TRAIN)
    if train is None:
        classes, tests = _part(test, root, None)
        return classes, _Files(paths=[], labels=[]), _limited(tests, limit)
    classes, learnt = _part(train, root, None)
    _, tests = _part(test, root, classes)
    return classes, _limited(learnt, limit), _limited(tests, limit)


def _limited(files: _Files, limit: int | None) -> _Files:
    return _some(files, limited(np.array(files.labels), limit))


def _some(files: _Files, rows: Array) -> _Files:
    return _Files(paths=[files.paths[row] for row in rows], labels=[files.labels[row] for row in rows])


def _part(folder: Path, root: Path, classes: tuple[str, ...] | None) -> tuple[tuple[str, ...], _Files]:
    found = {path.name: path for path in _folders(folder, root)}
    name = _name(root)
    if len(found) < 2:
        raise UsageError(
            f"{name} must hold a folder of images for each class, two at least; {_shown(folder, root)} has {len(found)}"
        )
    names = tuple(sorted(found, key=_by_number)) if classes is None else classes
    if strangers := sorted(set(found) - set(names)):
        raise UsageError(f"{name}: {_shown(folder, root)} has the class {strangers[0]}, which {_TRAIN} has not")
    paths: list[Path] = []
    labels: list[int] = []
    for label, class_name in enumerate(names):
        files = list(_images(found[class_name], root)) if class_name in found else []
        if not files:
            raise UsageError(f"{name}: class {class_name} has no image in {_shown(folder, root)}")
        paths += files
        labels += [label] * len(files)
    return names, _Files(paths=paths, labels=labels)


def _by_number(name: str) -> tuple[int, int, str]:
    """Folders that are called by numbers are in their order: 2 before 10."""
    return (0, int(name), name) if name.isdecimal() else (1, 0, name)


def _folders(folder: Path, root: Path) -> list[Path]:
    with os.scandir(folder) as entries:
        return [
            _inside(Path(entry.path), root)
            for entry in sorted(entries, key=lambda entry: entry.name)
            if entry.is_dir() and not entry.name.startswith(".")
        ]


def _images(folder: Path, root: Path) -> Iterator[Path]:
    """Image files beneath a folder, in order."""
    for where, folders, files in os.walk(folder):
        folders.sort()
        for name in folders:
            _inside(Path(where, name), root)
        for name in sorted(files):
            if Path(name).suffix.lower() in SUFFIXES and not name.startswith("."):
                yield _inside(Path(where, name), root)


def _inside(path: Path, root: Path) -> Path:
    if path.is_symlink() and not path.resolve().is_relative_to(root.resolve()):
        raise UsageError(f"{_name(root)}: {path.relative_to(root).as_posix()} is a link that leads out of the folder")
    return path


def _shown(folder: Path, root: Path) -> str:
    return "it" if folder == root else folder.relative_to(root).as_posix()
