"""From invocations of a tool that prints summaries to a measurement: an invocation is the sample (rule 7)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from workers.android.tools.tool import ToolOutput
from workers.contract import Measurement, MeasureTask, RuntimeFacts, WarmUp
from workers.errors import AttemptError, Cause
from workers.measure import Timed, is_converged, summarise

#: Fewer invocations give no interval.
LEAST_INVOCATIONS = 7
#: The timed part of one lasts so long at least: below, starting the tool would be most of what is seen.
_LEAST_SECONDS = 0.1


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One finished invocation: what it printed, and when it ran."""

    output: ToolOutput
    #: Epoch seconds.
    began: float
    ended: float


def seconds_each(task: MeasureTask) -> float:
    """How long the timed part of one invocation shall last, so that the least number of them make the whole."""
    return max(_LEAST_SECONDS, task.options.min_seconds / LEAST_INVOCATIONS)


def enough(samples: Sequence[Sample]) -> bool:
    """Whether the interval of the invocations' median is within 1 %."""
    times = _times(samples)
    return times is not None and is_converged(times)


def measurement(
    samples: Sequence[Sample], facts: RuntimeFacts, task: MeasureTask, inputs: Mapping[str, tuple[Any, ...]]
) -> Measurement:
    """What a series of invocations amounts to.

    Args:
        samples: in the order they ran.
        facts: what the tool says of itself over all of them.
        task: what was asked for.
        inputs: type and shape of each input of the program.

    Raises:
        AttemptError: an invocation printed no time, or not the statistic of the others.
    """
    times = _times(samples)
    if times is None:
        why = next((sample.output.why_not_measured for sample in samples if sample.output.value_ms is None), None)
        message = why or "some invocations printed a median and some a mean"
        raise AttemptError(Cause.MODEL, "no_time", message)
    outputs = [sample.output for sample in samples]
    runs = [output.runs for output in outputs if output.runs is not None]
    inner = max(1, round(float(np.median(runs)))) if runs else 1
    elapsed_s = samples[-1].ended - samples[0].began
    nanoseconds = np.asarray(times) * inner
    timed = Timed(
        nanoseconds=nanoseconds.round().astype(np.int64),
        inner_iterations=inner,
        elapsed_s=elapsed_s,
        converged=is_converged(times),
    )
    timings = replace(summarise(timed, task.options.mode), of_invocations=outputs[0].statistic)
    warm_up_runs = sum(output.warm_up_runs or 0 for output in outputs)
    warm_up_s = sum((output.warm_up_runs or 0) * (output.warm_up_ms or 0.0) for output in outputs) / 1e3
    peaks = [output.peak_memory_bytes for output in outputs if output.peak_memory_bytes is not None]
    return Measurement(
        runtime=facts,
        imports_ms=None,
        load_cold_ms=outputs[0].init_ms,
        load_warm_ms=outputs[-1].init_ms if len(outputs) > 1 else None,
        compile_ms=None,
        first_inference_ms=outputs[0].first_ms,
        warm_up=WarmUp(runs=warm_up_runs, seconds=warm_up_s, stable=None),
        timings=timings,
        throughput_per_s=1e3 * task.options.batch / timings.mean_ms,
        rss_after_imports_bytes=None,
        peak_rss_bytes=max(peaks, default=None),
        fidelity=None,
        inputs=dict(inputs),
        timed_from=samples[0].began,
        timed_to=samples[-1].ended,
        raw=None,
    )


def _times(samples: Sequence[Sample]) -> list[int] | None:
    """Nanoseconds of each; None where one has none, or they are not of one statistic."""
    if len({sample.output.statistic for sample in samples}) != 1:
        return None
    values = [sample.output.value_ms for sample in samples]
    return [round(value * 1e6) for value in values if value is not None] if None not in values else None
