"""A run is concluded: all that its trials show looked at together, incidents opened and closed, the digest told."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

import numpy as np
from sqlalchemy import Connection, Row, func, select, update

from device_registry.database import one_of
from scheduler.notifications.outbox import tell_digest
from scheduler.points import points
from scheduler.queue import sweep_runs
from scheduler.regressions.attribution import LASTING_NIGHTS, Shown, as_rows, believed, read_rows, sure, together
from scheduler.regressions.dating import date_step
from scheduler.regressions.environments import CONVERSION, Made, difference, made_by
from scheduler.regressions.grouping import Finding, Steady, group, with_lone_units
from scheduler.regressions.incidents import IS_UNRESOLVED, incident_series, incidents, open_or_join
from scheduler.regressions.levels import level_of
from scheduler.regressions.recovering import recover
from scheduler.regressions.series_history import SeriesFacts, borders_of, facts_of, histories, screenings, up_to
from scheduler.regressions.sigma import spread_sigma
from scheduler.states import record
from scheduler.trials import template_jobs, trials
from scheduler.trials.answers import ruled_out

#: A trial whose device does not come to it holds up the others of its run for so long.
_LONGEST_WAIT: Final = timedelta(hours=36)
#: Fewer series of a class in a new environment are no majority.
_FEW: Final = 3


def waits_for_trials(connection: Connection, run_id: int, now: datetime) -> bool:
    """Whether trials of a run still go on, or have ended and were not looked at."""
    query = (
        select(trials.c.state, trials.c.created_at)
        .join(screenings, screenings.c.trial_id == trials.c.id)
        .where(screenings.c.sweep_run_id == run_id, screenings.c.tests.is_(None))
    )
    return any(
        row.state != "running" or row.created_at > now - _LONGEST_WAIT for row in connection.execute(query).all()
    )


def conclude(connection: Connection, run: Row[Any], now: datetime) -> None:
    """Conclude a run: what of its suspicions holds, and what is an incident.

    Args:
        connection: inside a transaction that writes, with the run's row locked.
        run: its row; all of it was screened, and its trials are over.
        now: the time.
    """
    rows = connection.execute(
        select(screenings).where(screenings.c.sweep_run_id == run.id).order_by(screenings.c.id)
    ).all()
    facts = facts_of(connection, {row.series_id for row in rows})
    tested = [(row, test) for row in rows for test in read_rows(row.tests or [])]
    holding: dict[int, list[Shown]] = {}
    for (row, test), holds in zip(tested, sure([test for _, test in tested]), strict=True):
        if holds:
            holding.setdefault(row.id, []).append(test)
    felt = _felt_by_most(rows, holding, facts)
    before = _tests_before(connection, run, [row.series_id for row in rows if row.id in holding])
    findings: list[Finding] = []
    for row in rows:
        if row.tests is None:
            if row.trial_id is not None:
                _conclude(connection, row, "void", "its trial had not ended when the run was concluded")
            continue
        held = believed(
            holding.get(row.id, []),
            history=row.found_by == "history",
            epoch=row.outcome == "new_epoch" and _place(facts[row.series_id]) in felt,
            lasting=before.get(row.series_id, ()),
        )
        if held:
            findings += _confirm(connection, row, held, facts[row.series_id])
        elif row.conclusion is None:
            tests = read_rows(row.tests)
            futile = row.trial_id is not None and _is_ruled_out(connection, row.trial_id)
            _conclude(connection, row, *_nothing(tests, row.id in holding, row.found_by == "sibling", futile))
    judged = with_lone_units(findings, _steady(connection, rows, facts))
    for members in group(judged):
        open_or_join(connection, members, facts, run, now)
    recover(connection, run, now)
    connection.execute(update(sweep_runs).where(sweep_runs.c.id == run.id).values(screened_at=now))
    record(connection, "run", run.id, None, "screened", who="watch", why=None, now=now)
    tell_digest(connection, run.id, now)


def _place(facts: SeriesFacts) -> Any:
    """Whose environment a series has: that of its class of units, or of the one unit."""
    return facts.device_class if facts.device_class is not None else facts.device_id


def _felt_by_most(
    rows: Sequence[Row[Any]], holding: Mapping[int, Sequence[Shown]], facts: Mapping[int, SeriesFacts]
) -> set[Any]:
    """Classes of units in a new environment most of whose series changed with it. Of one or two, each speaks alone."""
    all_of: Counter[Any] = Counter()
    moved: Counter[Any] = Counter()
    for row in rows:
        if row.outcome == "new_epoch":
            place = _place(facts[row.series_id])
            all_of[place] += 1
            moved[place] += any(test.kind == "unit" for test in holding.get(row.id, ()))
    return {place for place, count in all_of.items() if count < _FEW or 2 * moved[place] >= count}


def _tests_before(connection: Connection, run: Row[Any], series_ids: Sequence[int]) -> dict[int, list[list[Shown]]]:
    """What the trials of the runs before showed of these series, those of the latest first."""
    number = func.row_number().over(partition_by=screenings.c.series_id, order_by=screenings.c.sweep_run_id.desc())
    last = (
        select(screenings.c.series_id, screenings.c.tests, number.label("number"))
        .where(
            one_of(screenings.c.series_id, series_ids),
            screenings.c.sweep_run_id < run.id,
            screenings.c.outcome.not_in(("invalid", "missing")),
        )
        .subquery()
    )
    found: dict[int, list[list[Shown]]] = {}
    for row in connection.execute(
        select(last).where(last.c.number < LASTING_NIGHTS).order_by(last.c.series_id, last.c.number)
    ):
        found.setdefault(row.series_id, []).append(read_rows(row.tests or []))
    return found


def _is_ruled_out(connection: Connection, trial_id: int) -> bool:
    """Whether a trial told that what was suspected is not there, though maybe something smaller is."""
    query = select(trials.c.answer, trials.c.ratio_low, trials.c.ratio_high, trials.c.suspected)
    row = connection.execute(query.where(trials.c.id == trial_id)).one()
    interval = None if row.ratio_low is None else (row.ratio_low, row.ratio_high)
    return row.answer == "inconclusive" and ruled_out(interval, row.suspected) is not None


def _nothing(tests: Sequence[Shown], held: bool, sibling: bool, futile: bool) -> tuple[str, str]:
    """What a trial came to that confirms nothing.

    Args:
        tests: what it showed.
        held: it showed a change that is not believed yet.
        sibling: it was made for the sake of another series of the model.
        futile: what was suspected is ruled out.
    """
    if held:
        return "passing", "the unit itself was off its old level: one night is a spell, the third in a row is told"
    if any(test.answer in ("slower", "faster") for test in tests):
        return "unconfirmed", "it does not hold beside the other trials of its run (Benjamini-Hochberg at 5 %)"
    if sibling and (futile or any((test.kind, test.answer) == ("artifacts", "same") for test in tests)):
        return "steady", "what another series of its model showed is not there, as its trial tells"
    if futile:
        return "passing", "in the trial what was suspected is ruled out: a passing spell"
    if any(test.answer == "inconclusive" for test in tests) or not tests:
        return "inconclusive", "the trial told neither a change nor that there is none"
    return "passing", "in the trial it was back at its old level: a passing spell"


def _confirm(connection: Connection, row: Row[Any], held: Sequence[Shown], facts: SeriesFacts) -> list[Finding]:
    """Note what is confirmed of a series; returns what became slower and no incident covers yet."""
    baseline_id, step_id = row.baseline_point_id, row.step_point_id
    trial = None
    if row.trial_id is not None:
        trial = connection.execute(select(trials).where(trials.c.id == row.trial_id)).one()
        baseline_id = trial.baseline_point_id
    elif row.baseline_point_id is None:
        return []
    change = together([test.change for test in held if test.change is not None])
    good_id = baseline_id
    bad_id = step_id
    by_artifacts = next((test.change for test in held if test.kind == "artifacts"), None)
    if by_artifacts is not None:
        good_id, step_id, bad_id = _dated(connection, row, baseline_id, by_artifacts, any_night=False)
    elif trial is not None and row.outcome != "new_epoch":
        good_id, step_id, bad_id = _dated(connection, row, baseline_id, change, any_night=True)
    said = "; ".join(f"{test.change or 0.0:+.1%}: {test.why}" for test in held)
    covered = _is_covered(connection, row, baseline_id, change)
    tests = as_rows([replace(test, held=test in held) for test in read_rows(row.tests)])
    confirmed = None if covered else change
    _conclude(connection, row, "confirmed", said, confirmed=confirmed, step_point_id=step_id, tests=tests)
    slower = [test for test in held if test.answer == "slower" and test.change is not None]
    if covered or not slower:
        return []
    before, after = _made(connection, baseline_id, row.point_id)
    changed = difference(before.environment, after.environment)
    changed |= {CONVERSION + name: values for name, values in difference(before.conversion, after.conversion).items()}
    revisions = _revisions(connection, (good_id, bad_id))
    return [
        Finding(
            series_id=row.series_id,
            device_id=facts.device_id,
            device_class=facts.device_class,
            case_key=facts.case_key,
            model=facts.model,
            cause=test.cause,
            why=test.why,
            change=test.change or 0.0,
            low=test.low,
            high=test.high,
            found_by="history" if test.kind == "history" else "trial",
            trial_id=row.trial_id,
            baseline_point_id=good_id,
            candidate_point_id=step_id,
            environment=tuple((name, before, after) for name, (before, after) in sorted(changed.items())),
            revision_good=revisions.get(good_id),
            revision_bad=revisions.get(bad_id),
        )
        for test in slower
    ]


def _dated(
    connection: Connection, row: Row[Any], baseline_id: int, change: float, *, any_night: bool
) -> tuple[int, int, int]:
    """Points: the last surely good one after a baseline, the likeliest first bad one, the last that may be it.

    `any_night`: no artifact brought the step.
    """
    ids = [row.series_id]
    history = up_to(histories(connection, ids)[row.series_id], row.point_id)
    numbers = {point.id: number for number, point in enumerate(history)}
    if (start := numbers.get(baseline_id)) is None:
        return baseline_id, row.step_point_id, row.step_point_id
    old = level_of(history[: start + 1], borders_of(connection, ids)[row.series_id])
    between = [point for point in history[start:] if point.valid]
    if len(between) < 2 or not old.values:
        return baseline_id, row.step_point_id, row.step_point_id
    was = statistics.median(old.values)
    noise = spread_sigma(np.array(old.values)) / was
    values, artifacts = [point.value for point in between], [None if any_night else point.artifact for point in between]
    dated = date_step(values, artifacts, was, change, max(noise, row.noise or 0.0))
    return between[dated.good].id, between[dated.step].id, between[dated.bad].id


def _is_covered(connection: Connection, row: Row[Any], baseline_id: int, change: float) -> bool:
    """Whether a step between the two points is known already: another run's trial told of the same."""
    step = points.alias("step")
    bounds = connection.execute(
        select(points.c.id, points.c.at).where(one_of(points.c.id, [baseline_id, row.point_id]))
    )
    at = {one.id: one.at for one in bounds}
    between = (step.c.at > at[baseline_id], step.c.at <= at[row.point_id])
    confirmed = (
        select(screenings.c.id)
        .join(step, step.c.id == screenings.c.step_point_id)
        .where(
            screenings.c.series_id == row.series_id,
            screenings.c.id != row.id,
            screenings.c.confirmed > 0 if change > 0 else screenings.c.confirmed < 0,
            *between,
        )
    )
    if connection.execute(confirmed.limit(1)).first() is not None:
        return True
    query = (
        select(incident_series.c.id)
        .join(step, step.c.id == incident_series.c.candidate_point_id)
        .where(incident_series.c.series_id == row.series_id, *between)
    )
    return connection.execute(query.limit(1)).first() is not None


