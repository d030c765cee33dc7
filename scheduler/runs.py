"""Runs: a plan becomes rows, somebody waits for them, and what was interrupted is taken up again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy import (
    Connection,
    Row,
    exists,
    insert,
    literal,
    null,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError

from device_registry.database import insert_row
from device_registry.errors import UsageError
from scheduler import coverage, queue, resting
from scheduler.durations import FIRST_GUESS_S, duration_key, expected_s
from scheduler.payloads import payload_id
from scheduler.placement import rank_of
from scheduler.plan import Plan, PlannedConversion, PlannedMeasurement, Request
from scheduler.queue import artifacts, sweep_runs
from scheduler.requirements import requirement_id
from scheduler.resting import IS_AWAKE
from scheduler.states import OPEN_JOB, events, jobs, portions, record
from scheduler.titles import title_of
from scheduler.wakeups import announce
from workers.artifacts import ArtifactStore
from workers.codec import to_dict
from workers.contract import ConvertTask, MeasureTask
from workers.devices.cpu import machine_key
from workers.processes import is_alive, this_process

#: A follower says so often that it still waits; after the second span its run is nobody's.
FOLLOW_S = 15.0


class AlreadySubmittedError(UsageError):
    """This due time of a schedule has its run already."""


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What a run of a sweep is one of: columns of its row."""

    sweep: str
    watched: bool = False
    schedule: str | None = None
    due_at: datetime | None = None
    revision: str | None = None
    build: dict[str, Any] | None = None
    deadline_at: datetime | None = None
    budget_s: float | None = None


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
    store: ArtifactStore | None,
    *,
    owner: str,
    this_host_id: int | None,
    now: datetime,
    follow: bool = True,
    origin: Origin | None = None,
) -> Submitted:
    """Insert the jobs of a plan, or take up again what an interrupted run of the same request left.

    Args:
        connection: a transaction that writes.
        made: the plan.
        request: what it was made of.
        store: where artifacts are looked for; None: what the database says stands is trusted.
        owner: who is counted for it.
        this_host_id: this machine, where it is a host of the farm.
        now: the time.
        follow: whether somebody waits for the run, and it rests when nobody does; else it is worked on until done.
        origin: the sweep that it is one of; None: none.

    Raises:
        AlreadySubmittedError: its due time has a run already.
        UsageError: a file or code of this machine is to be converted, and it is no host of the farm.
    """
    followed = following(now) if follow else {}
    if follow and (left := _interrupted(connection, made.digest, now)) is not None:
        connection.execute(update(sweep_runs).where(sweep_runs.c.id == left).values(**followed))
        resting.wake(connection, left)
        record(connection, "run", left, None, "resumed", who=owner, why="the same request again", now=now)
        announce(connection)
        return Submitted(left, resumed=True, reused=0)
    row: dict[str, Any] = {"request": to_dict(request), "request_digest": made.digest}
    row |= {"unsupported": made.unsupported}
    row |= {"owner": owner, "created_at": now, **followed, **(vars(origin) if origin is not None else {})}
    run_id = _insert_run(connection, row)
    record(connection, "run", run_id, None, "submitted", who=owner, why=None, now=now)
    keys = {item.variant.key for item in (*made.conversions, *made.spare_conversions)}
    standing = _standing(connection, store, keys, owner, now)
    inserting = Inserting(connection, run_id, request, standing, owner, this_host_id, now)
    if request.kind == "measure":
        coverage.note_unsupported(connection, made.unsupported_cells, run_id, now)
    inserting.expect([*made.conversions, *made.spare_conversions], made.measurements)
    inserting.conversions(made.conversions, 0)
    inserting.measurements(made.measurements, len(made.conversions))
    inserting.conversions(made.spare_conversions, len(made.conversions) + len(made.measurements))
    announce(connection)
    reused = sum(item.variant.key in standing for item in made.conversions)
    return Submitted(run_id, resumed=False, reused=reused)


def _insert_run(connection: Connection, row: dict[str, Any]) -> int:
    try:
        with connection.begin_nested():
            return insert_row(connection, sweep_runs, **row)
    except IntegrityError as error:
        if row.get("schedule") is None:
            raise
        raise AlreadySubmittedError from error


def following(now: datetime) -> dict[str, Any]:
    """Columns of a run that this process waits for."""
    me = this_process()
    return {
        "followed_until": now + timedelta(seconds=FOLLOW_S),
        "follower_host": machine_key(),
        "follower_pid": me.pid,
        "follower_started": me.started,
    }


def follow(connection: Connection, run_id: int, now: datetime) -> None:
    """Say that somebody still waits for a run."""
    connection.execute(
        update(sweep_runs).where(sweep_runs.c.id == run_id).values(followed_until=now + timedelta(seconds=FOLLOW_S))
    )
    resting.wake(connection, run_id)


