"""What runs may use: once a deadline has passed or a budget is used, what has not begun is cancelled."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, bindparam, exists, or_, select

from scheduler import queue, resting
from scheduler.queue import sweep_runs
from scheduler.states import attempts, jobs, record

#: Failure codes of what was cancelled for one or the other.
DEADLINE, BUDGET = "deadline", "budget"
WHO = "farm"

_WAITS = exists().where(jobs.c.sweep_run_id == sweep_runs.c.id, jobs.c.state.in_(("blocked", "queued")))
_LIMITED: Final = (
    select(sweep_runs.c.id, sweep_runs.c.deadline_at, sweep_runs.c.budget_s)
    .where(or_(sweep_runs.c.deadline_at.is_not(None), sweep_runs.c.budget_s.is_not(None)), _WAITS)
    .order_by(sweep_runs.c.id)
)
_ITS_ATTEMPTS: Final = (
    select(attempts.c.started_at, attempts.c.finished_at)
    .join(jobs, jobs.c.id == attempts.c.job_id)
    .where(jobs.c.sweep_run_id == bindparam("run_id"), attempts.c.device_id.is_not(None))
)


def enforce_budgets(connection: Connection, now: datetime) -> int:
    """Cancel what has not begun of runs that are past their deadline or have used their budget.

    What runs then goes on to its end. Returns how many jobs were cancelled.
    """
    cancelled = 0
    for run in connection.execute(_LIMITED).all():
        cancelled += _enforce(connection, run, now)
    return cancelled


def used_s(connection: Connection, run_id: int, now: datetime) -> float:
    """Device seconds that a run has used, every try counted."""
    rows = connection.execute(_ITS_ATTEMPTS, {"run_id": run_id})
    return math.fsum(max(0.0, ((row.finished_at or now) - row.started_at).total_seconds()) for row in rows)


def _enforce(connection: Connection, run: Any, now: datetime) -> int:
    if run.deadline_at is not None and run.deadline_at <= now:
        return _cancel(connection, run.id, DEADLINE, "the run's deadline has passed", now)
    if run.budget_s is not None and (used := used_s(connection, run.id, now)) >= run.budget_s:
        why = f"{used / 60:.1f} of {run.budget_s / 60:g} device minutes are used"
        return _cancel(connection, run.id, BUDGET, why, now)
    return 0


def _cancel(connection: Connection, run_id: int, code: str, why: str, now: datetime) -> int:
    """Cancel what has not begun; conversions that other runs wait for become theirs."""
    mine = jobs.c.sweep_run_id == run_id
    resting.hand_over(connection, mine, now)
    resting.hand_over(connection, mine, now, to_resting=True)
    ids = connection.execute(select(jobs.c.id).where(mine, jobs.c.state.in_(("blocked", "queued")))).scalars().all()
    queue.cancel_jobs(connection, ids, who=WHO, why=why, now=now, code=code)
    record(connection, "run", run_id, None, "limited", who=WHO, why=why, now=now)
    return len(ids)
