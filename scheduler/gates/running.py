"""A gate that measures: two requests become one run of trials, and somebody waits for it."""

from __future__ import annotations

import getpass
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

from sqlalchemy import Connection, exists, or_, select, update

from device_registry.database import reading, writing
from device_registry.selectors import parse_selector
from device_registry.tables import utc_now
from scheduler import runs
from scheduler.embedded import EmbeddedFarm, ExecutorName
from scheduler.farm import Ground, chosen_devices
from scheduler.gates import judging
from scheduler.gates.case import Gate
from scheduler.gates.measuring import PURPOSE, Asked, SubmittedGate, is_open, measure_on, start_trials
from scheduler.gates.pairing import GatePlan, gate_plan
from scheduler.gates.reading import read_evidence, trials
from scheduler.plan import plan
from scheduler.queue import sweep_runs
from scheduler.states import OPEN_JOB, jobs
from scheduler.status import RunStatus
from scheduler.sweeps.budgets import enforce_budgets
from scheduler.trials import step_trials


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
            return is_open(connection, run_id)

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
