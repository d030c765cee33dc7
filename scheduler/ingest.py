"""Reports become rows: results, telemetry and changes of state in one transaction, each only for its live token.

All reports of a tick are taken together: the number of statements does not depend on the number of reports.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Row, Text, cast, select
from sqlalchemy.exc import StatementError

from device_registry.database import one_of, passes
from scheduler import outcomes, queue, reports
from scheduler.durations import learn
from scheduler.outcomes import profiles as profiles
from scheduler.outcomes import results as results
from scheduler.payloads import payload_text, payloads
from scheduler.points import update_points
from scheduler.queue import Return
from scheduler.reports import Told
from scheduler.states import (
    LIVE_ATTEMPT,
    attempts,
    change_attempts,
    change_jobs,
    jobs,
)
from scheduler.telemetry import insert_telemetry
from workers.contract import Failure
from workers.errors import Cause
from workers.report import Report

#: What is locked first: who cancels a job has its row, and then wants its attempt's.
_IN_ORDER = (jobs, attempts)
#: Failures that we caused ourselves: no try of the job is counted.
_OURS = {"cancelled": "cancelled", "agent_closed": "cancelled", "lease_lost": "lost", "superseded": "lost"}
#: No inference takes longer than a year.
_LONGEST_MS: Final = 366 * 86_400_000.0
#: What an attempt failed for of which nothing was heard.
_LOST: Final[dict[str, Any]] = {"failure_cause": str(Cause.INFRASTRUCTURE), "failure_code": "lost"}

_LEASED: Final = (
    select(attempts.c.id, attempts.c.token)
    .join(jobs, jobs.c.id == attempts.c.job_id)
    .where(one_of(attempts.c.id, "ids"), attempts.c.state == "leased")
    .order_by(jobs.c.id)
    .with_for_update(of=_IN_ORDER)
)
_TRIED = ("id", "job_id", "device_id", "place", "token", "state")
_ASKED = (
    "kind",
    "sweep_run_id",
    "case_key",
    "needs_key",
    "makes_key",
    "attempts",
    "owner",
    "canary",
    "side",
    "duration_key",
)
_ROWS: Final = (
    select(
        *(attempts.c[name] for name in _TRIED),
        *(jobs.c[name] for name in _ASKED),
        jobs.c.state.label("job_state"),
        payload_text(),
        cast(jobs.c.avoid, Text).label("avoid_text"),
    )
    .join(jobs, jobs.c.id == attempts.c.job_id)
    .join(payloads, payloads.c.id == jobs.c.payload_id)
    .where(one_of(attempts.c.id, "ids"))
    .order_by(jobs.c.id)
    .with_for_update(of=_IN_ORDER)
)


class Ended(NamedTuple):
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

    #: (what was told, row) each.
    succeeded: list[tuple[Told, Any]] = field(default_factory=list)
    failed: list[tuple[Told, Any, Failure]] = field(default_factory=list)
    unwanted: list[tuple[Told, Any]] = field(default_factory=list)
    late: list[tuple[Told, Any]] = field(default_factory=list)


def take_started(connection: Connection, started: Iterable[tuple[int, str]], *, who: str, now: datetime) -> None:
    """Attempts, as (id, token), have begun; what is not leased under that token is left alone."""
    tokens = dict(started)
    if not tokens:
        return
    rows = connection.execute(_LEASED, {"ids": tokens})
    begun = [row.id for row in rows.all() if row.token == tokens[row.id]]
    change_attempts(connection, begun, "leased", "running", who=who, why=None, now=now)


def ingest(connection: Connection, finished: Sequence[dict[str, Any]], *, who: str, now: datetime) -> list[Ended]:
    """Take reports in the order they came; a report that comes twice is taken once.

    A document that the database cannot hold fails its own attempt and no other.

    Args:
        connection: inside a transaction that writes.
        finished: events of that kind (see `reports.read`).
        who: for the events.
        now: the time.
    """
    told = [reports.read(event, now) for event in finished]
    try:
        with connection.begin_nested():
            return _ingest(connection, told, who=who, now=now)
    # A number that is none, text that no database takes; SQLite's driver has an error of its own for large integers.
    except (StatementError, ValueError, ArithmeticError) as error:
        if passes(error):
            raise
        if len(finished) > 1:
            middle = len(finished) // 2
            return [
                ended
                for half in (finished[:middle], finished[middle:])
                for ended in ingest(connection, half, who=who, now=now)
            ]
        broken = reports.stand_in(finished[0], f"the agent's report cannot be kept ({type(error).__name__})", now)
        return _ingest(connection, [broken], who=who, now=now)


def lose_attempts(
    connection: Connection,
    ids: Collection[int],
    *,
    who: str,
    why: str,
    now: datetime,
    counted: Collection[str] = LIVE_ATTEMPT,
) -> list[int]:
    """Attempts that will not report: lost, their jobs queued again. Returns those that were live.

    Args:
        connection: inside a transaction that writes.
        ids: of the attempts.
        who: for the events.
        why: for the events.
        now: the time.
        counted: those that are in one of these states count as tries of their jobs.
    """
    rows = [row for row in _rows(connection, ids).values() if row.state in LIVE_ATTEMPT]
    for before in LIVE_ATTEMPT:
        lost = [row.id for row in rows if row.state == before]
        change_attempts(connection, lost, before, "lost", who=who, why=why, now=now, **_LOST)
    back = [
        Return.of(row, why, place=row.place, counted=row.state in counted) for row in rows if row.job_state == "running"
    ]
    queue.requeue(connection, back, who=who, now=now)
    return [row.id for row in rows]


def genuine(connection: Connection, told: Mapping[int, str]) -> list[int]:
    """Those of these attempts, ids to tokens, that are ours: an agent may tell of what another farm's database ran."""
    rows = connection.execute(select(attempts.c.id, attempts.c.token).where(one_of(attempts.c.id, told)))
    return [row.id for row in rows.all() if row.token == told[row.id]]


