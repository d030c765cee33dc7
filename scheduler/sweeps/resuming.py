"""A run of a sweep is taken up again: what failed or was cancelled, and what of its matrix it has no job for."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, func, select, update

from device_registry.database import reading, writing
from device_registry.errors import UsageError
from device_registry.tables import utc_now
from scheduler import coverage, interventions, resting, runs
from scheduler.farm import Farm
from scheduler.plan import Plan
from scheduler.queue import standing, sweep_runs
from scheduler.records import superseded
from scheduler.states import OPEN_JOB, jobs, record
from scheduler.sweeps.budgets import used_s
from scheduler.sweeps.file import SweepFile
from scheduler.sweeps.listing import sweep_run_row
from scheduler.sweeps.matrix import Matrix
from scheduler.sweeps.running import Prepared, over_budget, prepare, without
from scheduler.sweeps.submission import Submission, sweep_of_run
from scheduler.wakeups import announce
from workers.errors import UNSUPPORTED

#: What a case of a matrix is a job for.
_KINDS = ("measure", "evaluate")


@dataclass(frozen=True, kw_only=True)
class Resumed:
    """What taking up a run did."""

    sweep_run_id: int
    #: Jobs that are tried again, cases that had none, and jobs that were open still.
    again: int
    missing: int
    still_open: int
    #: Models that are others by now than when the run began: what is missing of them stays missing.
    changed: tuple[str, ...] = ()
    #: Why it cannot be said now what is missing; None: it can.
    why_not: str | None = None


def resume_sweep(
    farm: Farm, run_id: int, *, who: str, follow: bool, trim: bool = False, now: datetime | None = None
) -> Resumed:
    """Take up a run again, in that run: its points stay one per series.

    Its deadline begins again, and its budget is for what it does from now on.

    Args:
        farm: where it runs.
        run_id: a run of a sweep.
        who: for the events.
        follow: whether the caller waits.
        trim: leave out what is beyond the budget, instead of refusing.
        now: the time; default: the clock's.

    Raises:
        UsageError: there is no such run, it is of no sweep, or what it needs cannot be.
    """
    now = now or utc_now()
    with reading(farm.engine) as connection:
        row = sweep_run_row(connection, run_id)
        sweep = sweep_of_run(connection, run_id)
        has = _cases(connection, run_id)
        failed = _to_try(connection, run_id)
    assert sweep is not None  # its row has a sweep, and so its request
    submission = Submission(
        revision=row.revision,
        build=row.build,
        owner=row.owner,
        allow_code=bool(row.request["sweep"]["allow_code"]),
        strict=bool(row.request["sweep"].get("strict", True)),
        fresh_only=True,
        trim=trim,
    )
    sweep = replace(sweep, baseline=None)  # that it stood then is enough
    prepared, missing, why_not = None, Plan(""), None
    changed: tuple[str, ...] = ()
    try:
        prepared = prepare(farm, sweep, submission, now, without_cases=has)
    except UsageError as error:  # its devices are away, its model's file is gone: what has jobs can go on all the same
        why_not = str(error)
    if prepared is not None:
        if not prepared.within_budget and not trim:
            raise sweep.wrong(over_budget(prepared), "budget", "device_minutes")
        missing, changed = _of_the_same(prepared.plan, prepared.matrix, set(row.request["sweep"]["programs"]))
        missing.arrange()
    with writing(farm.engine) as connection:
        still_open = _still_open(connection, run_id)
        if why_not is not None and not (failed or still_open):
            raise UsageError(why_not)
        again = interventions.retry(connection, failed, who=who, now=now) if failed else {}
        if prepared is not None and missing.measurements:
            _add(connection, run_id, missing, prepared, now)
        _renew(connection, run_id, sweep, again=bool(again or missing.measurements), follow=follow, now=now)
        record(connection, "run", run_id, None, "resumed", who=who, why=None, now=now)
        announce(connection)
    farm.stands_on(prepared.ground if prepared is not None else farm.ground(), run_id)
    return Resumed(
        sweep_run_id=run_id,
        again=len(again),
        missing=len({item.case_key for item in missing.measurements}),
        still_open=still_open,
        changed=changed,
        why_not=why_not,
    )


def _cases(connection: Connection, run_id: int) -> set[str]:
    """Cases that the run has jobs for."""
    keys = select(jobs.c.case_key).where(jobs.c.sweep_run_id == run_id, jobs.c.kind.in_(_KINDS), jobs.c.side.is_(None))
    return {key for key in connection.execute(keys.distinct()).scalars() if key is not None}


def _to_try(connection: Connection, run_id: int) -> list[int]:
    """Measurements and evaluations that failed or were cancelled; what cannot be had is not tried again."""
    ids = connection.execute(
        select(jobs.c.id)
        .where(
            jobs.c.sweep_run_id == run_id,
            jobs.c.kind.in_(_KINDS),
            jobs.c.side.is_(None),
            jobs.c.state.in_(("failed", "cancelled")),
            func.coalesce(jobs.c.failure_code, "") != UNSUPPORTED,
            ~superseded(),
        )
        .order_by(jobs.c.position)
    )
    return list(ids.scalars())


def _still_open(connection: Connection, run_id: int) -> int:
    query = select(func.count()).where(jobs.c.sweep_run_id == run_id, jobs.c.state.in_(OPEN_JOB))
    return int(connection.execute(query).scalar_one())


def _of_the_same(made: Plan, matrix: Matrix, known: Collection[str]) -> tuple[Plan, tuple[str, ...]]:
    """A plan less the cases of models that are others by now: a run measures one program of each."""
    parents = {item.variant.key: item.variant.parent for item in matrix.plan.conversions}

    def root(key: str) -> str:
        while (parent := parents.get(key)) is not None:
            key = parent
        return key

    others = {item.case_key: item.task.model for item in made.measurements if root(item.variant.key) not in known}
    return without(made, set(others)), tuple(dict.fromkeys(others.values()))


def _add(connection: Connection, run_id: int, missing: Plan, prepared: Prepared, now: datetime) -> None:
    """Insert cells that the run has no job for."""
    row = connection.execute(select(sweep_runs.c.owner).where(sweep_runs.c.id == run_id)).one()
    there = standing(connection, {item.variant.key for item in missing.conversions})
    own = jobs.c.sweep_run_id == run_id
    last = connection.execute(select(func.max(jobs.c.position)).where(own)).scalar() or 0
    host = prepared.ground.fleet.this_host_id
    inserting = runs.Inserting(connection, run_id, prepared.matrix.request, there, row.owner, host, now)
    inserting.expect(missing.conversions, missing.measurements)
    inserting.conversions(missing.conversions, last + 1)
    before = connection.execute(select(func.max(jobs.c.id)).where(own)).scalar() or 0
    inserting.measurements(missing.measurements, last + 1 + len(missing.conversions), after=before)
    coverage.note_unsupported(connection, missing.unsupported_cells, run_id, now)


def _renew(connection: Connection, run_id: int, sweep: SweepFile, *, again: bool, follow: bool, now: datetime) -> None:
    """Its limits begin again; its new points are looked at; somebody waits for it, or it is worked on until done."""
    values: dict[str, Any] = runs.following(now) if follow else {"followed_until": None}
    if sweep.deadline_s is not None:
        values["deadline_at"] = now + timedelta(seconds=sweep.deadline_s)
    if sweep.budget_s is not None:
        values["budget_s"] = used_s(connection, run_id, now) + sweep.budget_s
    if again:
        values["screened_at"] = None
    connection.execute(update(sweep_runs).where(sweep_runs.c.id == run_id).values(**values))
    resting.wake(connection, run_id)
