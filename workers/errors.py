"""Failures have a cause, and the cause decides what happens next (docs/design.md, "State")."""

from __future__ import annotations

import errno
from enum import StrEnum

#: Failure codes that other code asks for: cannot be had here; failed because what it needs failed.
UNSUPPORTED = "unsupported"
UPSTREAM = "upstream"
#: Exit status of a runner that had no space left to write its result: EX_IOERR of sysexits.h, which no runtime uses.
EXIT_DISK_FULL = 74

#: What runtimes say when memory runs out; the last of the loader, of a library that finds no room.
_NO_MEMORY = (
    *("bad_alloc", "not enough memory", "out of memory", "failed to allocate memory"),
    *("cannot allocate memory", "can't allocate memory", "failed to map segment from shared object"),
)


class Cause(StrEnum):
    """Who or what a failed attempt failed for."""

    INFRASTRUCTURE = "infrastructure"  # host lost, disk full: the job is queued again, a bounded number of times
    DEVICE = "device"  # too hot, gate timed out: the job waits, the device may be quarantined
    MODEL = "model"  # does not convert, runtime crashed, out of memory: a recorded result, never retried
    USER = "user"  # bad input: refused at submit, or recorded when only the child could see it
    BUG = "bug"  # ours: failed, loud


class AttemptError(Exception):
    """An attempt failed for a known reason. `code` is for programs, `message` is one sentence for people."""

    def __init__(self, cause: Cause, code: str, message: str) -> None:
        super().__init__(message)
        self.cause = cause
        self.code = code
        self.message = message


class UnsupportedError(AttemptError):
    """The combination cannot be had here. Kept apart from failures in every table."""

    def __init__(self, message: str) -> None:
        super().__init__(Cause.MODEL, UNSUPPORTED, message)


class BadModelError(AttemptError):
    """The model the user gave cannot be read, or would run code."""

    def __init__(self, message: str) -> None:
        super().__init__(Cause.USER, "bad_model", message)


def classify(error: BaseException, doing: str) -> AttemptError:
    """Translate any exception of a backend into a classified failure.

    Args:
        error: what was raised.
        doing: what the child was at, for the sentence, e.g. "converting to onnx fp16".
    """
    if isinstance(error, AttemptError):
        return error
    if _is_out_of_space(error):
        return AttemptError(Cause.INFRASTRUCTURE, "disk_full", f"no space left while {doing}")
    if is_out_of_memory(error):
        return AttemptError(Cause.MODEL, "out_of_memory", f"out of memory while {doing}")
    text = first_line(error)
    return AttemptError(Cause.MODEL, "raised", f"{type(error).__name__} while {doing}: {text}")


def _is_out_of_space(error: BaseException) -> bool:
    """Whether a write failed for want of room; torch's writer says so in words of its own."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return "inline_container.cc" in str(error) and "unexpected pos" in str(error)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception of any runtime says that memory ran out."""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    text = str(error).casefold().replace("cannot allocate memory in static tls block", "")  # no want of memory
    return any(sign in text for sign in _NO_MEMORY)


def first_line(error: BaseException, limit: int = 240) -> str:
    """The first line that says something, cut to `limit` characters."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else "no message"
    return text if len(text) <= limit else text[: limit - 1] + "…"
