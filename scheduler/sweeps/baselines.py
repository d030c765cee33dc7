"""The run that a sweep names as its baseline."""

from __future__ import annotations

from sqlalchemy import Connection, exists, select

from scheduler.points import points
from scheduler.queue import sweep_runs
from scheduler.sweeps.file import SweepFile

_HAS_POINTS = exists().where(points.c.sweep_run_id == sweep_runs.c.id)


def baseline_run(connection: Connection, sweep: SweepFile) -> int | None:
    """The run that a sweep's baseline stands for, the latest of its revision; None: it names none.

    Raises:
        SweepFileError: there is no such run (any more), or none with a point.
    """
    if sweep.baseline is None:
        return None
    query = select(sweep_runs.c.id).where(sweep_runs.c.purpose.is_(None), _HAS_POINTS)
    if isinstance(sweep.baseline, int):
        found = connection.execute(query.where(sweep_runs.c.id == sweep.baseline)).scalar()
        if found is None:
            raise sweep.wrong(f"baseline {sweep.baseline}: there is no run of that number with results", "baseline")
        return int(found)
    query = query.where(sweep_runs.c.revision == sweep.baseline).order_by(
        (sweep_runs.c.sweep == sweep.name).desc(), sweep_runs.c.id.desc()
    )
    found = connection.execute(query.limit(1)).scalar()
    if found is None:
        raise sweep.wrong(f"baseline {sweep.baseline}: no run of that revision has results", "baseline")
    return int(found)
