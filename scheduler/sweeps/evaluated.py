"""Which evaluations of a sweep need not be made again: the same artifact answered to the same examples lately."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import Connection, select

from device_registry.database import one_of
from scheduler.cases import case_of
from scheduler.outcomes import evaluations
from scheduler.queue import artifacts, sweep_runs
from scheduler.states import portions
from scheduler.sweeps.matrix import Matrix


def known_evaluated(
    connection: Connection, matrix: Matrix, *, stale_after_s: float, revision: str | None, now: datetime
) -> frozenset[str]:
    """Keys of its evaluations that each of their devices has made, of what stands now.

    Args:
        connection: to read from.
        matrix: of the sweep.
        stale_after_s: what is older counts for nothing.
        revision: that they must be of; None: any.
        now: the time.
    """
    wanted = {key: item for key, item in matrix.cases.items() if item.kind == "evaluate"}
    if not wanted:
        return frozenset()
    there: dict[str, tuple[str, str | None]] = {}
    for portion in portions({item.variant.key for item in wanted.values()}):
        rows = connection.execute(select(artifacts).where(artifacts.c.key.in_(portion)))
        there |= {row.key: (row.sha256, row.companions.get("test")) for row in rows}
    query = (
        select(*(evaluations.c[name] for name in ("device_id", "case_key", "artifact_sha256", "data_sha256")))
        .join(sweep_runs, sweep_runs.c.id == evaluations.c.sweep_run_id)
        .where(evaluations.c.created_at > now - timedelta(seconds=stale_after_s))
        .where(one_of(evaluations.c.device_id, "devices"))
    )
    if revision is not None:
        query = query.where(sweep_runs.c.revision == revision)
    devices = {device.id for key in wanted for device in matrix.devices[key]}
    known = {tuple(row) for row in connection.execute(query, {"devices": devices})}
    return frozenset(
        key
        for key, item in wanted.items()
        if matrix.devices[key]
        and item.variant.key in there
        and all(
            (device.id, case_of(item.task).key, *there[item.variant.key]) in known for device in matrix.devices[key]
        )
    )
