"""Reports as they come from agents: read strictly once, and kept as the text that they came as."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

from pydantic import TypeAdapter, ValidationError

from device_registry.storable import storable
from workers.contract import Failure
from workers.contract import Result as ChildResult
from workers.errors import Cause
from workers.readings import ReadingColumns, checked
from workers.report import Report


@dataclass(frozen=True, slots=True)
class Told:
    """What an agent told of one finished attempt."""

    #: Without telemetry.
    report: Report
    #: The report as JSON, for the database to keep.
    text: str
    telemetry: ReadingColumns | None = None
    #: How far the clock of its host is ahead of ours, where that is much: times of its readings are moved by it.
    ahead_s: float = 0.0


def read(event: Mapping[str, Any], now: datetime) -> Told:
    """Read an event of kind finished; one that breaks the contract becomes the attempt's failure.

    Args:
        event: with `attempt_id`, `token`, and what `workers.report.as_sent` made of a report.
        now: for what stands in its place.
    """
    text, telemetry = event["report"], event["telemetry"]
    try:
        report = _reports().validate_json(text, strict=True)
        readings = read_readings(telemetry) if telemetry is not None else None
        # No number, though Python's JSON has them: no database could read the document again.
        if "NaN" in text or "Infinity" in text:
            json.loads(text, parse_constant=_refuse_constant)
        if "\\u0000" in text:  # of a document with a NUL PostgreSQL reads no part; "\\\\u0000" comes to no harm
            text = json.dumps(storable(json.loads(text)))
            report = _reports().validate_json(text, strict=True)
    except ValidationError as error:
        return stand_in(event, f"the agent's report breaks the contract: {error.error_count()} errors", now)
    except ValueError as error:
        return stand_in(event, f"the agent's report breaks the contract: {error}", now)
    return Told(report, text, readings, event.get("ahead_s", 0.0))


def read_readings(text: str) -> ReadingColumns:
    """Readings as they were sent; a value that is no number has become none, with a reason.

    Raises:
        ValueError: they break the contract.
    """
    return checked(_columns().validate_json(text, strict=True))


def stand_in(event: Mapping[str, Any], message: str, now: datetime) -> Told:
    """What stands for a report that cannot be taken: a failure for want of it."""
    names: dict[str, Any] = {"attempt_id": event["attempt_id"], "token": event["token"]}
    failure = Failure(cause=Cause.BUG, code="bad_report", message=message)
    at = now.timestamp()
    return Told(Report(**names, result=ChildResult(**names, started_at=at, finished_at=at, failure=failure)), "")


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


@cache
def _reports() -> TypeAdapter[Report]:
    return TypeAdapter(Report)


@cache
def _columns() -> TypeAdapter[ReadingColumns]:
    return TypeAdapter(ReadingColumns)
