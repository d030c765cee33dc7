"""The queue is a table: submitting is inserting, claiming is one transaction, whatever the number of jobs."""

from __future__ import annotations

import json
import secrets
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, Row, Text, bindparam, cast, select, update

from device_registry.bulk import insert_returning
from device_registry.database import insert_row, one_of
from device_registry.errors import UsageError
from device_registry.rests import LONGEST_PAUSE_S
from scheduler import coverage
from scheduler.inputs import artifacts as artifacts
from scheduler.inputs import facts_by_key, inputs_by_key, inputs_of
from scheduler.lanes import sweep_runs as sweep_runs
from scheduler.payloads import payload_texts, read_payload
from scheduler.placement import Assignment, JobKind, rank_of
from scheduler.states import (
    IS_LIVE,
    IS_NOT_BEGUN,
    LIVE_ATTEMPT,
    OPEN_JOB,
    attempts,
    change_attempts,
    change_job,
    change_jobs,
    jobs,
    record,
    record_all,
)
from scheduler.wakeups import announce
from workers.errors import UNSUPPORTED, UPSTREAM, Cause

#: Tries of a job that fails for the sake of the infrastructure or of a device.
MOST_ATTEMPTS = 3
#: Share of a host's memory that one child may take.
_MEMORY_SHARE = 0.8
#: A job remembers so many places where it failed.
_MOST_AVOIDED = 4


_CLAIM: Final = (
    update(jobs)
    .where(one_of(jobs.c.id, "ids"), jobs.c.state == "queued")
    .values(state="running", attempts=jobs.c.attempts + 1, changed_at=bindparam("now", type_=jobs.c.changed_at.type))
    .returning(
        *(jobs.c[name] for name in ("id", "kind", "needs_key", "owner", "requirement_id", "expected_s", "payload_id"))
    )
)


class Claimed(NamedTuple):
    """A job that was given a place."""

    attempt_id: int
    token: str
    job_id: int
    kind: JobKind
    host_id: int
    place: str
    owner: str
    requirement_id: int
    expected_s: float
    needs_key: str | None
    #: What the agent is told: an `Order` as plain data. It is read strictly there, and not before.
    order: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Return:
    """A running job that goes back to the queue."""

    job_id: int
    #: Tries so far, this one included.
    tries: int
    why: str
    avoid: Sequence[str]
    needs_key: str | None
    sweep_run_id: int
    #: Whether this try counts; one that we ended ourselves does not.
    counted: bool
    #: What it fails with when it has been tried often enough.
    cause: str = Cause.INFRASTRUCTURE
    code: str = "gave_up"

    @staticmethod
    def of(
        row: Row[Any],
        why: str,
        *,
        place: str | None,
        counted: bool = True,
        cause: str = Cause.INFRASTRUCTURE,
        code: str = "gave_up",
    ) -> Return:
        """From a row that has the job's columns; it prefers to go elsewhere than to `place`."""
        avoid = [key for key in json.loads(row.avoid_text) if key != place]
        avoid = ([*avoid, place] if place is not None else avoid)[-_MOST_AVOIDED:]
        return Return(
            job_id=row.job_id,
            tries=row.attempts,
            why=why,
            avoid=avoid,
            needs_key=row.needs_key,
            sweep_run_id=row.sweep_run_id,
            counted=counted,
            cause=cause,
            code=code,
        )


