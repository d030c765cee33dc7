"""Which files of the artifact store the rows of a database name."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator
from types import UnionType
from typing import Any, Union

from sqlalchemy import Connection, Select, inspect, select
from sqlmodel import SQLModel

from scheduler.backups.manifest import DIGEST
from workers.contract import StoredFile
from workers.report import Report

_ROWS_AT_ONCE = 10_000


def named_files(connection: Connection) -> set[str]:
    """Digests of every stored file that a row names: artifacts, what comes with them, logs, latencies, telemetry."""
    found: set[str] = set()
    for query in _queries(connection):
        rows = connection.execution_options(yield_per=_ROWS_AT_ONCE).execute(query)
        for row in rows:
            for value in row:
                found.update([value] if isinstance(value, str) else (value or {}).values())
    return {sha256 for sha256 in found if DIGEST.fullmatch(sha256)}


def _queries(connection: Connection) -> Iterator[Select[Any]]:
    """One for each table that names files: in columns that are called so, in companions, in documents."""
    known = inspect(connection)
    columns = {name: {column["name"] for column in known.get_columns(name)} for name in known.get_table_names()}
    # Before schema 0004 raw times stood in documents only; since then documents go on naming what was pruned.
    in_documents = "raw_sha256" not in columns["attempt"]
    for table in SQLModel.metadata.sorted_tables:
        there = columns.get(table.name, set())  # empty: made by a later schema
        wanted: list[Any] = [column for column in table.c if column.name in there and _names_a_file(column.name)]
        if table.name == "artifact":
            wanted.append(table.c.companions)
        if table.name == "result" and in_documents:
            wanted += [table.c.document[(*path, "sha256")].as_string() for path in stored_paths(Report)]
        if wanted:
            yield select(*wanted)


def _names_a_file(column: str) -> bool:
    return column == "sha256" or column.endswith("_sha256")


def stored_paths(document: type[Any]) -> list[tuple[str, ...]]:
    """Where a kind of document names stored files, as its fields say: a new one is found by itself.

    Those of a conversion have rows of their own.
    """
    paths: list[tuple[str, ...]] = []
    for name, kind in typing.get_type_hints(document).items():
        kinds = typing.get_args(kind) if typing.get_origin(kind) in (Union, UnionType) else (kind,)
        for one in kinds:
            if one is StoredFile:
                paths.append((name,))
            elif dataclasses.is_dataclass(one) and isinstance(one, type) and name != "conversion":
                paths += [(name, *path) for path in stored_paths(one)]
    return paths
