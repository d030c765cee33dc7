"""Cells of the farm's matrix: what became of each case on each device the last time that somebody wanted it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, Final

from sqlalchemy import Connection, func, select

from device_registry.bulk import insert_rows
from device_registry.database import one_of, table_of
from scheduler.cases import Case, case_of, task_of
from scheduler.payloads import payload_text, payloads
from scheduler.states import attempts, jobs
from scheduler.tables import Cell
from workers.errors import UNSUPPORTED
from workers.report import Report

cells = table_of(Cell)

_RAN_ON = (
    select(attempts.c.device_id)
    .where(attempts.c.job_id == jobs.c.id)
    .order_by(attempts.c.id.desc())
    .limit(1)
    .correlate(jobs)
    .scalar_subquery()
)
_FAILED: Final = (
    select(
        jobs.c.id.label("job_id"),
        jobs.c.sweep_run_id,
        func.coalesce(jobs.c.device_id, _RAN_ON).label("device_id"),
        jobs.c.failure_code,
        jobs.c.failure_message,
        payload_text(),
    )
    .join(payloads, payloads.c.id == jobs.c.payload_id)
    .where(one_of(jobs.c.id, "ids"), jobs.c.kind == "measure", jobs.c.canary.is_(False), jobs.c.side.is_(None))
    .order_by(jobs.c.id)
)

_VALID: Final = select(cells.c.device_id, cells.c.case_key, cells.c.sweep_run_id).where(
    one_of(cells.c.device_id, "devices"),
    one_of(cells.c.case_key, "keys"),
    one_of(cells.c.sweep_run_id, "runs"),
    cells.c.state == "valid",
)


@dataclass(frozen=True, slots=True)
class Unsupported:
    """A cell of a request's matrix that cannot be had."""

    device_id: int
    case: Case
    why: str


class Cells:
    """Cells of one transaction, the last word about each, written together."""

    def __init__(self) -> None:
        """None so far."""
        self._rows: dict[tuple[int, str], dict[str, Any]] = {}

    def measured(self, report: Report, row: Any, series_id: int, verdict: str) -> None:
        """A result came.

        Args:
            report: the latest of the case.
            row: of its attempt and job.
            series_id: of the point that it became part of.
            verdict: of that point: one repeat that is valid makes its case valid.
        """
        why = None
        if verdict != "valid" and report.judgement is not None:
            why = "; ".join(report.judgement.reasons) or None
        self._put(
            row.device_id,
            _columns_of(row.payload_text),
            state="valid" if verdict == "valid" else "invalid",
            verdict=verdict,
            why=why,
            job_id=row.job_id,
            sweep_run_id=row.sweep_run_id,
            series_id=series_id,
        )

    def failed(self, row: Any) -> None:
        """A measurement failed for good; row as `_FAILED` has it."""
        if row.device_id is None:
            return  # it was for any device, and no device got it
        self._put(
            row.device_id,
            _columns_of(row.payload_text),
            state="unsupported" if row.failure_code == UNSUPPORTED else "failed",
            why=row.failure_message,
            job_id=row.job_id,
            sweep_run_id=row.sweep_run_id,
        )

    def unsupported(self, found: Unsupported, run_id: int) -> None:
        """A plan found that a device cannot have a case."""
        self._put(found.device_id, _columns(found.case), state="unsupported", why=found.why, sweep_run_id=run_id)

    def spare_valid(self, connection: Connection) -> None:
        """Leave alone what is valid by another repeat of the same run, whichever of the two came first."""
        if not self._rows:
            return
        told = {
            "devices": {device_id for device_id, _ in self._rows},
            "keys": {key for _, key in self._rows},
            "runs": {row["sweep_run_id"] for row in self._rows.values()},
        }
        for device_id, key, run_id in connection.execute(_VALID, told).all():
            if (row := self._rows.get((device_id, key))) is not None and row["sweep_run_id"] == run_id:
                del self._rows[device_id, key]

    def write(self, connection: Connection, now: datetime) -> None:
        """Write them, in one order: two that write must not lock each other out."""
        rows = [self._rows[known] for known in sorted(self._rows)]
        insert_rows(connection, cells, rows, key=("device_id", "case_key"), at=now)

    def _put(
        self,
        device_id: int,
        case: Mapping[str, Any],
        *,
        state: str,
        sweep_run_id: int,
        verdict: str | None = None,
        why: str | None = None,
        job_id: int | None = None,
        series_id: int | None = None,
    ) -> None:
        self._rows[device_id, case["case_key"]] = {
            **case,
            "device_id": device_id,
            "state": state,
            "verdict": verdict,
            "why": why,
            "job_id": job_id,
            "sweep_run_id": sweep_run_id,
            "series_id": series_id,
        }


@lru_cache(maxsize=4096)
def _columns_of(payload: str) -> Mapping[str, Any]:
    return _columns(case_of(task_of(payload)))


def _columns(case: Case) -> dict[str, Any]:
    """What cells of a case have in common; not to be changed."""
    return {**case._asdict(), "case_key": case.key}


def note_failed(connection: Connection, job_ids: Collection[int], now: datetime) -> None:
    """Jobs have just failed for good: cells of those that are measurements of users.

    Args:
        connection: inside a transaction that writes.
        job_ids: of any kind.
        now: the time.
    """
    failed = Cells()
    for row in connection.execute(_FAILED, {"ids": job_ids}):
        failed.failed(row)
    failed.spare_valid(connection)
    failed.write(connection, now)


def note_unsupported(connection: Connection, found: Iterable[Unsupported], run_id: int, now: datetime) -> None:
    """What the plan of a run lists as unsupported, for the devices that it names."""
    listed = Cells()
    for one in found:
        listed.unsupported(one, run_id)
    listed.write(connection, now)