def claim(
    connection: Connection,
    assignments: Iterable[Assignment],
    memory_bytes: Mapping[int, int],
    *,
    who: str,
    lease_until: datetime,
    own_pids: Mapping[int, Sequence[int]],
    now: datetime,
) -> list[Claimed]:
    """Lease each assignment: an attempt row with a token, and the job running. What somebody else changed is left out.

    Args:
        connection: inside a transaction that writes.
        assignments: from `placement.match`.
        memory_bytes: of each host.
        who: for the events.
        lease_until: when the attempts are given up unless somebody renews them.
        own_pids: by host, processes of ours there, which are no foreign load.
        now: the time.

    Raises:
        IntegrityError: a place is taken.
    """
    places = {assignment.job_id: assignment.place for assignment in assignments}
    rows = connection.execute(_CLAIM, {"ids": places, "now": now}).all()
    if not rows:
        return []
    record_all(connection, "job", [row.id for row in rows], "queued", "running", who=who, why=None, now=now)
    inputs = inputs_by_key(connection, {row.needs_key for row in rows if row.needs_key is not None})
    if missing := [row.id for row in rows if row.needs_key is not None and row.needs_key not in inputs]:
        _return_unmade(connection, missing, who=who, now=now)
        rows = [row for row in rows if row.id not in missing]
    tokens = {secrets.token_hex(16): row for row in rows}
    leased = [
        {
            "job_id": row.id,
            "host_id": places[row.id].host_id,
            "device_id": places[row.id].device_id,
            "place": places[row.id].key,
            "token": token,
        }
        for token, row in tokens.items()
    ]
    if not leased:
        return []
    common = {"state": "leased", "lease_until": lease_until, "started_at": now}
    made = insert_returning(connection, attempts, leased, ("id", "token"), **common)
    texts = payload_texts(connection, {row.payload_id for row in rows})
    told = {known: read_payload(text) for known, text in texts.items()}
    facts = facts_by_key(connection, {row.needs_key for row in rows if row.kind == "convert" and row.needs_key})
    claimed = []
    for attempt_id, token in sorted((one.id, one.token) for one in made):
        row = tokens[token]
        place = places[row.id]
        payload = told[row.payload_id]
        order = {
            "attempt_id": attempt_id,
            "token": token,
            "place": place.key,
            "inputs": inputs_of(row.kind, inputs[row.needs_key]) if row.needs_key is not None else {},
            "limits": {
                "deadline_s": payload["deadline_s"],
                "memory_bytes": int(memory_bytes[place.host_id] * _MEMORY_SHARE),
                "resident_bytes": payload.get("memory_bytes"),
            },
            "own_pids": list(own_pids.get(place.host_id, ())),
            "facts": facts.get(row.needs_key, {}) if row.kind == "convert" else {},
            **dict.fromkeys(("convert", "measure", "profile", "evaluate")),
            **{name: payload[name] for name in (row.kind, "gate", "gate_timeout_s") if name in payload},
        }
        claimed.append(
            Claimed(
                attempt_id=attempt_id,
                token=token,
                job_id=row.id,
                kind=row.kind,
                host_id=place.host_id,
                place=place.key,
                owner=row.owner,
                requirement_id=row.requirement_id,
                expected_s=row.expected_s,
                needs_key=row.needs_key,
                order=order,
            )
        )
    made_ids = [one.attempt_id for one in claimed]
    record_all(connection, "attempt", made_ids, None, "leased", who=who, why=None, now=now)
    return claimed


def _return_unmade(connection: Connection, ids: Sequence[int], *, who: str, now: datetime) -> None:
    """Somebody dropped an artifact while jobs that need it were claimed: they wait until it is made again."""
    rows = connection.execute(
        select(jobs, jobs.c.id.label("job_id"), cast(jobs.c.avoid, Text).label("avoid_text")).where(jobs.c.id.in_(ids))
    )
    why = "its artifact was dropped"
    requeue(connection, [Return.of(row, why, place=None, counted=False) for row in rows], who=who, now=now)


def requeue(connection: Connection, returned: Sequence[Return], *, who: str, now: datetime) -> None:
    """Queue running jobs again; those that were tried `MOST_ATTEMPTS` times fail."""
    again = []
    for one in returned:
        if one.counted and one.tries >= MOST_ATTEMPTS:
            message = f"after {one.tries} tries: {one.why}"
            fail_job(connection, one.job_id, "running", one.cause, one.code, message, who=who, now=now)
        else:
            again.append(one)
    if not again:
        return
    each = {
        one.job_id: {
            # Two quick tries, then a pause: what is broken for a moment has time to mend.
            "not_before": now + timedelta(seconds=_pause_s(one.tries)) if one.counted else None,
            "attempts": one.tries if one.counted else one.tries - 1,
            "avoid": list(one.avoid),
        }
        for one in again
    }
    why = {one.job_id: one.why for one in again}
    change_jobs(connection, why, "running", "queued", who=who, why=why, now=now, each=each)
    _wait_for_missing(connection, again, who=who, now=now)


