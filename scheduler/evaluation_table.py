"""The table of evaluations: how right artifacts answer."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Index, Integer, String, Text
from sqlmodel import Field, SQLModel

from device_registry.tables import UtcDateTime
from scheduler.tables import reference


class Evaluation(SQLModel, table=True):
    """How right one artifact answered on one device, as one finished evaluate attempt found it. No latency."""

    __table_args__ = (
        # The latest of a case on a device.
        Index("evaluation_by_case", "device_id", "case_key", "id"),
    )

    id: int | None = Field(default=None, primary_key=True)
    attempt_id: int = Field(sa_type=Integer, sa_column_args=reference("attempt.id"), unique=True)
    job_id: int = Field(sa_type=Integer, sa_column_args=reference("job.id"), index=True)
    sweep_run_id: int = Field(sa_type=Integer, sa_column_args=reference("sweep_run.id"), index=True)
    device_id: int = Field(sa_type=Integer, sa_column_args=reference("device.id"))
    #: `cases.Case.key` of the case it belongs to, the same on every device.
    case_key: str = Field(sa_type=String(64))
    artifact_sha256: str | None = Field(default=None, sa_type=String(64))
    #: What was asked, and of what: only answers to the same examples are compared.
    task: str = Field(sa_type=String(30))
    data: str = Field(sa_type=Text)
    data_sha256: str = Field(sa_type=String(64))
    examples: int
    #: Files of the data set that could not be read.
    skipped: int
    correct: int
    top1: float | None = Field(default=None)
    top5: float | None = Field(default=None)
    f1_macro: float | None = Field(default=None)
    wer: float | None = Field(default=None)
    #: The agent's Report (workers.contract) without telemetry.
    document: dict[str, Any] = Field(sa_type=JSON)
    created_at: datetime = Field(sa_type=UtcDateTime)
