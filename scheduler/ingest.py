"""Reports become rows: result, telemetry and the state change in one transaction, only for the live token."""

from __future__ import annotations

import statistics
from datetime import UTC, datetime
from functools import cache
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import Connection, Row, insert, select, update

from device_registry.database import insert_row, table_of
from scheduler import queue
from scheduler.conversions import digest
from scheduler.queue import artifacts
from scheduler.states import LIVE_ATTEMPT, attempts, change_attempt, change_job, jobs
from scheduler.tables import Point, Profile, Result, Series, Telemetry
from workers.codec import from_dict, to_dict
from workers.contract import PROTOCOL_VERSION, Failure, MeasureTask
from workers.report import Report

results = table_of(Result)
profiles = table_of(Profile)
series = table_of(Series)
points = table_of(Point)
telemetry = table_of(Telemetry)

#: From best to worst: the verdict of a point none of whose repeats is valid is its worst.
_SEVERITY = ("valid", "not_converged", "unusable", "throttled", "contaminated", "interrupted")


@cache
def _adapter() -> TypeAdapter[Report]:
    return TypeAdapter(Report)


def read_report(data: Any) -> Report:
    """Validate a report that came over a process border.

    Raises:
        pydantic.ValidationError: it does not follow the contract.
    """
    return _adapter().validate_python(data)


def ingest(connection: Connection, report: Report, *, who: str, now: datetime) -> str:
    """Take one report. Returns what became of its attempt: finished, cancelled, lost or stale."""
    attempt = connection.execute(select(attempts).where(attempts.c.id == report.attempt_id)).first()
    if attempt is None or attempt.token != report.token:
        return "stale"  # from another database, or from a lease that never was
    job = connection.execute(select(jobs).where(jobs.c.id == attempt.job_id)).one()
    if attempt.state not in LIVE_ATTEMPT:
        if attempt.state == "lost":
            if report.result.measurement is not None and job.kind == "measure":
                _insert_result(connection, report, attempt, job, stale=True, now=now)
            change_attempt(
                connection, attempt.id, "lost", "stale", who=who, why="the result came after the lease", now=now
            )
        return "stale"
    if attempt.state == "leased":
        change_attempt(connection, attempt.id, "leased", "running", who=who, why=None, now=now)
    if job.state != "running":
        change_attempt(connection, attempt.id, "running", "cancelled", who=who, why=f"its job is {job.state}", now=now)
        return "cancelled"
    failure = report.result.failure or _misfit(connection, report, job)
    if failure is not None:
        return _ingest_failure(connection, report, failure, attempt, job, who=who, now=now)
    change_attempt(
        connection, attempt.id, "running", "finished", who=who, why=None, now=now, log_sha256=report.log_sha256
    )
    if job.kind == "convert":
        _insert_artifact(connection, report, job, now)
    elif job.kind == "profile":
        _insert_profile(connection, report, attempt, job, now)
    else:
        _insert_result(connection, report, attempt, job, stale=False, now=now)
        _insert_telemetry(connection, report, attempt)
        _update_point(connection, attempt.device_id, job, now)
    change_job(connection, job.id, "running", "succeeded", who=who, why=None, now=now)
    if job.makes_key is not None:
        queue.unblock(connection, job.makes_key, who=who, now=now)
    return "finished"


def _misfit(connection: Connection, report: Report, job: Row[Any]) -> Failure | None:
    """Why a report without a failure cannot be taken as the job's success."""
    outcomes = {
        "convert": report.result.conversion,
        "measure": report.result.measurement,
        "profile": report.result.profile,
    }
    if outcomes[job.kind] is None or (job.kind != "convert" and report.judgement is None):
        return Failure(cause="bug", code="bad_report", message=f"the report of a {job.kind} job holds no such outcome")
    if job.kind == "convert" and job.needs_key is not None and not queue.stands(connection, job.needs_key):
        return Failure(cause="infrastructure", code="parent_gone", message="what it was made from was damaged")
    return None


def lose_attempt(connection: Connection, attempt_id: int, *, who: str, why: str, now: datetime) -> None:
    """An attempt will not report: lost, its job queued again."""
    attempt = connection.execute(select(attempts).where(attempts.c.id == attempt_id)).first()
    if attempt is None or attempt.state not in LIVE_ATTEMPT:
        return
    change_attempt(connection, attempt_id, attempt.state, "lost", who=who, why=why, now=now)
    job_state = connection.execute(select(jobs.c.state).where(jobs.c.id == attempt.job_id)).scalar_one()
    if job_state == "running":
        queue.requeue(connection, attempt.job_id, who=who, why=why, now=now, counted=True)


def _ingest_failure(
    connection: Connection,
    report: Report,
    failure: Failure,
    attempt: Row[Any],
    job: Row[Any],
    *,
    who: str,
    now: datetime,
) -> str:
    """The cause decides: infrastructure is tried again, what the model does is a recorded result."""
    ours = failure.code in ("cancelled", "agent_closed", "lease_lost")
    final = (
        "cancelled"
        if failure.code in ("cancelled", "agent_closed")
        else "lost"
        if failure.code == "lease_lost"
        else "finished"
    )
    change_attempt(
        connection,
        attempt.id,
        "running",
        final,
        who=who,
        why=failure.message,
        now=now,
        log_sha256=report.log_sha256,
        message=failure.message,
    )
    if failure.code == "artifact_corrupt" and failure.artifact_sha256 is not None:
        queue.remake(connection, failure.artifact_sha256, job.sweep_run_id, who=who, now=now)
        queue.requeue(connection, job.id, who=who, why=failure.message, now=now, counted=True)
    elif ours or failure.cause == "infrastructure":
        queue.requeue(connection, job.id, who=who, why=failure.message, now=now, counted=not ours)
    else:
        queue.fail_job(connection, job.id, "running", failure.cause, failure.code, failure.message, who=who, now=now)
    return final


