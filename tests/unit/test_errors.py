"""workers.errors: any exception of a backend becomes a failure with a cause."""

from __future__ import annotations

import errno

import pytest

from workers.errors import (
    AttemptError,
    BadModelError,
    Cause,
    UnsupportedError,
    classify,
    first_line,
    is_out_of_memory,
)


@pytest.mark.parametrize(
    ("error", "cause", "code"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), Cause.INFRASTRUCTURE, "disk_full"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), Cause.INFRASTRUCTURE, "disk_full"),
        (OSError(errno.EFBIG, "File too large"), Cause.INFRASTRUCTURE, "disk_full"),
        (MemoryError(), Cause.MODEL, "out_of_memory"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory"), Cause.MODEL, "out_of_memory"),
        (RuntimeError("std::bad_alloc"), Cause.MODEL, "out_of_memory"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), Cause.MODEL, "out_of_memory"),
        (RuntimeError("Failed to allocate memory for requested buffer"), Cause.MODEL, "out_of_memory"),
        (FileNotFoundError(errno.ENOENT, "gone"), Cause.MODEL, "raised"),
        (ValueError("bad shape"), Cause.MODEL, "raised"),
    ],
)
def test_the_cause_of_an_exception(error: Exception, cause: Cause, code: str) -> None:
    failure = classify(error, "loading")
    assert (failure.cause, failure.code) == (cause, code)
    assert "while loading" in failure.message


def test_a_failure_that_knows_its_cause_keeps_it() -> None:
    error = AttemptError(Cause.DEVICE, "too_hot", "it is 80 C")
    assert classify(error, "measuring") is error


def test_unsupported_and_a_bad_model_are_told_apart_from_a_failure() -> None:
    unsupported, bad = UnsupportedError("no int8"), BadModelError("no model")
    assert (unsupported.cause, unsupported.code) == (Cause.MODEL, "unsupported")
    assert (bad.cause, bad.code) == (Cause.USER, "bad_model")
    assert str(bad) == bad.message == "no model"


def test_the_message_names_the_exception_and_its_first_line_only() -> None:
    failure = classify(KeyError("op 'aten::foo'\n\ntraceback ..."), "converting to onnx fp16")
    assert failure.message.startswith("KeyError while converting to onnx fp16: ")
    assert "traceback" not in classify(ValueError("\n  short\ntraceback"), "x").message


def test_first_line_skips_blank_lines_and_is_cut() -> None:
    assert first_line(ValueError("\n \n  what it says  \nmore")) == "what it says"
    assert first_line(ValueError("")) == "no message"
    cut = first_line(ValueError("x" * 500), limit=10)
    assert cut == "x" * 9 + "…"


def test_an_ordinary_error_is_not_out_of_memory() -> None:
    assert not is_out_of_memory(ValueError("memory format channels_last is not supported"))
