"""Reports of simulated attempts, as plain data: the same documents as real ones, and marked in each.

A farm of simulated devices makes thousands of them a second, so what does not change is shared between them.
"""

from __future__ import annotations

import math
import random
import statistics
from typing import Any

from workers.contract import (
    PROTOCOL_VERSION,
    SCHEMA_VERSION,
    Failure,
    Measurement,
    RuntimeFacts,
    Timings,
    WarmUp,
    promises_integers,
)
from workers.devices.sim_fleet import Latency
from workers.devices.sim_unit import WARM_UP_RUNS, Heat, Run, SimUnit
from workers.judge import judge, judge_profile
from workers.models.sim_zoo import INPUT_WIDTH, SPEED_UPS
from workers.report import Energy, ForeignLoad, GateReading, Judgement, Reading

#: In every judgement of a simulated attempt.
SIMULATED = "simulated"
_ENERGY = Energy(quality="unsupported", why="a simulated device has no meter")
_QUIET = ForeignLoad(share_of_core=0.0, window_s=2.0)
_READY = GateReading(passed=True, checks={"simulated": "ok"}, foreign_load=_QUIET)
_WARM_UP = WarmUp(runs=WARM_UP_RUNS, seconds=0.0, stable=True)
_FACTS = {
    recipe: RuntimeFacts(
        name="sim",
        version="1",
        options={},
        precision="int8" if promises_integers(recipe) else recipe,
        compute_unit="sim",
        evidence="simulated: nothing was computed",
        quantised_flop_share=1.0 if promises_integers(recipe) else None,
    )
    for recipe in SPEED_UPS
}
_NORMAL = statistics.NormalDist()
#: Half the middle half of a normal distribution, in standard deviations; also its median absolute deviation.
_QUARTILE = 0.6745
#: Share of a normal sample beyond 1.5 interquartile ranges.
_MILD = 0.007
_RESULT: dict[str, Any] = {
    "failure": None,
    "conversion": None,
    "measurement": None,
    "profile": None,
    "evaluation": None,
    "environment": {"runtime": "simulated"},
    "protocol_version": PROTOCOL_VERSION,
    "schema_version": SCHEMA_VERSION,
}
_REPORT: dict[str, Any] = {
    "judgement": None,
    "gate_before": None,
    "gate_after": None,
    "energy": None,
    "telemetry": (),
    "telemetry_block": None,
    "artifact_sha256": None,
    "log_sha256": None,
    "environment": {},
    "wall_s": None,
    "child_s": None,
    "schema_version": SCHEMA_VERSION,
}


def failure_report(order: dict[str, Any], failure: Failure, started_at: float, now: float) -> dict[str, Any]:
    """The report of an attempt that failed or was ended (epoch seconds)."""
    return _report(order, {"failure": dict(vars(failure))}, started_at, now)


def success_report(order: dict[str, Any], unit: SimUnit, run: Run, started_at: float, now: float) -> dict[str, Any]:
    """The report of a measurement or profile that went well (epoch seconds); judged as a real one is."""
    before, after = _gates(unit, run.heat)
    seen: dict[str, Any] = {"gate_before": _plain_gate(before), "gate_after": _plain_gate(after)}
    seen["environment"] = unit_environment(unit)
    if order["measure"] is None:
        seen["judgement"] = _plain_judgement(judge_profile(before, after))
        return _report(order, {"profile": _profile(order["profile"], run)}, started_at, now, seen)
    telemetry = _telemetry(unit, run, started_at, now)
    measurement = _measurement(order["measure"], unit.group.latency, run, started_at, now)
    seen["judgement"] = _plain_judgement(judge(measurement, before, after, telemetry, _ENERGY))
    seen["energy"] = vars(_ENERGY)
    seen["telemetry"] = [vars(reading) for reading in telemetry]
    plain = dict(vars(measurement))
    plain |= {"runtime": vars(measurement.runtime), "warm_up": vars(_WARM_UP), "timings": vars(measurement.timings)}
    return _report(order, {"measurement": plain}, started_at, now, seen)


def unit_environment(unit: SimUnit) -> dict[str, str]:
    """A unit's part of the environment fingerprint."""
    return {"simulated": "true", "model": unit.group.model, "soc": unit.group.soc, "os": unit.group.os}


def gate_reading(unit: SimUnit) -> GateReading:
    """The state of a unit now."""
    thermal = unit.group.thermal
    if thermal is None:
        return _READY
    return _gate(unit.celsius <= thermal.start_limit_c, unit.celsius, 0.0)


def _report(
    order: dict[str, Any], outcome: dict[str, Any], started_at: float, now: float, seen: dict[str, Any] | None = None
) -> dict[str, Any]:
    names = {"attempt_id": order["attempt_id"], "token": str(order.get("token"))}
    result = {**_RESULT, **names, "started_at": started_at, "finished_at": now, **outcome}
    wall_s = max(now - started_at, 0.0)
    ends = {"artifact_sha256": (order.get("inputs") or {}).get("artifact"), "wall_s": wall_s, "child_s": wall_s}
    return {**_REPORT, **names, "result": result, **(seen or {}), **ends}


def _measurement(task: dict[str, Any], latency: Latency, run: Run, started_at: float, now: float) -> Measurement:
    timings = _timings(latency, run)
    return Measurement(
        runtime=_FACTS[run.recipe],
        imports_ms=0.0,
        load_cold_ms=run.load_ms,
        load_warm_ms=run.load_ms / 2,
        compile_ms=None,
        first_inference_ms=3 * run.p50_ms,
        warm_up=_WARM_UP,
        timings=timings,
        throughput_per_s=run.iterations * task["options"]["batch"] / run.elapsed_s,
        rss_after_imports_bytes=None,
        peak_rss_bytes=None,
        fidelity=None,
        inputs={"input": ("float32", task["options"]["batch"], INPUT_WIDTH)},
        timed_from=started_at,
        timed_to=now,
        raw=None,
    )


