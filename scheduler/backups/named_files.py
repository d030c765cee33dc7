"""Which files of the artifact store the rows of a database name."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator
from types import UnionType
from typing import Any, Union

from sqlalchemy import JSON, Connection, Select, Table, inspect, select

from device_registry.database import table_of
from scheduler.backups.manifest import DIGEST
from scheduler.tables import Artifact, Attempt, Profile, Result
from workers.contract import StoredFile
from workers.report import Report

_ROWS_AT_ONCE = 10_000


def named_files(connection: Connection) -> set[str]:
    """Digests of every stored file that a row names: artifacts, what comes with them, logs, latencies, telemetry."""
    there = set(inspect(connection).get_table_names())
    found: set[str] = set()
    for table, query in _queries():
        if table.name not in there:  # made by a later schema
            continue
        rows = connection.execution_options(yield_per=_ROWS_AT_ONCE).execute(query)
        for row in rows:
            for value in row:
                found.update([value] if isinstance(value, str) else (value or {}).values())
    return {sha256 for sha256 in found if DIGEST.fullmatch(sha256)}


def _queries() -> Iterator[tuple[Table, Select[Any]]]:
    artifacts, attempts = table_of(Artifact), table_of(Attempt)
    yield artifacts, select(artifacts.c.sha256, artifacts.c.companions)
    yield attempts, select(attempts.c.log_sha256).where(attempts.c.log_sha256.is_not(None))
    for table in (table_of(Result), table_of(Profile)):
        assert isinstance(table.c.document.type, JSON)
        inside = [table.c.document[(*path, "sha256")].as_string() for path in stored_paths(Report)]
        yield table, select(table.c.artifact_sha256, *inside)


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
