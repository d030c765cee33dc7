"""How far a run is: what runs, what waits for what, how long it may still take."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, select

from device_registry.errors import UsageError
from scheduler.ingest import results
from scheduler.queue import sweep_runs
from scheduler.states import LIVE_ATTEMPT, OPEN_JOB, attempts, jobs

#: Before anything of a kind was seen on this farm.
_FIRST_GUESS_S = {"convert": 12.0, "measure": 9.0, "profile": 12.0}


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


@dataclass(frozen=True)
class RunStatus:
    """All jobs of a run, in order."""

    run_id: int
    jobs: tuple[JobStatus, ...]
    #: Expected seconds until done, from what such jobs took before.
    left_s: float
    #: Another run's work that this one waits behind.
    others_running: tuple[str, ...]

    @property
    def done(self) -> bool:
        """Whether nothing is open any more."""
        return all(job.state not in OPEN_JOB for job in self.jobs)


def run_is_done(connection: Connection, run_id: int) -> bool:
    """Whether a run has no open job."""
    query = select(jobs.c.id).where(jobs.c.sweep_run_id == run_id, jobs.c.state.in_(OPEN_JOB)).limit(1)
    return connection.execute(query).first() is None


def run_status(connection: Connection, run_id: int, now: datetime) -> RunStatus:
    """Read the state of a run."""
    rows = connection.execute(
        select(jobs, attempts.c.started_at, attempts.c.finished_at, results.c.p50_ms, results.c.verdict)
        .outerjoin(attempts, attempts.c.job_id == jobs.c.id)
        .outerjoin(results, results.c.attempt_id == attempts.c.id)
        .where(jobs.c.sweep_run_id == run_id)
        .order_by(jobs.c.position, attempts.c.id)
    ).all()
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
        )
        for row in latest.values()
    )
    others = connection.execute(
        select(jobs.c.title)
        .join(attempts, attempts.c.job_id == jobs.c.id)
        .where(attempts.c.state.in_(LIVE_ATTEMPT), jobs.c.sweep_run_id != run_id)
    ).scalars()
    return RunStatus(run_id, found, _left_s(connection, found, now), tuple(others))


def known_run(connection: Connection, run_id: int | None) -> int:
    """The run of that number; the latest that measured where none is given.

    Raises:
        UsageError: there is no such run, or it only profiled.
    """
    query = select(sweep_runs.c.id, sweep_runs.c.request).order_by(sweep_runs.c.id.desc())
    rows = connection.execute(query if run_id is None else query.where(sweep_runs.c.id == run_id))
    profiled = None
    for row in rows:
        if row.request.get("kind") != "profile":
            return int(row.id)
        profiled = row.id
    if profiled is not None:
        raise UsageError(f"run {profiled} made profiles: see benchfarm profile list")
    raise UsageError("nothing was run yet" if run_id is None else f"no run {run_id}; see benchfarm results list")


def _left_s(connection: Connection, found: tuple[JobStatus, ...], now: datetime) -> float:
    expected = {kind: _expected_s(connection, kind, found) for kind in _FIRST_GUESS_S}
    left_s = 0.0
    for job in found:
        if job.state in ("blocked", "queued"):
            left_s += expected[job.kind]
        elif job.state == "running" and job.since is not None:
            left_s += max(0.0, expected[job.kind] - (now - job.since).total_seconds())
    return left_s


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
    return statistics.median(took) if took else _FIRST_GUESS_S[kind]
