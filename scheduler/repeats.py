"""What is kept of one repeat of a case, and what the repeats of a case amount to: the columns of its point."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from pydantic_core import from_json

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


_FIELDS = Repeat._fields
#: Columns of a point that are medians over the repeats that count: they stand side by side in a `Repeat`.
MEDIANS = _FIELDS[2:16]
#: Columns that are told as the repeat nearest to the median tells them.
_TYPICAL = _FIELDS[16:20]


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
    flags = [*judgement.flags, *label_flags(runtime.precision, runtime.quantised_flop_share, task.recipe)]
    if timings.of_invocations == "mean":
        flags.append("mean_not_median")
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
        flags=tuple(flags),
    )


def label_flags(precision: str, quantised_flop_share: float | None, recipe: str) -> list[str]:
    """How far what ran is what the recipe's name promises."""
    if promises_integers(recipe):
        if quantised_flop_share is None:
            return ["int8 (unverified)"]
        return [f"int8 (partial {quantised_flop_share:.0%})"] if quantised_flop_share < WHOLE_SHARE else []
    return ["precision_unverified"] if precision == "unknown" else []


def summary(repeats: Sequence[Sequence[Any]]) -> tuple[float, str, int]:
    """Median over the valid repeats, or over all where none is valid; the verdict; how many counted.

    Args:
        repeats: (process median, verdict, ...) of each repeat, at least one.
    """
    valid = [repeat[0] for repeat in repeats if repeat[1] == "valid"]
    if valid:
        return _median(valid), "valid", len(valid)
    worst = max((repeat[1] for repeat in repeats), key=_SEVERITY.index)
    return _median([repeat[0] for repeat in repeats]), worst, len(repeats)


def read_repeats(text: str) -> list[list[Any]]:
    """What a point keeps of its repeats; of those that an older benchfarm kept less of, what is lacking is None."""
    repeats: list[list[Any]] = from_json(text)  # a third of what `json` takes, for every repeat that comes
    for repeat in repeats:
        if (lacking := len(_FIELDS) - len(repeat)) > 0:
            repeat += [None] * lacking
    return repeats


def columns_of(repeats: Sequence[Sequence[Any]]) -> dict[str, Any]:
    """The columns of a point that follow from its repeats, at least one: each a `Repeat`, or what is kept of one."""
    value, verdict, counted = summary(repeats)
    low = high = None
    if len(repeats) == 1:  # most points of a farm: nothing to add up
        [typical] = repeats
        columns = dict(zip(MEDIANS, typical[2:16], strict=True))
    else:
        counting = repeats if verdict != "valid" else [repeat for repeat in repeats if repeat[1] == "valid"]
        told = zip(*[repeat[2:16] for repeat in counting], strict=True)
        columns = dict(zip(MEDIANS, map(_median_if_any, told), strict=True))
        if (peak := columns["peak_rss_bytes"]) is not None:
            columns["peak_rss_bytes"] = round(peak)
        alike = [repeat for repeat in counting if repeat[1] == verdict]
        typical = min(alike, key=lambda repeat: abs(repeat[0] - value))
        if verdict == "valid" and counted >= LEAST_REPEATS:
            low, high = process_median_interval([repeat[0] for repeat in counting])
    columns["value"], columns["value_ci_low"], columns["value_ci_high"] = value, low, high
    columns["verdict"], columns["repeats"] = verdict, counted
    columns |= zip(_TYPICAL, typical[16:20], strict=True)
    flags = {flag for repeat in repeats for flag in repeat[20] or ()}
    columns["flags"] = ", ".join(sorted(flags)) if flags else ""
    return columns


def _median_if_any(values: tuple[float | None, ...]) -> float | None:
    """Of what is known; most are absent, or the same in every process."""
    first = values[0]
    if values.count(first) == len(values):
        return first
    return _median([value for value in values if value is not None])


def _median(values: Sequence[Any]) -> float:
    """As `statistics.median`, at a third of its cost: every repeat needs fifteen."""
    ordered = sorted(values)
    middle = len(ordered) // 2
    found: float = ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
    return found
