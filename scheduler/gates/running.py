"""A gate that measures: two requests become one run of trials, and somebody waits for it."""

from __future__ import annotations

import getpass
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection, exists, or_, select, update

from device_registry.database import reading, writing
from device_registry.selectors import parse_selector
from device_registry.tables import utc_now
from scheduler import queue, runs
from scheduler.embedded import EmbeddedFarm, ExecutorName
from scheduler.farm import Ground, chosen_devices
from scheduler.gates import judging
from scheduler.gates.case import Gate
from scheduler.gates.pairing import GatePlan, Pair, gate_plan
from scheduler.gates.reading import read_evidence, trials
from scheduler.plan import plan
from scheduler.queue import sweep_runs
from scheduler.request import Request
from scheduler.states import OPEN_JOB, jobs, record
from scheduler.status import RunStatus
from scheduler.sweeps.budgets import enforce_budgets
from scheduler.trials import Template, Wanted, start_trial, step_trials
from scheduler.verdicts import LEAST_EFFECT, ROUNDS

PURPOSE: Final = "gate"


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a gate is asked for."""

    #: Each with one repeat: how often it is measured is a matter of its trial.
    baseline: Request
    candidate: Request
    least_effect: float = LEAST_EFFECT
    #: Processes on each side at most.
    most: int = ROUNDS[-1]
    #: What has not begun by then is given up, and judged by what there is; None: it takes as long as it takes.
    most_s: float | None = None


@dataclass(frozen=True)
class SubmittedGate:
    """What is waited for."""

    planned: GatePlan
    #: None: both sides are the same artifacts throughout, so there is nothing to measure.
    run_id: int | None
    resumed: bool = False


def submit_gate(farm: EmbeddedFarm, asked: Asked) -> SubmittedGate:
    """Plan both sides on the same devices, and insert their conversions; or take up what was interrupted.

    Trials begin once all conversions are done (`wait_for_gate`): processes of a side whose artifact stands sooner would
    run before all of the other's, and not in turns.

    Raises:
        UsageError: something named cannot be, or the two have no case in common.
    """
    parse_selector(asked.candidate.selector)  # before this host is looked at
    ground = farm.ground()
    planned = _planned(ground, asked)
    if not planned.measured:
        return SubmittedGate(planned, None)
    owner, now = asked.candidate.owner or getpass.getuser(), utc_now()
    with writing(farm.engine) as connection:
        left = _interrupted(connection, planned.digest, now)
        if left is not None:
            runs.follow(connection, left, now)
        run_id = left if left is not None else insert_gate(connection, planned, asked, ground, owner, now)
        until = None if asked.most_s is None else now + timedelta(seconds=asked.most_s)
        mine = update(sweep_runs).where(sweep_runs.c.id == run_id)
        connection.execute(mine.values(deadline_at=until))
    farm.stands_on(ground, run_id)
    return SubmittedGate(planned, run_id, resumed=left is not None)


def wait_for_gate(
    farm: EmbeddedFarm,
    submitted: SubmittedGate,
    asked: Asked,
    executor: ExecutorName,
    observe: Callable[[RunStatus], None],
    say: Callable[[str], None],
) -> None:
    """Work, or wait, until every trial of a gate is judged. As `EmbeddedFarm.work`.

    Raises:
        KeyboardInterrupt: the run was put to rest; the same request takes it up again.
    """
    run_id = submitted.run_id
    if run_id is None:
        return

    def more() -> bool:
        with writing(farm.engine) as connection:
            enforce_budgets(connection, utc_now())
            if not is_late(connection):
                start_trials(connection, submitted, asked, utc_now())
                step_trials(connection, utc_now())
                measure_on(connection, run_id, now=utc_now())
            step_trials(connection, utc_now())
            return _is_open(connection, run_id)

    def is_late(connection: Connection) -> bool:
        query = select(sweep_runs.c.deadline_at).where(sweep_runs.c.id == run_id)
        until = connection.execute(query).scalar()
        return until is not None and utc_now() >= until

    def look(status: RunStatus) -> None:
        with reading(farm.engine) as connection:
            late = is_late(connection)
        if late and not status.done:
            more()
        observe(status)

    farm.work(run_id, executor, look, say, more)


def read_gate(farm: EmbeddedFarm, submitted: SubmittedGate, asked: Asked, names: tuple[str, str]) -> Gate:
    """The answer; of what is not done yet, so far.

    Args:
        farm: where it ran.
        submitted: the gate.
        asked: what it was asked for.
        names: of baseline and candidate, as the user gave them.
    """
    planned = submitted.planned
    with reading(farm.engine) as connection:
        evidence, unsupported = read_evidence(connection, submitted.run_id, planned.pairs)
    return Gate(
        baseline=names[0],
        candidate=names[1],
        measured=True,
        run=submitted.run_id,
        least_effect=asked.least_effect,
        cases=judging.judged(evidence, least_effect=asked.least_effect),
        unpaired=(*planned.unpaired, *unsupported),
    )


def _planned(ground: Ground, asked: Asked) -> GatePlan:
    devices = chosen_devices(asked.candidate, ground.fleet.devices)
    online = [host.description for host in ground.fleet.hosts if host.presence == "online"]
    descriptions = online or [host.description for host in ground.fleet.hosts]
    baseline, candidate = (plan(side, devices, descriptions) for side in (asked.baseline, asked.candidate))
    return gate_plan(baseline, candidate, {"least_effect": asked.least_effect, "most": asked.most})


def _interrupted(connection: Connection, digest: str, now: datetime) -> int | None:
    """The latest run of the same gate that is not judged yet and that nobody waits for."""
    unjudged = exists().where(trials.c.sweep_run_id == sweep_runs.c.id, trials.c.state == "running")
    unmade = exists().where(jobs.c.sweep_run_id == sweep_runs.c.id, jobs.c.state.in_(OPEN_JOB))
    rows = connection.execute(
        select(sweep_runs)
        .where(sweep_runs.c.request_digest == digest, sweep_runs.c.purpose == PURPOSE, or_(unjudged, unmade))
        .order_by(sweep_runs.c.id.desc())
    )
    return next((int(row.id) for row in rows if runs.is_abandoned(row, now)), None)


def insert_gate(
    connection: Connection, planned: GatePlan, asked: Asked, ground: Ground, owner: str, now: datetime
) -> int:
    """Insert the run of a gate with its conversions; returns its number."""
    request, host_id = asked.candidate, ground.fleet.this_host_id
    both = replace(request, models=(*asked.baseline.models, *asked.candidate.models))
    submitted = runs.submit(
        connection, planned.conversions, both, ground.store, owner=owner, this_host_id=host_id, now=now
    )
    mine = update(sweep_runs).where(sweep_runs.c.id == submitted.sweep_run_id)
    connection.execute(mine.values(purpose=PURPOSE))
    return submitted.sweep_run_id


def start_trials(connection: Connection, submitted: SubmittedGate, asked: Asked, now: datetime) -> None:
    """Start the trials of a gate's run once nothing is left to convert: of those pairs whose artifacts stand."""
    run_id, pairs = submitted.run_id, submitted.planned.measured
    assert run_id is not None
    begun = exists().where(trials.c.sweep_run_id == run_id)
    unmade = exists().where(jobs.c.sweep_run_id == run_id, jobs.c.state.in_(OPEN_JOB))
    if connection.execute(select(or_(begun, unmade))).scalar():
        return
    keys = {side.variant.key for pair in pairs for side in (pair.baseline, pair.candidate)}
    standing = queue.standing(connection, keys)
    ready = [pair for pair in pairs if {pair.baseline.variant.key, pair.candidate.variant.key} <= standing]
    owner = connection.execute(select(sweep_runs.c.owner).where(sweep_runs.c.id == run_id)).scalar_one()
    inserting = runs.Inserting(connection, run_id, asked.candidate, standing, owner, None, now)
    inserting.expect([], [side for pair in ready for side in (pair.baseline, pair.candidate)])
    for pair in ready:
        start_trial(connection, _trial(inserting, pair, asked, owner), run_id, now=now)


