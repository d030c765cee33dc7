"""What a digest says of the run that its sweep names as its baseline: medians that lie apart, and no verdicts."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, func, select

from device_registry.errors import UsageError
from device_registry.registry import devices
from scheduler.notifications.told import MOST_LISTED, NAMING, named, some
from scheduler.points import points, series
from scheduler.sweeps.baselines import baseline_run
from scheduler.sweeps.submission import sweep_of_run
from scheduler.watch_views import SIGHT


def against_baseline(connection: Connection, run: Row[Any]) -> dict[str, Any] | None:
    """Series whose valid medians differ by 5 % or more from those of the baseline; None: the sweep names none.

    They were not measured in turns, so nothing is called slower here: `benchfarm compare` of the two runs gives
    verdicts, and what is watched becomes an incident by itself.
    """
    try:
        sweep = sweep_of_run(connection, run.id)
        base_id = None if sweep is None else baseline_run(connection, sweep)
    except UsageError as error:  # it was there when the run was submitted
        return {"run": None, "why": str(error), **some([])}
    if base_id is None or base_id == run.id:
        return None
    old, new = points.alias("old"), points.alias("new")
    change = (new.c.value / old.c.value - 1).label("change")
    apart = (
        select(*NAMING, change, old.c.value.label("before_ms"), new.c.value.label("after_ms"))
        .select_from(new)
        .join(old, old.c.series_id == new.c.series_id)
        .join(series, series.c.id == new.c.series_id)
        .join(devices, devices.c.id == series.c.device_id)
        .where(
            new.c.sweep_run_id == run.id,
            old.c.sweep_run_id == base_id,
            new.c.verdict == "valid",
            old.c.verdict == "valid",
            old.c.value > 0,
            func.abs(change) >= SIGHT,
        )
    )
    count = connection.execute(apart.with_only_columns(func.count())).scalar_one()
    rows = connection.execute(apart.order_by(func.abs(change).desc(), series.c.id).limit(MOST_LISTED)).all()
    listed = [
        {**named(row), "change": row.change, "before_ms": row.before_ms, "after_ms": row.after_ms} for row in rows
    ]
    return {"run": base_id, "why": None, **some(listed, count)}