def _conclude(connection: Connection, row: Row[Any], conclusion: str, why: str, **values: Any) -> None:
    connection.execute(
        update(screenings).where(screenings.c.id == row.id).values(conclusion=conclusion, why=why, **values)
    )


def _steady(connection: Connection, rows: Sequence[Row[Any]], facts: Mapping[int, SeriesFacts]) -> list[Steady]:
    """Series that were found well; not those that are steady at the level of an incident that is not resolved."""
    ids = [row.series_id for row in rows]
    query = (
        select(incident_series.c.series_id)
        .join(incidents, incidents.c.id == incident_series.c.incident_id)
        .where(IS_UNRESOLVED, one_of(incident_series.c.series_id, ids))
    )
    slower = set(connection.execute(query).scalars())
    return [
        Steady(
            device_id=facts[row.series_id].device_id,
            device_class=facts[row.series_id].device_class,
            case_key=facts[row.series_id].case_key,
            change=row.effect,
            noise=row.noise,
        )
        for row in rows
        if row.conclusion == "steady"
        and row.trial_id is None
        and row.series_id not in slower
        and row.effect is not None
        and row.noise is not None
    ]


def _made(connection: Connection, *point_ids: int) -> list[Made]:
    template = template_jobs(connection, point_ids)
    return [made_by(connection, template[one]) if one in template else Made.unknown() for one in point_ids]


def _revisions(connection: Connection, point_ids: Sequence[int]) -> dict[int, str | None]:
    query = (
        select(points.c.id, sweep_runs.c.revision)
        .join(sweep_runs, sweep_runs.c.id == points.c.sweep_run_id)
        .where(one_of(points.c.id, point_ids))
    )
    return {row.id: row.revision for row in connection.execute(query)}
