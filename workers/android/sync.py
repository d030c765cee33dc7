"""adb's file transfer, the part that a farm needs: one file there, one file back.

The protocol is described in adb's own SYNC.TXT. Written here because the client library loses the phone's reason for
a failed push, and makes an empty folder of a file that is missing.
"""

from __future__ import annotations

import os
import struct
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from workers.android.phone import PhoneFullError
from workers.errors import AttemptError, Cause

_RECORD = struct.Struct("<4sI")
#: The longest record that a phone takes.
_RECORD_BYTES = 64 * 1024
#: A regular file that its owner may read and write.
_MODE = 0o100644
#: Longer than a reason ever was.
_LONGEST_REASON = 4096
#: What the phone says when there is no room: the texts of ENOSPC, EDQUOT, and of a file system's limit.
_FULL = ("no space left", "quota exceeded", "file too large")
_MISSING = ("no such file", "not a directory")


class Wire(Protocol):
    """A connection in the phone's sync mode; both calls keep to a deadline of their own."""

    def write(self, data: bytes) -> None:
        """Send all of it."""

    def read_exact(self, n: int) -> bytes:
        """Receive exactly so many bytes."""


def send_file(wire: Wire, local: Path, remote: str) -> None:
    """Put a file on the phone.

    Raises:
        PhoneFullError: it does not fit.
        AttemptError: the phone refused it, and why.
    """
    with local.open("rb") as file:
        name = f"{remote},{_MODE}".encode()
        try:
            wire.write(_RECORD.pack(b"SEND", len(name)) + name)
            while chunk := file.read(_RECORD_BYTES):
                wire.write(_RECORD.pack(b"DATA", len(chunk)) + chunk)
            wire.write(_RECORD.pack(b"DONE", int(time.time())))
        except (BrokenPipeError, ConnectionResetError):
            # A phone that has had enough may hang up before we are through; its reason then waits to be read.
            with suppress(OSError, EOFError):
                _take_answer(wire, local, remote)
            raise
    _take_answer(wire, local, remote)


def receive_file(wire: Wire, remote: str, local: Path) -> None:
    """Get a file of the phone. Nothing appears at `local` before all of it is here.

    Raises:
        AttemptError: there is no such file, or the phone cannot read it.
    """
    name = remote.encode()
    wire.write(_RECORD.pack(b"RECV", len(name)) + name)
    handle, part = tempfile.mkstemp(prefix=f".{local.name[:80]}.", dir=local.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            for chunk in _chunks(wire, remote):
                file.write(chunk)
        Path(part).replace(local)
    except BaseException:
        Path(part).unlink(missing_ok=True)
        raise


def _chunks(wire: Wire, remote: str) -> Iterator[bytes]:
    while True:
        kind, size = _RECORD.unpack(wire.read_exact(_RECORD.size))
        if kind == b"DATA" and size <= _RECORD_BYTES:
            yield wire.read_exact(size)
        elif kind == b"DONE":
            return
        elif kind == b"FAIL":
            reason = _reason(wire, size)
            missing = any(sign in reason.casefold() for sign in _MISSING)
            code = "no_such_file" if missing else "pull_failed"
            raise AttemptError(Cause.DEVICE, code, f"the phone cannot give {remote}: {reason}")
        else:
            raise ConnectionError(f"the phone answered a pull with {kind!r}")


def _take_answer(wire: Wire, local: Path, remote: str) -> None:
    kind, size = _RECORD.unpack(wire.read_exact(_RECORD.size))
    if kind == b"OKAY":
        return
    if kind != b"FAIL":
        raise ConnectionError(f"the phone answered a push with {kind!r}")
    reason = _reason(wire, size)
    if any(sign in reason.casefold() for sign in _FULL):
        wanted = local.stat().st_size
        raise PhoneFullError(f"no room on the phone for {remote} ({wanted:,} bytes): {reason}")
    raise AttemptError(Cause.DEVICE, "push_failed", f"the phone does not take {remote}: {reason}")


def _reason(wire: Wire, size: int) -> str:
    text = wire.read_exact(min(size, _LONGEST_REASON)).decode(errors="replace").strip()
    return text or "it gives no reason"
