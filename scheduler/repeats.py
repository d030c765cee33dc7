"""What is kept of one repeat of a case, and what the repeats of a case amount to: the columns of its point."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from workers.contract import MeasureTask, promises_integers
from workers.readings import ReadingColumns
from workers.report import Report
from workers.statistics import process_median_interval

#: Below this share of integer FLOPs an int8 label says how partial it is.
WHOLE_SHARE = 0.5
#: Fewer repeats give no interval between processes, no rank and no verdict on a ratio.
LEAST_REPEATS = 5
#: From best to worst: the verdict of a point none of whose repeats is valid is its worst.
_SEVERITY = ("valid", "not_converged", "unusable", "throttled", "contaminated", "interrupted")
#: Energy that is no number says why instead.
_KNOWN_ENERGY = ("ok", "partial")


class Repeat(NamedTuple):
    """One process, as a point keeps it: JSON, so that one more repeat needs no other row. New fields go to the end."""

    p50_ms: float
    verdict: str
    p90_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    throughput_per_s: float | None = None
    load_ms: float | None = None
    compile_ms: float | None = None
    first_inference_ms: float | None = None
    peak_rss_bytes: int | None = None
    energy_per_inference_mj: float | None = None
    #: The hottest that the device's temperature channels read.
    temperature_c: float | None = None
    snr_db: float | None = None
    top1_agreement: float | None = None
    quantised_flop_share: float | None = None
    delegated_share: float | None = None
    energy_quality: str | None = None
    energy_source: str | None = None
    precision: str | None = None
    compute_unit: str | None = None
    flags: tuple[str, ...] = ()


#: Columns of a point that are medians over the repeats that count.
MEDIANS = (
    "p90_ms",
    "p95_ms",
    "p99_ms",
    "throughput_per_s",
    "load_ms",
    "compile_ms",
    "first_inference_ms",
    "energy_per_inference_mj",
    "temperature_c",
    "snr_db",
    "top1_agreement",
    "quantised_flop_share",
    "delegated_share",
)
#: Columns that are told as the repeat nearest to the median tells them.
_TYPICAL = ("energy_quality", "energy_source", "precision", "compute_unit")


def repeat_of(report: Report, readings: ReadingColumns | None, task: MeasureTask) -> Repeat:
    """What is kept of a report of a measurement, which has been judged.

    Args:
        report: with a measurement and a judgement.
        readings: of the device's sensors during the attempt; None: none told.
        task: what was asked for.
    """
    measurement, judgement = report.result.measurement, report.judgement
    assert measurement is not None
    assert judgement is not None  # or it were no success
    timings, runtime, fidelity = measurement.timings, measurement.runtime, measurement.fidelity
    energy = report.energy
    flags = {*judgement.flags, *label_flags(runtime.precision, runtime.quantised_flop_share, task.recipe)}
    if timings.of_invocations == "mean":
        flags.add("mean_not_median")
    return Repeat(
        p50_ms=timings.p50_ms,
        verdict=judgement.verdict,
        p90_ms=timings.p90_ms,
        p95_ms=timings.p95_ms,
        p99_ms=timings.p99_ms,
        throughput_per_s=measurement.throughput_per_s,
        load_ms=measurement.load_cold_ms,
        compile_ms=measurement.compile_ms,
        first_inference_ms=measurement.first_inference_ms,
        peak_rss_bytes=measurement.peak_rss_bytes,
        energy_per_inference_mj=energy.energy_per_inference_mj
        if energy is not None and energy.quality in _KNOWN_ENERGY
        else None,
        temperature_c=max(readings.values_of("temperature", "C"), default=None) if readings is not None else None,
        snr_db=fidelity.snr_db if fidelity is not None else None,
        top1_agreement=fidelity.top1_agreement if fidelity is not None else None,
        quantised_flop_share=runtime.quantised_flop_share,
        delegated_share=runtime.delegated_share,
        energy_quality=energy.quality if energy is not None else None,
        energy_source=energy.source if energy is not None else None,
        precision=runtime.precision,
        compute_unit=runtime.compute_unit,
        flags=tuple(sorted(flags)),
    )


def label_flags(precision: str, quantised_flop_share: float | None, recipe: str) -> list[str]:
    """How far what ran is what the recipe's name promises."""
    if promises_integers(recipe):
        if quantised_flop_share is None:
            return ["int8 (unverified)"]
        return [f"int8 (partial {quantised_flop_share:.0%})"] if quantised_flop_share < WHOLE_SHARE else []
    return ["precision_unverified"] if precision == "unknown" else []


def summary(repeats: Sequence[tuple[Any, ...]]) -> tuple[float, str, int]:
    """Median over the valid repeats, or over all where none is valid; the verdict; how many counted.

    Args:
        repeats: (process median, verdict, ...) of each repeat, at least one.
    """
    valid = [repeat[0] for repeat in repeats if repeat[1] == "valid"]
    if valid:
        return statistics.median(valid), "valid", len(valid)
    worst = max((repeat[1] for repeat in repeats), key=_SEVERITY.index)
    return statistics.median(repeat[0] for repeat in repeats), worst, len(repeats)


def columns_of(repeats: Sequence[Repeat]) -> dict[str, Any]:
    """The columns of a point that follow from its repeats, at least one."""
    value, verdict, counted = summary(repeats)
    counting = [repeat for repeat in repeats if repeat.verdict == "valid"] or list(repeats)
    if len(repeats) == 1:  # most points of a farm: nothing to add up
        [only] = repeats
        medians = {name: getattr(only, name) for name in MEDIANS}
        typical, low, high = only, None, None
        peak: float | None = only.peak_rss_bytes
    else:
        medians = {name: _median(getattr(repeat, name) for repeat in counting) for name in MEDIANS}
        alike = (repeat for repeat in counting if repeat.verdict == verdict)
        typical = min(alike, key=lambda repeat: abs(repeat.p50_ms - value))
        peak = _median(repeat.peak_rss_bytes for repeat in counting)
        low, high = _interval(counting) if verdict == "valid" else (None, None)
    return {
        "value": value,
        "value_ci_low": low,
        "value_ci_high": high,
        "verdict": verdict,
        "repeats": counted,
        **medians,
        "peak_rss_bytes": None if peak is None else round(peak),
        **{name: getattr(typical, name) for name in _TYPICAL},
        "flags": ", ".join(sorted({flag for repeat in repeats for flag in repeat.flags})),
    }


def _interval(valid: Sequence[Repeat]) -> tuple[float | None, float | None]:
    if len(valid) < LEAST_REPEATS:
        return None, None
    return process_median_interval([repeat.p50_ms for repeat in valid])


def _median(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None
