"""Trials begin: two artifacts of a case become jobs of one device, in turns, and get more of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from sqlalchemy import Connection, Row, insert, select

from device_registry.database import insert_row, table_of
from device_registry.errors import UsageError
from device_registry.health import FARM
from scheduler import queue
from scheduler.conversions import digest
from scheduler.durations import expected_s
from scheduler.placement import rank_of
from scheduler.queue import sweep_runs
from scheduler.requirements import requirement_id
from scheduler.states import jobs, record, record_all
from scheduler.trials.templates import Template, template_of
from scheduler.trials.turns import side_of
from scheduler.verdicts import LEAST_EFFECT, ROUNDS
from scheduler.wakeups import announce
from scheduler.watch_tables import Trial

trials = table_of(Trial)

Purpose = Literal["confirmation", "bridge", "noise", "gate"]

#: A trial is to run soon and in one piece: a step above what users submit, but for jobs of theirs that have waited for
#: ten minutes, which go in between. What only learns a noise floor gives way to all of them for half an hour.
FARM_PRIORITY: Final[Mapping[Purpose, int]] = {"confirmation": 1, "bridge": 1, "gate": 0, "noise": -3}
#: Room for the jobs of one trial in the order of its run: trials of a device run one after the other.
_MOST_JOBS = 256


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A trial to be."""

    purpose: Purpose
    device_id: int
    #: People read this: "mobilenet_v3_small on litert int8-static, pixel-3".
    title: str
    #: A measure job whose artifact and options it has, or those themselves.
    baseline: int | Template
    candidate: int | Template
    #: None: artifacts that no series has.
    series_id: int | None = None
    baseline_point_id: int | None = None
    candidate_point_id: int | None = None
    owner: str = FARM
    #: None: as its purpose has it (`FARM_PRIORITY`).
    priority: int | None = None
    #: On each side: first, and at most where those do not tell.
    processes: int = ROUNDS[0]
    most: int = ROUNDS[-1]
    #: The least that is worth a name to who asks.
    effect: float = LEAST_EFFECT
    #: The change that is to be decided on, 0.05 for 5 % slower: once it is ruled out, no more processes are worth it.
    suspected: float | None = None


def start_trial(connection: Connection, wanted: Wanted, run_id: int | None = None, *, now: datetime) -> int:
    """Insert a trial and its first jobs; returns its number.

    Args:
        connection: inside a transaction that writes.
        wanted: what to compare, where.
        run_id: the run that it becomes part of; None: a run of its own.
        now: the time.

    Raises:
        UsageError: a job that it is made of measures nothing, or an artifact is gone and nothing ever made it.
        IntegrityError: the noise of the series is being learnt already.
    """
    sides = {"baseline": _template(connection, wanted.baseline), "candidate": _template(connection, wanted.candidate)}
    if run_id is None:
        run_id = start_run(connection, wanted.purpose, owner=wanted.owner, now=now)
    trial_id = insert_row(
        connection,
        trials,
        purpose=wanted.purpose,
        sweep_run_id=run_id,
        device_id=wanted.device_id,
        series_id=wanted.series_id,
        title=wanted.title,
        baseline_key=sides["baseline"].needs_key,
        candidate_key=sides["candidate"].needs_key,
        baseline_point_id=wanted.baseline_point_id,
        candidate_point_id=wanted.candidate_point_id,
        state="running",
        wanted=min(wanted.processes, wanted.most),
        most=wanted.most,
        effect=wanted.effect,
        suspected=wanted.suspected,
        created_at=now,
    )
    record(connection, "trial", trial_id, None, "running", who=wanted.owner, why=wanted.title, now=now)
    priority = FARM_PRIORITY[wanted.purpose] if wanted.priority is None else wanted.priority
    common = {
        "sweep_run_id": run_id,
        "kind": "measure",
        # Of all trials of a device and an owner: one lane, in which they run one after the other.
        "requirement_id": requirement_id(connection, "device", "", wanted.device_id),
        "owner": wanted.owner,
        "priority": priority,
        "rank": rank_of(now.timestamp(), priority),
        "device_id": wanted.device_id,
        "trial_id": trial_id,
    }
    known_s = expected_s(connection, [side.duration_key for side in sides.values() if side.duration_key is not None])
    each = {
        name: {
            "payload_id": side.payload_id,
            "needs_key": side.needs_key,
            "case_key": side.case_key,
            "duration_key": side.duration_key,
            "expected_s": known_s.get(side.duration_key or "", side.expected_s),
        }
        for name, side in sides.items()
    }
    stand = queue.standing(connection, {side.needs_key for side in sides.values()})
    # While an artifact is still to be made, the side that has one would run ahead: one process of each says when both
    # stand, and a step queues the rest.
    first = min(wanted.processes, wanted.most) if all(side.needs_key in stand for side in sides.values()) else 1
    _insert(connection, wanted.title, common, each, 0, first, now)
    return trial_id


