"""Reports become rows: results, telemetry and changes of state in one transaction, each only for its live token.

All reports of a tick are taken together: the number of statements does not depend on the number of reports.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import Any

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import Connection, Row, Text, cast, insert, select, update
from sqlalchemy.exc import DBAPIError, StatementError

from device_registry.database import one_of, passes, table_of
from scheduler import queue
from scheduler.durations import learn
from scheduler.points import update_points
from scheduler.queue import Return, artifacts
from scheduler.states import (
    LIVE_ATTEMPT,
    attempts,
    change_attempts,
    change_jobs,
    jobs,
    payload_text,
    read_payload,
    record_all,
)
from scheduler.tables import Profile, Result, Telemetry
from workers.contract import Failure
from workers.contract import Result as ChildResult
from workers.errors import Cause
from workers.report import Report

results = table_of(Result)
profiles = table_of(Profile)
telemetry = table_of(Telemetry)

#: Failures that we caused ourselves: no try of the job is counted.
_OURS = {"cancelled": "cancelled", "agent_closed": "cancelled", "lease_lost": "lost", "superseded": "lost"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """What became of an attempt: for those who keep count."""

    attempt_id: int
    #: finished, cancelled, lost or stale.
    state: str
    job_id: int
    device_id: int | None
    place: str
    owner: str
    needs_key: str | None
    canary: bool
    #: How long it had its place.
    used_s: float
    failure: Failure | None = None
    p50_ms: float | None = None
    verdict: str | None = None


@dataclass
class _Taken:
    """Reports by what is to be done with them."""

    #: (report, row) each.
    succeeded: list[tuple[Report, Any]] = field(default_factory=list)
    failed: list[tuple[Report, Any, Failure]] = field(default_factory=list)
    unwanted: list[tuple[Report, Any]] = field(default_factory=list)
    late: list[tuple[Report, Any]] = field(default_factory=list)


@cache
def _adapter() -> TypeAdapter[Report]:
    return TypeAdapter(Report)


def read_report(data: Any) -> Report:
    """Validate a report that came over a process border.

    Raises:
        pydantic.ValidationError: it does not follow the contract.
    """
    return _adapter().validate_python(data)


def take_started(connection: Connection, started: Iterable[tuple[int, str]], *, who: str, now: datetime) -> None:
    """Attempts, as (id, token), have begun; what is not leased under that token is left alone."""
    tokens = dict(started)
    if not tokens:
        return
    rows = connection.execute(
        select(attempts.c.id, attempts.c.token)
        .where(one_of(connection, attempts.c.id, tokens), attempts.c.state == "leased")
        .with_for_update()
    )
    begun = [row.id for row in rows if row.token == tokens[row.id]]
    change_attempts(connection, begun, "leased", "running", who=who, why=None, now=now)


def ingest(connection: Connection, documents: Sequence[dict[str, Any]], *, who: str, now: datetime) -> list[Ended]:
    """Take reports, as plain data in the order they came; a report that comes twice is taken once.

    A document that the database cannot hold fails its own attempt and no other.

    Args:
        connection: inside a transaction that writes.
        documents: events of kind finished: `attempt_id`, `token`, `report`.
        who: for the events.
        now: the time.
    """
    reports = [_read(document, now) for document in documents]
    try:
        with connection.begin_nested():
            return _ingest(connection, reports, who=who, now=now)
    except (StatementError, ValueError) as error:  # a number that is none, text that no database takes
        if isinstance(error, DBAPIError) and passes(error):
            raise
        if len(documents) > 1:
            middle = len(documents) // 2
            return [
                ended
                for half in (documents[:middle], documents[middle:])
                for ended in ingest(connection, half, who=who, now=now)
            ]
        broken = _broken(documents[0], f"the agent's report cannot be kept ({type(error).__name__})", now)
        return _ingest(connection, [broken], who=who, now=now)


def lose_attempts(
    connection: Connection, ids: Collection[int], *, who: str, why: str, now: datetime, counted: bool = True
) -> list[int]:
    """Attempts that will not report: lost, their jobs queued again. Returns those that were live."""
    rows = [row for row in _rows(connection, ids).values() if row.state in LIVE_ATTEMPT]
    for before in LIVE_ATTEMPT:
        lost = [row.id for row in rows if row.state == before]
        change_attempts(connection, lost, before, "lost", who=who, why=why, now=now)
    back = [Return.of(row, why, place=row.place, counted=counted) for row in rows if row.job_state == "running"]
    queue.requeue(connection, back, who=who, now=now)
    return [row.id for row in rows]


def _read(document: dict[str, Any], now: datetime) -> Report:
    try:
        return read_report(document["report"])
    except ValidationError as error:
        return _broken(document, f"the agent's report breaks the contract: {error.error_count()} errors", now)


def _broken(document: dict[str, Any], message: str, now: datetime) -> Report:
    """What stands for a report that cannot be taken."""
    names: dict[str, Any] = {"attempt_id": document["attempt_id"], "token": document["token"]}
    failure = Failure(cause=Cause.BUG, code="bad_report", message=message)
    at = now.timestamp()
    return Report(**names, result=ChildResult(**names, started_at=at, finished_at=at, failure=failure))


def _rows(connection: Connection, ids: Iterable[int]) -> dict[int, Any]:
    """Attempts with what is asked of their jobs; locked, for users cancel at any moment."""
    tried = ("id", "job_id", "device_id", "place", "token", "state")
    wanted = ("kind", "sweep_run_id", "case_key", "needs_key", "makes_key", "attempts", "owner", "canary")
    rows = connection.execute(
        select(
            *(attempts.c[name] for name in tried),
            *(jobs.c[name] for name in (*wanted, "duration_key")),
            jobs.c.state.label("job_state"),
            payload_text(),
            cast(jobs.c.avoid, Text).label("avoid_text"),
        )
        .join(jobs, jobs.c.id == attempts.c.job_id)
        .where(one_of(connection, attempts.c.id, sorted(set(ids))))
        .order_by(attempts.c.id)
        .with_for_update()
    )
    return {row.id: row for row in rows}


def _ingest(connection: Connection, reports: Sequence[Report], *, who: str, now: datetime) -> list[Ended]:
    rows = _rows(connection, (report.attempt_id for report in reports))
    taken = _sort(connection, reports, rows)
    ended = [
        *_take_succeeded(connection, taken.succeeded, who=who, now=now),
        *_take_failed(connection, taken.failed, who=who, now=now),
        *_take_unwanted(connection, taken.unwanted, who=who, now=now),
        *_take_late(connection, taken.late, who=who, now=now),
    ]
    learn(
        connection,
        [(row.duration_key, _used_s(report)) for report, row in taken.succeeded if row.duration_key is not None],
    )
    return ended


def _sort(connection: Connection, reports: Sequence[Report], rows: dict[int, Any]) -> _Taken:
    taken = _Taken()
    seen: set[int] = set()
    needed = {row.needs_key for row in rows.values() if row.kind == "convert" and row.needs_key is not None}
    standing = queue.standing(connection, needed)
    for report in reports:
        row = rows.get(report.attempt_id)
        if row is None or row.token != report.token or row.id in seen:
            continue  # from another database, from a lease that never was, or told twice
        seen.add(row.id)
        if row.state not in LIVE_ATTEMPT:
            if row.state == "lost":
                taken.late.append((report, row))
        elif row.job_state != "running":
            taken.unwanted.append((report, row))
        elif (failure := report.result.failure or _misfit(report, row, standing)) is not None:
            taken.failed.append((report, row, failure))
        else:
            taken.succeeded.append((report, row))
    return taken


def _misfit(report: Report, row: Row[Any], standing: set[str]) -> Failure | None:
    """Why a report without a failure cannot be taken as the job's success."""
    outcomes = {
        "convert": report.result.conversion,
        "measure": report.result.measurement,
        "profile": report.result.profile,
    }
    if outcomes[row.kind] is None or (row.kind != "convert" and report.judgement is None):
        message = f"the report of a {row.kind} job holds no such outcome"
        return Failure(cause=Cause.BUG, code="bad_report", message=message)
    if row.kind == "convert" and row.needs_key is not None and row.needs_key not in standing:
        return Failure(cause=Cause.INFRASTRUCTURE, code="parent_gone", message="what it was made from was damaged")
    return None


