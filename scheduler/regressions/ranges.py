"""The range of revisions that brought an incident of code, from what all of its series tell together."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from sqlalchemy import Connection, select, update

from device_registry.database import one_of, table_of
from scheduler.points import series
from scheduler.queue import sweep_runs
from scheduler.regressions.dating import Dating, date_together, start_costs
from scheduler.regressions.levels import Borders, HistoryPoint, level_of
from scheduler.regressions.series_history import borders_of, histories
from scheduler.regressions.sigma import spread_sigma
from scheduler.trials import trials
from scheduler.watch_tables import Incident, IncidentSeries

_incidents, _members = table_of(Incident), table_of(IncidentSeries)

#: Series that are asked; more tell hardly more.
_MOST_SERIES: Final = 64


def narrow(connection: Connection, incident_id: int) -> None:
    """Write the range of revisions that the trials and points of an incident's series leave; of one of code only.

    Args:
        connection: inside a transaction that writes.
        incident_id: of the incident.
    """
    rows = connection.execute(
        select(
            _members.c.series_id,
            _members.c.change,
            series.c.device_id,
            trials.c.baseline_point_id,
            trials.c.candidate_point_id,
        )
        .join(_incidents, _incidents.c.id == _members.c.incident_id)
        .join(series, series.c.id == _members.c.series_id)
        .join(trials, trials.c.id == _members.c.trial_id)
        .where(
            _members.c.incident_id == incident_id,
            _members.c.found_by == "trial",
            _incidents.c.cause == "code",
        )
        .order_by(_members.c.id)
        .limit(_MOST_SERIES)
    ).all()
    ids = [row.series_id for row in rows]
    known, borders = histories(connection, ids), borders_of(connection, ids)
    datings = [
        found
        for row in rows
        if (found := _dating(known[row.series_id], borders[row.series_id], row, row.device_id)) is not None
    ]
    if not datings:
        return
    dated = date_together(datings)
    named = _revisions(connection, (dated.good, dated.bad))
    values = {"revision_good": named.get(dated.good), "revision_bad": named.get(dated.bad)}
    connection.execute(update(_incidents).where(_incidents.c.id == incident_id).values(**values))


def _dating(history: Sequence[HistoryPoint], borders: Borders, row: Any, unit: int) -> Dating | None:
    """By run, how little it fits that the step of a series began there; None: its points are not known any more."""
    numbers = {point.id: number for number, point in enumerate(history)}
    start, end = numbers.get(row.baseline_point_id), numbers.get(row.candidate_point_id)
    if start is None or end is None or start >= end:
        return None
    old = level_of(history[: start + 1], borders)
    between = [history[start], *(point for point in history[start + 1 : end + 1] if point.valid)]
    if len(between) < 2 or not old.values:
        return None
    was = statistics.median(old.values)
    sigma = spread_sigma(np.array(old.values)) / was
    costs = start_costs(
        [point.value for point in between], [point.artifact for point in between], was, row.change, sigma
    )
    by_run = {between[at].run_id: cost for at, cost in costs.items()}
    nights = [point.run_id for point in between]
    return Dating(unit=unit, good=nights[0], costs=by_run, nights=nights)


def _revisions(connection: Connection, run_ids: Sequence[int]) -> dict[int, str | None]:
    query = select(sweep_runs.c.id, sweep_runs.c.revision).where(one_of(sweep_runs.c.id, run_ids))
    return {row.id: row.revision for row in connection.execute(query)}
