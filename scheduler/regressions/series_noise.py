"""What is known of the noise of series: how far the processes of each scatter, as its last A/A trial taught."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, Row, select

from device_registry.database import one_of
from device_registry.registry import devices, label_of
from scheduler.cells import own_options, sees, shared_options
from scheduler.points import points, series
from scheduler.trials.floors import floors

#: What was learnt is learnt anew after so long.
STALE_AFTER: Final = timedelta(days=30)


@dataclass(frozen=True, kw_only=True)
class SeriesNoise:
    """A series and what is known of its noise."""

    series_id: int
    device_id: int
    device: str
    simulated: bool
    model: str
    runtime: str
    recipe: str
    options: str
    #: Its latest valid point.
    point_id: int
    p50_ms: float
    #: Relative noise between processes; None: not learnt.
    noise: float | None
    #: The smallest change that a comparison of 10 + 10 shows; None: not learnt, or none.
    detectable: float | None
    processes: int | None
    learnt_at: datetime | None

    @property
    def title(self) -> str:
        """What people read of it."""
        return ", ".join(
            part for part in (f"{self.model} on {self.runtime} {self.recipe}", self.device, self.options) if part
        )

    @property
    def sees_5_percent(self) -> bool | None:
        """Whether a regression of 5 % would show; None: not learnt."""
        return None if self.noise is None else sees(self.detectable)

    def is_due(self, now: datetime) -> bool:
        """Whether it was never learnt, or too long ago."""
        return self.learnt_at is None or now - self.learnt_at >= STALE_AFTER


def series_noise(
    connection: Connection, *, device_ids: Collection[int] | None = None, models: Collection[str] = ()
) -> list[SeriesNoise]:
    """Series that have a valid point, by device and model.

    Args:
        connection: to read from.
        device_ids: on these devices; None: on all.
        models: of these models; none: of all.
    """
    query = with_latest_points().order_by(
        devices.c.name, series.c.model, series.c.runtime, series.c.recipe, series.c.id
    )
    if device_ids is not None:
        query = query.where(one_of(series.c.device_id, device_ids))
    if models:
        query = query.where(one_of(series.c.model, models))
    return [read_row(row) for row in connection.execute(query)]


def with_latest_points() -> Any:
    """Series with their latest valid points, and what is known of their noise."""
    return (
        select(
            *(series.c[name] for name in ("id", "device_id", "model", "runtime", "recipe", "threads", "batch", "mode")),
            series.c.options_text,
            devices.c.name.label("device"),
            devices.c.attributes,
            points.c.id.label("point_id"),
            points.c.value,
            *(floors.c[name] for name in ("noise", "detectable", "processes", "at")),
        )
        .join(points, points.c.id == series.c.latest_valid_point_id)
        .join(devices, devices.c.id == series.c.device_id)
        .outerjoin(floors, floors.c.series_id == series.c.id)
    )


def read_row(row: Row[Any]) -> SeriesNoise:
    """A row of `with_latest_points`."""
    threads = f"{row.threads} thread" + ("s" if row.threads != 1 else "")
    batch = f"batch {row.batch}" if row.batch != 1 else ""
    mode = row.mode if row.mode != "burst" else ""
    named = {"options_text": row.options_text}
    told = (threads, batch, mode, shared_options(named), own_options(named))
    return SeriesNoise(
        series_id=row.id,
        device_id=row.device_id,
        device=label_of(row.device, row.attributes),
        simulated=row.attributes.get("simulated") is True,
        model=row.model,
        runtime=row.runtime,
        recipe=row.recipe,
        options=", ".join(part for part in told if part),
        point_id=row.point_id,
        p50_ms=row.value,
        noise=row.noise,
        detectable=row.detectable,
        processes=row.processes,
        learnt_at=row.at,
    )
