"""Rows that compare: one per case and device of a run, from its repeats; speed-ups against the fp32 eager baseline."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, select

from device_registry.database import one_of
from device_registry.registry import devices
from scheduler.evaluations import latest_accuracies, options_text
from scheduler.ingest import results
from scheduler.payloads import payloads
from scheduler.points import points, series
from scheduler.queue import artifacts, sweep_runs
from scheduler.records import devices_of, superseded
from scheduler.repeats import LEAST_REPEATS, label_flags, summary
from scheduler.states import jobs, portions
from workers.errors import UNSUPPORTED
from workers.judge import OUTPUTS_WRONG
from workers.statistics import process_median_interval, process_ratio_interval

#: What makes a case on a device, whichever run it is of.
_SAME_CASE = (
    *("model", "weights", "runtime", "format", "recipe", "threads", "batch", "mode", "rate_hz", "affinity"),
    *("runtime_options", "of_invocations", "_device_id"),
)
#: Runs of so many results are read whole.
_RESULTS_AT_ONCE = 2_000


@dataclass(frozen=True)
class RunResults:
    """What a run yielded."""

    results: list[dict[str, Any]]
    failed: list[dict[str, Any]]
    unsupported: list[dict[str, Any]]


def run_results(connection: Connection, run_id: int) -> RunResults:
    """Everything a run has to show, by case and device."""
    return RunResults(run_cases(connection, run_id), *run_failures(connection, run_id))


def run_failures(connection: Connection, run_id: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What of a run failed, and what of it cannot be had."""
    request = connection.execute(select(sweep_runs).where(sweep_runs.c.id == run_id)).one()
    failed_jobs = connection.execute(
        select(jobs, payloads.c.document.label("payload"))
        .join(payloads, payloads.c.id == jobs.c.payload_id)
        .where(jobs.c.sweep_run_id == run_id, jobs.c.state.in_(("failed", "cancelled")), ~superseded())
        .order_by(jobs.c.position)
    ).all()
    ran_on = devices_of(connection, failed_jobs)
    unsupported = [_with_artifact(connection, entry) for entry in request.unsupported]
    failed = []
    for row in failed_jobs:
        entry = _failed_entry(row, ran_on.get(row.id, ""))
        if row.failure_code != UNSUPPORTED:
            failed.append(entry)
        elif (
            listed := {key: entry[key] for key in ("model", "runtime", "recipe", "device", "why")}
        ) not in unsupported:
            unsupported.append(listed)
    return failed, unsupported


def run_cases(connection: Connection, run_id: int, *where: Any) -> list[dict[str, Any]]:
    """Rows of a run's cases, by model and device.

    Args:
        connection: to read from.
        run_id: the run.
        where: conditions on its results; what is compared with one another must not be parted by them.
    """
    cases = _measured(connection, run_id, *where)
    _complete(connection, cases, [run_id])
    return [{name: value for name, value in case.items() if not name.startswith("_")} for case in cases]


def latest_cases(connection: Connection, run_ids: Sequence[int]) -> list[dict[str, Any]]:
    """Rows of the cases of several runs, each as it was measured last: validly, if it ever was.

    Args:
        connection: to read from.
        run_ids: the runs, the oldest first.

    Returns:
        Rows as of `run_cases`, compared with one another whichever runs they are of, with their `run`, `finished_at`
        (seconds since the epoch), `mean_ms` and `std_ms` of iterations, and the `facts` of their artifacts. `_baseline`
        is the row that a speed-up is over, `_valid` the medians of the processes that count.
    """
    found: dict[str, dict[str, Any]] = {}
    for run_id in run_ids:
        for case in _measured(connection, run_id):
            key = repr([case[name] for name in _SAME_CASE])
            if case["verdict"] == "valid" or key not in found or found[key]["verdict"] != "valid":
                found[key] = {**case, **case["_more"], "run": run_id}
    cases = list(found.values())
    _complete(connection, cases, run_ids)
    return cases


def _measured(connection: Connection, run_id: int, *where: Any) -> list[dict[str, Any]]:
    repeats_of = _cases(connection, run_id, *where)
    made = _made(connection, {repeats[0].needs_key for repeats in repeats_of})
    return [_case_row(repeats, made) for repeats in repeats_of]


