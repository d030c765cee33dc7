"""A document put together of parts of another: whatever is wrong with it is told where it was written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from scheduler.sweeps.document import Document, Path


def overlay(document: Document, paths: Iterable[Path]) -> Document:
    """Mappings of a document laid over one another: later ones before earlier, field by field.

    Fields that are mappings in both are laid over one another, too; lists are replaced.

    Args:
        document: that they stand in.
        paths: where each stands; one that is not there adds nothing.
    """
    made = Document({})
    for path in paths:
        part = part_of(document.data, path)
        if not isinstance(part, Mapping):
            continue
        made.places[()] = document.at(path)
        for name, value in part.items():
            if isinstance(value, Mapping) and isinstance(made.data.get(name), dict):
                for inner, its in value.items():
                    made.data[name][inner] = its
                    copy_places(document, (*path, name, inner), made, (name, inner))
            else:
                made.data[name] = dict(value) if isinstance(value, Mapping) else value
                copy_places(document, (*path, name), made, (name,))
    return made


def part_of(data: Any, path: Path) -> Any:
    """What stands at a path; None: nothing."""
    for step in path:
        if isinstance(step, int):
            data = data[step] if isinstance(data, list) and step < len(data) else None
        else:
            data = data.get(step) if isinstance(data, Mapping) else None
    return data


def copy_places(source: Document, path: Path, made: Document, to: Path) -> None:
    """Where a value and all within it stand, for a document that has it elsewhere."""
    made.places[to] = source.at(path)
    made.keys[to] = source.at(path, key=True)
    value = part_of(source.data, path)
    inner: Iterable[str | int] = ()
    if isinstance(value, Mapping):
        inner = value
    elif isinstance(value, list):
        inner = range(len(value))
    for step in inner:
        copy_places(source, (*path, step), made, (*to, step))
