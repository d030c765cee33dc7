"""What a sweep would do, before anything runs: its matrix, what cannot be had, what it takes, and whether it may."""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import timedelta
from typing import Any

from scheduler.sweeps.running import Prepared, over_budget


def check_document(prepared: Prepared) -> dict[str, Any]:
    """Everything that `sweep check` tells, as plain data."""
    sweep, matrix, expected, now = prepared.sweep, prepared.matrix, prepared.expected, prepared.now
    finish_at = now + timedelta(seconds=expected.finish_s)
    deadline_at = now + timedelta(seconds=sweep.deadline_s) if sweep.deadline_s is not None else None
    names = {device.id: device.label for found in matrix.devices.values() for device in found}
    queued = {names[device]: seconds / 60 for device, seconds in expected.queued_s.items() if seconds > 0}
    return {
        "sweep": sweep.name,
        "models": list(sweep.models),
        "matrix": _matrix(prepared),
        "cases": prepared.measured(matrix.cases),
        "evaluations": len(matrix.cases) - prepared.measured(matrix.cases),
        "processes_per_case": sweep.repeats,
        "excluded": matrix.excluded,
        "unused_rules": [
            {"at": f"{sweep.source}:{rule.at.line}:{rule.at.column}", "rule": str(rule), "kind": what}
            for what, rule in matrix.unused
        ],
        "unsupported": [{k: v for k, v in one.items() if k != "artifact_key"} for one in prepared.plan.unsupported],
        "absent": [{"device": one.device, "why": one.why} for one in matrix.absent],
        "fresh": prepared.measured(prepared.fresh),
        "to_measure": prepared.measured(prepared.times) - prepared.measured(prepared.left_out),
        "left_out": _named(prepared, prepared.left_out),
        "conversions": len({item.variant.key for item in prepared.plan.conversions}),
        "conversions_to_make": expected.conversions,
        "device_minutes": {names[device]: seconds / 60 for device, seconds in sorted(expected.device_s.items())},
        "device_minutes_total": prepared.wanted_s / 60,
        "cases_guessed": prepared.measured({key for key, time in prepared.times.items() if not time.known}),
        "queued_minutes": queued,
        "budget_minutes": None if sweep.budget_s is None else sweep.budget_s / 60,
        "within_budget": prepared.within_budget,
        "finish_at": finish_at,
        "finish_in_s": expected.finish_s,
        "deadline_at": deadline_at,
        "before_deadline": None if deadline_at is None else finish_at <= deadline_at,
        "baseline_run": prepared.baseline_run_id,
        "complaints": complaints(prepared),
    }


def complaints(prepared: Prepared) -> list[str]:
    """Why `sweep run` would refuse; none: it would not."""
    if prepared.within_budget or prepared.submission.trim:
        return []
    return [str(prepared.sweep.wrong(over_budget(prepared), "budget", "device_minutes"))]


def _matrix(prepared: Prepared) -> list[dict[str, Any]]:
    """Cases by where they run and by runtime: how many there are, and how many of them would be measured."""
    every: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for key, item in prepared.matrix.cases.items():
        counts = every[item.where or "any device", item.task.runtime]
        if item.kind != "measure":
            continue
        counts["cases"] += 1
        counts["fresh"] += key in prepared.fresh
        counts["left_out"] += key in prepared.left_out
    return [
        {"device": device, "runtime": runtime, **{name: counts[name] for name in ("cases", "fresh", "left_out")}}
        for (device, runtime), counts in sorted(every.items())
    ]


def _named(prepared: Prepared, keys: tuple[str, ...]) -> list[dict[str, Any]]:
    cases = prepared.matrix.cases
    return [
        {
            "model": cases[key].task.model,
            "runtime": cases[key].task.runtime,
            "recipe": cases[key].task.recipe,
            "threads": cases[key].task.options.threads,
            "batch": cases[key].task.options.batch,
            "mode": cases[key].task.options.mode,
            "device": cases[key].where,
            "device_minutes": prepared.times[key].device_s / 60,
        }
        for key in keys
    ]
