"""The timed loop: warm-up, stop rule, modes (docs/measurement.md, "One attempt").

Every clock read costs about 50 ns and a stored sample 50 more, so an iteration under 110 us is timed in inner loops
sized to keep that cost at most 0.1 %.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workers.contract import Options, Timings, WarmUp
from workers.statistics import LEAST_SAMPLES, Samples, mann_whitney_p, median_interval, percentile, spread

Run = Callable[[], object]
Nanoseconds = NDArray[np.int64]

#: The interval of the median must lie within this share of it.
CONVERGENCE = 0.01
#: Converged needs at least this many iterations.
LEAST_FOR_CONVERGENCE = 7
#: Below this, timing one iteration costs more than 0.1 % of it.
INNER_LOOP_BELOW_NS = 110_000
#: Sustained mode runs this long unless the cap says otherwise.
SUSTAINED_SECONDS = 600.0
#: The timed part of the other modes ends here, more for a percentile that needs more iterations.
CAP_SECONDS = 60.0

_WARM_UP_LEAST_RUNS = 3
_WARM_UP_LEAST_S = 0.5
_WARM_UP_CAP_S = 10.0
_WARM_UP_AGREEMENT = 0.02
_GROWTH = 1.1
_DRIFT_LEAST = 30


@dataclass(frozen=True)
class Timed:
    """What the timed part yields."""

    nanoseconds: Nanoseconds  # per inner iteration, shape (iterations,)
    inner_iterations: int
    elapsed_s: float
    converged: bool


def warm_up(run: Run) -> tuple[WarmUp, int]:
    """Run until the median of the last k runs is within 2 % of that of the k before; at least 3 runs and 0.5 s.

    Returns:
        How it went, and the median duration of the last runs in nanoseconds.
    """
    clock = time.perf_counter_ns
    durations: list[int] = []
    began = clock()
    check_at = 2 * _WARM_UP_LEAST_RUNS
    while True:
        start = clock()
        run()
        end = clock()
        durations.append(end - start)
        elapsed_s = (end - began) / 1e9
        count = len(durations)
        if elapsed_s >= _WARM_UP_CAP_S and count >= _WARM_UP_LEAST_RUNS:
            stable = _is_stable(durations)
            break
        if elapsed_s >= _WARM_UP_LEAST_S and count >= check_at:
            if stable := _is_stable(durations):
                break
            check_at = math.ceil(count * _GROWTH) + 1
    k = max(_WARM_UP_LEAST_RUNS, len(durations) // 4)
    return WarmUp(runs=len(durations), seconds=elapsed_s, stable=stable), int(np.median(durations[-k:]))


def _is_stable(durations: list[int]) -> bool:
    k = max(_WARM_UP_LEAST_RUNS, len(durations) // 4)
    if len(durations) < 2 * k:
        return False
    last, before = float(np.median(durations[-k:])), float(np.median(durations[-2 * k : -k]))
    return abs(last - before) <= _WARM_UP_AGREEMENT * before


def timed_part(run: Run, options: Options, expected_ns: int) -> Timed:
    """Time iterations until the stop rule of the mode holds.

    Args:
        run: one inference.
        options: mode, rate, bounds.
        expected_ns: duration of one inference after warm-up; sizes the inner loop.
    """
    paced = options.rate_hz is not None
    inner = 1 if paced or expected_ns >= INNER_LOOP_BELOW_NS else math.ceil(INNER_LOOP_BELOW_NS / max(expected_ns, 1))
    block = _paced_block(run, options.rate_hz) if options.rate_hz is not None else _block(run, inner)
    least_s, cap_s = _bounds(options)
    least_count = LEAST_SAMPLES[options.percentile]
    period_ns = 1e9 / options.rate_hz if options.rate_hz is not None else 0.0
    samples: list[int] = []
    with _no_garbage_collection():
        began = time.perf_counter_ns()
        count = _first_block(least_count, max(expected_ns * inner, period_ns), cap_s)
        while True:
            samples.extend(block(count))
            elapsed_s = (time.perf_counter_ns() - began) / 1e9
            n = len(samples)
            if elapsed_s >= cap_s:
                converged = is_converged(samples)
                break
            converged = elapsed_s >= least_s and n >= least_count and is_converged(samples)
            if converged and options.mode != "sustained":
                break
            per_iteration_s = elapsed_s / n
            wanted = max(
                n * _GROWTH - n, (least_s - elapsed_s) / per_iteration_s if elapsed_s < least_s else 1, least_count - n
            )
            left = (cap_s - elapsed_s) / per_iteration_s
            count = max(1, min(math.ceil(wanted), math.ceil(left)))
    return Timed(np.asarray(samples, dtype=np.int64), inner, elapsed_s, converged)


def _bounds(options: Options) -> tuple[float, float]:
    """Least and most seconds of the timed part; the cap bounds both."""
    cap_s = longest_s(options)
    if options.mode == "sustained":
        return (min(SUSTAINED_SECONDS, cap_s),) * 2
    return min(options.min_seconds, cap_s), cap_s


def longest_s(options: Options) -> float:
    """The cap on the timed part: the user's, or the mode's; a percentile that needs more iterations raises it."""
    if options.max_seconds is not None:
        return options.max_seconds
    if options.mode == "sustained":
        return SUSTAINED_SECONDS
    return CAP_SECONDS * LEAST_SAMPLES[options.percentile] / LEAST_SAMPLES[90]


def _first_block(least_count: int, iteration_ns: float, cap_s: float) -> int:
    """The least count, unless so many do not fit the cap."""
    fitting = math.floor(cap_s * 1e9 / max(iteration_ns, 1))
    return max(1, min(least_count, fitting))


def _block(run: Run, inner: int) -> Callable[[int], list[int]]:
    """A function that times `count` iterations of `inner` runs each, as cheaply as Python can."""

    def single(count: int) -> list[int]:
        clock = time.perf_counter_ns
        out = [0] * count
        for index in range(count):
            start = clock()
            run()
            out[index] = clock() - start
        return out

    def looped(count: int) -> list[int]:
        clock = time.perf_counter_ns
        out = [0] * count
        inner_range = range(inner)
        for index in range(count):
            start = clock()
            for _ in inner_range:
                run()
            out[index] = clock() - start
        return out

    return single if inner == 1 else looped


def _paced_block(run: Run, rate_hz: float) -> Callable[[int], list[int]]:
    """Start iterations on a fixed grid, as a camera would; after an overrun they catch up, none is skipped."""
    period_ns = round(1e9 / rate_hz)
    due = time.perf_counter_ns()

    def paced(count: int) -> list[int]:
        nonlocal due
        clock = time.perf_counter_ns
        out = [0] * count
        for index in range(count):
            wait_ns = due - clock()
            if wait_ns > 0:
                time.sleep(wait_ns / 1e9)
            start = clock()
            run()
            out[index] = clock() - start
            due += period_ns
        return out

    return paced


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Collect before, not during: a collection of a runtime's module graph takes tens of milliseconds."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


def is_converged(samples: list[int] | Samples) -> bool:
    """Whether the 95 % interval of the median lies within +-1 % of it, with at least 7 samples."""
    if len(samples) < LEAST_FOR_CONVERGENCE:
        return False
    values = np.asarray(samples, dtype=np.float64)
    interval = median_interval(values)
    middle = float(np.median(values))
    return interval is not None and max(middle - interval[0], interval[1] - middle) <= CONVERGENCE * middle


def summarise(timed: Timed, mode: str) -> Timings:
    """The summary that a result carries, in milliseconds per inference."""
    ms: Samples = timed.nanoseconds / (1e6 * timed.inner_iterations)
    apart = spread(ms)
    # Percentiles of loop means are not percentiles of iterations.
    tail = ms if timed.inner_iterations == 1 else ms[:0]
    drift_ratio, drift_p = drift(ms)
    first, last = _minutes(timed, ms) if mode == "sustained" else (None, None)
    return Timings(
        iterations=len(ms),
        inner_iterations=timed.inner_iterations,
        elapsed_s=timed.elapsed_s,
        converged=timed.converged,
        p50_ms=float(np.median(ms)),
        p50_within_ci_ms=median_interval(ms),
        mean_ms=float(np.mean(ms)),
        min_ms=float(np.min(ms)),
        max_ms=float(np.max(ms)),
        mad_ms=apart.mad,
        iqr_over_median=apart.iqr_over_median,
        p90_ms=percentile(tail, 90),
        p95_ms=percentile(tail, 95),
        p99_ms=percentile(tail, 99),
        outliers_mild=apart.outliers_mild,
        outliers_extreme=apart.outliers_extreme,
        drift_ratio=drift_ratio,
        drift_p=drift_p,
        first_minute_p50_ms=first,
        last_minute_p50_ms=last,
        std_ms=float(np.std(tail, ddof=1)) if len(tail) > 1 else None,
    )


def drift(ms: Samples) -> tuple[float | None, float | None]:
    """Median of the last fifth over that of the first, and Mann-Whitney's p; None with fewer than 30 at each end."""
    fifth = len(ms) // 5
    if fifth < _DRIFT_LEAST:
        return None, None
    first, last = ms[:fifth], ms[-fifth:]
    return float(np.median(last) / np.median(first)), mann_whitney_p(first, last)


def _minutes(timed: Timed, ms: Samples) -> tuple[float | None, float | None]:
    """Medians of the first and last minute; None for a run shorter than two minutes."""
    if timed.elapsed_s < 120:
        return None, None
    busy = np.cumsum(timed.nanoseconds)
    ends_s = busy / busy[-1] * timed.elapsed_s  # pauses of a target rate spread evenly
    first, last = ms[ends_s <= 60], ms[ends_s > timed.elapsed_s - 60]
    return (float(np.median(first)) if len(first) else None), (float(np.median(last)) if len(last) else None)