def measure_on(connection: Connection, run_id: int, *, now: datetime) -> int:
    """Have trials go on whose answer might be luck among so many, once all are done; returns how many."""
    if _is_open(connection, run_id):
        return 0
    rows = connection.execute(
        select(trials.c.id, trials.c.wanted, trials.c.most, trials.c.adjusted_p)
        .where(trials.c.sweep_run_id == run_id, trials.c.state == "done", trials.c.answer.in_(("faster", "slower")))
        .where(trials.c.adjusted_p >= judging.FALSE_SHARE, trials.c.wanted < trials.c.most)
        .with_for_update()
    ).all()
    for row in rows:
        wanted = min(row.most, next((number for number in ROUNDS if number > row.wanted), row.most))
        again = update(trials).where(trials.c.id == row.id).values(state="running", wanted=wanted, ended_at=None)
        connection.execute(again)
        why = f"{wanted} + {wanted}: after adjustment for all cases of the gate p is {row.adjusted_p:.2g}"
        record(connection, "trial", row.id, "done", "running", who=PURPOSE, why=why, now=now)
    return len(rows)


def _trial(inserting: runs.Inserting, pair: Pair, asked: Asked, owner: str) -> Wanted:
    sides = []
    for item in (pair.baseline, pair.candidate):
        row = inserting.measurement(item)
        sides.append(
            Template(
                payload_id=row["payload_id"],
                needs_key=row["needs_key"],
                case_key=row["case_key"],
                duration_key=row["duration_key"],
                expected_s=row["expected_s"],
            )
        )
    return Wanted(
        purpose=PURPOSE,
        device_id=pair.device_id,
        title=pair.title,
        baseline=sides[0],
        candidate=sides[1],
        owner=owner,
        priority=asked.candidate.priority,
        processes=min(ROUNDS[0], asked.most),
        most=asked.most,
        effect=asked.least_effect,
    )


def _is_open(connection: Connection, run_id: int) -> bool:
    """Whether a trial of a run is not judged, or a job of it is not done."""
    trial = exists().where(trials.c.sweep_run_id == run_id, trials.c.state == "running")
    job = exists().where(jobs.c.sweep_run_id == run_id, jobs.c.state.in_(OPEN_JOB))
    return bool(connection.execute(select(or_(trial, job))).scalar())