def _pause_s(tries: int) -> float:
    return min(2.0 ** (tries - 1), LONGEST_PAUSE_S)


def _wait_for_missing(connection: Connection, queued: Iterable[Return], *, who: str, now: datetime) -> None:
    """Queued jobs whose artifact was dropped meanwhile wait for it, and it is made again."""
    needing = [one for one in queued if one.needs_key is not None]
    there = standing(connection, {one.needs_key for one in needing if one.needs_key is not None})
    waiting = [one for one in needing if one.needs_key not in there]
    ids = [one.job_id for one in waiting]
    change_jobs(connection, ids, "queued", "blocked", who=who, why="its artifact must be made again", now=now)
    for key, run_id in {one.needs_key: one.sweep_run_id for one in waiting}.items():
        make_again(connection, str(key), run_id, who=who, now=now)


def forget(connection: Connection, row: Row[Any], why: str, *, who: str, now: datetime) -> None:
    """Drop an artifact; what was queued for it waits again."""
    connection.execute(artifacts.delete().where(artifacts.c.id == row.id))
    record(connection, "artifact", row.id, "standing", why, who=who, why=row.sha256, now=now)
    waiting = _ids_that_need(connection, [row.key], "queued")
    change_jobs(connection, waiting, "queued", "blocked", who=who, why="its artifact must be made again", now=now)


def make_again(connection: Connection, key: str, run_id: int, *, who: str, now: datetime) -> None:
    """Queue the conversion that made an artifact once more, with what it is made from, unless it is open already.

    Raises:
        UsageError: nothing here ever made it.
    """
    maker = connection.execute(select(jobs).where(jobs.c.makes_key == key).order_by(jobs.c.id.desc()).limit(1)).first()
    if maker is None:
        raise UsageError(f"nothing here ever made artifact {key[:12]}")
    if maker.state in OPEN_JOB:
        return
    state = "queued" if maker.needs_key is None or standing(connection, [maker.needs_key]) else "blocked"
    fresh = {name: value for name, value in maker._mapping.items() if name != "id"}
    fresh |= {"state": state, "sweep_run_id": run_id, "attempts": 0, "not_before": None, "avoid": []}
    # Not its own where that rests.
    fresh |= {"rank": min(maker.rank, rank_of(now.timestamp(), maker.priority))}
    fresh |= {"queue_until": None, "created_at": now, "changed_at": now}
    fresh |= {"failure_cause": None, "failure_code": None, "failure_message": None}
    job_id = insert_row(connection, jobs, **fresh)
    record(connection, "job", job_id, None, state, who=who, why="its artifact was damaged or dropped", now=now)
    if state == "blocked":
        make_again(connection, maker.needs_key, run_id, who=who, now=now)


def fail_job(
    connection: Connection, job_id: int, before: str, cause: str, code: str, message: str, *, who: str, now: datetime
) -> None:
    """Fail a job, and with a conversion all that waits for its artifact."""
    values: dict[str, Any] = {"failure_cause": cause, "failure_code": code, "failure_message": message}
    change_job(connection, job_id, before, "failed", who=who, why=message, now=now, **values)
    if code not in (UNSUPPORTED, UPSTREAM):
        values["failure_code"] = UPSTREAM
        values["failure_message"] = message = f"its conversion, job {job_id}, failed: {message}"
    waiting = _all_that_wait(connection, [job_id])
    change_jobs(connection, waiting, "blocked", "failed", who=who, why=message, now=now, **values)
    coverage.note_failed(connection, [job_id, *waiting], now)