def _end(
    connection: Connection,
    ended: Sequence[tuple[Report, Any]],
    after: str,
    why: dict[int, str | None],
    *,
    who: str,
    now: datetime,
) -> None:
    """Live attempts end; those whose start was not heard of yet have begun all the same."""
    leased = [row.id for _, row in ended if row.state == "leased"]
    if leased:
        connection.execute(update(attempts).where(one_of(connection, attempts.c.id, leased)).values(state="running"))
        record_all(connection, "attempt", leased, "leased", "running", who=who, why=None, now=now)
    logs = {row.id: report.log_sha256 for report, row in ended}
    plain = [known for known, sha256 in logs.items() if sha256 is None and why[known] is None]
    change_attempts(connection, plain, "running", after, who=who, why=None, now=now)
    others = {known: why[known] for known in logs.keys() - set(plain)}
    each = {known: {"log_sha256": logs[known]} for known in others}
    change_attempts(connection, others, "running", after, who=who, why=others, now=now, each=each)


def _take_succeeded(
    connection: Connection, taken: Sequence[tuple[Report, Any]], *, who: str, now: datetime
) -> list[Ended]:
    if not taken:
        return []
    _end(connection, taken, "finished", dict.fromkeys((row.id for _, row in taken), None), who=who, now=now)
    by_kind: dict[str, list[tuple[Report, Any]]] = {"convert": [], "measure": [], "profile": []}
    for report, row in taken:
        by_kind[row.kind].append((report, row))
    _insert_artifacts(connection, by_kind["convert"], now)
    _insert_profiles(connection, by_kind["profile"], now)
    _insert_results(connection, by_kind["measure"], stale=False, now=now)
    _insert_telemetry(connection, by_kind["measure"])
    update_points(connection, by_kind["measure"], now)
    done = [row.job_id for _, row in taken]
    change_jobs(connection, done, "running", "succeeded", who=who, why=None, now=now)
    queue.unblock(connection, [row.makes_key for _, row in by_kind["convert"]], who=who, now=now)
    return [_ended(report, row, "finished") for report, row in taken]


