"""What a backup says of itself, and what must hold before it is taken or put back. No input or output."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

from device_registry.errors import BenchfarmError, UsageError
from workers.codec import ContractError, from_dict, to_dict

MANIFEST = "manifest.json"
#: The store's files, a line each: digest, bytes.
FILES = "artifacts.txt"
DATABASE = {"sqlite": "database.sqlite", "postgresql": "database.pgdump"}
DIGEST = re.compile(r"[0-9a-f]{64}")

DatabaseKind = Literal["sqlite", "postgresql"]
#: What became of the store's files: in the archive, left to the bucket that holds them, or left out as was wished.
StoreState = Literal["copied", "elsewhere", "left_out"]


class BackupDamagedError(BenchfarmError):
    """The backup is damaged."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """A file of an archive."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What an archive holds. It is written last: an archive without one is none."""

    benchfarm: str
    #: When the picture of the database was taken: ISO 8601, UTC.
    made_at: str
    database: DatabaseKind
    #: Of the server and of the program that made the picture; None for SQLite.
    server: str | None
    tool: str | None
    schema_revision: str
    #: Table to number of rows.
    rows: dict[str, int]
    #: The database's picture and the list of the store's files.
    parts: tuple[Part, ...]
    store: StoreState
    #: Of the store's files that rows name: how many are in the archive, and how many were not in the store.
    files: int
    files_bytes: int
    files_missing: int
    schema_version: int = 1


def encode(manifest: Manifest) -> str:
    """A manifest as text."""
    return json.dumps(to_dict(manifest), indent=2) + "\n"


def decode(text: str | bytes) -> Manifest:
    """A manifest from text.

    Raises:
        BackupDamagedError: it is none that this version can read.
    """
    try:
        return from_dict(Manifest, json.loads(text))
    except (ValueError, RecursionError, ContractError) as error:
        raise BackupDamagedError(f"{MANIFEST} of the backup cannot be read: {error}") from error


def encode_files(files: Mapping[str, int]) -> str:
    """The list of the store's files: digest to bytes."""
    return "".join(f"{sha256} {size}\n" for sha256, size in sorted(files.items()))


def decode_files(text: str) -> dict[str, int]:
    """Digest to bytes.

    Raises:
        BackupDamagedError: a line is no digest and a size.
    """
    files = {}
    for number, line in enumerate(text.splitlines(), 1):
        sha256, _, size = line.partition(" ")
        if not DIGEST.fullmatch(sha256) or not (size.isascii() and size.isdigit()):
            raise BackupDamagedError(f"line {number} of {FILES} of the backup is no digest and a size")
        files[sha256] = int(size)
    return files


def file_name(sha256: str) -> str:
    """Where a file of the store lies in an archive: as it does in the store."""
    return f"artifacts/{sha256[:2]}/{sha256}"


def check_restorable(manifest: Manifest, target: str, known_revisions: Collection[str], server: int | None) -> None:
    """Whether an archive can be put back into a database of this kind by this code.

    Args:
        manifest: of the archive.
        target: sqlite or postgresql.
        known_revisions: schemas that this code can migrate from, its own included.
        server: major version of the server; None for SQLite.

    Raises:
        UsageError: it cannot; the sentence says what could.
    """
    if manifest.database != target:
        raise UsageError(
            f"the backup is of a {_NAMES[manifest.database]} database, BENCHFARM_DATABASE_URL names a "
            f"{_NAMES.get(target, target)} one: it can only be put back into its own kind"
        )
    if manifest.schema_revision not in known_revisions:
        raise UsageError(
            f"the backup has schema {manifest.schema_revision}, which this benchfarm does not know: "
            f"install benchfarm {manifest.benchfarm}, which made it"
        )
    if server is not None and (made_on := major(manifest.server)) is not None and server < made_on:
        raise UsageError(
            f"the backup was made of PostgreSQL {made_on}, this server is {server}: it takes {made_on} or newer"
        )


_NAMES = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}


def major(version: str | None) -> int | None:
    """15 of "15.18 (Debian 15.18-0+deb12u1)"; None where there is no number."""
    found = re.match(r"\D*(\d+)", version or "")
    return int(found[1]) if found is not None else None


def choose_tool(found: Mapping[str, int], name: str, server: int) -> str:
    """The program to use of those that are installed: the server's own major version, else the next newer one.

    Args:
        found: path to major version.
        name: what it is called.
        server: major version of the server.

    Raises:
        UsageError: there is none, or all are older than the server, which they refuse to talk to.
    """
    fit = {path: version for path, version in found.items() if version >= server}
    if fit:
        return min(fit, key=lambda path: fit[path])
    get = f"install PostgreSQL {server}'s client (Debian: postgresql-client-{server})"
    if not found:
        raise UsageError(f"{name} is not installed here, neither on PATH nor in /usr/lib/postgresql: {get}")
    raise UsageError(f"the server is PostgreSQL {server}, the newest {name} here is of {max(found.values())}: {get}")
