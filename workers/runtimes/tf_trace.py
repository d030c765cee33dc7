"""TensorFlow's own trace of a few runs: what each node took, what its executor took, and what was not traced.

TensorFlow traces the nodes that it holds for expensive. It holds each for that until it ran about ninety times and was
cheap, and no traced run counts: of a function that ran often it traces a part, of one traced from its first run on all.
The latter is no faithful run, though: the executor hands each expensive node to another thread.
"""

from __future__ import annotations

import re
import statistics
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
#: A kernel that calls back when it is done: code that XLA compiled, functions that were not inlined.
_CALL = "ExecutorState::ProcessAsync::Start"
_RUN = "benchfarm_run"


@dataclass
class TracedRun:
    """What one run was made of, in microseconds."""

    run_ms: float
    #: Kernel (name, type) to its own time, without what ran inside it; in the order they began.
    kernels: dict[tuple[str, str], float] = field(default_factory=dict)
    #: How often each ran: what is inside a loop runs more than once.
    times: Counter[tuple[str, str]] = field(default_factory=Counter)
    #: The graph executor's own time: between kernels, and in those that were not traced.
    executor_us: float = 0.0
    #: What is left of the run, the call of the function with its arguments and results among it.
    rest_us: float = 0.0


@dataclass(frozen=True)
class _Event:
    name: str
    begin_ps: int
    end_ps: int
    thread: int


def traced(run: Callable[[], object], runs: int, *, warm_ups: int = 0) -> list[TracedRun]:
    """Trace so many runs.

    Args:
        run: calls the function.
        runs: how many.
        warm_ups: more before them, traced and forgotten.

    Raises:
        UnsupportedError: the trace does not hold them.
    """
    import tensorflow as tf

    run_ms = []
    with tempfile.TemporaryDirectory() as folder:
        tf.profiler.experimental.start(folder)
        try:
            for _ in range(warm_ups):
                run()
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


def kernel_times(seen: list[TracedRun], whole: list[TracedRun]) -> dict[tuple[str, str], float]:
    """Each kernel's median over the runs where it was seen, in the order they ran.

    Args:
        seen: runs in which TensorFlow traced a part.
        whole: runs in which it traced all; what those tell of a kernel counts only where no run of `seen` has it.
    """
    fullest_first = sorted([*whole, *seen], key=lambda run: -len(run.kernels))
    keys = dict.fromkeys(key for run in fullest_first for key in run.kernels)

    def times(runs: list[TracedRun], key: tuple[str, str]) -> list[float]:
        return [run.kernels[key] for run in runs if key in run.kernels]

    return {key: statistics.median(times(seen, key) or times(whole, key)) for key in keys}


def executor_time(seen: list[TracedRun], kernels: dict[tuple[str, str], float]) -> float:
    """The executor's own time, the median over runs: without the kernels that ran in it and were not traced."""
    own = (run.executor_us - sum(took for key, took in kernels.items() if key not in run.kernels) for run in seen)
    return max(statistics.median(own), 0.0)


def own_times(spans: list[tuple[int, int]]) -> list[int]:
    """Each span's length without what the spans that begin inside it take of it: together what they cover.

    Args:
        spans: of one thread, sorted by begin, the longer first. Some end a little after the next has begun.
    """
    own = [end - begin for begin, end in spans]
    around: list[int] = []
    for index, (begin, end) in enumerate(spans):
        while around and spans[around[-1]][1] <= begin:
            around.pop()
        start = begin
        for outer in reversed(around):
            until = max(start, min(end, spans[outer][1]))
            own[outer] -= until - start
            start = until
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
    made.rest_us = max((window.end_ps - window.begin_ps) / 1e6 - made.executor_us - sum(made.kernels.values()), 0.0)
    return made


def _events(folder: Path) -> list[_Event]:
    """Kernels, stretches of the executor and runs, of all threads."""
    from tensorflow.tsl.profiler.protobuf.xplane_pb2 import XSpace

    found = []
    for path in folder.rglob("*.xplane.pb"):
        space = XSpace()
        space.ParseFromString(path.read_bytes())
        for plane in space.planes:
            stats = {key: item.name for key, item in plane.stat_metadata.items()}
            for thread, line in enumerate(plane.lines):
                for event in line.events:
                    name = plane.event_metadata[event.metadata_id].name
                    if name == _CALL:
                        told = {stats.get(stat.metadata_id): stat for stat in event.stats}
                        name = ":".join(_text(told.get(key), stats) for key in ("name", "kernel_type"))
                    elif name.startswith(_RUN):
                        name = _RUN
                    if name.startswith((_RUN, _EXECUTOR)) or _KERNEL.fullmatch(name):
                        begin = line.timestamp_ns * 1000 + event.offset_ps
                        found.append(_Event(name, begin, begin + event.duration_ps, thread))
    return found


def _text(stat: Any, names: dict[int, str]) -> str:
    return "" if stat is None else stat.str_value or names.get(stat.ref_value, "")
