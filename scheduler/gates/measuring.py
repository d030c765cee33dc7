"""The trials of a gate's run: begun together, and measured on where their answers leave a doubt."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, exists, or_, select, update

from device_registry.database import one_of
from scheduler import queue, runs
from scheduler.gates import judging
from scheduler.gates.pairing import GatePlan, Pair
from scheduler.gates.reading import trials
from scheduler.queue import sweep_runs
from scheduler.request import Request
from scheduler.states import OPEN_JOB, jobs, record
from scheduler.trials import Template, Wanted, start_trial
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
    # Conversions that another run's command began sooner: ours from now on, or nothing of this run would be open, and
    # whoever dispatches for it would do no more.
    theirs = (one_of(jobs.c.makes_key, keys - standing), jobs.c.state.in_(OPEN_JOB))
    taken = connection.execute(update(jobs).where(*theirs).values(sweep_run_id=run_id).returning(jobs.c.id)).all()
    if taken:
        return
    ready = [pair for pair in pairs if {pair.baseline.variant.key, pair.candidate.variant.key} <= standing]
    owner = connection.execute(select(sweep_runs.c.owner).where(sweep_runs.c.id == run_id)).scalar_one()
    inserting = runs.Inserting(connection, run_id, asked.candidate, standing, owner, None, now)
    inserting.expect([], [side for pair in ready for side in (pair.baseline, pair.candidate)])
    for pair in ready:
        start_trial(connection, _trial(inserting, pair, asked, owner), run_id, now=now)


def measure_on(connection: Connection, run_id: int, *, now: datetime) -> int:
    """Have trials go on whose answer might be luck among so many, once all are done; returns how many."""
    if is_open(connection, run_id):
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


def is_open(connection: Connection, run_id: int) -> bool:
    """Whether a trial of a run is not judged, or a job of it is not done."""
    trial = exists().where(trials.c.sweep_run_id == run_id, trials.c.state == "running")
    job = exists().where(jobs.c.sweep_run_id == run_id, jobs.c.state.in_(OPEN_JOB))
    return bool(connection.execute(select(or_(trial, job))).scalar())