def _take_failed(
    connection: Connection, taken: Sequence[tuple[Report, Any, Failure]], *, who: str, now: datetime
) -> list[Ended]:
    """The cause decides: what the infrastructure or a device does is tried again, what the model does is a result."""
    ended = []
    back = []
    final = {row.id: _OURS.get(failure.code, "finished") for _, row, failure in taken}
    for after in ("finished", "cancelled", "lost"):
        members = [(report, row) for report, row, _ in taken if final[row.id] == after]
        why: dict[int, str | None] = {row.id: failure.message for _, row, failure in taken if final[row.id] == after}
        if members:
            _end(connection, members, after, why, who=who, now=now)
    for report, row, failure in taken:
        ended.append(_ended(report, row, final[row.id], failure))
        ours = failure.code in _OURS
        if failure.code == "artifact_corrupt" and failure.artifact_sha256 is not None:
            queue.remake(connection, failure.artifact_sha256, row.sweep_run_id, who=who, now=now)
            back.append(Return.of(row, failure.message, place=None))
        elif ours or (failure.cause == Cause.INFRASTRUCTURE and not row.canary):  # the next canary is the next try
            back.append(Return.of(row, failure.message, place=None if ours else row.place, counted=not ours))
        elif failure.cause == Cause.DEVICE and not row.canary:
            back.append(Return.of(row, failure.message, place=row.place, cause=failure.cause, code=failure.code))
        else:
            queue.fail_job(
                connection, row.job_id, "running", failure.cause, failure.code, failure.message, who=who, now=now
            )
    queue.requeue(connection, back, who=who, now=now)
    return ended


def _take_unwanted(
    connection: Connection, taken: Sequence[tuple[Report, Any]], *, who: str, now: datetime
) -> list[Ended]:
    """Their jobs are over without them."""
    why: dict[int, str | None] = {row.id: f"its job is {row.job_state}" for _, row in taken}
    if taken:
        _end(connection, taken, "cancelled", why, who=who, now=now)
    return [_ended(report, row, "cancelled") for report, row in taken]