def _rows(connection: Connection, ids: Iterable[int]) -> dict[int, Any]:
    """Attempts with what is asked of their jobs; locked, for users cancel at any moment."""
    rows = connection.execute(_ROWS, {"ids": sorted(set(ids))})
    return {row.id: row for row in rows.all()}


def _ingest(connection: Connection, told: Sequence[Told], *, who: str, now: datetime) -> list[Ended]:
    rows = _rows(connection, (one.report.attempt_id for one in told))
    taken = _sort(connection, told, rows)
    ended = [
        *_take_succeeded(connection, taken.succeeded, who=who, now=now),
        *_take_failed(connection, taken.failed, who=who, now=now),
        *_take_unwanted(connection, taken.unwanted, who=who, now=now),
        *_take_late(connection, taken.late, who=who, now=now),
    ]
    insert_telemetry(connection, [*taken.succeeded, *((told, row) for told, row, _ in taken.failed), *taken.late])
    learn(
        connection,
        [(row.duration_key, _used_s(one.report)) for one, row in taken.succeeded if row.duration_key is not None],
    )
    return ended


def _sort(connection: Connection, told: Sequence[Told], rows: dict[int, Any]) -> _Taken:
    taken = _Taken()
    seen: set[int] = set()
    needed = {row.needs_key for row in rows.values() if row.kind == "convert" and row.needs_key is not None}
    standing = queue.standing(connection, needed)
    for one in told:
        report = one.report
        row = rows.get(report.attempt_id)
        if row is None or row.token != report.token or row.id in seen:
            continue  # from another database, from a lease that never was, or told twice
        seen.add(row.id)
        if row.state not in LIVE_ATTEMPT:
            if row.state == "lost":
                taken.late.append((one, row))
        elif row.job_state != "running":
            taken.unwanted.append((one, row))
        elif (failure := report.result.failure or _misfit(report, row, standing)) is not None:
            taken.failed.append((one, row, failure))
        else:
            taken.succeeded.append((one, row))
    return taken


def _misfit(report: Report, row: Row[Any], standing: set[str]) -> Failure | None:
    """Why a report without a failure cannot be taken as the job's success."""
    yielded = {
        "convert": report.result.conversion,
        "measure": report.result.measurement,
        "profile": report.result.profile,
        "evaluate": report.result.evaluation,
    }
    if yielded[row.kind] is None or (row.kind != "convert" and report.judgement is None):
        message = f"the report of a {row.kind} job holds no such outcome"
        return Failure(cause=Cause.BUG, code="bad_report", message=message)
    measured = report.result.measurement if row.kind == "measure" else None
    if measured is not None and not 0 <= measured.timings.p50_ms <= _LONGEST_MS:
        message = f"the report tells a median latency of {measured.timings.p50_ms:g} ms"
        return Failure(cause=Cause.BUG, code="bad_report", message=message)
    evaluation = report.result.evaluation if row.kind == "evaluate" else None
    if evaluation is not None and not outcomes.adds_up(evaluation):
        message = f"the report does not show {evaluation.correct} right answers to {evaluation.examples} examples"
        return Failure(cause=Cause.BUG, code="bad_report", message=message)
    if row.kind == "convert" and row.needs_key is not None and row.needs_key not in standing:
        return Failure(cause=Cause.INFRASTRUCTURE, code="parent_gone", message="what it was made from was damaged")
    return None


