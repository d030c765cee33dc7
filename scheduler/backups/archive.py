"""An archive on disk: a folder, or one tar file. It bears its name only once it is whole."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Protocol

from device_registry.errors import UsageError
from scheduler.backups.manifest import BackupDamagedError, Part

_CHUNK = 1 << 20
#: Told of bytes as they pass.
Count = Callable[[int], None]


class ArchiveWriter(Protocol):
    """Takes files, one after the other."""

    #: A folder on the archive's own disk, for files that are still being made.
    workshop: Path

    def add(self, name: str, path: Path, count: Count) -> Part:
        """Copy a file into the archive."""

    def move(self, name: str, path: Path) -> Part:
        """The same for a file of the workshop, which is gone afterwards."""

    def add_text(self, name: str, text: str) -> Part:
        """Write a file."""


@contextmanager
def writing_archive(target: Path) -> Iterator[ArchiveWriter]:
    """Make an archive: a tar file where the name ends in .tar, else a folder. Whatever goes wrong, nothing is left.

    Raises:
        UsageError: something of that name is there, or its folder is not.
    """
    if target.exists() or target.is_symlink():
        raise UsageError(f"{target} is there already, and nothing is written over: give another name")
    if not target.parent.is_dir():
        raise UsageError(f"there is no folder {target.parent} to put the backup into")
    # Beside the target, so that a rename makes it; a name that nobody takes for a backup after a power cut.
    workshop = target.with_name(f"{target.name}.partial-{os.getpid()}")
    workshop.mkdir(mode=0o700)
    try:
        if target.suffix == ".tar":
            made = workshop / "archive.tar"
            made.touch(mode=0o600)
            with made.open("wb") as file:
                with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
                    yield _TarWriter(workshop, tar)
                file.flush()
                os.fsync(file.fileno())
        else:
            made = workshop / "archive"
            made.mkdir(mode=0o700)
            yield _FolderWriter(workshop, made)
        made.rename(target)
        _sync_folder(target.parent)
    finally:
        shutil.rmtree(workshop, ignore_errors=True)


class _FolderWriter:
    def __init__(self, workshop: Path, root: Path) -> None:
        self.workshop = workshop
        self._root = root

    def add(self, name: str, path: Path, count: Count) -> Part:
        with path.open("rb") as source:
            return self._write(name, source, count)

    def move(self, name: str, path: Path) -> Part:
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            os.fsync(file.fileno())
        target = self._root / name
        path.rename(target)
        return Part(name=name, bytes=target.stat().st_size, sha256=sha256)

    def add_text(self, name: str, text: str) -> Part:
        return self._write(name, io.BytesIO(text.encode()), lambda _: None)

    def _write(self, name: str, source: IO[bytes], count: Count) -> Part:
        target = self._root / name
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        read = _Digesting(source, count)
        with target.open("xb") as file:
            target.chmod(0o600)
            shutil.copyfileobj(read, file, _CHUNK)
            file.flush()
            os.fsync(file.fileno())
        return Part(name=name, bytes=read.bytes, sha256=read.sha256)


class _TarWriter:
    def __init__(self, workshop: Path, tar: tarfile.TarFile) -> None:
        self.workshop = workshop
        self._tar = tar

    def add(self, name: str, path: Path, count: Count) -> Part:
        with path.open("rb") as source:
            return self._write(name, source, os.fstat(source.fileno()).st_size, count)

    def move(self, name: str, path: Path) -> Part:
        part = self.add(name, path, lambda _: None)
        path.unlink()
        return part

    def add_text(self, name: str, text: str) -> Part:
        data = text.encode()
        return self._write(name, io.BytesIO(data), len(data), lambda _: None)

    def _write(self, name: str, source: IO[bytes], size: int, count: Count) -> Part:
        entry = tarfile.TarInfo(name)
        entry.size, entry.mode, entry.mtime = size, 0o600, int(time.time())
        read = _Digesting(source, count)
        self._tar.addfile(entry, read)
        return Part(name=name, bytes=read.bytes, sha256=read.sha256)


class ArchiveReader:
    """Reads files of an archive by their names; what else lies in it is never looked at."""

    def __init__(self, path: Path) -> None:
        """Open a folder or a tar file.

        Raises:
            UsageError: there is none.
            BackupDamagedError: the file is no tar file.
        """
        self.path = path
        self._tar: tarfile.TarFile | None = None
        if path.is_file():
            try:
                self._tar = tarfile.open(path, "r:")  # noqa: SIM115 - closed by `close`
                self._members = {member.name: member for member in self._tar.getmembers() if member.isfile()}
            except (tarfile.TarError, EOFError, OSError) as error:
                if self._tar is not None:
                    self._tar.close()
                raise BackupDamagedError(f"{path} is no backup, or a damaged one: {error}") from error
        elif not path.is_dir():
            raise UsageError(f"there is no backup {path}")

    def close(self) -> None:
        """Give the file back."""
        if self._tar is not None:
            self._tar.close()

    def has(self, name: str) -> bool:
        """Whether a file is in it."""
        return name in self._members if self._tar is not None else (self.path / name).is_file()

    @contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        """Read a file.

        Raises:
            BackupDamagedError: it is not in the archive.
        """
        if not self.has(name):
            raise BackupDamagedError(f"the backup {self.path} is damaged: {name} is missing")
        if self._tar is None:
            with (self.path / name).open("rb") as file:
                yield file
        else:
            member = self._tar.extractfile(self._members[name])
            assert member is not None  # only files are members
            with member:
                yield member

    def check(self, part: Part, count: Count) -> None:
        """Whether a file is what it was.

        Raises:
            BackupDamagedError: it is not, or is missing.
        """
        with self.open(part.name) as file:
            read = _Digesting(file, count)
            try:
                while read.read(_CHUNK):
                    pass
            except (tarfile.TarError, EOFError) as error:
                raise BackupDamagedError(f"the backup {self.path} is damaged: {part.name}: {error}") from error
        if (read.bytes, read.sha256) != (part.bytes, part.sha256):
            raise BackupDamagedError(f"the backup {self.path} is damaged: {part.name} has other bytes than it had")

    def copy(self, name: str, target: Path, count: Count) -> None:
        """Copy a file out, onto the disk."""
        with self.open(name) as source, target.open("xb") as file:
            target.chmod(0o600)
            shutil.copyfileobj(_Digesting(source, count), file, _CHUNK)
            file.flush()
            os.fsync(file.fileno())


class _Digesting:
    """A file whose digest and length are known once it is read."""

    def __init__(self, source: IO[bytes], count: Count) -> None:
        self._source, self._count = source, count
        self._digest = hashlib.sha256()
        self.bytes = 0

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def read(self, size: int = -1) -> bytes:
        data = self._source.read(size)
        self._digest.update(data)
        self.bytes += len(data)
        self._count(len(data))
        return data


def _sync_folder(folder: Path) -> None:
    """A rename is on disk once its folder is."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
