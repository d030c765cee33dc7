"""TensorFlow's own trace of a few runs: what each node took, and what the runtime took around them."""

from __future__ import annotations

import re
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workers.errors import UnsupportedError

#: How a kernel is named in the trace: "scope/conv/Conv2D:_MklNativeConv2D".
_KERNEL = re.compile(r"(?P<name>[^:#]+):(?P<type>_?[A-Z]\w*)")
_EXECUTOR = "ExecutorState::Process"
_RUN = "benchfarm_run"


@dataclass
class TracedRun:
    """What one run was made of, in microseconds."""

    run_ms: float
    #: Kernel (name, type) to its own time, without what ran inside it; in the order they began.
    kernels: dict[tuple[str, str], float] = field(default_factory=dict)
    #: How often each ran: what is inside a loop runs more than once.
    times: Counter[tuple[str, str]] = field(default_factory=Counter)
    #: The graph executor's own time, between kernels.
    executor_us: float = 0.0
    #: The rest: the call of the function, with its arguments and results.
    call_us: float = 0.0


@dataclass(frozen=True)
class _Event:
    name: str
    begin_ps: int
    end_ps: int
    thread: int


def traced(run: Callable[[], object], runs: int) -> list[TracedRun]:
    """Trace so many runs.

    Raises:
        UnsupportedError: the trace does not hold them.
    """
    import tensorflow as tf

    run_ms = []
    with tempfile.TemporaryDirectory() as folder:
        tf.profiler.experimental.start(folder)
        try:
            for index in range(runs):
                with tf.profiler.experimental.Trace(_RUN, step_num=index):
                    began = time.perf_counter_ns()
                    run()
                    run_ms.append((time.perf_counter_ns() - began) / 1e6)
        finally:
            tf.profiler.experimental.stop()
        events = _events(Path(folder))
    windows = sorted((event for event in events if event.name == _RUN), key=lambda event: event.begin_ps)
    if len(windows) != runs:
        raise UnsupportedError(f"TensorFlow's profiler kept {len(windows)} of {runs} runs: no profile")
    rest = sorted((event for event in events if event.name != _RUN), key=lambda event: (event.begin_ps, -event.end_ps))
    return [
        _run_of([event for event in rest if window.begin_ps <= event.begin_ps < window.end_ps], took, window)
        for window, took in zip(windows, run_ms, strict=True)
    ]


def own_times(spans: list[tuple[int, int]]) -> list[int]:
    """Each span's length without the spans inside it; spans of one thread, sorted by begin, the longer first."""
    own = [end - begin for begin, end in spans]
    around: list[int] = []
    for index, (begin, end) in enumerate(spans):
        while around and spans[around[-1]][1] <= begin:
            around.pop()
        if around:
            own[around[-1]] -= end - begin
        around.append(index)
    return own


def _run_of(events: list[_Event], run_ms: float, window: _Event) -> TracedRun:
    made = TracedRun(run_ms)
    by_thread: dict[int, list[_Event]] = defaultdict(list)
    for event in events:
        by_thread[event.thread].append(event)
    own_ps = {
        id(event): own
        for thread in by_thread.values()
        for event, own in zip(thread, own_times([(item.begin_ps, item.end_ps) for item in thread]), strict=True)
    }
    for event in events:
        own_us = own_ps[id(event)] / 1e6
        kernel = _KERNEL.fullmatch(event.name)
        if kernel is None:
            made.executor_us += own_us
        else:
            key = kernel["name"], kernel["type"]
            made.kernels[key] = made.kernels.get(key, 0.0) + own_us
            made.times[key] += 1
    made.call_us = max((window.end_ps - window.begin_ps) / 1e6 - made.executor_us - sum(made.kernels.values()), 0.0)
    return made


def _events(folder: Path) -> list[_Event]:
    """Kernels, stretches of the executor and runs, of all threads."""
    from tensorflow.tsl.profiler.protobuf.xplane_pb2 import XSpace

    found = []
    for path in folder.rglob("*.xplane.pb"):
        space = XSpace()
        space.ParseFromString(path.read_bytes())
        for plane in space.planes:
            names: dict[int, Any] = {key: item.name for key, item in plane.event_metadata.items()}
            wanted = {
                key: _RUN if name.startswith(_RUN) else name
                for key, name in names.items()
                if name.startswith((_RUN, _EXECUTOR)) or _KERNEL.fullmatch(name)
            }
            for thread, line in enumerate(plane.lines):
                for event in line.events:
                    if event.metadata_id in wanted:
                        begin = line.timestamp_ns * 1000 + event.offset_ps
                        found.append(_Event(wanted[event.metadata_id], begin, begin + event.duration_ps, thread))
    return found