def start_run(
    connection: Connection,
    purpose: Purpose,
    *,
    owner: str,
    now: datetime,
    request: Mapping[str, Any] | None = None,
) -> int:
    """A run for trials, which nobody needs to wait for; returns its number."""
    asked = {"kind": "trial", "purpose": purpose, **(request or {})}
    run_id = insert_row(
        connection,
        sweep_runs,
        request=asked,
        request_digest=digest([asked, owner, now.isoformat()]),
        unsupported=[],
        owner=owner,
        created_at=now,
        purpose=purpose,
    )
    record(connection, "run", run_id, None, "submitted", who=owner, why=purpose, now=now)
    return run_id


def add_processes(connection: Connection, trial: Row[Any], more: int, *, now: datetime) -> None:
    """Queue so many more processes on each side of a trial, in turns, before all that came after it."""
    made = connection.execute(select(jobs).where(jobs.c.trial_id == trial.id).order_by(jobs.c.repeat_no)).all()
    first = {side: next(row for row in made if row.side == side) for side in ("baseline", "candidate")}
    same = ("sweep_run_id", "kind", "requirement_id", "owner", "priority", "rank", "device_id", "trial_id")
    own = ("payload_id", "needs_key", "case_key", "duration_key", "expected_s")
    common = {name: getattr(made[0], name) for name in same}
    each = {side: {name: getattr(row, name) for name in own} for side, row in first.items()}
    _insert(connection, trial.title, common, each, len(made), more, now)


def _template(connection: Connection, given: int | Template) -> Template:
    return given if isinstance(given, Template) else template_of(connection, given)


def _insert(
    connection: Connection,
    title: str,
    common: Mapping[str, Any],
    each: Mapping[str, Mapping[str, Any]],
    first: int,
    processes: int,
    now: datetime,
) -> None:
    """Jobs of a trial from a number on, as many on each side; missing artifacts are made again."""
    if first + 2 * processes > _MOST_JOBS:
        raise UsageError(f"{processes} processes on each side are too many: {_MOST_JOBS // 4} are the most")
    standing = queue.standing(connection, {str(side["needs_key"]) for side in each.values()})
    rows = []
    for number in range(first, first + 2 * processes):
        side = side_of(number)
        row = {**common, **each[side], "side": side}
        row |= {"state": "queued" if row["needs_key"] in standing else "blocked"}
        row |= {"position": common["trial_id"] * _MOST_JOBS + number, "repeat_no": number}
        row |= {"title": f"{title}, {side} {number // 2 + 1}", "created_at": now, "changed_at": now}
        rows.append(row)
    connection.execute(insert(jobs), rows)
    mine = select(jobs.c.id, jobs.c.state).where(jobs.c.trial_id == common["trial_id"], jobs.c.repeat_no >= first)
    made = connection.execute(mine.order_by(jobs.c.repeat_no)).all()
    for state in ("queued", "blocked"):
        ids = [row.id for row in made if row.state == state]
        record_all(connection, "job", ids, None, state, who=common["owner"], why=None, now=now)
    for key in sorted({str(side["needs_key"]) for side in each.values()} - standing):
        queue.make_again(connection, key, common["sweep_run_id"], who=common["owner"], now=now)
    announce(connection)
