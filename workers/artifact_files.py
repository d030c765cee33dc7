"""Files of an attempt, in the child: the artifact it is given, and what it makes."""

from __future__ import annotations

import hashlib
import tarfile
from importlib import import_module
from pathlib import Path
from typing import Any

from workers.contract import Order, StoredFile


def load_entry(entry: str) -> Any:
    """An instance of "module:Class"."""
    module, _, name = entry.partition(":")
    return getattr(import_module(module), name)()


def unpacked(order: Order, folder: Path, format_: str) -> Path:
    """The artifact under a name with its format's suffix; a folder artifact unpacked, here in the child.

    The store keeps a folder as a tar; no format of a single file is one.
    """
    kept = Path(order.paths["artifact"])
    named = folder / "tmp" / f"input.{format_}"
    if tarfile.is_tarfile(kept):
        from workers.bundle import unpack

        unpack(kept, named)
    else:
        named.symlink_to(kept)
    return named


def stored(path: Path, folder: Path) -> StoredFile:
    """A file of the attempt's folder by its digest."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return StoredFile(sha256=digest, bytes=path.stat().st_size, path=str(path.relative_to(folder)))
