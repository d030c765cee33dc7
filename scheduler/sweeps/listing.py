"""Runs of sweeps, as lists tell of them."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, select

from device_registry.errors import UsageError
from scheduler.interventions import known_run
from scheduler.queue import sweep_runs
from scheduler.records import superseded
from scheduler.states import OPEN_JOB, jobs, portions
from scheduler.sweeps.budgets import used_s
from workers.errors import UNSUPPORTED

_TOLD = ("id", "sweep", "schedule", "due_at", "revision", "build", "owner", "watched", "created_at", "screened_at")


def list_runs(connection: Connection, limit: int, now: datetime, *, sweep: str | None = None) -> list[dict[str, Any]]:
    """Runs of sweeps, newest first.

    Args:
        connection: to read from.
        limit: so many.
        now: the time.
        sweep: only of this one.
    """
    query = select(sweep_runs).where(sweep_runs.c.sweep.is_not(None), sweep_runs.c.purpose.is_(None))
    if sweep is not None:
        query = query.where(sweep_runs.c.sweep == sweep)
    rows = connection.execute(query.order_by(sweep_runs.c.id.desc()).limit(limit)).all()
    counts = _counts(connection, [row.id for row in rows])
    return [_told(row, counts.get(row.id, {}), now) for row in rows]


def run_document(connection: Connection, run_id: int, now: datetime) -> dict[str, Any]:
    """One run of a sweep, as `list_runs` has it, with what it has used of its budget.

    Raises:
        UsageError: there is no such run, or it is of no sweep.
    """
    row = sweep_run_row(connection, run_id)
    told = _told(row, _counts(connection, [run_id]).get(run_id, {}), now)
    return {**told, "device_minutes_used": round(used_s(connection, run_id, now) / 60, 3)}


def sweep_run_row(connection: Connection, run_id: int) -> Any:
    """The row of a run of a sweep.

    Raises:
        UsageError: there is no such run, or it is of no sweep.
    """
    row = known_run(connection, run_id)
    if row.sweep is None:
        raise UsageError(f"run {run_id} is of no sweep; see benchfarm sweep list")
    return row


def _counts(connection: Connection, run_ids: Collection[int]) -> dict[int, dict[str, int]]:
    """Jobs of runs by state, without those that were tried again; what cannot be had is no failure."""
    found: dict[int, dict[str, int]] = {}
    for portion in portions(run_ids):
        grouped = (
            select(jobs.c.sweep_run_id, jobs.c.state, func.count())
            .where(jobs.c.sweep_run_id.in_(portion))
            .group_by(jobs.c.sweep_run_id, jobs.c.state)
        )
        for run_id, state, count in connection.execute(grouped):
            found.setdefault(run_id, {})[state] = int(count)
        cannot = grouped.where(jobs.c.state == "failed", jobs.c.failure_code == UNSUPPORTED)
        for run_id, _, count in connection.execute(cannot):
            found[run_id]["failed"] -= int(count)
            found[run_id]["unsupported"] = int(count)
        again = grouped.where(jobs.c.state.in_(("failed", "cancelled")), superseded())
        again = again.where(func.coalesce(jobs.c.failure_code, "") != UNSUPPORTED)
        for run_id, state, count in connection.execute(again):
            found[run_id][state] -= int(count)
    return found


def _told(row: Any, counts: dict[str, int], now: datetime) -> dict[str, Any]:
    still_open = sum(counts.get(state, 0) for state in OPEN_JOB)
    state = "done" if not still_open else "interrupted" if _is_left(row, now) else "running"
    return {
        **{"run" if name == "id" else name: getattr(row, name) for name in _TOLD},
        "state": state,
        "jobs": sum(counts.values()),
        "finished": sum(counts.values()) - still_open,
        "failed": counts.get("failed", 0),
        "cancelled": counts.get("cancelled", 0),
        "deadline_at": row.deadline_at,
        "budget_minutes": None if row.budget_s is None else row.budget_s / 60,
    }


def _is_left(row: Any, now: datetime) -> bool:
    """Nobody waits any more for what somebody waited for."""
    return row.followed_until is not None and row.followed_until <= now
