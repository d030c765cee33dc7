"""The artifact store: bytes by sha256 behind an fsspec URL, digest checked at every load."""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

import fsspec

from workers.errors import AttemptError, Cause

#: A small file that says which store this is.
_MARKER = "store-marker"


class ArtifactCorruptError(AttemptError):
    """The bytes in the store are missing or are not those that the name promises."""

    def __init__(self, sha256: str, why: str) -> None:
        super().__init__(Cause.INFRASTRUCTURE, "artifact_corrupt", f"artifact {sha256[:12]} in the store {why}")
        self.sha256 = sha256


class ArtifactStore:
    """Content-addressed files. Local stores are read in place; others through a cache folder on this host."""

    def __init__(self, url: str, cache: Path) -> None:
        """Open a store.

        Args:
            url: an fsspec URL (`file:///...`, `s3://bucket/prefix`).
            cache: folder for copies of remote artifacts.
        """
        self._files: Any
        self._files, root = fsspec.core.url_to_fs(url)
        self._root = root.rstrip("/")
        self._cache = cache
        self._local = "file" in self._files.protocol

    def mark(self) -> str:
        """The marker of this store; a store that has none is given one, once."""
        if (known := self.marker()) is None:
            self._files.makedirs(self._root, exist_ok=True)
            known = uuid.uuid4().hex
            if self._local:
                partial = Path(f"{self._root}/{known}.part")
                partial.write_text(known, encoding="ascii")
                with suppress(FileExistsError):  # somebody else was first: theirs counts
                    os.link(partial, f"{self._root}/{_MARKER}")
                partial.unlink()
            else:
                self._files.pipe_file(f"{self._root}/{_MARKER}", known.encode())
        return self.marker() or known

    def marker(self) -> str | None:
        """What `mark` left; None where there is no such store, or it cannot be read.

        Two hosts that read the same marker share the store: a folder of the same name on another host is another.
        """
        try:
            text: bytes = self._files.cat_file(f"{self._root}/{_MARKER}")
        except OSError:
            return None
        return text.decode("ascii", errors="replace").strip() or None

    def put(self, path: Path, sha256: str) -> None:
        """Store a file under its digest; a digest that is there already is left alone. Atomic on local stores."""
        target = self._address(sha256)
        if self._files.exists(target):
            return
        self._files.makedirs(target.rpartition("/")[0], exist_ok=True)
        if self._local:
            partial = f"{target}.{uuid.uuid4().hex}.part"
            try:
                shutil.copyfile(path, partial)
                # On disk before it has its name; and pages that are still dirty could not be evicted for a cold load.
                with Path(partial).open("rb") as file:
                    os.fsync(file.fileno())
                Path(partial).replace(target)
            finally:
                Path(partial).unlink(missing_ok=True)
        else:
            self._files.put_file(str(path), target)

    def put_bytes(self, data: bytes, folder: Path) -> str:
        """Store bytes; returns their digest. `folder` holds them for a moment."""
        sha256 = hashlib.sha256(data).hexdigest()
        path = folder / f"{sha256}.tmp"
        path.write_bytes(data)
        try:
            self.put(path, sha256)
        finally:
            path.unlink()
        return sha256

    def fetch(self, sha256: str) -> Path:
        """A local file with these bytes, digest checked now.

        Raises:
            ArtifactCorruptError: missing, or damaged (it is deleted then, so that it can be made again).
        """
        target = self._address(sha256)
        if not self._files.exists(target):
            raise ArtifactCorruptError(sha256, "is missing")
        path = Path(target) if self._local else self._cache / sha256
        if not self._local and not (path.exists() and _digest(path) == sha256):
            # Nothing cached, or a damaged copy, of which the store's own may still be good.
            self._cache.mkdir(parents=True, exist_ok=True)
            partial = path.with_name(f"{sha256}.{os.getpid()}.part")
            self._files.get_file(target, str(partial))
            partial.replace(path)
        if _digest(path) != sha256:
            path.unlink(missing_ok=True)
            if not self._local:
                self._files.rm_file(target)
            raise ArtifactCorruptError(sha256, "is damaged: its digest is another")
        return path

    def size(self, sha256: str) -> int | None:
        """Bytes of a file; None where there is none."""
        try:
            return int(self._files.size(self._address(sha256)))
        except FileNotFoundError:
            return None

    def remove(self, sha256: str) -> int | None:
        """Delete a file and this host's copy of it; returns its bytes, None where there was none."""
        size = self.size(sha256)
        if size is not None:
            with suppress(FileNotFoundError):  # somebody else was first
                self._files.rm_file(self._address(sha256))
        if not self._local:
            (self._cache / sha256).unlink(missing_ok=True)
        return size

    def has(self, sha256: str) -> bool:
        """Whether a file of this name is there (its bytes are checked at load)."""
        return bool(self._files.exists(self._address(sha256)))

    @property
    def is_local(self) -> bool:
        """Whether its files lie on a file system of this machine."""
        return self._local

    def path_of(self, sha256: str) -> Path | None:
        """The file itself of a local store, unchecked; None where it is not there."""
        path = Path(self._address(sha256))
        return path if self._local and path.is_file() else None

    def _address(self, sha256: str) -> str:
        return f"{self._root}/{sha256[:2]}/{sha256}"


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
