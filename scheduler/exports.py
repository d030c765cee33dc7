"""Rows of all that was measured, one run after another and within it one device: no more than that is ever held."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, select

from device_registry.database import one_of
from scheduler.comparisons import run_cases
from scheduler.ingest import results
from scheduler.queue import sweep_runs

#: About as many results are read at once; all that a device did in a run is, for its cases are compared.
_RESULTS_AT_ONCE = 2_000


def stream_rows(
    connection: Connection,
    *,
    run_id: int | None = None,
    models: Collection[str] = (),
    device_ids: Collection[int] | None = None,
    since: datetime | None = None,
) -> Iterator[dict[str, Any]]:
    """One row per case and device, as `comparisons.run_results` has them; newest run first.

    Args:
        connection: to read from.
        run_id: only of this run; None: of all but canaries'.
        models: only of these; none: of all.
        device_ids: only of these devices; None: of all.
        since: only of runs that were submitted since then; None: of all.
    """
    device_ids = None if device_ids is None else set(device_ids)
    for number in _runs(connection, run_id, since):
        for portion in _portions(connection, number, device_ids):
            for row in run_cases(connection, number, one_of(results.c.id, portion)):
                if not models or row["model"] in models:
                    yield {"run": number, **row}


def count_results(connection: Connection, run_id: int | None = None, since: datetime | None = None) -> int:
    """How many results such rows are made of at most: for progress."""
    query = select(func.count()).select_from(results)
    if run_id is not None:
        query = query.where(results.c.sweep_run_id == run_id)
    elif since is not None:
        query = query.where(one_of(results.c.sweep_run_id, _runs(connection, None, since)))
    return int(connection.execute(query).scalar_one())


def _runs(connection: Connection, run_id: int | None, since: datetime | None) -> list[int]:
    if run_id is not None:
        return [run_id]
    query = select(sweep_runs.c.id).where(sweep_runs.c.purpose.is_(None))
    if since is not None:
        query = query.where(sweep_runs.c.created_at >= since)
    return list(connection.execute(query.order_by(sweep_runs.c.id.desc())).scalars())


def _portions(connection: Connection, run_id: int, device_ids: Collection[int] | None) -> Iterator[list[int]]:
    """The results of a run by device, about so many at once: by their ids, for only runs have an index of results."""
    of_device: dict[int, list[int]] = {}
    query = select(results.c.id, results.c.device_id).where(results.c.sweep_run_id == run_id)
    for row in connection.execute(query):
        if device_ids is None or row.device_id in device_ids:
            of_device.setdefault(row.device_id, []).append(row.id)
    portion: list[int] = []
    for _, ids in sorted(of_device.items()):
        portion += ids
        if len(portion) >= _RESULTS_AT_ONCE:
            yield portion
            portion = []
    if portion:
        yield portion
