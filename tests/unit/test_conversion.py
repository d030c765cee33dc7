"""A conversion that met its bound says so, whatever its library made of it; memory is read of this process."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from workers.contract import ConvertTask, Limits, Order
from workers.conversion import convert
from workers.converters.converter import ConversionInput, Converter
from workers.errors import AttemptError, Cause, is_out_of_memory
from workers.memory import peak_bytes, status_bytes
from workers.models.source import Made
from workers.processes import resident_bytes

FAILURES: dict[str, Exception] = {}


class Failing(Converter):
    """Raises what a test put there."""

    def convert(self, source: ConversionInput) -> Made:
        """See `Converter.convert`."""
        raise FAILURES["now"]


def order(folder: Path, bound: int | None = None) -> Order:
    """A conversion of an empty file."""
    (folder / "tmp").mkdir()
    given = folder / "given"
    given.write_bytes(b"")
    paths = dict.fromkeys(("artifact", "examples", "calibration"), str(given))
    task = ConvertTask(entry=f"{__name__}:Failing", format="onnx", recipe="fp16", input_format="onnx")
    limits = Limits(deadline_s=9.0, memory_bytes=1_500_000_000, resident_bytes=bound)
    return Order(attempt_id=1, token="t", place="here", limits=limits, paths=paths, convert=task)


def wrapped(cause: Exception) -> AttemptError:
    """As converters tell of what their library raised."""
    error = AttemptError(Cause.MODEL, "does_not_convert", "the library cannot convert it")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    "failure",
    [
        MemoryError(),
        wrapped(MemoryError("Unable to allocate 2 GiB")),
        wrapped(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
    ],
)
@pytest.mark.parametrize(
    ("bound", "told"),
    [
        (None, r"more than 1\.5 GB, 80 % of this host's memory"),
        (700_000_000, r"more than the 0\.7 GB that --max-memory"),
    ],
)
def test_the_bound_is_named(tmp_path: Path, failure: Exception, bound: int | None, told: str) -> None:
    FAILURES["now"] = failure
    given = order(tmp_path, bound)
    assert given.convert is not None
    with pytest.raises(AttemptError, match=f"making onnx fp16 takes {told}") as raised:
        convert(given, given.convert, tmp_path)
    assert (raised.value.cause, raised.value.code) == (Cause.MODEL, "out_of_memory")


def test_what_a_converter_says_of_other_trouble_stays(tmp_path: Path) -> None:
    FAILURES["now"] = wrapped(RuntimeError("no such operator"))
    given = order(tmp_path)
    assert given.convert is not None
    with pytest.raises(AttemptError, match="the library cannot convert it"):
        convert(given, given.convert, tmp_path)


def test_a_loader_that_lacks_thread_storage_does_not_lack_memory() -> None:
    assert not is_out_of_memory(ImportError("libgomp.so: cannot allocate memory in static TLS block"))
    assert is_out_of_memory(ImportError("libtorch.so: failed to map segment from shared object"))


def test_what_a_process_and_its_children_hold() -> None:
    assert resident_bytes(os.getpid()) > 10_000_000
    assert resident_bytes(2**31 - 1) == 0  # it ended meanwhile


def test_the_peak_stays_when_memory_is_given_back() -> None:
    block = b"1" * 50_000_000
    held = len(block)
    del block
    peak = peak_bytes()
    assert peak is not None
    assert peak > held
    assert status_bytes("VmNone") is None
