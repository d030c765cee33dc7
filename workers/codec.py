"""Dataclasses as strict JSON: unknown, missing and mistyped fields are refused. Standard library only."""

from __future__ import annotations

import dataclasses
import json
import os
import types
import typing
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar, Union

Document = TypeVar("Document")
_LEAVES = frozenset((str, int, float, bool, type(None)))


class ContractError(ValueError):
    """A document does not follow the contract."""


def to_dict(document: Any) -> dict[str, Any]:
    """A document as plain JSON data."""
    found: dict[str, Any] = _plain(document)
    return found


def _plain(value: Any) -> Any:
    """What `dataclasses.asdict` gives, without its deep copies of every number and word: reports are long."""
    kind = type(value)
    if kind in _LEAVES:
        return value
    if dataclasses.is_dataclass(kind):
        return {name: _plain(getattr(value, name)) for name in _names(kind)}
    if isinstance(value, list | tuple):
        return kind(_plain(one) for one in value)
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    return value


@cache
def _names(kind: type) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(kind))


def from_dict(kind: type[Document], data: Any) -> Document:
    """Read a document strictly: unknown, missing and mistyped fields are refused.

    Raises:
        ContractError: with the path of the first field that is wrong.
    """
    return typing.cast("Document", _decode(kind, data, kind.__name__))


def write_document(document: Any, path: Path) -> None:
    """Write a document atomically: readers see the whole or nothing."""
    partial = path.with_name(path.name + ".part")
    with partial.open("w", encoding="utf-8") as file:
        file.write(json.dumps(to_dict(document), allow_nan=False))  # `dump` is ten times slower
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def read_document(kind: type[Document], path: Path) -> Document:
    """Read a document from a file.

    Raises:
        ContractError: the file is not such a document.
        OSError: the file cannot be read.
    """
    try:
        data = json.loads(path.read_bytes(), parse_constant=_refuse_constant)
    except ValueError as error:
        raise ContractError(f"{path.name}: not JSON: {error}") from error
    return from_dict(kind, data)


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


@cache
def _hints(kind: typing.Hashable) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _decode(kind: Any, data: Any, where: str) -> Any:
    origin = typing.get_origin(kind)
    if kind is Any:
        return data
    if origin in (Union, types.UnionType):
        return _decode_union(typing.get_args(kind), data, where)
    if origin is Literal:
        if data not in typing.get_args(kind):
            raise ContractError(f"{where}: {data!r} is none of {', '.join(map(str, typing.get_args(kind)))}")
        return data
    if dataclasses.is_dataclass(kind):
        return _decode_dataclass(typing.cast("type[Any]", kind), data, where)
    if origin is tuple:
        return _decode_tuple(typing.get_args(kind), data, where)
    if origin is dict:
        if not isinstance(data, dict):
            raise ContractError(f"{where}: expected an object")
        value_kind = typing.get_args(kind)[1]
        return {str(key): _decode(value_kind, value, f"{where}.{key}") for key, value in data.items()}
    if kind is float and isinstance(data, int) and not isinstance(data, bool):
        try:
            return float(data)
        except OverflowError as error:
            raise ContractError(f"{where}: {error}") from error
    if not isinstance(data, kind) or (isinstance(data, bool) and kind is not bool):
        raise ContractError(f"{where}: expected {kind.__name__}, got {type(data).__name__}")
    return data


def _decode_union(kinds: tuple[Any, ...], data: Any, where: str) -> Any:
    if data is None and type(None) in kinds:
        return None
    others = [kind for kind in kinds if kind is not type(None)]
    return _decode(others[0], data, where)  # the contract has no unions but "or None"


def _decode_tuple(kinds: tuple[Any, ...], data: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(data, list | tuple):
        raise ContractError(f"{where}: expected a list")
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        return tuple(_decode(kinds[0], item, f"{where}[{index}]") for index, item in enumerate(data))
    if len(data) != len(kinds):
        raise ContractError(f"{where}: expected {len(kinds)} items, got {len(data)}")
    return tuple(_decode(kind, item, f"{where}[{i}]") for i, (kind, item) in enumerate(zip(kinds, data, strict=True)))


def _decode_dataclass(kind: type[Any], data: Any, where: str) -> Any:
    if not isinstance(data, dict):
        raise ContractError(f"{where}: expected an object")
    hints = _hints(typing.cast("typing.Hashable", kind))
    if unknown := sorted(set(data) - set(hints)):
        raise ContractError(f"{where}: unknown field {unknown[0]}")
    ours = getattr(kind, "schema_version", None)
    if ours is not None and data.get("schema_version", ours) != ours:
        raise ContractError(f"{where}: schema version {data['schema_version']}, this code reads {ours}")
    values = {name: _decode(hint, data[name], f"{where}.{name}") for name, hint in hints.items() if name in data}
    try:
        return kind(**values)
    except TypeError as error:
        raise ContractError(f"{where}: {error}") from error