def abandon(connection: Connection, run_id: int, now: datetime) -> None:
    """Nobody waits for a run any more: its open jobs rest until the same request is made again."""
    connection.execute(
        update(sweep_runs).where(sweep_runs.c.id == run_id).values(followed_until=now, follower_pid=None)
    )
    record(connection, "run", run_id, None, "interrupted", who="follower", why=None, now=now)


def followers(connection: Connection, host_key: str, now: datetime) -> list[int]:
    """Processes of a host that wait for a run: of ours, so no foreign load."""
    alive = (IS_AWAKE, sweep_runs.c.followed_until > now, sweep_runs.c.follower_host == host_key)
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
    return next((int(row.id) for row in rows if is_abandoned(row, now)), None)


def is_abandoned(run: Row[Any], now: datetime) -> bool:
    """Whether somebody waited for a run, and does no more."""
    if run.followed_until is None:
        return False
    here = run.follower_host == machine_key() and run.follower_pid is not None
    return bool(run.followed_until <= now or (here and not is_alive(run.follower_pid, run.follower_started)))


def _standing(connection: Connection, store: ArtifactStore | None, keys: set[str], who: str, now: datetime) -> set[str]:
    """Keys of artifacts that stand; rows whose bytes are gone from the store are dropped."""
    standing = set()
    rows: list[Row[Any]] = []
    for portion in portions(keys):
        rows += connection.execute(select(artifacts).where(artifacts.c.key.in_(portion)))
    for row in rows:
        if store is None or all(store.has(sha256) for sha256 in (row.sha256, *row.companions.values())):
            standing.add(row.key)
        else:
            queue.forget(connection, row, "missing", who=who, now=now)
    return standing


class _StandsError(Exception):
    """An artifact stands already."""


