"""The comparison of an incident once more: its artifacts measured in turns on its units, as a user wants it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select

from device_registry.database import one_of
from device_registry.errors import UsageError
from scheduler.regressions.incidents import incident_series, incidents
from scheduler.regressions.series_history import facts_of
from scheduler.trials import Wanted, start_run, start_trial, template_jobs, trials


def confirm_again(connection: Connection, incident_id: int, *, owner: str, now: datetime) -> tuple[int, list[str]]:
    """Start the trials of an incident again, of each of its series one; returns their run, and what cannot be measured.

    Args:
        connection: inside a transaction that writes.
        incident_id: of the incident.
        owner: whose share it counts against.
        now: the time.

    Raises:
        UsageError: there is no such incident, or nothing of it can be measured any more.
    """
    if connection.execute(select(incidents.c.id).where(incidents.c.id == incident_id)).first() is None:
        raise UsageError(f"there is no incident {incident_id}; see benchfarm regressions list")
    members = connection.execute(
        select(incident_series).where(incident_series.c.incident_id == incident_id).order_by(incident_series.c.id)
    ).all()
    facts = facts_of(connection, [one.series_id for one in members])
    trial_ids = [one.trial_id for one in members if one.trial_id is not None]
    tried = {
        row.id: (row.baseline_point_id, row.candidate_point_id)
        for row in connection.execute(
            select(trials.c.id, trials.c.baseline_point_id, trials.c.candidate_point_id).where(
                one_of(trials.c.id, trial_ids)
            )
        )
    }
    pairs = {one.id: tried.get(one.trial_id, (one.baseline_point_id, one.candidate_point_id)) for one in members}
    template = template_jobs(connection, {point for pair in pairs.values() for point in pair})
    run_id = start_run(connection, "confirmation", owner=owner, now=now, request={"incident": incident_id})
    lost = []
    started = 0
    for one in members:
        title = facts[one.series_id].title
        try:
            baseline, candidate = pairs[one.id]
            if baseline not in template or candidate not in template:
                raise UsageError("the jobs that measured its points are gone")
            with connection.begin_nested():
                start_trial(
                    connection,
                    Wanted(
                        purpose="confirmation",
                        device_id=facts[one.series_id].device_id,
                        series_id=one.series_id,
                        title=title,
                        baseline=template[baseline],
                        candidate=template[candidate],
                        baseline_point_id=baseline,
                        candidate_point_id=candidate,
                        owner=owner,
                    ),
                    run_id,
                    now=now,
                )
                started += 1
        except UsageError as error:
            lost.append(f"{title}: {error}")
    if not started:
        raise UsageError(f"nothing of incident {incident_id} can be measured any more: {lost[0]}")
    return run_id, lost


def trials_of(connection: Connection, run_id: int) -> list[dict[str, Any]]:
    """What the trials of a run came to."""
    columns = ("id", "title", "state", "answer", "ratio", "ratio_low", "ratio_high", "p", "detectable", "why")
    query = select(*(trials.c[name] for name in columns)).where(trials.c.sweep_run_id == run_id).order_by(trials.c.id)
    return [dict(row) for row in connection.execute(query).mappings()]