def unblock(connection: Connection, keys: Collection[str], *, who: str, now: datetime) -> None:
    """Queue all that waited for artifacts that stand now."""
    waiting = _ids_that_need(connection, keys, "blocked")
    change_jobs(connection, waiting, "blocked", "queued", who=who, why="its artifact stands", now=now)


def remake(connection: Connection, sha256: str, run_id: int, *, who: str, now: datetime) -> None:
    """Forget a damaged stored file with every artifact that needs it, and queue the conversions that make them."""
    rows = [row for row in connection.execute(select(artifacts)) if sha256 in (row.sha256, *row.companions.values())]
    for row in rows:
        forget(connection, row, "damaged", who=who, now=now)
    for row in rows:
        make_again(connection, row.key, run_id, who=who, now=now)


def standing(connection: Connection, keys: Collection[str]) -> set[str]:
    """Those of these keys whose artifacts are known."""
    return (
        set(connection.execute(select(artifacts.c.key).where(artifacts.c.key.in_(keys))).scalars()) if keys else set()
    )


def cancel_job(connection: Connection, job_id: int, *, who: str, now: datetime) -> int | None:
    """Cancel a job; returns the live attempt that must be ended, if there is one.

    Raises:
        UsageError: no such job, or it is finished.
    """
    state = connection.execute(select(jobs.c.state).where(jobs.c.id == job_id).with_for_update()).scalar()
    if state is None:
        raise UsageError(f"no job {job_id}")
    if state not in OPEN_JOB:
        raise UsageError(f"job {job_id} is {state} already")
    live = cancel_jobs(connection, [job_id], who=who, why="cancelled by the user", now=now)
    return next(iter(live), None)


def cancel_jobs(
    connection: Connection, ids: Collection[int], *, who: str, why: str, now: datetime, code: str | None = None
) -> list[int]:
    """Cancel those of these jobs that are open, and all that waits for what they make.

    Args:
        connection: inside a transaction that writes.
        ids: of the jobs.
        who: for the events.
        why: for the events; with a code, for whoever reads the job, too.
        now: the time.
        code: what the farm cancelled them for; None: somebody wanted it.

    Returns the live attempts that must be ended.
    """
    told: dict[str, Any] = {"failure_code": code, "failure_message": why} if code is not None else {}
    rows = connection.execute(
        select(jobs.c.id, jobs.c.state).where(one_of(jobs.c.id, ids), jobs.c.state.in_(OPEN_JOB)).with_for_update()
    ).all()
    for state in OPEN_JOB:
        mine = [row.id for row in rows if row.state == state]
        change_jobs(connection, mine, state, "cancelled", who=who, why=why, now=now, **told)
    waiting = _all_that_wait(connection, [row.id for row in rows])
    change_jobs(connection, waiting, "blocked", "cancelled", who=who, why=why, now=now, **told)
    running = [row.id for row in rows if row.state == "running"]
    live = connection.execute(
        select(attempts.c.id, attempts.c.state).where(IS_LIVE, one_of(attempts.c.job_id, running))
    ).all()
    for state in LIVE_ATTEMPT:
        theirs = [row.id for row in live if row.state == state]
        change_attempts(connection, theirs, state, "cancelled", who=who, why="its job was cancelled", now=now)
    announce(connection)
    return [row.id for row in live]


def _all_that_wait(connection: Connection, ids: Collection[int]) -> list[int]:
    """Blocked jobs that wait for what these jobs make, and for what those would make of it."""
    found: list[int] = []
    while ids:
        keys = connection.execute(select(jobs.c.makes_key).where(one_of(jobs.c.id, ids), jobs.c.makes_key.is_not(None)))
        ids = _ids_that_need(connection, list(keys.scalars()), "blocked")
        found += ids
    return found


def _ids_that_need(connection: Connection, keys: Collection[str], state: str) -> list[int]:
    if not keys:
        return []
    found = connection.execute(
        select(jobs.c.id).where(one_of(jobs.c.needs_key, keys), IS_NOT_BEGUN, jobs.c.state == state).with_for_update()
    )
    return [int(known) for known in found.scalars()]
