"""LiteRT's own profiler, which only its C interface offers.

The wheel's Python classes do not enable it, so a file is compiled a second time through libLiteRt, the library under
those classes, with the same options and the profiler on.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from workers.errors import UnsupportedError
from workers.runtimes.lite_rt_kernels import AROUND, DELEGATED, INVOKE, OPERATION, Event, apart

#: The C interface promises no stability; these calls and this layout of events were tried on:
_TRIED = "2.3"
#: kLiteRtHwAcceleratorCpu.
_CPU = 1
#: Options would own their text and free it by such a function; here it is Python's.
_FREE_NOTHING = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(lambda _: None)


class Tensors(NamedTuple):
    """Buffers of one signature as the wheel's classes hold them, filled and in its order."""

    signature: int
    inputs: Sequence[Any]
    outputs: Sequence[Any]


class _Event(ctypes.Structure):
    """ProfiledEventData of litert/c/litert_profiler_event.h, with the memory readings of tflite/profiling."""

    _fields_ = (
        ("tag", ctypes.c_char_p),
        ("kind", ctypes.c_int),
        ("start_us", ctypes.c_uint64),
        ("elapsed_us", ctypes.c_uint64),
        ("memory", ctypes.c_int64 * 6),
        ("number", ctypes.c_uint64),
        ("subgraph", ctypes.c_uint64),
        ("source", ctypes.c_int),
    )


class Profiled:
    """A file compiled through the C interface, with the profiler on."""

    def __init__(self, library: ctypes.CDLL, model: ctypes.c_void_p) -> None:
        self._library = library
        self._model = model
        self._profiler = ctypes.c_void_p()
        _check(library.LiteRtCompiledModelGetProfiler(model, ctypes.byref(self._profiler)), "give its profiler")

    def bound(self, tensors: Tensors) -> Callable[[], None]:
        """The function that runs once."""
        inputs, outputs = _handles(tensors.inputs), _handles(tensors.outputs)
        given = (ctypes.c_size_t(tensors.signature), ctypes.c_size_t(len(inputs)), inputs)
        run, model, count = self._library.LiteRtRunCompiledModel, self._model, ctypes.c_size_t(len(outputs))

        def once() -> None:
            _check(run(model, *given, count, outputs), "run")

        return once

    def reset(self) -> None:
        """Forget what was seen, and watch."""
        _check(self._library.LiteRtResetProfiler(self._profiler), "reset its profiler")
        _check(self._library.LiteRtStartProfiler(self._profiler), "start its profiler")

    def events(self) -> list[Event]:
        """What was seen since."""
        count = ctypes.c_int()
        _check(self._library.LiteRtGetNumProfilerEvents(self._profiler, ctypes.byref(count)), "count its events")
        room = (_Event * (2 * count.value))()
        _check(self._library.LiteRtGetProfilerEvents(self._profiler, count, room), "give its events")
        filled = len(bytes(room).rstrip(b"\0")) / ctypes.sizeof(_Event)
        if not count.value - 1 < filled <= count.value:
            raise UnsupportedError("events of LiteRT's profiler are laid out in memory in another way here")
        raw = room[: count.value]
        if not any(event.tag == INVOKE.encode() for event in raw):
            raise UnsupportedError("the program has more operations than LiteRT's profiler keeps")
        if any(event.kind == OPERATION and event.subgraph for event in raw):
            raise UnsupportedError("the program calls subgraphs, whose operations LiteRT's profiler counts twice")
        kinds = (AROUND, OPERATION, DELEGATED)
        return apart([Event(e.tag.decode(), e.elapsed_us, e.number, e.kind) for e in raw if e.kind in kinds])


@contextmanager
def compiled(artifact: Path, threads: int, xnnpack_flags: int | None) -> Iterator[Profiled]:
    """A file compiled as the one that is measured, but for the profiler.

    Raises:
        UnsupportedError: this version of the wheel was not tried.
    """
    installed = version("ai-edge-litert")
    if not installed.startswith(f"{_TRIED}."):
        raise UnsupportedError(
            f"operations of LiteRT are timed through its C interface, which was tried with ai-edge-litert {_TRIED}; "
            f"this is {installed}"
        )
    library = _library()
    with ExitStack() as kept:

        def made(create: str, destroy: str, *arguments: object) -> ctypes.c_void_p:
            handle = ctypes.c_void_p()
            _check(getattr(library, create)(*arguments, ctypes.byref(handle)), f"do {create}")
            kept.callback(getattr(library, destroy), handle)
            return handle

        environment = made("LiteRtCreateEnvironment", "LiteRtDestroyEnvironment", 0, None)
        file = made("LiteRtCreateModelFromFile", "LiteRtDestroyModel", environment, str(artifact).encode())
        options = made("LiteRtCreateOptions", "LiteRtDestroyOptions")
        _check(library.LiteRtSetOptionsHardwareAccelerators(options, _CPU), "choose the CPU")
        flags = f"flags = {xnnpack_flags}\n" if xnnpack_flags is not None else ""
        texts = {
            "runtime_options_string": ctypes.create_string_buffer(b"enable_profiling = true\n"),
            "xnnpack": ctypes.create_string_buffer(f"num_threads = {threads}\n{flags}".encode()),
        }
        for name, text in texts.items():
            opaque = ctypes.c_void_p()
            status = library.LiteRtCreateOpaqueOptions(name.encode(), text, _FREE_NOTHING, ctypes.byref(opaque))
            _check(status, "take options")
            _check(library.LiteRtAddOpaqueOptions(options, opaque), "take options")
        model = made("LiteRtCreateCompiledModel", "LiteRtDestroyCompiledModel", environment, file, options)
        yield Profiled(library, model)


def _library() -> ctypes.CDLL:
    import ai_edge_litert

    folder = Path(ai_edge_litert.__file__).parent
    for path in sorted(folder.glob("libLiteRt.*")):
        return ctypes.CDLL(str(path))
    raise UnsupportedError("this wheel of ai-edge-litert has no libLiteRt, whose profiler times operations")


def _handles(buffers: Sequence[Any]) -> Any:
    """LiteRtTensorBuffer of each buffer of the wheel's classes."""
    point = ctypes.pythonapi.PyCapsule_GetPointer
    point.restype, point.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)
    return (ctypes.c_void_p * len(buffers))(*(point(buffer.capsule, b"LiteRtTensorBuffer") for buffer in buffers))


def _check(status: int, doing: str) -> None:
    if status:
        raise RuntimeError(f"LiteRT could not {doing}: status {status}")