def _complete(connection: Connection, cases: list[dict[str, Any]], run_ids: Sequence[int]) -> None:
    """Add what only all cases together tell, and put them in order."""
    _add_speedups(cases)
    accuracies = latest_accuracies(connection, {case["artifact_sha256"] for case in cases}, run_ids)
    for case in cases:
        own = options_text(case["runtime_options"])
        case["accuracy"] = accuracies.get((case["_device_id"], case["artifact_sha256"], case["runtime"], own))
    cases.sort(key=lambda case: (case["model"], case["device"], case["threads"], case["p50_ms"]))


def trial_rows(connection: Connection, run_id: int) -> dict[tuple[int, str], dict[str, Any]]:
    """Rows of the sides of a run's trials, by trial and side: baseline or candidate."""
    repeats_of = _cases(connection, run_id, jobs.c.trial_id.is_not(None))
    made = _made(connection, {repeats[0].needs_key for repeats in repeats_of})
    return {(repeats[0].trial_id, repeats[0].side): _case_row(repeats, made) for repeats in repeats_of}


def latest_results(connection: Connection, limit: int) -> list[dict[str, Any]]:
    """Rows of the latest runs, newest run first."""
    found: list[dict[str, Any]] = []
    users = select(sweep_runs.c.id).where(sweep_runs.c.purpose.is_(None))
    for run_id in connection.execute(users.order_by(sweep_runs.c.id.desc())).scalars():
        rows = run_cases(connection, run_id, *_of_the_first(connection, run_id, limit - len(found)))
        found += [{"run": run_id, **row} for row in rows]
        if len(found) >= limit:
            break
    return found[:limit]


def _of_the_first(connection: Connection, run_id: int, count: int) -> tuple[ColumnElement[bool], ...]:
    """Which results of a large run its first rows are made of: those of their devices, for a device compares itself.

    All documents of a run of a hundred thousand results take minutes to read, whoever wants to see thirty rows.
    """
    of_it = select(func.count()).where(results.c.sweep_run_id == run_id).scalar_subquery()
    if connection.execute(select(of_it)).scalar_one() <= _RESULTS_AT_ONCE:
        return ()
    first = (
        select(series.c.device_id)
        .join(points, points.c.series_id == series.c.id)
        .join(devices, devices.c.id == series.c.device_id)
        .where(points.c.sweep_run_id == run_id)
        .order_by(series.c.model, devices.c.name, series.c.threads, points.c.value)
        .limit(count)
    )
    return (one_of(results.c.device_id, set(connection.execute(first).scalars())),)


def _cases(connection: Connection, run_id: int, *where: Any) -> list[list[Any]]:
    rows = connection.execute(
        select(
            results,
            devices.c.name.label("device"),
            devices.c.attributes,
            payloads.c.document.label("payload"),
            jobs.c.needs_key,
            jobs.c.trial_id,
            jobs.c.side,
        )
        .join(devices, devices.c.id == results.c.device_id)
        .join(jobs, jobs.c.id == results.c.job_id)
        .join(payloads, payloads.c.id == jobs.c.payload_id)
        .where(results.c.sweep_run_id == run_id, results.c.stale.is_(False), *where)
        .order_by(results.c.id)
    )
    cases: dict[tuple[Any, ...], list[Any]] = {}
    for row in rows:
        of_invocations = row.document["result"]["measurement"]["timings"].get("of_invocations")
        # The sides of a trial may be of one case: the same model in two versions.
        cases.setdefault((row.case_key, row.device_id, of_invocations, row.trial_id, row.side), []).append(row)
    return list(cases.values())


@dataclass(frozen=True)
class _Artifact:
    """What a row tells of its artifact; None where it is gone meanwhile."""

    bytes: int | None = None
    versions: Mapping[str, Any] = field(default_factory=dict)
    #: A model's canonical program, or the user's file: made of nothing else.
    unconverted: bool = True
    facts: Mapping[str, Any] = field(default_factory=dict)


