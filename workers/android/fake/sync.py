"""The sync service: files to and from the phone, by version 1 and version 2 of its requests (adb's SYNC.TXT)."""

from __future__ import annotations

import errno
import os
import stat
import struct
from contextlib import suppress
from pathlib import Path

from workers.android.fake.wire import Faults, Stream, StreamClosedError

_HEAD = struct.Struct("<4sI")
_STAT_1 = struct.Struct("<4sIII")
_STAT_2 = struct.Struct("<4sIQQIIIIQqqq")
#: An entry of a listing is a stat and the length of the name.
_ENTRY_1 = struct.Struct("<4sIIII")
_ENTRY_2 = struct.Struct("<4sIQQIIIIQqqqI")
_SEND_2 = struct.Struct("<4sII")
_RECEIVE_2 = struct.Struct("<4sI")
#: The host accepts no longer record.
_RECORD_BYTES = 64 * 1024


class SyncService:
    """Serves one phone's file system."""

    def __init__(self, root: Path, faults: Faults) -> None:
        """`root` stands for the phone's /."""
        self._root, self._faults = root, faults

    async def serve(self, stream: Stream) -> None:
        """Answer requests until the host has no more."""
        stream.accept()
        while True:
            request, length = _HEAD.unpack(await stream.read_exactly(_HEAD.size))
            if request == b"QUIT":
                return
            text = os.fsdecode(await stream.read_exactly(length))
            try:
                await self._answer(stream, request, text)
            except OSError as error:
                if isinstance(error, ConnectionError):
                    raise
                await _fail(stream, error.strerror or str(error))

    async def _answer(self, stream: Stream, request: bytes, text: str) -> None:
        match request:
            case b"STAT" | b"STA2" | b"LST2":
                await stream.write(_stat(request, self._local(text)))
            case b"LIST" | b"LIS2":
                await stream.write(_listing(request == b"LIS2", self._local(text)))
            case b"SEND":
                path, _, mode = text.rpartition(",")
                await self._receive(stream, self._local(path), int(mode))
            case b"SND2":
                _, mode_2, _flags = _SEND_2.unpack(await stream.read_exactly(_SEND_2.size))
                await self._receive(stream, self._local(text), mode_2)
            case b"RECV":
                await self._send(stream, self._local(text))
            case b"RCV2":
                await stream.read_exactly(_RECEIVE_2.size)
                await self._send(stream, self._local(text))
            case _:
                raise OSError(errno.EPROTO, f"no request of sync: {request!r}")

    def _local(self, path: str) -> Path:
        return self._root / path.lstrip("/")

    def _raise_fault(self) -> None:
        if (number := self._faults.sync_errno) is not None:
            raise OSError(number, os.strerror(number))

    async def _receive(self, stream: Stream, path: Path, mode: int) -> None:
        """A file, or a link, from the host: it listens to no answer before it has sent everything."""
        problem: str | None = None
        descriptor = -1
        link = bytearray() if stat.S_ISLNK(mode) else None
        try:
            try:
                self._raise_fault()
                path.parent.mkdir(parents=True, exist_ok=True)
                path.unlink(missing_ok=True)
                if link is None:
                    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode & 0o777)
            except OSError as error:
                problem = f"couldn't create file: {error.strerror}"
            while True:
                record, length = _HEAD.unpack(await stream.read_exactly(_HEAD.size))
                if record == b"DONE":
                    modified_at = length
                    break
                if record != b"DATA" or length > _RECORD_BYTES:
                    raise StreamClosedError
                data = await stream.read_exactly(length)
                if link is not None:
                    link += data
                elif problem is None:
                    problem = _write(descriptor, data)
            if problem is None and link is not None:
                path.symlink_to(os.fsdecode(bytes(link).rstrip(b"\0")))
            elif problem is None:
                # Group and others get what the owner has.
                owner = mode & 0o700
                os.fchmod(descriptor, owner | owner >> 3 | owner >> 6)
                os.utime(descriptor, (modified_at, modified_at))
        finally:
            if descriptor >= 0:
                os.close(descriptor)
        if problem is not None:
            if descriptor >= 0:
                path.unlink(missing_ok=True)
            await _fail(stream, problem)
        else:
            await stream.write(_HEAD.pack(b"OKAY", 0))

    async def _send(self, stream: Stream, path: Path) -> None:
        self._raise_fault()
        # Several records in each packet: a packet costs a turn of both sides.
        most = max(1, stream.payload_limit // (_RECORD_BYTES + _HEAD.size)) * _RECORD_BYTES
        with path.open("rb", buffering=0) as file:
            while data := file.read(most):
                records = bytearray()
                for start in range(0, len(data), _RECORD_BYTES):
                    part = data[start : start + _RECORD_BYTES]
                    records += _HEAD.pack(b"DATA", len(part)) + part
                await stream.write(bytes(records))
        await stream.write(_HEAD.pack(b"DONE", 0))


async def _fail(stream: Stream, why: str) -> None:
    message = why.encode()
    await stream.write(_HEAD.pack(b"FAIL", len(message)) + message)


def _write(descriptor: int, data: bytes) -> str | None:
    """Why it could not be written, all of it; None when it was."""
    try:
        while data:
            data = data[os.write(descriptor, data) :]
    except OSError as error:
        return f"write failed: {error.strerror}"
    return None


def _stat_2_fields(found: os.stat_result) -> tuple[int, ...]:
    return (
        found.st_dev,
        found.st_ino,
        found.st_mode,
        found.st_nlink,
        found.st_uid,
        found.st_gid,
        found.st_size,
        int(found.st_atime),
        int(found.st_mtime),
        int(found.st_ctime),
    )


def _stat(request: bytes, path: Path) -> bytes:
    try:
        found = path.stat() if request == b"STA2" else path.lstat()
    except OSError as error:
        if request == b"STAT":
            return _STAT_1.pack(request, 0, 0, 0)
        return _STAT_2.pack(request, error.errno, *(0,) * 10)
    if request == b"STAT":
        return _STAT_1.pack(request, found.st_mode, found.st_size & 0xFFFFFFFF, int(found.st_mtime))
    return _STAT_2.pack(request, 0, *_stat_2_fields(found))


def _listing(version_2: bool, path: Path) -> bytes:
    names: list[str] = []
    with suppress(OSError):  # a folder that cannot be read looks empty
        names = [".", "..", *sorted(os.listdir(path))]  # noqa: PTH208  # names, not paths: one may be no text
    listed = bytearray()
    for name in names:
        try:
            found = (path / name).lstat()
        except OSError:
            continue
        raw = os.fsencode(name)
        if version_2:
            listed += _ENTRY_2.pack(b"DNT2", 0, *_stat_2_fields(found), len(raw)) + raw
        else:
            size = found.st_size & 0xFFFFFFFF
            listed += _ENTRY_1.pack(b"DENT", found.st_mode, size, int(found.st_mtime), len(raw)) + raw
    end = _ENTRY_2.pack(b"DONE", *(0,) * 12) if version_2 else _ENTRY_1.pack(b"DONE", 0, 0, 0, 0)
    return bytes(listed + end)