class Inserting:
    """Turns the parts of one plan into rows: `runs.submit` of a whole one, a gate of what its trials measure."""

    def __init__(
        self,
        connection: Connection,
        run_id: int,
        request: Request,
        standing: set[str],
        owner: str,
        this_host_id: int | None,
        now: datetime,
    ) -> None:
        """Nothing is written yet. `standing`: keys of artifacts that stand."""
        self._connection, self._run_id, self._request, self._now = connection, run_id, request, now
        self._standing, self._owner, self._this_host_id = standing, owner, this_host_id
        self._expected_s: dict[str, float] = {}
        self._requirements: dict[Any, int] = {}
        self._payloads: dict[tuple[str, int], int] = {}
        self._keys: dict[tuple[str, int, str | None], str] = {}

    def expect(self, conversions: Sequence[PlannedConversion], measurements: Sequence[PlannedMeasurement]) -> None:
        """Look up how long each job will take."""
        keys = {self._duration_key("convert", item.model, item.task, None) for item in conversions}
        for item in measurements:
            keys.add(self._duration_key(item.kind, item.task.model, item.task, item.device_model))
        self._expected_s = expected_s(self._connection, keys)

    def conversions(self, wanted: Sequence[PlannedConversion], position: int) -> None:
        """Insert conversions whose artifact does not stand and that nobody is making."""
        for number, item in enumerate(wanted, start=position):
            if item.variant.key not in self._standing:
                self._conversion(item, number)

    def measurements(self, wanted: Sequence[PlannedMeasurement], position: int, *, after: int = 0) -> None:
        """Insert measurements: movable ones the longest first, as placement wants them; pinned ones as they come.

        Args:
            wanted: what to insert.
            position: of the first.
            after: number of the run's last job so far, where it has some already.
        """
        rows = [self.measurement(item) for item in wanted]
        rows.sort(key=lambda row: -row["expected_s"] if row["device_id"] is None else 0.0)
        for number, row in enumerate(rows, start=position):
            row["position"] = number
        if not rows:
            return
        self._connection.execute(insert(jobs), rows)
        # From the rows themselves: their ids, for a hundred thousand of them, need not come back here.
        columns = {
            "at": literal(self._now, events.c.at.type),
            "who": literal(self._owner),
            "entity": literal("job"),
            "entity_id": jobs.c.id,
            "before": null(),
            "after": jobs.c.state,
            "why": null(),
        }
        mine = select(*columns.values()).where(
            jobs.c.sweep_run_id == self._run_id, jobs.c.kind.in_({item.kind for item in wanted}), jobs.c.id > after
        )
        self._connection.execute(insert(events).from_select(list(columns), mine.order_by(jobs.c.id)))

    def _conversion(self, item: PlannedConversion, position: int) -> None:
        variant = item.variant
        if item.on_this_host and self._this_host_id is None:
            raise UsageError(
                f"{item.model} is converted where it lies, and this machine is no host of the farm: "
                "benchfarm join it, or submit from one that is"
            )
        host_id = self._this_host_id if item.on_this_host else None
        row = self._common("convert", item.model, item.task, None) | {
            "state": "queued" if variant.parent is None or variant.parent in self._standing else "blocked",
            "position": position,
            "requirement_id": self._requirement("slot", "", None, host_id, item.needs),
            "title": f"{variant.format} {variant.recipe} of {item.model}",
            "needs_key": variant.parent,
            "makes_key": variant.key,
            "payload_id": payload_id(
                self._connection,
                {
                    "convert": to_dict(item.task),
                    "model": item.model,
                    "deadline_s": self._request.run_timeout_s or item.deadline_s,
                    **({} if (most := self._request.max_memory_bytes) is None else {"memory_bytes": most}),
                },
            ),
        }
        try:
            with self._connection.begin_nested():
                job_id = insert_row(self._connection, jobs, **row)
                if queue.standing(self._connection, {variant.key}):  # somebody made it since we looked
                    raise _StandsError
        except _StandsError:
            self._standing.add(variant.key)
            return
        except IntegrityError:
            if not self._share(variant.key, row):
                self._conversion(item, position)
            return
        record(self._connection, "job", job_id, None, row["state"], who=self._owner, why=None, now=self._now)

    def _share(self, key: str, row: dict[str, Any]) -> bool:
        """Another run is making the same artifact: it is made as soon as either wants it. False: not any more.

        Should nobody wait for that run, the job becomes ours. The row is locked: until ours are there it does not end,
        or they would wait for what was told before them.
        """
        other = (jobs.c.makes_key == key, jobs.c.state.in_(OPEN_JOB))
        if self._connection.execute(select(jobs.c.id).where(*other).with_for_update()).first() is None:
            return False
        sooner = {"rank": row["rank"], "priority": row["priority"]}
        self._connection.execute(update(jobs).where(*other, jobs.c.rank > row["rank"]).values(**sooner))
        taken = {name: row[name] for name in ("sweep_run_id", "position", "owner", "requirement_id")}
        orphaned = select(sweep_runs.c.id).where(sweep_runs.c.followed_until <= self._now)
        self._connection.execute(update(jobs).where(*other, jobs.c.sweep_run_id.in_(orphaned)).values(**taken))
        return True

    def measurement(self, item: PlannedMeasurement) -> dict[str, Any]:
        """Columns of the job that measures it, but its position."""
        request, task, device = self._request, item.task, item.device
        known = (item.kind, id(task))
        if known not in self._payloads:  # the plan holds it: no other can get its id meanwhile
            document = {
                item.kind: to_dict(task),
                "model": task.model,
                "deadline_s": request.run_timeout_s or item.deadline_s,
                "gate": request.gate,
                "gate_timeout_s": request.gate_timeout_s,
            }
            self._payloads[known] = payload_id(self._connection, document)
        timeout_s = request.queue_timeout_s
        return self._common(item.kind, task.model, task, item.device_model) | {
            "state": "queued" if item.variant.key in self._standing else "blocked",
            "requirement_id": self._requirement(
                "device", item.selector, device.id if device is not None else None, None, item.needs
            ),
            "device_id": device.id if device is not None else None,
            "queue_until": self._now + timedelta(seconds=timeout_s) if timeout_s is not None else None,
            "title": title_of(item, request),
            "case_key": item.case_key,
            "repeat_no": item.repeat_no,
            "needs_key": item.variant.key,
            "payload_id": self._payloads[known],
        }

    def _common(
        self, kind: str, model: str, task: ConvertTask | MeasureTask, device_model: str | None
    ) -> dict[str, Any]:
        key = self._duration_key(kind, model, task, device_model)
        return {
            "sweep_run_id": self._run_id,
            "kind": kind,
            "owner": self._owner,
            "priority": self._request.priority,
            "rank": rank_of(self._now.timestamp(), self._request.priority),
            "expected_s": self._expected_s.get(key, FIRST_GUESS_S[kind]),
            "duration_key": key,
            "created_at": self._now,
            "changed_at": self._now,
        }

    def _duration_key(self, kind: str, model: str, task: ConvertTask | MeasureTask, device_model: str | None) -> str:
        known = (kind, id(task), device_model)  # a case is measured and evaluated by one task
        if known not in self._keys:
            self._keys[known] = duration_key(kind, model, task, device_model)
        return self._keys[known]

    def _requirement(
        self,
        place: Literal["device", "slot"],
        selector: str,
        device_id: int | None,
        host_id: int | None,
        needs: tuple[str, ...],
    ) -> int:
        known = (place, selector, device_id, host_id, needs)
        if known not in self._requirements:
            self._requirements[known] = requirement_id(self._connection, *known)
        return self._requirements[known]
