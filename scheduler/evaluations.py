"""Evaluations as people ask for them: lists, one in full, two against each other, and the latest beside latencies."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from itertools import islice
from typing import Any

from sqlalchemy import Connection, Row, func, select

from device_registry.errors import UsageError
from device_registry.registry import devices
from scheduler.outcomes import evaluations
from scheduler.payloads import payloads
from scheduler.queue import artifacts
from scheduler.states import jobs, portions
from workers.accuracy import difference_interval, mcnemar, proportion_interval, unpack_outcomes

#: Two variants differ where chance would part them as far less often than this.
_P = 0.05
#: What of an evaluation stands beside the latency of the same artifact on the same device.
_BESIDE = ("task", "data", "examples", "skipped", "correct", "top1", "top5", "f1_macro", "wer")
_COLUMNS = ("id", "device_id", "artifact_sha256", *_BESIDE)

#: Device, artifact, runtime and its own options (`options_text`): what an accuracy is of, whatever the threads.
Key = tuple[int, str, str, str]


def list_evaluations(
    connection: Connection, *, run_id: int | None = None, model: str | None = None, limit: int = 30
) -> list[dict[str, Any]]:
    """Evaluations, newest first; those of one run where it is given, in the order they ran."""
    if run_id is not None:
        query = _query().where(evaluations.c.sweep_run_id == run_id).order_by(evaluations.c.id)
    else:
        query = _query().order_by(evaluations.c.id.desc())
        query = query if model is not None else query.limit(limit)  # whose it is stands in a document
    rows = (_summary(row) for row in connection.execute(query) if model in (None, row.payload["evaluate"]["model"]))
    return list(rows if run_id is not None else islice(rows, limit))


def evaluation_record(connection: Connection, evaluation_id: int | None) -> dict[str, Any]:
    """One evaluation with what became of each example; the latest where no number is given.

    Raises:
        UsageError: there is no such evaluation.
    """
    query = _query().order_by(evaluations.c.id.desc()).limit(1)
    row = connection.execute(query if evaluation_id is None else query.where(evaluations.c.id == evaluation_id)).first()
    if row is None:
        number = "" if evaluation_id is None else f" {evaluation_id}"
        raise UsageError(f"no evaluation{number}; see benchfarm evaluate list, or make one: benchfarm evaluate MODEL")
    seen = row.document["result"]["evaluation"]
    outcomes = unpack_outcomes(seen["outcomes_base64"], seen["examples"])
    return {**_summary(row), "skipped_files": _skipped_files(connection, row), "outcomes": outcomes}


def compare_evaluations(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """Whether two variants differ in how right they are, by McNemar's exact test over the same examples.

    Args:
        before: a record of `evaluation_record`.
        after: another.

    Returns:
        The counts of examples that both, one or neither answered right; the difference of the shares (after - before)
        with its 95 % interval, which says what could have been shown; p; and the answer, "differ" or "no difference
        shown".

    Raises:
        UsageError: they are over other examples, or their task knows no right and wrong.
    """
    for what, name in (("task", "task"), ("data set", "data")):
        if before[name] != after[name]:
            raise UsageError(
                f"evaluations {before['evaluation']} and {after['evaluation']} are of another {what}: "
                f"{before[name]} and {after[name]}"
            )
    if before["data_sha256"] != after["data_sha256"] or before["examples"] != after["examples"]:
        raise UsageError(
            f"evaluations {before['evaluation']} and {after['evaluation']} are over other examples of {before['data']} "
            f"({before['examples']} and {after['examples']}): evaluate both with the same --data and --limit"
        )
    pairs = list(zip(before["outcomes"], after["outcomes"], strict=True))
    both, lost, gained, neither = (
        sum(pair == wanted for pair in pairs) for wanted in (("1", "1"), ("1", "0"), ("0", "1"), ("0", "0"))
    )
    p = mcnemar(lost, gained)
    return {
        "before": {key: value for key, value in before.items() if key != "outcomes"},
        "after": {key: value for key, value in after.items() if key != "outcomes"},
        "examples": len(pairs),
        "both_right": both,
        "only_before_right": lost,
        "only_after_right": gained,
        "neither_right": neither,
        "difference": (gained - lost) / len(pairs),
        "difference_ci": list(difference_interval(both, lost, gained, neither)),
        "p": p,
        "answer": "differ" if p < _P else "no difference shown",
        "test": "McNemar, exact, two-sided",
    }


def latest_accuracies(
    connection: Connection, artifacts: Collection[str | None], run_ids: Collection[int] = ()
) -> dict[Key, dict[str, Any]]:
    """The latest evaluation of each artifact on each device and runtime, by its `Key`.

    Args:
        connection: to read from.
        artifacts: their sha256; None is of none.
        run_ids: whose own evaluations go before later ones of other runs, which may be over other data.
    """
    found = _latest(connection, artifacts)
    if found and run_ids:
        found |= _latest(connection, artifacts, evaluations.c.sweep_run_id.in_(run_ids))
    return found


def _latest(connection: Connection, artifacts: Collection[str | None], *where: Any) -> dict[Key, dict[str, Any]]:
    found: dict[Key, dict[str, Any]] = {}
    for portion in portions({sha256 for sha256 in artifacts if sha256 is not None}):
        latest = select(func.max(evaluations.c.id)).where(evaluations.c.artifact_sha256.in_(portion), *where)
        latest = latest.group_by(evaluations.c.device_id, evaluations.c.case_key)
        query = (
            select(*(evaluations.c[name] for name in _COLUMNS), payloads.c.document.label("payload"))
            .join(jobs, jobs.c.id == evaluations.c.job_id)
            .join(payloads, payloads.c.id == jobs.c.payload_id)
            .where(evaluations.c.id.in_(latest))
            .order_by(evaluations.c.id)
        )
        for row in connection.execute(query):
            task = row.payload["evaluate"]
            options = options_text(task["options"]["runtime_options"])
            found[row.device_id, row.artifact_sha256, task["runtime"], options] = _beside(row)
    return found


def options_text(options: Mapping[str, str]) -> str:
    """A runtime's own options as part of a key."""
    return " ".join(f"{name}={value}" for name, value in sorted(options.items()))