def _take_late(connection: Connection, taken: Sequence[tuple[Report, Any]], *, who: str, now: datetime) -> list[Ended]:
    """Results that came after their lease was lost: kept, never counted."""
    kept = [(report, row) for report, row in taken if report.result.measurement is not None and row.kind == "measure"]
    _insert_results(connection, kept, stale=True, now=now)
    late = [row.id for _, row in taken]
    why = "the result came after the lease"
    change_attempts(connection, late, "lost", "stale", who=who, why=why, now=now)
    return [_ended(report, row, "stale") for report, row in taken]


def _used_s(report: Report) -> float:
    used_s = report.wall_s if report.wall_s is not None else report.result.finished_at - report.result.started_at
    return max(0.0, used_s)


def _ended(report: Report, row: Row[Any], state: str, failure: Failure | None = None) -> Ended:
    measurement = report.result.measurement if failure is None else None
    return Ended(
        attempt_id=row.id,
        state=state,
        job_id=row.job_id,
        device_id=row.device_id,
        place=row.place,
        owner=row.owner,
        needs_key=row.needs_key,
        canary=row.canary,
        used_s=_used_s(report),
        failure=failure,
        p50_ms=measurement.timings.p50_ms if measurement is not None else None,
        verdict=report.judgement.verdict if report.judgement is not None else None,
    )


def _insert_artifacts(connection: Connection, made: Sequence[tuple[Report, Any]], now: datetime) -> None:
    parents = {row.needs_key for _, row in made if row.needs_key is not None}
    query = select(artifacts.c.key, artifacts.c.companions).where(artifacts.c.key.in_(parents))
    companions = {row.key: row.companions for row in connection.execute(query)} if parents else {}
    rows = []
    for report, row in made:
        conversion = report.result.conversion
        assert conversion is not None
        own = {role: file.sha256 for role, file in conversion.companions.items()}
        rows.append(
            {
                "key": row.makes_key,
                "sha256": conversion.artifact.sha256,
                "bytes": conversion.artifact.bytes,
                "format": conversion.format,
                "recipe": conversion.recipe,
                "model": read_payload(row.payload_text)["model"],
                "companions": {**companions.get(row.needs_key, {}), **own},
                "provenance": {
                    "seconds": conversion.seconds,
                    "imports_ms": conversion.imports_ms,
                    "versions": conversion.versions,
                    "facts": conversion.facts,
                },
                "created_at": now,
            }
        )
    if rows:
        connection.execute(insert(artifacts), rows)


def _document(report: Report) -> dict[str, Any]:
    """The report as plain data, without telemetry, which has rows of its own."""
    document: dict[str, Any] = _adapter().dump_python(report, exclude={"telemetry"})
    return document


def _insert_results(connection: Connection, taken: Sequence[tuple[Report, Any]], *, stale: bool, now: datetime) -> None:
    rows = [
        {
            "attempt_id": row.id,
            "job_id": row.job_id,
            "sweep_run_id": row.sweep_run_id,
            "device_id": row.device_id,
            "case_key": row.case_key,
            "stale": stale,
            "verdict": report.judgement.verdict if report.judgement is not None else "interrupted",
            "p50_ms": report.result.measurement.timings.p50_ms,
            "artifact_sha256": report.artifact_sha256,
            "document": _document(report),
            "created_at": now,
        }
        for report, row in taken
        if report.result.measurement is not None
    ]
    if rows:
        connection.execute(insert(results), rows)


def _insert_profiles(connection: Connection, taken: Sequence[tuple[Report, Any]], now: datetime) -> None:
    rows = [
        {
            "attempt_id": row.id,
            "job_id": row.job_id,
            "sweep_run_id": row.sweep_run_id,
            "device_id": row.device_id,
            "artifact_sha256": report.artifact_sha256,
            "document": _document(report),
            "created_at": now,
        }
        for report, row in taken
    ]
    if rows:
        connection.execute(insert(profiles), rows)


def _insert_telemetry(connection: Connection, taken: Sequence[tuple[Report, Any]]) -> None:
    rows = [
        {
            "attempt_id": row.id,
            "device_id": row.device_id,
            "at": datetime.fromtimestamp(reading.at, UTC),
            "sensor": reading.sensor,
            "domain": reading.domain,
            "quantity": reading.quantity,
            "unit": reading.unit,
            "value": reading.value,
            "quality": reading.quality,
        }
        for report, row in taken
        for reading in report.telemetry
    ]
    if rows:
        connection.execute(insert(telemetry), rows)
