"""Schedules of a small sweep, and what becomes of the jobs of their runs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Row, Table, select, update

from device_registry.database import reading, writing
from scheduler.farm import Farm
from scheduler.queue import sweep_runs
from scheduler.schedules.cron import read_cron
from scheduler.schedules.schedule import Definition, Missed, save, schedule_of
from scheduler.states import OPEN_JOB, events, jobs
from scheduler.watch_tables import Notification

SWEEP = """\
name: lab
models: [sim/mobilenet]
recipes: [fp32]
devices: ["kind=sim"]
repeats: 1
"""


def add(
    farm: Farm,
    now: datetime,
    *,
    name: str = "nightly",
    cron: str = "0 2 * * *",
    zone: str = "UTC",
    missed: Missed = "once",
    text: str = SWEEP,
    **options: Any,
) -> bool:
    """Add a schedule, or change it."""
    wanted = Definition(
        name=name,
        sweep="lab",
        sweep_text=text,
        folder=str(Path.cwd()),
        cron=read_cron(cron, zone),
        missed=missed,
        owner="tester",
        options={"file": "lab.yaml", **options},
    )
    with writing(farm.engine) as connection:
        return save(connection, wanted, who="tester", now=now)


def rows(farm: Farm, table: Table, *where: Any) -> Sequence[Row[Any]]:
    """Rows of a table by id."""
    with reading(farm.engine) as connection:
        return connection.execute(select(table).where(*where).order_by(table.c.id)).all()


def row_of(farm: Farm, name: str = "nightly") -> Row[Any]:
    """The row of a schedule."""
    with reading(farm.engine) as connection:
        return schedule_of(connection, name)


def due_of(farm: Farm) -> list[datetime | None]:
    """The due time of each run, in the order in which they were made."""
    return [run.due_at for run in rows(farm, sweep_runs)]


def told(farm: Farm) -> list[str]:
    """What happened to schedules, in order."""
    return [event.after for event in rows(farm, events, events.c.entity == "schedule")]


def messages(farm: Farm) -> list[str]:
    """Titles of what is in the outbox."""
    return [row.document["title"] for row in rows(farm, Notification.__table__)]  # type: ignore[attr-defined]


def end(farm: Farm, *, state: str = "succeeded", run_id: int | None = None) -> None:
    """Whatever is open is done."""
    where = [jobs.c.state.in_(OPEN_JOB)] + ([] if run_id is None else [jobs.c.sweep_run_id == run_id])
    with writing(farm.engine) as connection:
        connection.execute(update(jobs).where(*where).values(state=state))
