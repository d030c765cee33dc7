"""From a sweep to a run: planned on the farm, less what is fresh or beyond its budget, inserted in one transaction."""

from __future__ import annotations

import getpass
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from device_registry.database import reading, writing
from device_registry.tables import utc_now
from scheduler import runs
from scheduler.farm import Farm, Ground
from scheduler.offers import slot_count
from scheduler.plan import Plan
from scheduler.runs import Origin
from scheduler.sweeps.baselines import baseline_run
from scheduler.sweeps.evaluated import known_evaluated
from scheduler.sweeps.expected import CaseTime, Expected, case_times, expected
from scheduler.sweeps.file import SweepFile
from scheduler.sweeps.fresh import LatestPoint, known_unsupported, latest_points
from scheduler.sweeps.matrix import Absent, Matrix, matrix_of, prune
from scheduler.sweeps.submission import Submission


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A sweep as it would be submitted now."""

    sweep: SweepFile
    submission: Submission
    ground: Ground
    matrix: Matrix
    #: The last valid point of each case that has one, by case key.
    points: Mapping[str, LatestPoint]
    #: What would be inserted.
    plan: Plan
    #: Keys of cases that are not run again; and of those that the budget has no room for.
    fresh: frozenset[str]
    left_out: tuple[str, ...]
    #: What the plan takes with what is left out, and the times of all cases that are not fresh.
    expected: Expected
    times: Mapping[str, CaseTime]
    #: The run of its baseline.
    baseline_run_id: int | None
    now: datetime

    @property
    def wanted_s(self) -> float:
        """Device seconds of all that is not fresh."""
        return sum(time.device_s for time in self.times.values())

    def measured(self, keys: Collection[str]) -> int:
        """How many of these cases are measurements; the others are evaluations of the same."""
        cases = self.matrix.cases
        return sum(cases[key].kind == "measure" for key in keys)

    @property
    def left_out_names(self) -> list[str]:
        """What the budget has no room for, as people read it."""
        cases = self.matrix.cases
        titles = [(cases[key].task, cases[key].where) for key in self.left_out]
        return [f"{task.model} on {task.runtime} {task.recipe}, {where or 'any device'}" for task, where in titles]

    @property
    def within_budget(self) -> bool:
        """Whether all that is not fresh fits the budget."""
        return self.sweep.budget_s is None or self.wanted_s <= self.sweep.budget_s


@dataclass(frozen=True, kw_only=True)
class SweepSubmitted:
    """What submitting a sweep did."""

    #: None: everything is fresh, and nothing was inserted.
    sweep_run_id: int | None
    #: An interrupted run of the same sweep was taken up.
    resumed: bool = False
    #: Conversions whose artifact stands already.
    reused: int = 0
    #: Cases that are measured, that are evaluated, that are fresh, and that the budget has no room for.
    cases: int
    evaluations: int = 0
    fresh: int
    left_out: int
    absent: Sequence[Absent] = ()


def prepare(
    farm: Farm,
    sweep: SweepFile,
    submission: Submission,
    now: datetime | None = None,
    *,
    without_cases: Collection[str] = (),
    ground: Ground | None = None,
) -> Prepared:
    """Plan a sweep on a farm; nothing is inserted.

    Args:
        farm: where it would run.
        sweep: what is wanted.
        submission: what does not stand in its file.
        now: the time; default: the clock's.
        without_cases: keys of cases that are no matter here.
        ground: what it is planned on; default: what the farm is now.

    Raises:
        UsageError: something that it names cannot be.
    """
    submission.check()
    now = now or utc_now()
    ground = ground or farm.ground()
    matrix = matrix_of(sweep, ground.fleet.devices, ground.descriptions, submission)
    if without_cases:
        matrix.plan = without(matrix.plan, without_cases)
    own = sweep.name if submission.own_points else None
    with reading(farm.engine) as connection:
        baseline = baseline_run(connection, sweep) if submission.schedule is None else None
        found = latest_points(
            connection,
            matrix,
            stale_after_s=sweep.stale_after_s,
            revision=submission.revision,
            build=submission.build,
            now=now,
            sweep=own,
        )
        fresh: frozenset[str] = frozenset()
        if submission.fresh_only:
            fresh = known_unsupported(connection, matrix, stale_after_s=sweep.stale_after_s, now=now, sweep=own)
            fresh |= {key for key, point in found.items() if point.stale is None}
            fresh |= known_evaluated(
                connection, matrix, stale_after_s=sweep.stale_after_s, revision=submission.revision, now=now
            )
        wanted = without(matrix.plan, fresh)
        times = case_times(connection, wanted.measurements)
        left_out = _beyond(sweep.budget_s, times, found) if submission.trim else ()
        if times and len(left_out) == len(times):
            raise sweep.wrong("no case fits the budget", "budget", "device_minutes")
        made = without(wanted, {*left_out})
        will_take = expected(connection, made, matrix.devices, _slots(ground), now)
    return Prepared(
        sweep=sweep,
        submission=submission,
        ground=ground,
        matrix=matrix,
        points=found,
        plan=made,
        fresh=fresh,
        left_out=left_out,
        expected=will_take,
        times=times,
        baseline_run_id=baseline,
        now=now,
    )


def submit_sweep(
    farm: Farm,
    sweep: SweepFile,
    submission: Submission,
    *,
    follow: bool,
    within: Callable[[Connection], None] = lambda _: None,
    now: datetime | None = None,
) -> SweepSubmitted:
    """Plan a sweep, and insert its run.

    Args:
        farm: where it runs.
        sweep: what is wanted.
        submission: what does not stand in its file.
        follow: whether the caller waits, and the run may rest when it does so no more.
        within: called first inside the transaction that inserts the run; what it raises passes through.
        now: the time; default: the clock's.

    Raises:
        UsageError: something that it names cannot be, or it is larger than its budget.
        AlreadySubmittedError: that due time has its run.
    """
    return insert_prepared(farm, prepare(farm, sweep, submission, now), follow=follow, within=within)


def insert_prepared(
    farm: Farm, prepared: Prepared, *, follow: bool, within: Callable[[Connection], None] = lambda _: None
) -> SweepSubmitted:
    """Insert the run of a sweep that was prepared just now; arguments and errors as `submit_sweep`."""
    sweep, submission, now = prepared.sweep, prepared.submission, prepared.now
    if not prepared.within_budget and not submission.trim:
        raise sweep.wrong(over_budget(prepared), "budget", "device_minutes")
    told: dict[str, Any] = {
        "cases": prepared.measured(prepared.times) - prepared.measured(prepared.left_out),
        "evaluations": sum(item.kind == "evaluate" for item in prepared.plan.measurements),
        "fresh": prepared.measured(prepared.fresh),
        "left_out": len(prepared.left_out),
        "absent": prepared.matrix.absent,
    }
    if not prepared.plan.measurements and submission.schedule is None:
        return SweepSubmitted(sweep_run_id=None, **told)
    prepared.plan.arrange()
    origin = Origin(
        sweep=sweep.name,
        watched=submission.watched,
        schedule=submission.schedule,
        due_at=submission.due_at,
        revision=submission.revision,
        build=dict(submission.build) if submission.build else None,
        deadline_at=now + timedelta(seconds=sweep.deadline_s) if sweep.deadline_s is not None else None,
        budget_s=sweep.budget_s,
    )
    with writing(farm.engine) as connection:
        within(connection)
        submitted = runs.submit(
            connection,
            prepared.plan,
            prepared.matrix.request,
            prepared.ground.store,
            owner=submission.owner or getpass.getuser(),
            this_host_id=prepared.ground.fleet.this_host_id,
            now=now,
            follow=follow,
            origin=origin,
        )
    farm.stands_on(prepared.ground, submitted.sweep_run_id)
    return SweepSubmitted(
        sweep_run_id=submitted.sweep_run_id,
        resumed=submitted.resumed,
        reused=submitted.reused,
        **told,
    )


def over_budget(prepared: Prepared) -> str:
    """Why a sweep does not fit its budget, and how much of it does."""
    budget_s = prepared.sweep.budget_s
    assert budget_s is not None
    out = _beyond(budget_s, prepared.times, prepared.points)
    fitting, every = len(prepared.times) - len(out), len(prepared.times)
    takes = f"its {every} case{'s take' if every != 1 else ' takes'} about {prepared.wanted_s / 60:.1f} device minutes"
    fits = f"{fitting} of them fit, which --trim runs" if fitting else "none of them fits"
    return f"{takes}, and the budget is {budget_s / 60:g}: {fits}"


def without(made: Plan, cases: Collection[str]) -> Plan:
    """A plan less some cases, and the conversions that only they need."""
    left = [item for item in made.measurements if item.case_key not in cases]
    part = replace(made, measurements=left, conversions=[*made.conversions])
    if cases:
        prune(part)
    return part


def _beyond(
    budget_s: float | None, times: Mapping[str, CaseTime], points: Mapping[str, LatestPoint]
) -> tuple[str, ...]:
    """Cases that a budget has no room for, in the order of the file.

    Those go first that have no valid point, then those whose last is the oldest, so that over some runs each has its
    turn; else as they stand in the file. One that is too large leaves its room to the next.
    """
    if budget_s is None:
        return ()
    left_s, out = budget_s, set()
    for key in sorted(times, key=lambda key: points[key].at.timestamp() if key in points else 0.0):  # stable
        if times[key].device_s <= left_s:
            left_s -= times[key].device_s
        else:
            out.add(key)
    return tuple(key for key in times if key in out)


def _slots(ground: Ground) -> int:
    """Conversions that its hosts make at once."""
    return sum(slot_count(one["cpu_count"], one.get("memory_bytes", 0)) for one in ground.descriptions)
