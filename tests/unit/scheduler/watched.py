"""What the watch leaves in the database, written by hand: watched runs, screenings, trials, noise floors, incidents."""

from __future__ import annotations

from typing import Any

from sqlalchemy import delete, insert, select, update

from device_registry.database import insert_row, table_of, writing
from scheduler.coverage import cells
from scheduler.points import points
from scheduler.queue import sweep_runs
from scheduler.watch_tables import Incident, IncidentSeries, NoiseFloor, Screening, Trial
from tests.unit.scheduler.builders import Farm, plan_of

incidents, incident_series, screenings = table_of(Incident), table_of(IncidentSeries), table_of(Screening)


def watched_run(
    farm: Farm, *cases: tuple[str, str, str], sweep: str = "nightly", salt: str = "", **columns: Any
) -> int:
    """A run of a sweep that is done, screened, and found steady."""
    run_id = farm.run(plan_of(farm.devices(), *cases, salt=salt))
    with writing(farm.engine) as connection:
        changed = {"sweep": sweep, "watched": True, "screened_at": farm.clock(), **columns}
        connection.execute(update(sweep_runs).where(sweep_runs.c.id == run_id).values(changed))
        for row in connection.execute(select(points).where(points.c.sweep_run_id == run_id)).all():
            outcome = "steady" if row.verdict == "valid" else "invalid"
            screened = {"point_id": row.id, "series_id": row.series_id, "sweep_run_id": run_id, "at": farm.clock()}
            connection.execute(insert(screenings).values(**screened, outcome=outcome))
    return run_id


def points_of(farm: Farm, run_id: int) -> list[Any]:
    """The points of a run, by series."""
    return sorted(farm.rows(points, points.c.sweep_run_id == run_id), key=lambda row: row.series_id)


def open_incident(farm: Farm, before: int, after: int, *, change: float = 0.08, **columns: Any) -> int:
    """An incident between two runs, of every series that has a point in both."""
    now = farm.clock()
    row = {
        "state": "open",
        "cause": "code",
        "cause_why": "the bridge did not move",
        "title": "net on d0 is 8 % slower",
        "sweep": "nightly",
        "sweep_run_id": after,
        "change": change,
        "change_low": change - 0.02,
        "change_high": change + 0.02,
        "revision_good": "aaa111",
        "revision_bad": "bbb222",
        "environment": {},
        "opened_at": now,
        "changed_at": now,
        **columns,
    }
    with writing(farm.engine) as connection:
        incident_id = insert_row(connection, incidents, **row)
        base = {point.series_id: point.id for point in points_of(farm, before)}
        for point in points_of(farm, after):
            if point.series_id in base:
                one = {
                    "incident_id": incident_id,
                    "series_id": point.series_id,
                    "found_by": "trial",
                    "baseline_point_id": base[point.series_id],
                    "candidate_point_id": point.id,
                    "change": change,
                    "change_low": change - 0.02,
                    "change_high": change + 0.02,
                }
                connection.execute(insert(incident_series).values(one))
    return incident_id


def conclude(farm: Farm, point: Any, outcome: str, conclusion: str | None, **columns: Any) -> None:
    """What became of the look at a point."""
    screened = update(screenings).where(screenings.c.point_id == point.id)
    with writing(farm.engine) as connection:
        connection.execute(screened.values(outcome=outcome, conclusion=conclusion, **columns))


def learn_noise(farm: Farm, run_id: int, series_id: int, noise: float, detectable: float | None) -> None:
    """The noise floor of a series, of a trial that is done."""
    now = farm.clock()
    trial = {
        "purpose": "noise",
        "sweep_run_id": run_id,
        "device_id": farm.devices()[0].id,
        "title": "net",
        "baseline_key": "a",
        "candidate_key": "a",
        "state": "done",
        "wanted": 10,
        "created_at": now,
    }
    with writing(farm.engine) as connection:
        trial_id = insert_row(connection, table_of(Trial), **trial)
        row = {"series_id": series_id, "noise": noise, "detectable": detectable, "processes": 10, "trial_id": trial_id}
        connection.execute(insert(table_of(NoiseFloor)).values(**row, at=now))


def forget_points(farm: Farm, run_id: int, series_id: int) -> None:
    """A run yielded no number of a series."""
    with writing(farm.engine) as connection:
        which = (points.c.sweep_run_id == run_id, points.c.series_id == series_id)
        [point] = connection.execute(select(points.c.id).where(*which)).scalars()
        connection.execute(delete(screenings).where(screenings.c.point_id == point))
        connection.execute(delete(points).where(points.c.id == point))
        connection.execute(update(cells).where(cells.c.series_id == series_id).values(sweep_run_id=run_id - 1))