def _insert_artifact(connection: Connection, report: Report, job: Row[Any], now: datetime) -> None:
    made = report.result.conversion
    assert made is not None
    companions = {role: file.sha256 for role, file in made.companions.items()}
    if job.needs_key is not None:
        parent = connection.execute(select(artifacts.c.companions).where(artifacts.c.key == job.needs_key)).scalar_one()
        companions = {**parent, **companions}
    connection.execute(
        insert(artifacts).values(
            key=job.makes_key,
            sha256=made.artifact.sha256,
            bytes=made.artifact.bytes,
            format=made.format,
            recipe=made.recipe,
            model=job.payload["model"],
            companions=companions,
            provenance={
                "seconds": made.seconds,
                "imports_ms": made.imports_ms,
                "versions": made.versions,
                "facts": made.facts,
            },
            created_at=now,
        )
    )


def _insert_result(
    connection: Connection, report: Report, attempt: Row[Any], job: Row[Any], *, stale: bool, now: datetime
) -> None:
    measurement = report.result.measurement
    assert measurement is not None
    document = to_dict(report)
    del document["telemetry"]  # has rows of its own
    connection.execute(
        insert(results).values(
            attempt_id=attempt.id,
            job_id=job.id,
            sweep_run_id=job.sweep_run_id,
            device_id=attempt.device_id,
            case_key=job.case_key,
            stale=stale,
            verdict=report.judgement.verdict if report.judgement is not None else "interrupted",
            p50_ms=measurement.timings.p50_ms,
            artifact_sha256=report.artifact_sha256,
            document=document,
            created_at=now,
        )
    )


def _insert_profile(connection: Connection, report: Report, attempt: Row[Any], job: Row[Any], now: datetime) -> None:
    document = to_dict(report)
    del document["telemetry"]
    connection.execute(
        insert(profiles).values(
            attempt_id=attempt.id,
            job_id=job.id,
            sweep_run_id=job.sweep_run_id,
            device_id=attempt.device_id,
            artifact_sha256=report.artifact_sha256,
            document=document,
            created_at=now,
        )
    )


def _insert_telemetry(connection: Connection, report: Report, attempt: Row[Any]) -> None:
    rows = [
        {
            "attempt_id": attempt.id,
            "device_id": attempt.device_id,
            "at": datetime.fromtimestamp(reading.at, UTC),
            "sensor": reading.sensor,
            "domain": reading.domain,
            "quantity": reading.quantity,
            "unit": reading.unit,
            "value": reading.value,
            "quality": reading.quality,
        }
        for reading in report.telemetry
    ]
    if rows:
        connection.execute(insert(telemetry), rows)


def _update_point(connection: Connection, device_id: int, job: Row[Any], now: datetime) -> None:
    """The point of this case in this run, from all its repeats so far; and the series' latest valid point."""
    series_id = _series(connection, device_id, from_dict(MeasureTask, job.payload["measure"]))
    rows = connection.execute(
        select(results.c.p50_ms, results.c.verdict, results.c.artifact_sha256, results.c.document).where(
            results.c.sweep_run_id == job.sweep_run_id,
            results.c.case_key == job.case_key,
            results.c.device_id == device_id,
            results.c.stale.is_(False),
        )
    ).all()
    value, verdict, counted = point_of([(row.p50_ms, row.verdict) for row in rows])
    values = {
        "value": value,
        "repeats": counted,
        "verdict": verdict,
        "artifact_sha256": rows[-1].artifact_sha256,
        "environment_digest": digest(
            [rows[-1].document["environment"], _conversion_environment(connection, job.needs_key)]
        ),
        "at": now,
    }
    here = (points.c.series_id == series_id, points.c.sweep_run_id == job.sweep_run_id)
    point_id = connection.execute(select(points.c.id).where(*here)).scalar_one_or_none()
    if point_id is None:
        point_id = insert_row(connection, points, series_id=series_id, sweep_run_id=job.sweep_run_id, **values)
    else:
        connection.execute(update(points).where(points.c.id == point_id).values(**values))
    if verdict == "valid":
        connection.execute(update(series).where(series.c.id == series_id).values(latest_valid_point_id=point_id))


def point_of(repeats: list[tuple[float, str]]) -> tuple[float, str, int]:
    """Median over the valid repeats, or over all where none is valid; the verdict; how many counted.

    Args:
        repeats: (process median, verdict) of each repeat, at least one.
    """
    valid = [value for value, verdict in repeats if verdict == "valid"]
    if valid:
        return statistics.median(valid), "valid", len(valid)
    worst = max((verdict for _, verdict in repeats), key=_SEVERITY.index)
    return statistics.median(value for value, _ in repeats), worst, len(repeats)


def _series(connection: Connection, device_id: int, task: MeasureTask) -> int:
    identity = {
        "device_id": device_id,
        "model": task.model,
        "format": task.format,
        "recipe": task.recipe,
        "runtime": task.runtime,
        "options": {**task.options.identity(), "weights": task.weights},
        "metric": "latency",
        "statistic": "median of process medians",
        "unit": "ms",
        "protocol_version": PROTOCOL_VERSION,
    }
    key = digest(identity)
    found = connection.execute(select(series.c.id).where(series.c.key == key)).scalar_one_or_none()
    if found is None:
        found = insert_row(connection, series, key=key, **identity)
    return int(found)


def _conversion_environment(connection: Connection, key: str | None) -> Any:
    provenance = connection.execute(select(artifacts.c.provenance).where(artifacts.c.key == key)).scalar_one_or_none()
    return provenance["versions"] if provenance is not None else None
