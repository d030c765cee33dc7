"""Trials that ended become tests: what each shows of its artifacts, and of its unit since the baseline's own time."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np
from sqlalchemy import Connection, Row, or_, select, update

from device_registry.database import one_of
from scheduler.ingest import results
from scheduler.points import points
from scheduler.queue import sweep_runs
from scheduler.regressions.attribution import Evidence, Shown, as_rows, history_test, shown_by
from scheduler.regressions.environments import Made, difference, made_by
from scheduler.regressions.levels import HistoryPoint, Level, level_of
from scheduler.regressions.looks import same_artifact, step_of
from scheduler.regressions.series_history import borders_of, histories, screenings, up_to, valid_processes
from scheduler.regressions.sigma import spread_sigma
from scheduler.states import attempts
from scheduler.trials import template_jobs, trials
from scheduler.trials.processes import TIMED, clocks_of
from scheduler.verdicts import LEAST_PROCESSES, Verdict

#: Trials that one step looks at: each is compared with its past, some milliseconds each.
_MOST_AT_ONCE = 16
#: Points of a level whose processes stand for it.
_MOST_THEN = 8


def judge_trials(connection: Connection, run_id: int, now: datetime) -> int:
    """Say what the trials of a run show that ended; returns how many were looked at.

    Args:
        connection: inside a transaction that writes, with the run's row locked.
        run_id: a watched run.
        now: the time.
    """
    rows = connection.execute(
        select(screenings, trials.c.state, trials.c.why.label("trial_why"))
        .outerjoin(trials, trials.c.id == screenings.c.trial_id)
        .where(
            screenings.c.sweep_run_id == run_id,
            screenings.c.tests.is_(None),
            or_(trials.c.state.in_(("done", "void")), screenings.c.conclusion == "void"),
        )
        .order_by(screenings.c.id)
        .limit(_MOST_AT_ONCE)
    ).all()
    ids = {row.series_id for row in rows}
    known, borders = histories(connection, ids), borders_of(connection, ids)
    for row in rows:
        history = up_to(known[row.series_id], row.point_id)
        level, step = _left(row, history, borders[row.series_id])
        values: dict[str, Any] = {}
        if row.state == "done":
            trial = connection.execute(select(trials).where(trials.c.id == row.trial_id)).one()
            tests = _tests(connection, trial, level, step, history)
        else:
            values = {"conclusion": "void", "why": row.why or f"its trial came to nothing: {row.trial_why}"}
            tests = []
            if step is not None and step > 0:
                tests = [history_test(step, f"only the history shows it: {values['why']}")]
        connection.execute(update(screenings).where(screenings.c.id == row.id).values(tests=as_rows(tests), **values))
    return len(rows)


def _left(row: Row[Any], history: Sequence[HistoryPoint], borders: Mapping[int, float]) -> tuple[Level, float | None]:
    """The level that a screening suspects to have been left, and by how much, where the history shows it."""
    if row.found_by != "history":
        return level_of(history[:-1], borders), None
    level = level_of(history, borders)
    return level.before or level, step_of(level)


def _tests(
    connection: Connection, trial: Row[Any], level: Level, step: float | None, history: Sequence[HistoryPoint]
) -> list[Shown]:
    point_ids = [trial.baseline_point_id, trial.candidate_point_id]
    template = template_jobs(connection, point_ids)
    baseline, candidate = (
        made_by(connection, template[one]) if one in template else Made.unknown() for one in point_ids
    )
    alike = trial.baseline_key == trial.candidate_key or _same_bytes(history, *point_ids)
    now = [value for value, _ in trial.baseline_values]
    if alike:
        now += [value for value, _ in trial.candidate_values]
    values = np.array(level.values)
    environment = difference(baseline.environment, candidate.environment)
    conversion = difference(baseline.conversion, candidate.conversion)
    then, same = _then(connection, trial.baseline_point_id, level, whole=bool(environment))
    return shown_by(
        Evidence(
            answer=None if alike else _verdict(trial),
            then=then,
            now=now,
            same_artifact_then=same,
            noise=spread_sigma(values) / abs(float(np.median(values))) if len(values) else 0.0,
            step=step,
            clock_differs=trial.clock_agrees is False,
            clocks=_clocks(connection, trial, level),
            environment=[_changed(*one) for one in environment.items()],
            conversion=[_changed(*one) for one in conversion.items()],
            other_model=_other_model(connection, trial, baseline, candidate),
        )
    )


def _then(connection: Connection, baseline_id: int, level: Level, *, whole: bool) -> tuple[list[float], bool]:
    """Processes of the baseline's artifact up to its point, as they would read today; of its level where they are few.

    Of several points, for a night is not like the other. `whole`: of all artifacts of the level, so that there are.
    """
    number = next((at for at, point in enumerate(level.points) if point.id == baseline_id), None)
    if number is None:  # what is explained changed meanwhile: its own processes, as they were
        return valid_processes(connection, [baseline_id]).get(baseline_id, []), True
    # What is explained since the baseline's own point is no part of how it was.
    upto = [
        (point, factor / level.factors[number])
        for point, factor in zip(level.points[: number + 1], level.factors[: number + 1], strict=True)
    ]
    own = [one for one in upto if same_artifact(one[0], level.points[number]) or one[0].id == baseline_id]
    kept = valid_processes(connection, [point.id for point, _ in upto[-_MOST_THEN:] + own[-_MOST_THEN:]])

    def processes(of: Sequence[tuple[HistoryPoint, float]]) -> list[float]:
        return [value * factor for point, factor in of[-_MOST_THEN:] for value in kept.get(point.id, ())]

    if not whole and len(mine := processes(own)) >= LEAST_PROCESSES:
        return mine, True
    return processes(upto), False


def _clocks(connection: Connection, trial: Row[Any], level: Level) -> tuple[float, float] | None:
    """Median clock of a unit at its level and in a trial; None where either is not known."""
    now = [clock for _, clock in (*trial.baseline_values, *trial.candidate_values) if clock]
    if not now:
        return None
    query = (
        select(*TIMED)
        .join(attempts, attempts.c.id == results.c.attempt_id)
        .where(
            one_of(results.c.sweep_run_id, [point.run_id for point in level.points[-_MOST_THEN:]]),
            one_of(
                results.c.artifact_sha256, {point.artifact for point in level.points[-_MOST_THEN:] if point.artifact}
            ),
            results.c.device_id == trial.device_id,
            results.c.verdict == "valid",
            results.c.stale.is_(False),
        )
    )
    then = clocks_of(connection, connection.execute(query).all()).values()
    return (statistics.median(then), statistics.median(now)) if then else None


def _same_bytes(history: Sequence[HistoryPoint], *point_ids: int) -> bool:
    found = {point.id: point for point in history}
    one, other = (found.get(point_id) for point_id in point_ids)
    return one is not None and other is not None and same_artifact(one, other)


def _verdict(trial: Row[Any]) -> Verdict:
    counts = (len(trial.baseline_values), len(trial.candidate_values))
    interval = None if trial.ratio_low is None else (trial.ratio_low, trial.ratio_high)
    return Verdict(
        answer=trial.answer,
        ratio=trial.ratio,
        interval=interval,
        p=trial.p,
        processes=counts,
        not_alternated=trial.not_alternated,
        why=trial.why or "",
    )


def _other_model(connection: Connection, trial: Row[Any], baseline: Made, candidate: Made) -> bool | None:
    """Whether the model itself changed: by the program that artifacts are made from, else by the runs' revisions."""
    if baseline.program_key is not None and baseline.program_key == candidate.program_key:
        return False
    query = (
        select(points.c.id, sweep_runs.c.revision)
        .join(sweep_runs, sweep_runs.c.id == points.c.sweep_run_id)
        .where(one_of(points.c.id, [trial.baseline_point_id, trial.candidate_point_id]))
    )
    revisions = {row.id: row.revision for row in connection.execute(query)}
    before, after = revisions.get(trial.baseline_point_id), revisions.get(trial.candidate_point_id)
    return None if before is None or after is None else before != after


def _changed(name: str, values: Sequence[str | None]) -> str:
    before, after = values
    return f"{name} ({before or 'none'} -> {after or 'none'})"
