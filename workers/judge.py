"""The verdict on one measurement: the first rule that applies (docs/measurement.md, "One attempt", 8)."""

from __future__ import annotations

from collections.abc import Sequence

from workers.contract import Evaluation, Fidelity, Measurement
from workers.report import Energy, GateReading, Judgement, Reading, Verdict

#: CPU time of foreign processes that contaminates a measurement, as a share of one core.
FOREIGN_LOAD_LIMIT = 0.10
_DRIFT_LIMIT = 1.03
_DRIFT_P = 0.001
_UNUSABLE_IQR = 0.25
_NOISY_IQR = 0.10
#: Host time that the hypervisor gave to others, as a share of one core, that deserves a flag.
_STEAL_LIMIT = 0.05


#: A flag that keeps a case out of ranks and speed-ups: what it computes so fast is not the model.
OUTPUTS_WRONG = "outputs_wrong"


def outputs_are_wrong(fidelity: Fidelity | None) -> bool:
    """Whether outputs hold NaN or infinity, or differ from the reference by more than the reference's own size."""
    return fidelity is not None and (not fidelity.finite or (fidelity.snr_db is not None and fidelity.snr_db < 0))


def judge(
    measurement: Measurement, before: GateReading, after: GateReading, telemetry: Sequence[Reading], energy: Energy
) -> Judgement:
    """Judge one finished measurement by what the child and the agent saw."""
    timings = measurement.timings
    flags = []
    if timings.iqr_over_median > _NOISY_IQR:
        flags.append("noisy")
    if measurement.warm_up.stable is False:
        flags.append("warm_up_unstable")
    if (steal := _mean(telemetry, "steal")) is not None and steal > _STEAL_LIMIT:
        flags.append("cpu_stolen")
    if before.foreign_load.share_of_core is None or after.foreign_load.share_of_core is None:
        flags.append("foreign_load_unknown")
    if energy.quality == "partial":
        flags.append("energy_partial")
    if outputs_are_wrong(measurement.fidelity):
        flags.append(OUTPUTS_WRONG)
    verdict, reasons = _verdict(measurement, before, after, telemetry)
    return Judgement(verdict=verdict, reasons=tuple(reasons), flags=tuple(flags))


def judge_profile(before: GateReading, after: GateReading) -> Judgement:
    """A profile is no latency and enters no ranking; whether the machine was its own is told all the same."""
    busy = _foreign_load(before, after)
    return Judgement(verdict="contaminated" if busy else "valid", reasons=tuple(busy))


def judge_evaluation(evaluation: Evaluation) -> Judgement:
    """How right the answers are does not depend on what else the machine did; what is no answer is told."""
    return Judgement(verdict="valid", flags=("not_finite",) if evaluation.not_finite else ())


def _verdict(
    measurement: Measurement, before: GateReading, after: GateReading, telemetry: Sequence[Reading]
) -> tuple[Verdict, list[str]]:
    timings = measurement.timings
    if spoilt := _foreign_load(before, after) + _not_ready(before):
        return "contaminated", spoilt
    throttled = [f"{reading.sensor}: {reading.value:g} throttle events" for reading in _throttle_events(telemetry)]
    ratio, p = timings.drift_ratio, timings.drift_p
    if ratio is not None and p is not None and ratio > _DRIFT_LIMIT and p < _DRIFT_P:
        throttled.append(f"the last fifth was {ratio - 1:.1%} slower than the first")
    if throttled:
        return "throttled", throttled
    if timings.iqr_over_median > _UNUSABLE_IQR:
        return "unusable", [f"the middle half spans {timings.iqr_over_median:.0%} of the median"]
    if not timings.converged:
        return "not_converged", [f"the interval of the median was not within 1 % after {timings.elapsed_s:.0f} s"]
    return "valid", []


def _foreign_load(before: GateReading, after: GateReading) -> list[str]:
    return [
        f"{when} {gate.foreign_load.share_of_core:.0%} of a core went to "
        + (", ".join(gate.foreign_load.culprits) or "short-lived processes")
        for when, gate in (("before the run", before), ("during the run", after))
        if gate.foreign_load.share_of_core is not None and gate.foreign_load.share_of_core > FOREIGN_LOAD_LIMIT
    ]


def _not_ready(before: GateReading) -> list[str]:
    """What a gate that was waited for in vain, or not at all, found wrong; foreign load is told by its share."""
    if before.passed:
        return []
    return [
        f"before the run: {name}: {text}"
        for name, text in before.checks.items()
        if name != "foreign_load" and text not in ("ok", "unknown")
    ]


def _throttle_events(telemetry: Sequence[Reading]) -> list[Reading]:
    return [r for r in telemetry if r.quantity == "throttle_events" and r.value is not None and r.value > 0]


def _mean(telemetry: Sequence[Reading], quantity: str) -> float | None:
    values = [reading.value for reading in telemetry if reading.quantity == quantity and reading.value is not None]
    return sum(values) / len(values) if values else None