def top1_interval(row: Any) -> list[float] | None:
    """The 95 % interval of a row's top-1."""
    return None if row.top1 is None else list(proportion_interval(row.correct, row.examples))


def _skipped_files(connection: Connection, row: Row[Any]) -> list[str]:
    """What of the data set could not be read, and why: the first of them, as the program's facts name them."""
    if not row.skipped:
        return []
    query = select(artifacts.c.provenance).where(artifacts.c.sha256 == row.artifact_sha256).limit(1)
    provenance = connection.scalar(query) or {}
    return list(((provenance.get("facts") or {}).get("data") or {}).get("skipped_files", []))


def _beside(row: Any) -> dict[str, Any]:
    told = {name: getattr(row, name) for name in _BESIDE}
    return {"evaluation": row.id, **told, "top1_ci": top1_interval(row)}


def _query() -> Any:
    return (
        select(evaluations, payloads.c.document.label("payload"), devices.c.name.label("device"), devices.c.attributes)
        .join(jobs, jobs.c.id == evaluations.c.job_id)
        .join(payloads, payloads.c.id == jobs.c.payload_id)
        .join(devices, devices.c.id == evaluations.c.device_id)
    )


def _summary(row: Row[Any]) -> dict[str, Any]:
    seen, task = row.document["result"]["evaluation"], row.payload["evaluate"]
    return {
        "evaluation": row.id,
        "run": row.sweep_run_id,
        "job": row.job_id,
        "model": task["model"],
        "weights": task["weights"],
        "runtime": task["runtime"],
        "runtime_options": task["options"]["runtime_options"],
        "format": task["format"],
        "recipe": task["recipe"],
        "precision": seen["runtime"]["precision"],
        "compute_unit": seen["runtime"]["compute_unit"],
        "quantised_flop_share": seen["runtime"]["quantised_flop_share"],
        "device": row.device,
        "simulated": row.attributes.get("simulated") is True,
        "threads": task["options"]["threads"],
        "batch": task["options"]["batch"],
        "inputs": seen["inputs"],
        "task": seen["task"],
        "data": seen["data"],
        "data_sha256": seen["data_sha256"],
        "examples": seen["examples"],
        "skipped": seen["skipped"],
        "correct": seen["correct"],
        "not_finite": seen["not_finite"],
        "top1": seen["top1"],
        "top1_ci": top1_interval(row),
        "top5": seen["top5"],
        "f1_macro": seen["f1_macro"],
        "wer": seen["wer"],
        "seconds": seen["seconds"],
        "artifact_sha256": row.artifact_sha256,
        "created_at": row.created_at,
    }
