"""What one series shows of a model's new artifact, its other series are tried for at once, worse or mended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Row, func, select, update

from device_registry.database import one_of
from scheduler.points import points
from scheduler.regressions.attribution import read_rows, sure
from scheduler.regressions.incidents import IS_UNRESOLVED, incident_series, incidents
from scheduler.regressions.levels import Borders, HistoryPoint
from scheduler.regressions.looks import Suspicion, same_artifact
from scheduler.regressions.screening import confirm
from scheduler.regressions.series_history import (
    SeriesFacts,
    borders_of,
    facts_of,
    histories,
    screenings,
    settled_of,
    up_to,
)
from scheduler.trials import trials
from scheduler.verdicts import ROUNDS

#: Of a run, and of one device in it: the rest has its turn on the next nights. The most suspicious come first.
MOST_PER_RUN: Final = 100
MOST_PER_DEVICE: Final = 10
#: Trials that one step starts: its transaction must be short.
_MOST_AT_ONCE = 32
#: A series that was tried in vain for its model's sake is left alone for so many runs.
_REST: Final = 5
#: A trial tells of others tonight only if it is so sure: of many trials some are misled. An incident does in any case.
_SURE_P: Final = 0.001


@dataclass(frozen=True, kw_only=True)
class Lead:
    """What a trial told of a model's artifacts."""

    model: str
    #: Artifacts up to this run are the ones before.
    run_id: int
    change: float
    #: Who was tried for it since this run is not tried again; None: told tonight.
    since: int | None = None


@dataclass(frozen=True, kw_only=True)
class Slow:
    """A series of an incident of code that is not back."""

    #: A point whose artifact a trial found slow.
    point_id: int
    change: float


def try_siblings(connection: Connection, run: Row[Any], now: datetime) -> int:
    """Start the trials that tonight's answers and the standing incidents of code suggest; returns how many.

    Where a model became slower on one series, all its others, that are in no incident of it, are tried. Where one
    series of an incident is faster again, the others of it are.

    Args:
        connection: inside a transaction that writes, with the run's row locked.
        run: a watched run that was screened; its trials are over.
        now: the time.
    """
    rows = connection.execute(
        select(screenings).where(screenings.c.sweep_run_id == run.id).order_by(screenings.c.id)
    ).all()
    slow = _slow_series(connection)
    leads = _tonight(connection, rows) + _standing(connection, run)
    if not leads:
        return 0
    facts = facts_of(connection, {row.series_id for row in rows})
    started = Counter(facts[row.series_id].device_id for row in rows if row.found_by == "sibling")
    models = {one.model for one in leads}
    free = [
        row
        for row in rows
        if facts[row.series_id].model in models
        and row.trial_id is None
        and row.found_by != "sibling"
        and row.outcome not in ("invalid", "missing", "new_epoch")
        and row.conclusion != "void"
    ]
    tried, resting = _tried(connection, [row.series_id for row in free], run.id)
    free = [row for row in free if row.series_id not in resting]
    ids = [row.series_id for row in free]
    known, borders, settled = histories(connection, ids), borders_of(connection, ids), settled_of(connection, ids)
    done = 0
    for row in sorted(free, key=lambda one: (-abs(one.z or 0.0), one.id)):
        mine = facts[row.series_id]
        if done == _MOST_AT_ONCE or started.total() >= MOST_PER_RUN:
            break
        if started[mine.device_id] >= MOST_PER_DEVICE:
            continue
        history = up_to(known[row.series_id], row.point_id)
        explained = {**borders[row.series_id], **dict.fromkeys(settled[row.series_id], 1.0)}
        suspicion = next(
            (
                found
                for lead in leads
                if lead.model == mine.model
                and (lead.since is None or tried.get(row.series_id, -1) < lead.since)
                and (found := sibling_of(history, explained, lead, slow.get(row.series_id))) is not None
            ),
            None,
        )
        if suspicion is not None:
            _start(connection, run.id, mine, row, suspicion, now)
            started[mine.device_id] += 1
            done += 1
    return done


def sibling_of(history: Sequence[HistoryPoint], explained: Borders, lead: Lead, slow: Slow | None) -> Suspicion | None:
    """What to try of a series for the sake of another one of its model; None: nothing, or it is known already. Pure.

    Args:
        history: of the series, up to tonight.
        explained: points at which a step of it began that is explained, or was confirmed.
        lead: what the other one showed.
        slow: the step that the series has in an incident that is not resolved.
    """
    if not history or (slow is None) == (lead.change < 0):
        return None
    earlier = range(len(history) - 1)
    explained_at = max((number for number in earlier if history[number].id in explained), default=0)
    if slow is None:
        # The artifact that the other series was tried against, or the one before, if this one had none of it.
        at = max((n for n in earlier if history[n].valid and history[n].run_id <= lead.run_id), default=-1)
        if at < explained_at:
            return None
        change = lead.change
    else:
        at = next((number for number in earlier if history[number].id == slow.point_id), -1)
        at = max(at, explained_at) if at >= 0 else at
        change = 1 / (1 + slow.change) - 1
    if at < 0 or same_artifact(history[at], history[-1]):
        return None
    return Suspicion(baseline=history[at], step=history[at + 1], change=change, most=ROUNDS[1])