def _made(connection: Connection, keys: set[str]) -> dict[str, _Artifact]:
    """Artifacts by their keys."""
    converted: set[str] = set()
    found = {}
    for portion in portions(keys):
        makers = select(jobs.c.makes_key).where(jobs.c.makes_key.in_(portion), jobs.c.needs_key.is_not(None))
        converted |= set(connection.execute(makers).scalars())
        for row in connection.execute(select(artifacts).where(artifacts.c.key.in_(portion))):
            facts = row.provenance.get("facts", {})
            found[row.key] = _Artifact(row.bytes, row.provenance["versions"], row.key not in converted, facts)
    return {key: found.get(key, _Artifact(unconverted=key not in converted)) for key in keys}


def _case_row(repeats: Sequence[Any], made: Mapping[str, _Artifact]) -> dict[str, Any]:
    """One row: what is told of a case is told by the repeat nearest to its median; latency by all that count."""
    p50_ms, verdict, _ = summary([(row.p50_ms, row.verdict) for row in repeats])
    counted = [row for row in repeats if row.verdict == "valid"] or list(repeats)
    typical = min((row for row in counted if row.verdict == verdict), key=lambda row: abs(row.p50_ms - p50_ms))
    report = typical.document
    measured = report["result"]["measurement"]
    timings, runtime, task = measured["timings"], measured["runtime"], typical.payload["measure"]
    valid = [row.p50_ms for row in repeats if row.verdict == "valid"]
    artifact = made[typical.needs_key]
    energy = report["energy"] or {}
    flags = sorted(
        {flag for row in repeats for flag in row.document["judgement"]["flags"]}
        | set(label_flags(runtime["precision"], runtime["quantised_flop_share"], task["recipe"]))
        | set(["mean_not_median"] if timings.get("of_invocations") == "mean" else [])
    )
    return {
        "model": task["model"],
        "weights": task["weights"],
        "runtime": task["runtime"],
        "format": task["format"],
        "recipe": task["recipe"],
        "precision": runtime["precision"],
        "compute_unit": runtime["compute_unit"],
        "quantised_flop_share": runtime["quantised_flop_share"],
        "delegated_share": runtime["delegated_share"],
        "evidence": runtime["evidence"],
        "device": typical.device,
        "simulated": typical.attributes.get("simulated") is True,
        "threads": task["options"]["threads"],
        "batch": task["options"]["batch"],
        "mode": task["options"]["mode"],
        "rate_hz": task["options"]["rate_hz"],
        "affinity": task["options"]["affinity"],
        "runtime_options": task["options"].get("runtime_options", {}),
        "inputs": measured["inputs"],
        "p50_ms": p50_ms,
        "p50_ci_ms": list(process_median_interval(valid)) if len(valid) >= LEAST_REPEATS else None,
        "p90_ms": _median(counted, "p90_ms"),
        "p95_ms": _median(counted, "p95_ms"),
        "p99_ms": _median(counted, "p99_ms"),
        #: Where iterations are invocations of a tool that prints summaries: what it printed of its own runs.
        "of_invocations": timings.get("of_invocations"),
        "iqr_over_median": timings["iqr_over_median"],
        "first_minute_p50_ms": timings["first_minute_p50_ms"],
        "last_minute_p50_ms": timings["last_minute_p50_ms"],
        "verdict": verdict,
        "reasons": report["judgement"]["reasons"],
        "flags": flags,
        "artifact_sha256": typical.artifact_sha256,
        "artifact_bytes": artifact.bytes,
        "compile_ms": measured["compile_ms"],
        "load_ms": measured["load_cold_ms"],
        "load_warm_ms": measured["load_warm_ms"],
        "imports_ms": measured["imports_ms"],
        "first_inference_ms": measured["first_inference_ms"],
        "peak_rss_bytes": measured["peak_rss_bytes"],
        "rss_after_imports_bytes": measured["rss_after_imports_bytes"],
        "throughput_per_s": measured["throughput_per_s"],
        "energy_per_inference_mj": energy.get("energy_per_inference_mj"),
        "energy_quality": energy.get("quality"),
        "energy_why": energy.get("why"),
        "fidelity": measured["fidelity"],
        #: Of its artifact, there: how right the latest evaluation found it.
        "accuracy": None,
        "speedup": None,
        "speedup_ci": None,
        "environment": {**report["environment"], **artifact.versions},
        "processes": [_process(row) for row in repeats],
        "case": typical.case_key,
        "_valid": valid,
        "_unconverted": artifact.unconverted,
        "_device_id": typical.device_id,
        "_more": {
            "mean_ms": _median(counted, "mean_ms"),
            "std_ms": _median(counted, "std_ms"),
            "finished_at": report["result"]["finished_at"],
            "facts": artifact.facts,
        },
    }


