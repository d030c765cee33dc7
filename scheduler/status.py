"""How far a run is: what runs, what waits for what, how long it may still take."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, func, select

from device_registry.errors import UsageError
from scheduler.durations import FIRST_GUESS_S
from scheduler.ingest import results
from scheduler.queue import sweep_runs
from scheduler.records import superseded
from scheduler.states import IS_LIVE, OPEN_JOB, attempts, jobs

#: Kinds of requests that measure no latency, and what they make.
_NO_LATENCIES = {"profile": "profile", "evaluate": "evaluation"}
#: Runs of more jobs are told in numbers.
_MOST_IN_DETAIL = 1000
#: Work of others that is named.
_MOST_OTHERS = 3


@dataclass(frozen=True)
class JobStatus:
    """One job of a run."""

    id: int
    kind: str
    title: str
    state: str
    #: When its live attempt began.
    since: datetime | None
    took_s: float | None
    failure_code: str | None
    failure_message: str | None
    retries: int
    #: Of a measurement that is in.
    p50_ms: float | None
    verdict: str | None
    #: How far it says it is, while it runs; None: it does not say.
    progress: str | None = None


@dataclass(frozen=True)
class RunStatus:
    """The jobs of a run, in order."""

    run_id: int
    #: All of a small run; of a large one those that run and those that failed last.
    jobs: tuple[JobStatus, ...]
    #: Expected seconds until done, from what such jobs took before.
    left_s: float
    #: Another run's work that this one waits behind.
    others_running: tuple[str, ...]
    #: Jobs by state, all of them but those that were tried again as new ones.
    counts: Mapping[str, int]

    @property
    def done(self) -> bool:
        """Whether nothing is open any more."""
        return not any(self.counts.get(state) for state in OPEN_JOB)

    @property
    def finished(self) -> int:
        """How many jobs are finished, well or not."""
        return sum(count for state, count in self.counts.items() if state not in OPEN_JOB)


def run_is_done(connection: Connection, run_id: int) -> bool:
    """Whether a run has no open job."""
    query = select(jobs.c.id).where(jobs.c.sweep_run_id == run_id, jobs.c.state.in_(OPEN_JOB)).limit(1)
    return connection.execute(query).first() is None


def run_status(connection: Connection, run_id: int, now: datetime) -> RunStatus:
    """Read the state of a run."""
    by_state = select(jobs.c.state, func.count()).where(jobs.c.sweep_run_id == run_id).group_by(jobs.c.state)
    counts = {row[0]: int(row[1]) for row in connection.execute(by_state)}
    again = by_state.where(jobs.c.state.in_(("failed", "cancelled")), superseded())
    for state, count in connection.execute(again):
        counts[state] -= count
    small = sum(counts.values()) <= _MOST_IN_DETAIL
    rows = _detailed(connection, run_id) if small else _running_and_failed(connection, run_id)
    latest = {row.id: row for row in rows}  # the last attempt of each job
    found = tuple(
        JobStatus(
            id=row.id,
            kind=row.kind,
            title=row.title,
            state=row.state,
            since=row.started_at,
            took_s=(row.finished_at - row.started_at).total_seconds() if row.finished_at else None,
            failure_code=row.failure_code,
            failure_message=row.failure_message,
            retries=max(0, row.attempts - 1),
            p50_ms=row.p50_ms,
            verdict=row.verdict,
            progress=row.message if row.state == "running" else None,
        )
        for row in latest.values()
    )
    others = connection.execute(
        select(jobs.c.title)
        .join(attempts, attempts.c.job_id == jobs.c.id)
        .where(IS_LIVE, jobs.c.sweep_run_id != run_id)
        .limit(_MOST_OTHERS)
    ).scalars()
    left_s = _left_s(connection, found, now) if small else _left_at_large_s(connection, run_id, counts)
    return RunStatus(run_id, found, left_s, tuple(others), counts)


def _detailed(connection: Connection, run_id: int, *where: Any) -> Sequence[Row[Any]]:
    return connection.execute(
        select(
            jobs, attempts.c.started_at, attempts.c.finished_at, attempts.c.message, results.c.p50_ms, results.c.verdict
        )
        .outerjoin(attempts, attempts.c.job_id == jobs.c.id)
        .outerjoin(results, results.c.attempt_id == attempts.c.id)
        .where(jobs.c.sweep_run_id == run_id, *where)
        .order_by(jobs.c.position, attempts.c.id)
    ).all()


def _running_and_failed(connection: Connection, run_id: int) -> Sequence[Row[Any]]:
    some: list[int] = []
    for state in ("failed", "running"):
        query = select(jobs.c.id).where(jobs.c.sweep_run_id == run_id, jobs.c.state == state)
        some += connection.execute(query.order_by(jobs.c.changed_at.desc()).limit(_MOST_IN_DETAIL // 2)).scalars()
    return _detailed(connection, run_id, jobs.c.id.in_(some))


def _left_at_large_s(connection: Connection, run_id: int, counts: Mapping[str, int]) -> float:
    """Expected work, at the rate of as many at once as run now."""
    still_open = (jobs.c.sweep_run_id == run_id, jobs.c.state.in_(OPEN_JOB))
    work_s = connection.execute(select(func.sum(jobs.c.expected_s)).where(*still_open)).scalar()
    return float(work_s or 0.0) / max(1, counts.get("running", 0))


def known_run(connection: Connection, run_id: int | None) -> int:
    """The run of that number; the latest that measured where none is given.

    Raises:
        UsageError: there is no such run, or it only profiled or evaluated.
    """
    query = select(sweep_runs.c.id, sweep_runs.c.request).order_by(sweep_runs.c.id.desc())
    users = sweep_runs.c.purpose.is_(None)
    rows = connection.execute(query.where(users if run_id is None else sweep_runs.c.id == run_id))
    other = None
    for row in rows:
        if (kind := row.request.get("kind")) not in _NO_LATENCIES:
            return int(row.id)
        other = f"run {row.id} made {_NO_LATENCIES[kind]}s: see benchfarm {kind} list"
    if other is not None:
        raise UsageError(other)
    raise UsageError("nothing was run yet" if run_id is None else f"no run {run_id}; see benchfarm results list")


def _left_s(connection: Connection, found: tuple[JobStatus, ...], now: datetime) -> float:
    expected = {kind: _expected_s(connection, kind, found) for kind in FIRST_GUESS_S}
    left_s = 0.0
    at_once = 0
    for job in found:
        if job.state in ("blocked", "queued"):
            left_s += expected[job.kind]
        elif job.state == "running" and job.since is not None:
            at_once += 1
            left_s += max(0.0, expected[job.kind] - (now - job.since).total_seconds())
    return left_s / max(1, at_once)


def _expected_s(connection: Connection, kind: str, found: tuple[JobStatus, ...]) -> float:
    """Median of this run's own finished jobs of the kind, else of the farm's latest, else a guess."""
    own = [job.took_s for job in found if job.kind == kind and job.state == "succeeded" and job.took_s is not None]
    if own:
        return statistics.median(own)
    rows = connection.execute(
        select(attempts.c.started_at, attempts.c.finished_at)
        .join(jobs, jobs.c.id == attempts.c.job_id)
        .where(jobs.c.kind == kind, jobs.c.state == "succeeded", attempts.c.state == "finished")
        .order_by(attempts.c.id.desc())
        .limit(50)
    ).all()
    took = [(row.finished_at - row.started_at).total_seconds() for row in rows if row.finished_at]
    return statistics.median(took) if took else FIRST_GUESS_S[kind]
