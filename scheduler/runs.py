"""Runs: a plan becomes rows, somebody waits for them, and what was interrupted is taken up again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, exists, select, update
from sqlalchemy.exc import IntegrityError

from device_registry.database import insert_row
from scheduler import queue
from scheduler.plan import CONVERT_DEADLINE_S, MEASURE_ALLOWANCE_S, Plan, PlannedConversion, PlannedMeasurement, Request
from scheduler.queue import artifacts, sweep_runs
from scheduler.states import OPEN_JOB, jobs, record
from workers.artifacts import ArtifactStore
from workers.codec import to_dict
from workers.devices.cpu import machine_key
from workers.measure import longest_s
from workers.processes import is_alive, this_process

#: A follower says so often that it still waits; after the second span its run is nobody's.
FOLLOW_S = 15.0


@dataclass(frozen=True)
class Submitted:
    """What submitting did."""

    sweep_run_id: int
    resumed: bool
    #: Conversions whose artifact stands already.
    reused: int


def submit(
    connection: Connection,
    made: Plan,
    request: Request,
    store: ArtifactStore,
    *,
    owner: str,
    this_host_id: int,
    now: datetime,
) -> Submitted:
    """Insert the jobs of a plan, or take up again what an interrupted run of the same request left."""
    me = this_process()
    follow = {"followed_until": now + timedelta(seconds=FOLLOW_S), "follower_host": machine_key()}
    follow |= {"follower_pid": me.pid, "follower_started": me.started}
    if (left := _interrupted(connection, made.digest, now)) is not None:
        connection.execute(update(sweep_runs).where(sweep_runs.c.id == left).values(**follow))
        record(connection, "run", left, None, "resumed", who=owner, why="the same request again", now=now)
        return Submitted(left, resumed=True, reused=0)
    run_id = insert_row(
        connection,
        sweep_runs,
        request=to_dict(request),
        request_digest=made.digest,
        unsupported=made.unsupported,
        owner=owner,
        created_at=now,
        **follow,
    )
    record(connection, "run", run_id, None, "submitted", who=owner, why=None, now=now)
    keys = {item.variant.key for item in (*made.conversions, *made.spare_conversions)}
    standing = _standing(connection, store, keys, owner, now)
    position = 0
    reused = 0
    for conversion in made.conversions:
        if conversion.variant.key in standing:
            reused += 1
        else:
            _insert_conversion(connection, run_id, conversion, standing, position, this_host_id, owner, now)
        position += 1
    for measurement in made.measurements:
        _insert_measurement(connection, run_id, measurement, request, standing, position, owner, now)
        position += 1
    for conversion in made.spare_conversions:
        if conversion.variant.key not in standing:
            _insert_conversion(connection, run_id, conversion, standing, position, this_host_id, owner, now)
        position += 1
    return Submitted(run_id, resumed=False, reused=reused)


def follow(connection: Connection, run_id: int, now: datetime) -> None:
    """Say that somebody still waits for a run, and take over conversions it needs from runs that nobody waits for."""
    connection.execute(
        update(sweep_runs).where(sweep_runs.c.id == run_id).values(followed_until=now + timedelta(seconds=FOLLOW_S))
    )
    needed = select(jobs.c.needs_key).where(jobs.c.sweep_run_id == run_id, jobs.c.state == "blocked")
    orphaned = select(sweep_runs.c.id).where(sweep_runs.c.followed_until <= now)
    connection.execute(
        update(jobs)
        .where(
            jobs.c.kind == "convert",
            jobs.c.state.in_(OPEN_JOB),
            jobs.c.makes_key.in_(needed),
            jobs.c.sweep_run_id.in_(orphaned),
        )
        .values(sweep_run_id=run_id)
    )


def abandon(connection: Connection, run_id: int, now: datetime) -> None:
    """Nobody waits for a run any more: its open jobs rest until the same request is made again."""
    connection.execute(
        update(sweep_runs).where(sweep_runs.c.id == run_id).values(followed_until=now, follower_pid=None)
    )
    record(connection, "run", run_id, None, "interrupted", who="follower", why=None, now=now)


def _title(measurement: PlannedMeasurement, request: Request) -> str:
    task = measurement.task
    title = f"{task.model} on {task.runtime} {task.recipe}, {measurement.device.name}"
    title += "".join(f", {name} {value}" for name, value in task.options.runtime_options.items())
    if request.threads != (1,):
        title += f", {task.options.threads} thread" + ("s" if task.options.threads != 1 else "")
    return title + (f", repeat {measurement.repeat_no + 1} of {request.repeats}" if request.repeats > 1 else "")


def followers_here(connection: Connection, now: datetime) -> list[int]:
    """Processes of this host that wait for a run: of ours, so no foreign load."""
    alive = (sweep_runs.c.followed_until > now, sweep_runs.c.follower_host == machine_key())
    found = connection.execute(select(sweep_runs.c.follower_pid).where(*alive)).scalars()
    return [pid for pid in found if pid is not None]


def _interrupted(connection: Connection, request_digest: str, now: datetime) -> int | None:
    """The latest run of the same request that still has open jobs and that nobody waits for."""
    open_jobs = exists().where(jobs.c.sweep_run_id == sweep_runs.c.id, jobs.c.state.in_(OPEN_JOB))
    rows = connection.execute(
        select(sweep_runs)
        .where(sweep_runs.c.request_digest == request_digest, open_jobs)
        .order_by(sweep_runs.c.id.desc())
    )
    return next((int(row.id) for row in rows if _is_abandoned(row, now)), None)


def _is_abandoned(run: Row[Any], now: datetime) -> bool:
    if run.followed_until is None:
        return False
    here = run.follower_host == machine_key() and run.follower_pid is not None
    return bool(run.followed_until <= now or (here and not is_alive(run.follower_pid, run.follower_started)))


def _standing(connection: Connection, store: ArtifactStore, keys: set[str], who: str, now: datetime) -> set[str]:
    """Keys of artifacts whose bytes are in the store; rows whose bytes are gone are dropped."""
    standing = set()
    for row in connection.execute(select(artifacts).where(artifacts.c.key.in_(keys))).all():
        if all(store.has(sha256) for sha256 in (row.sha256, *row.companions.values())):
            standing.add(row.key)
        else:
            queue.forget(connection, row, "missing", who=who, now=now)
    return standing


def _insert_conversion(
    connection: Connection,
    run_id: int,
    conversion: PlannedConversion,
    standing: set[str],
    position: int,
    this_host_id: int,
    owner: str,
    now: datetime,
) -> None:
    variant = conversion.variant
    state = "queued" if variant.parent is None or variant.parent in standing else "blocked"
    values = {
        "sweep_run_id": run_id,
        "kind": "convert",
        "state": state,
        "priority": 0,
        "position": position,
        "host_id": this_host_id if conversion.on_this_host else None,
        "title": f"{variant.format} {variant.recipe} of {conversion.model}",
        "needs_key": variant.parent,
        "makes_key": variant.key,
        "repeat_no": 0,
        "attempts": 0,
        "payload": {
            "convert": to_dict(conversion.task),
            "model": conversion.model,
            "deadline_s": CONVERT_DEADLINE_S,
        },
        "created_at": now,
        "changed_at": now,
    }
    try:
        with connection.begin_nested():
            job_id = insert_row(connection, jobs, **values)
    except IntegrityError:
        # Another run is making the same artifact; should nobody wait for that run any more, it becomes ours.
        connection.execute(
            update(jobs)
            .where(
                jobs.c.makes_key == variant.key,
                jobs.c.state.in_(OPEN_JOB),
                jobs.c.sweep_run_id.in_(select(sweep_runs.c.id).where(sweep_runs.c.followed_until <= now)),
            )
            .values(sweep_run_id=run_id, position=position, host_id=values["host_id"])
        )
        return
    record(connection, "job", job_id, None, state, who=owner, why=None, now=now)


def _insert_measurement(
    connection: Connection,
    run_id: int,
    measurement: PlannedMeasurement,
    request: Request,
    standing: set[str],
    position: int,
    owner: str,
    now: datetime,
) -> None:
    task = measurement.task
    state = "queued" if measurement.variant.key in standing else "blocked"
    values = {
        "sweep_run_id": run_id,
        "kind": request.kind,
        "state": state,
        "priority": 0,
        "position": position,
        "device_id": measurement.device.id,
        "title": _title(measurement, request),
        "case_key": measurement.case_key,
        "repeat_no": measurement.repeat_no,
        "needs_key": measurement.variant.key,
        "attempts": 0,
        "payload": {
            request.kind: to_dict(task),
            "model": task.model,
            "deadline_s": longest_s(task.options) + MEASURE_ALLOWANCE_S,
            "gate": request.gate,
            "gate_timeout_s": request.gate_timeout_s,
        },
        "created_at": now,
        "changed_at": now,
    }
    job_id = insert_row(connection, jobs, **values)
    record(connection, "job", job_id, None, state, who=owner, why=None, now=now)
