"""Rows of what attempts yielded: artifacts, results, profiles and evaluations, many with one statement."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert, select

from device_registry.bulk import insert_rows
from device_registry.database import table_of
from scheduler.cases import case_of
from scheduler.evaluation_table import Evaluation
from scheduler.payloads import read_payload
from scheduler.queue import artifacts
from scheduler.reports import Told
from scheduler.tables import Profile, Result
from workers import contract
from workers.codec import from_dict
from workers.contract import MeasureTask

results = table_of(Result)
profiles = table_of(Profile)
evaluations = table_of(Evaluation)
#: Columns of an evaluation's row that are as its document has them.
_AS_TOLD = ("task", "data", "data_sha256", "examples", "skipped", "correct", "top1", "top5", "f1_macro", "wer")


def insert_artifacts(connection: Connection, made: Sequence[tuple[Told, Any]], now: datetime) -> None:
    parents = {row.needs_key for _, row in made if row.needs_key is not None}
    query = select(artifacts.c.key, artifacts.c.companions, artifacts.c.provenance).where(artifacts.c.key.in_(parents))
    known = {row.key: row for row in connection.execute(query)} if parents else {}
    rows = []
    for told, row in made:
        conversion = told.report.result.conversion
        assert conversion is not None
        own = {role: file.sha256 for role, file in conversion.companions.items()}
        parent = known.get(row.needs_key)
        companions, facts = (parent.companions, parent.provenance.get("facts", {})) if parent is not None else ({}, {})
        rows.append(
            {
                "key": row.makes_key,
                "sha256": conversion.artifact.sha256,
                "bytes": conversion.artifact.bytes,
                "format": conversion.format,
                "recipe": conversion.recipe,
                "model": read_payload(row.payload_text)["model"],
                "companions": {**companions, **own},
                "provenance": {
                    "seconds": conversion.seconds,
                    "imports_ms": conversion.imports_ms,
                    "versions": conversion.versions,
                    "peak_rss_bytes": conversion.peak_rss_bytes,
                    # Of the model: its artifacts all have them, unless a conversion says otherwise.
                    "facts": {**facts, **conversion.facts},
                },
                "created_at": now,
            }
        )
    if rows:
        connection.execute(insert(artifacts), rows)


def insert_results(connection: Connection, taken: Sequence[tuple[Told, Any]], *, stale: bool, now: datetime) -> None:
    rows = [
        {
            "attempt_id": row.id,
            "job_id": row.job_id,
            "sweep_run_id": row.sweep_run_id,
            "device_id": row.device_id,
            "case_key": row.case_key,
            "verdict": told.report.judgement.verdict if told.report.judgement is not None else "interrupted",
            "p50_ms": told.report.result.measurement.timings.p50_ms,
            "artifact_sha256": told.report.artifact_sha256,
            "document": told.text,
        }
        for told, row in taken
        if told.report.result.measurement is not None
    ]
    insert_rows(connection, results, rows, stale=stale, created_at=now)


def insert_profiles(connection: Connection, taken: Sequence[tuple[Told, Any]], now: datetime) -> None:
    rows = [
        {
            "attempt_id": row.id,
            "job_id": row.job_id,
            "sweep_run_id": row.sweep_run_id,
            "device_id": row.device_id,
            "artifact_sha256": told.report.artifact_sha256,
            "document": told.text,
        }
        for told, row in taken
    ]
    insert_rows(connection, profiles, rows, created_at=now)


def adds_up(seen: contract.Evaluation) -> bool:
    """Whether an evaluation's outcomes are those of its examples: that many, and as many right as it says."""
    try:
        packed = base64.b64decode(seen.outcomes_base64, validate=True)
    except ValueError:
        return False
    whole = seen.examples > 0 and len(packed) == -(-seen.examples // 8)
    return whole and int.from_bytes(packed, "big").bit_count() == seen.correct


def insert_evaluations(connection: Connection, taken: Sequence[tuple[Told, Any]], now: datetime) -> None:
    rows = []
    for told, row in taken:
        seen = told.report.result.evaluation
        assert seen is not None
        task = from_dict(MeasureTask, read_payload(row.payload_text)["evaluate"])
        rows.append(
            {
                "attempt_id": row.id,
                "job_id": row.job_id,
                "sweep_run_id": row.sweep_run_id,
                "device_id": row.device_id,
                "case_key": case_of(task).key,
                "artifact_sha256": told.report.artifact_sha256,
                **{name: getattr(seen, name) for name in _AS_TOLD},
                "document": told.text,
            }
        )
    insert_rows(connection, evaluations, rows, created_at=now)