def _process(row: Any) -> dict[str, Any]:
    timings = row.document["result"]["measurement"]["timings"]
    return {
        "job": row.job_id,
        "p50_ms": row.p50_ms,
        "p50_within_ci_ms": timings["p50_within_ci_ms"],
        "iterations": timings["iterations"],
        "converged": timings["converged"],
        "verdict": row.verdict,
        "wall_s": row.document["wall_s"],
        "child_s": row.document["child_s"],
        "gate_waited_s": (row.document["gate_before"] or {}).get("waited_s"),
    }


def _median(rows: Sequence[Any], name: str) -> float | None:
    values = [row.document["result"]["measurement"]["timings"].get(name) for row in rows]
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def _add_speedups(rows: list[dict[str, Any]]) -> None:
    """Against the unconverted program, uncompiled and with no options of its runtime's own: eager torch in fp32.

    Of a Keras model that is TensorFlow, of a model file the file on its own runtime; on a phone, where none of these
    runs, what was converted in fp32. On the same device, threads and batch, and of the same statistic: means are not
    compared with medians. By latency; offline by throughput. A case whose outputs are wrong has none and is nobody's
    baseline.
    """
    rows = [row for row in rows if OUTPUTS_WRONG not in row["flags"]]
    alike = ("model", "device", "threads", "batch", "mode", "rate_hz", "affinity", "of_invocations")
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(repr([row[name] for name in alike]), []).append(row)
    for row in rows:
        same = groups[repr([row[name] for name in alike])]
        plain = [other for other in same if not other["runtime_options"]]
        unconverted = [other for other in plain if other["_unconverted"]]
        elsewhere = [other for other in plain if other["recipe"] == "fp32" and other["of_invocations"] is not None]
        if not (baselines := unconverted or elsewhere):
            continue
        baseline = min(baselines, key=lambda other: (other["compile_ms"] is not None, other["runtime"]))
        row["_baseline"] = baseline
        if row["mode"] == "offline":
            row["speedup"] = row["throughput_per_s"] / baseline["throughput_per_s"]
            continue
        row["speedup"] = baseline["p50_ms"] / row["p50_ms"]
        if baseline is not row and min(len(baseline["_valid"]), len(row["_valid"])) >= LEAST_REPEATS:
            row["speedup_ci"] = list(process_ratio_interval(baseline["_valid"], row["_valid"]))


def _failed_entry(row: Any, device: str) -> dict[str, Any]:
    task = row.payload[row.kind]
    return {
        "job": row.id,
        "kind": row.kind,
        "model": row.payload["model"],
        "runtime": task.get("runtime", "conversion"),
        "format": task["format"],
        "recipe": task["recipe"],
        "device": device,
        "repeat": row.repeat_no,
        "state": row.state,
        "cause": row.failure_cause,
        "code": row.failure_code or row.state,
        "why": row.failure_message or row.state,
    }


def _with_artifact(connection: Connection, entry: dict[str, Any]) -> dict[str, Any]:
    """What cannot be measured here may have been converted for another host: say so."""
    shown = {key: value for key, value in entry.items() if key != "artifact_key"}
    if (key := entry.get("artifact_key")) is not None:
        stored = connection.execute(select(artifacts.c.sha256, artifacts.c.bytes).where(artifacts.c.key == key)).first()
        if stored is not None:
            shown |= {"artifact_sha256": stored.sha256, "artifact_bytes": stored.bytes}
    return shown
