"""YAML as data, with the place of everything in it.

YAML 1.2 as far as people mean it: `on` and `no` are words, `1:30` and `2026-01-02` are texts, a key stands once in a
mapping. Anchors are allowed, and bounded: what they unfold to may not be much larger than what was written.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from scheduler.sweeps.complaints import Complaint, Position, SweepFileError

#: Sizes of a sweep file: in characters, in levels, and in values once its anchors are unfolded.
MOST_CHARACTERS = 64 * 1024
_MOST_LEVELS = 20
_MOST_VALUES = 20_000

#: The names and numbers that lead to a value: ("options", "threads", 0).
Path = tuple[str | int, ...]

_PLAIN: dict[str, tuple[re.Pattern[str], Callable[[str], Any]]] = {
    "bool": (re.compile(r"true|True|TRUE|false|False|FALSE"), lambda text: text.lower() == "true"),
    "null": (re.compile(r"~|null|Null|NULL|"), lambda _: None),
    "int": (re.compile(r"[-+]?[0-9]{1,18}"), int),
    "float": (re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]{1,4})?"), float),
}


@dataclass
class Document:
    """Plain data, and where each part of it stands."""

    data: Any
    places: dict[Path, Position] = field(default_factory=dict)
    #: Of the keys of mappings.
    keys: dict[Path, Position] = field(default_factory=dict)

    def at(self, path: Path, *, key: bool = False) -> Position:
        """Where a value (or its key) stands; of what is not there, where it would be."""
        known = self.keys if key else self.places
        while path and path not in known:
            path = path[:-1]
        return known.get(path, Position())


class _Loader(yaml.SafeLoader):
    """Composes, and resolves nothing by itself: what a plain scalar means is said here."""


_Loader.yaml_implicit_resolvers = {}


def read_document(text: str, source: str) -> Document:
    """Read YAML.

    Raises:
        SweepFileError: it is none, or larger, deeper or more repetitive than any sweep is.
    """
    if len(text) > MOST_CHARACTERS:
        raise _one(source, Position(), f"{len(text)} characters: a sweep has {MOST_CHARACTERS} at most")
    try:
        _check_levels(text, source)
        node = yaml.compose(text, Loader=_Loader)
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        at = Position(before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1)
        raise _one(source, at, f"a character that YAML does not allow: U+{ord(text[error.position]):04X}") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = (error.problem or str(error)).replace("\n", " ")
        about = f", {error.context}" if error.context else ""
        raise _one(source, _position(mark), f"not YAML: {what}{about}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise _one(source, Position(), f"not YAML: {str(error).splitlines()[0]}") from error
    if node is None:
        raise _one(source, Position(), "the file is empty")
    return _Reading(source).document(node)


class _Reading:
    """From nodes to data."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._found = Document(None)
        self._complaints: list[Complaint] = []
        self._count = 0

    def document(self, node: Node) -> Document:
        self._found.data = self._value(node, (), ())
        if self._complaints:
            raise SweepFileError(self._source, self._complaints)
        return self._found

    def _value(self, node: Node, path: Path, within: tuple[Node, ...]) -> Any:
        self._count += 1
        at = _position(node.start_mark)
        if self._count > _MOST_VALUES:
            raise _one(self._source, at, f"with its anchors unfolded it has more than {_MOST_VALUES} values")
        if any(node is other for other in within):
            raise _one(self._source, at, "an anchor that contains itself")
        self._found.places[path] = at
        within = (*within, node)
        if isinstance(node, MappingNode) and node.tag == "tag:yaml.org,2002:map":
            return dict(self._items(node, path, within))
        if isinstance(node, SequenceNode) and node.tag == "tag:yaml.org,2002:seq":
            return [self._value(item, (*path, number), within) for number, item in enumerate(node.value)]
        if isinstance(node, ScalarNode) and node.tag == "tag:yaml.org,2002:str":
            return self._scalar(node, at)
        self._complain(at, f"the tag {_short(node.tag)} has no meaning here")
        return None

    def _items(self, node: MappingNode, path: Path, within: tuple[Node, ...]) -> Iterator[tuple[str, Any]]:
        seen: dict[str, Position] = {}
        for key, value in node.value:
            at = _position(key.start_mark)
            if not isinstance(key, ScalarNode) or key.tag != "tag:yaml.org,2002:str":
                self._complain(at, "a key is a word")
                continue
            name = key.value
            if name == "<<" and key.style is None:
                self._complain(at, "<< is not merged: write the fields out")
                continue
            if name in seen:
                self._complain(at, f"{_short(name)} stands twice, first in line {seen[name].line}")
                continue
            seen[name] = self._found.keys[*path, name] = at
            yield name, self._value(value, (*path, name), within)

    def _scalar(self, node: ScalarNode, at: Position) -> Any:
        if node.style is not None:  # quoted: a text
            return node.value
        for pattern, convert in _PLAIN.values():
            if pattern.fullmatch(node.value):
                value = convert(node.value)
                if isinstance(value, float) and not math.isfinite(value):
                    self._complain(at, f"{_short(node.value)} is too large a number")
                return value
        return node.value

    def _complain(self, at: Position, sentence: str) -> None:
        self._complaints.append(Complaint(at, sentence))


def _check_levels(text: str, source: str) -> None:
    """Refuse what is nested deeper than any sweep: composing recurses."""
    level = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            level += 1
            if level > _MOST_LEVELS:
                raise _one(source, _position(event.start_mark), f"nested deeper than {_MOST_LEVELS} levels")
        elif isinstance(event, yaml.CollectionEndEvent):
            level -= 1


def _position(mark: Any) -> Position:
    return Position(mark.line + 1, mark.column + 1) if mark is not None else Position()


def _one(source: str, at: Position, sentence: str) -> SweepFileError:
    return SweepFileError(source, [Complaint(at, sentence)])


def _short(text: str) -> str:
    shown = text if len(text) <= 40 else text[:37] + "..."
    return repr(shown)