def _timings(latency: Latency, run: Run) -> Timings:
    """What a log-normal sample with outliers would show, and the step to a throttled last part."""
    sigma, count, p50 = latency.sigma, run.iterations, run.p50_ms
    throttled = run.heat.throttled if run.heat is not None else 0.0
    half = 1.96 * 1.2533 * sigma / math.sqrt(count)
    reach = math.exp(sigma * math.sqrt(2 * math.log(count)))
    #: The median is of the throttled part where that is the larger; then the rest is faster than it, not slower.
    mostly = throttled > 0.5
    fast, slow = (p50 / run.slow_down, p50) if mostly else (p50, p50 * run.slow_down if throttled else p50)
    extreme = round(count * latency.outliers)
    mixed = 0.25 < throttled < 0.75
    quarters = 2 * math.sinh(_QUARTILE * sigma) + (slow - fast) / p50 if mixed else 2 * math.sinh(_QUARTILE * sigma)
    fifth = count // 5
    steps = 0.1 <= throttled <= 0.9 and slow > fast
    largest = slow * (latency.outlier_factor if extreme else reach)

    def percentile(q: float) -> float:
        if (rank := q / (1 - latency.outliers)) >= 1:
            return largest
        base = slow if throttled > 1 - q else fast
        return min(base * math.exp(sigma * _NORMAL.inv_cdf(rank)), largest)

    return Timings(
        iterations=count,
        inner_iterations=1,
        elapsed_s=run.elapsed_s,
        converged=run.converged,
        p50_ms=p50,
        p50_within_ci_ms=(p50 * math.exp(-half), p50 * math.exp(half)),
        mean_ms=run.elapsed_s * 1e3 / count,
        min_ms=fast / reach,
        max_ms=largest,
        mad_ms=_QUARTILE * sigma * p50,
        iqr_over_median=quarters,
        p90_ms=percentile(0.90),
        p95_ms=percentile(0.95) if count >= 128 else None,
        p99_ms=percentile(0.99) if count >= 662 else None,
        outliers_mild=round(count * _MILD),
        outliers_extreme=extreme,
        drift_ratio=(slow / fast if steps else 1.0) if fifth >= 30 else None,
        drift_p=(1e-6 if steps else 0.5) if fifth >= 30 else None,
    )


def _profile(task: dict[str, Any], run: Run) -> dict[str, Any]:
    luck = random.Random(run.p50_ms)  # noqa: S311  # no secret
    ops = [
        {
            "name": layer.name,
            "type": layer.type,
            "time_us": run.p50_ms * 1e3 * layer.share * math.exp(luck.gauss(0, 0.02)),
            "layers": [layer.name],
            "source": None,
            "compute_unit": "sim",
            "precision": _FACTS[run.recipe].precision,
            "flops": layer.flops,
            "bytes": layer.bytes,
        }
        for layer in run.model.layers
    ]
    return {
        "runtime": vars(_FACTS[run.recipe]),
        "method": "simulated: shares of a nominal model",
        "ops": ops,
        "runs": 5,
        "run_ms": run.p50_ms,
        "unprofiled_ms": run.p50_ms,
        "inputs": {"input": ["float32", task["options"]["batch"], INPUT_WIDTH]},
    }


def _gates(unit: SimUnit, heat: Heat | None) -> tuple[GateReading, GateReading]:
    if heat is None:
        return _READY, _READY
    return _gate(heat.ready, heat.start_c, heat.waited_s), _gate(True, heat.end_c, 0.0)


def _gate(ready: bool, celsius: float, waited_s: float) -> GateReading:
    warm = "ok" if ready else f"{celsius:.0f} C, above the start limit"
    checks = {"simulated": "ok", "temperature": warm}
    return GateReading(passed=ready, checks=checks, foreign_load=_QUIET, waited_s=waited_s)


def idle_readings(unit: SimUnit, now: float, at: float) -> list[Reading]:
    """How warm a unit is that runs nothing.

    Args:
        unit: which.
        now: monotonic seconds.
        at: epoch seconds.
    """
    celsius = unit.celsius_at(now)
    if celsius is None:
        return []
    return [
        Reading(
            sensor="sim-thermal",
            domain="soc",
            quantity="temperature",
            unit="C",
            value=celsius,
            quality="ok",
            at=at,
        )
    ]


def _telemetry(unit: SimUnit, run: Run, since: float, until: float) -> list[Reading]:
    """Temperatures at both ends and, where it throttled, that it did."""
    if run.heat is None:
        return []
    fields: dict[str, Any] = {"sensor": "sim-thermal", "domain": "soc", "quality": "ok"}
    heat: dict[str, Any] = {**fields, "quantity": "temperature", "unit": "C"}
    readings = [
        Reading(**heat, value=run.heat.start_c, at=since),
        Reading(**heat, value=run.heat.end_c, at=until),
    ]
    if run.heat.throttled > 0:
        readings.append(Reading(**fields, quantity="throttle_events", unit="1", value=1.0, at=until))
    return readings


def _plain_gate(gate: GateReading) -> dict[str, Any]:
    return {**vars(gate), "foreign_load": vars(_QUIET)}


def _plain_judgement(judgement: Judgement) -> dict[str, Any]:
    return {**vars(judgement), "flags": (*judgement.flags, SIMULATED)}