def _start(
    connection: Connection, run_id: int, facts: SeriesFacts, row: Row[Any], suspicion: Suspicion, now: datetime
) -> None:
    found = confirm(connection, run_id, facts, suspicion, row.point_id, "confirmation", now)
    values: dict[str, Any] = {"found_by": "sibling"}
    if found.get("trial_id") is not None:
        values = {**values, "conclusion": None, **found}
    connection.execute(update(screenings).where(screenings.c.id == row.id).values(**values))


def _tonight(connection: Connection, rows: Sequence[Row[Any]]) -> list[Lead]:
    """What the trials of a run showed of artifacts, the surest of each model and direction."""
    tested = [(row, test) for row in rows for test in read_rows(row.tests or [])]
    held = [
        (row, test)
        for (row, test), holds in zip(tested, sure([test for _, test in tested]), strict=True)
        if holds
        and (test.kind, test.cause) == ("artifacts", "code")
        and (test.p or 0.0) <= _SURE_P
        and row.trial_id is not None
    ]
    facts = facts_of(connection, {row.series_id for row, _ in held})
    of_trial = _baseline_runs(connection, [row.trial_id for row, _ in held])
    found: dict[tuple[str, bool], Lead] = {}
    for row, test in sorted(held, key=lambda one: (one[1].p or 0.0, one[0].id)):
        if row.trial_id in of_trial and test.change is not None:
            lead = Lead(model=facts[row.series_id].model, run_id=of_trial[row.trial_id], change=test.change)
            found.setdefault((lead.model, lead.change > 0), lead)
    return list(found.values())


def _standing(connection: Connection, run: Row[Any]) -> list[Lead]:
    """Of incidents of code of earlier runs: their step, and that some of their series are back."""
    rows = connection.execute(
        select(incident_series, incidents.c.sweep_run_id.label("opened_in"))
        .join(incidents, incidents.c.id == incident_series.c.incident_id)
        .where(
            IS_UNRESOLVED,
            incidents.c.cause == "code",
            incidents.c.sweep_run_id < run.id,
            incidents.c.sweep == run.sweep,
            incident_series.c.trial_id.is_not(None),
        )
        .order_by(incident_series.c.incident_id.desc(), incident_series.c.id)
    ).all()
    facts = facts_of(connection, {row.series_id for row in rows})
    of_trial = _baseline_runs(connection, [row.trial_id for row in rows])
    back = {row.recovered_point_id for row in rows if row.recovered_point_id is not None}
    runs = {
        row.id: row.sweep_run_id
        for row in connection.execute(select(points.c.id, points.c.sweep_run_id).where(one_of(points.c.id, back)))
    }
    found: dict[tuple[int, bool], Lead] = {}
    for row in rows:
        model = facts[row.series_id].model
        if row.recovered_point_id is not None:
            lead = Lead(model=model, run_id=runs[row.recovered_point_id] - 1, change=1 / (1 + row.change) - 1)
            found.setdefault((row.incident_id, False), lead)
        elif row.trial_id in of_trial:
            lead = Lead(model=model, run_id=of_trial[row.trial_id], change=row.change, since=row.opened_in)
            found.setdefault((row.incident_id, True), lead)
    # Of an incident that is over in part nobody is tried for having become slower.
    return [one for (number, slower), one in found.items() if not slower or (number, False) not in found]


def _baseline_runs(connection: Connection, trial_ids: Sequence[int]) -> dict[int, int]:
    """The run of the baseline of each of these trials."""
    query = (
        select(trials.c.id, points.c.sweep_run_id)
        .join(points, points.c.id == trials.c.baseline_point_id)
        .where(one_of(trials.c.id, trial_ids))
    )
    return {row.id: row.sweep_run_id for row in connection.execute(query)}


def _slow_series(connection: Connection) -> Mapping[int, Slow]:
    query = (
        select(
            incident_series.c.series_id,
            func.coalesce(trials.c.candidate_point_id, incident_series.c.candidate_point_id).label("point_id"),
            incident_series.c.change,
        )
        .join(incidents, incidents.c.id == incident_series.c.incident_id)
        .outerjoin(trials, trials.c.id == incident_series.c.trial_id)
        .where(IS_UNRESOLVED, incidents.c.cause == "code", incident_series.c.recovered_point_id.is_(None))
        .order_by(incident_series.c.id)
    )
    return {row.series_id: Slow(point_id=row.point_id, change=row.change) for row in connection.execute(query)}


def _tried(connection: Connection, series_ids: Sequence[int], run_id: int) -> tuple[dict[int, int], set[int]]:
    """Series that were tried for the sake of others: the last run of each, and those for which it is not long ago."""
    later = screenings.alias("later")
    query = select(screenings.c.series_id, screenings.c.sweep_run_id).where(
        one_of(screenings.c.series_id, series_ids), screenings.c.found_by == "sibling"
    )
    last: dict[int, int] = {}
    for row in connection.execute(query):
        last[row.series_id] = max(last.get(row.series_id, 0), row.sweep_run_id)
    if not last:
        return {}, set()
    since = select(later.c.series_id, later.c.sweep_run_id).where(
        one_of(later.c.series_id, list(last)), later.c.sweep_run_id <= run_id
    )
    count = Counter(row.series_id for row in connection.execute(since) if row.sweep_run_id > last[row.series_id])
    # Their rows of this very run count, too.
    return last, {series_id for series_id in last if count[series_id] <= _REST}
