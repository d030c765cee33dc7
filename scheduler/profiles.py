"""Profiles as people ask for them: lists, one with its operations, and two side by side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, select

from device_registry.errors import UsageError
from device_registry.registry import devices
from scheduler.ingest import profiles
from scheduler.payloads import payloads
from scheduler.states import jobs

#: What two profiles should have in common, beside the model, for their times to be compared.
_ALIKE = ("weights", "inputs", "device", "threads", "batch", "verdict")


def list_profiles(connection: Connection, *, run_id: int | None = None, limit: int = 30) -> list[dict[str, Any]]:
    """Profiles without their operations, newest first; those of one run where it is given, in the order they ran."""
    query = _query().order_by(profiles.c.id.desc()).limit(limit)
    if run_id is not None:
        query = _query().where(profiles.c.sweep_run_id == run_id).order_by(profiles.c.id)
    return [_summary(row) for row in connection.execute(query)]


def profile_record(connection: Connection, profile_id: int | None) -> dict[str, Any]:
    """One profile with its operations, in the order they ran; the latest where no number is given.

    Raises:
        UsageError: there is no such profile.
    """
    query = _query().order_by(profiles.c.id.desc()).limit(1)
    row = connection.execute(query if profile_id is None else query.where(profiles.c.id == profile_id)).first()
    if row is None:
        number = "" if profile_id is None else f" {profile_id}"
        raise UsageError(f"no profile{number}; see benchfarm profile list, or make one: benchfarm profile MODEL")
    return {**_summary(row), "ops": _op_rows(row.document["result"]["profile"]["ops"])}


def compare_profiles(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """Two profiles of one model, part by part.

    Operations that compute layers in common are one part, in both profiles: a convolution and its activation that one
    runtime fuses and the other does not are compared as a pair. Operations without a layer were inserted by a runtime
    or a quantiser, and are added up by type.

    Args:
        before: a record of `profile_record`.
        after: another.

    Raises:
        UsageError: they are of different models.
    """
    if before["model"] != after["model"]:
        raise UsageError(f"profiles of different models: {before['model']} and {after['model']}")
    parts = _parts([*before["ops"], *after["ops"]])
    times: dict[tuple[str, ...], dict[str, Any]] = {}
    inserted: dict[str, dict[str, Any]] = {}
    for side, record in (("before", before), ("after", after)):
        for op in record["ops"]:
            if op["layers"]:
                key = parts[op["layers"][0]]
                row = times.setdefault(key, {"layers": list(key), "before": [], "after": []})
            else:
                row = inserted.setdefault(op["type"], {"type": op["type"], "before": [], "after": []})
            row[side].append(op)
    return {
        "differences": [
            {"what": what, "before": before[what], "after": after[what]}
            for what in _ALIKE
            if before[what] != after[what]
        ],
        "before": {key: value for key, value in before.items() if key != "ops"},
        "after": {key: value for key, value in after.items() if key != "ops"},
        "parts": sorted((_part(row) for row in times.values()), key=lambda row: -abs(row["change_us"])),
        "inserted": sorted((_part(row) for row in inserted.values()), key=lambda row: -abs(row["change_us"])),
    }


def _query() -> Any:
    return (
        select(profiles, payloads.c.document.label("payload"), devices.c.name.label("device"), devices.c.attributes)
        .join(jobs, jobs.c.id == profiles.c.job_id)
        .join(payloads, payloads.c.id == jobs.c.payload_id)
        .join(devices, devices.c.id == profiles.c.device_id)
    )


def _summary(row: Row[Any]) -> dict[str, Any]:
    seen, task = row.document["result"]["profile"], row.payload["profile"]
    sum_ms = sum(op["time_us"] for op in seen["ops"]) / 1e3
    return {
        "profile": row.id,
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
        "method": seen["method"],
        "runs": seen["runs"],
        "operations": len(seen["ops"]),
        "sum_ms": sum_ms,
        "profiled_run_ms": seen["run_ms"],
        "unprofiled_run_ms": seen["unprofiled_ms"],
        "sum_over_profiled_run": sum_ms / seen["run_ms"],
        "verdict": row.document["judgement"]["verdict"],
        "reasons": row.document["judgement"]["reasons"],
        "artifact_sha256": row.artifact_sha256,
        "created_at": row.created_at,
    }


def _op_rows(ops: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Operations with what follows from their figures: share of all, achieved GFLOP/s and GB/s."""
    total_us = sum(op["time_us"] for op in ops)
    return [
        {
            "order": order,
            **op,
            "share": op["time_us"] / total_us if total_us else None,
            "gflops_per_s": _rate(op["flops"], op["time_us"]),
            "gbytes_per_s": _rate(op["bytes"], op["time_us"]),
        }
        for order, op in enumerate(ops, start=1)
    ]


def _rate(amount: int | None, time_us: float) -> float | None:
    return amount / time_us / 1e3 if amount is not None and time_us > 0 else None


def _parts(ops: Iterable[Mapping[str, Any]]) -> dict[str, tuple[str, ...]]:
    """Each layer to its part: all layers that operations, of either profile, tie together."""
    members: dict[str, dict[str, None]] = {}
    for op in ops:
        joined: dict[str, None] = {}
        for layer in op["layers"]:
            joined |= members.get(layer, {layer: None})
        for layer in joined:
            members[layer] = joined
    return {layer: tuple(sorted(part)) for layer, part in members.items()}


def _part(row: dict[str, Any]) -> dict[str, Any]:
    before, after = row.pop("before"), row.pop("after")
    before_us, after_us = (sum(op["time_us"] for op in ops) if ops else None for ops in (before, after))
    return {
        **row,
        "before": [op["type"] for op in before],
        "after": [op["type"] for op in after],
        "before_us": before_us,
        "after_us": after_us,
        "change_us": (after_us or 0.0) - (before_us or 0.0),
        "ratio": after_us / before_us if before_us and after_us is not None else None,
    }
