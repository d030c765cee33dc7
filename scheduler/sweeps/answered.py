"""What became of the evaluations of a run, to stand in the cells of the same variants."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, func, select

from device_registry.registry import devices
from scheduler.evaluations import options_text, top1_interval
from scheduler.outcomes import evaluations
from scheduler.payloads import payloads
from scheduler.records import superseded
from scheduler.states import OPEN_JOB, attempts, jobs

#: Model, weights, format, recipe, runtime, batch and the runtime's own options; and the device.
Key = tuple[tuple[Any, ...], int | None]


def variant_of(task: Mapping[str, Any]) -> tuple[Any, ...]:
    """What of a task its answers depend on."""
    options = task["options"]
    named = tuple(task[name] for name in ("model", "weights", "format", "recipe", "runtime"))
    return (*named, options["batch"], options_text(options.get("runtime_options", {})))


def run_evaluations(connection: Connection, run_id: int) -> dict[Key, dict[str, Any]]:
    """Of each evaluation of a run its state (waiting, running, done, failed, cancelled), why, and how right it was."""
    ran_on = (
        select(attempts.c.device_id)
        .where(attempts.c.job_id == jobs.c.id)
        .order_by(attempts.c.id.desc())
        .limit(1)
        .correlate(jobs)
        .scalar_subquery()
    )
    columns = [evaluations.c[name] for name in ("data", "examples", "correct", "top1", "wer")]
    query = (
        select(
            jobs.c.state,
            jobs.c.failure_message,
            devices.c.id.label("place"),
            devices.c.name.label("device"),
            payloads.c.document.label("payload"),
            evaluations.c.id.label("evaluation"),
            *columns,
        )
        .join(payloads, payloads.c.id == jobs.c.payload_id)
        .outerjoin(devices, devices.c.id == func.coalesce(ran_on, jobs.c.device_id))
        .outerjoin(evaluations, evaluations.c.job_id == jobs.c.id)
        .where(jobs.c.sweep_run_id == run_id, jobs.c.kind == "evaluate", ~superseded())
        .order_by(jobs.c.id)
    )
    return {
        (variant_of(row.payload["evaluate"]), row.place): {
            "state": "done" if row.state == "succeeded" else "waiting" if row.state in OPEN_JOB[:2] else row.state,
            "why": row.failure_message,
            "device": row.device,
            "task": row.payload["evaluate"],
            "accuracy": None
            if row.evaluation is None
            else {
                "evaluation": row.evaluation,
                **{name: getattr(row, name) for name in ("data", "examples", "top1", "wer")},
                "top1_ci": top1_interval(row),
            },
        }
        for row in connection.execute(query)
    }