def _end(
    connection: Connection,
    ended: Sequence[tuple[Told, Any]],
    after: str,
    why: dict[int, str | None],
    *,
    who: str,
    now: datetime,
    failures: Mapping[int, Failure] | None = None,
) -> None:
    """Live attempts end; those whose start was not heard of yet have begun all the same."""
    for before, via in (("leased", "running"), ("running", None)):
        kept = {row.id: _kept(told, (failures or {}).get(row.id)) for told, row in ended if row.state == before}
        plain = [known for known, values in kept.items() if not any(values.values()) and why[known] is None]
        change_attempts(connection, plain, before, after, who=who, why=None, now=now, via=via)
        others = {known: why[known] for known in kept.keys() - set(plain)}
        each = {known: kept[known] for known in others}
        change_attempts(connection, others, before, after, who=who, why=others, now=now, each=each, via=via)


def _kept(told: Told, failure: Failure | None = None) -> dict[str, Any]:
    """What an attempt's row says of what it left: why it failed, files in the store, and a clock that was wrong."""
    report = told.report
    raw = report.result.measurement.raw if report.result.measurement is not None else None
    block = report.telemetry_block
    return {
        "failure_cause": failure.cause if failure is not None else None,
        "failure_code": failure.code if failure is not None else None,
        "log_sha256": report.log_sha256,
        "telemetry_sha256": block.sha256 if block is not None else None,
        "raw_sha256": raw.sha256 if raw is not None else None,
        "clock_offset_s": told.ahead_s or None,
    }


def _take_succeeded(
    connection: Connection, taken: Sequence[tuple[Told, Any]], *, who: str, now: datetime
) -> list[Ended]:
    if not taken:
        return []
    _end(connection, taken, "finished", dict.fromkeys((row.id for _, row in taken), None), who=who, now=now)
    by_kind: dict[str, list[tuple[Told, Any]]] = {"convert": [], "measure": [], "profile": [], "evaluate": []}
    for told, row in taken:
        by_kind[row.kind].append((told, row))
    outcomes.insert_artifacts(connection, by_kind["convert"], now)
    outcomes.insert_profiles(connection, by_kind["profile"], now)
    outcomes.insert_evaluations(connection, by_kind["evaluate"], now)
    outcomes.insert_results(connection, by_kind["measure"], stale=False, now=now)
    update_points(connection, by_kind["measure"], now)
    done = [row.job_id for _, row in taken]
    change_jobs(connection, done, "running", "succeeded", who=who, why=None, now=now)
    queue.unblock(connection, [row.makes_key for _, row in by_kind["convert"]], who=who, now=now)
    return [_ended(told.report, row, "finished") for told, row in taken]


def _take_failed(
    connection: Connection, taken: Sequence[tuple[Told, Any, Failure]], *, who: str, now: datetime
) -> list[Ended]:
    """The cause decides: what the infrastructure or a device does is tried again, what the model does is a result."""
    ended = []
    back = []
    final = {row.id: _OURS.get(failure.code, "finished") for _, row, failure in taken}
    failures = {row.id: failure for _, row, failure in taken if final[row.id] != "cancelled"}
    for after in ("finished", "cancelled", "lost"):
        members = [(told, row) for told, row, _ in taken if final[row.id] == after]
        why: dict[int, str | None] = {row.id: failure.message for _, row, failure in taken if final[row.id] == after}
        if members:
            _end(connection, members, after, why, who=who, now=now, failures=failures)
    for told, row, failure in taken:
        ended.append(_ended(told.report, row, final[row.id], failure))
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
    connection: Connection, taken: Sequence[tuple[Told, Any]], *, who: str, now: datetime
) -> list[Ended]:
    """Their jobs are over without them."""
    why: dict[int, str | None] = {row.id: f"its job is {row.job_state}" for _, row in taken}
    if taken:
        _end(connection, taken, "cancelled", why, who=who, now=now)
    return [_ended(told.report, row, "cancelled") for told, row in taken]


def _take_late(connection: Connection, taken: Sequence[tuple[Told, Any]], *, who: str, now: datetime) -> list[Ended]:
    """Results that came after their lease was lost: kept, never counted."""
    kept = [(told, row) for told, row in taken if told.report.result.measurement is not None and row.kind == "measure"]
    outcomes.insert_results(connection, kept, stale=True, now=now)
    late = {row.id: _kept(told) | _LOST for told, row in taken}
    why = "the result came after the lease"
    change_attempts(connection, late, "lost", "stale", who=who, why=why, now=now, each=late)
    return [_ended(told.report, row, "stale") for told, row in taken]


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
