"""Documents of the outbox with sensible values."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from scheduler.notifications.delivery import Message

AT = datetime(2026, 11, 30, 2, 0, tzinfo=UTC)


def series(**changed: Any) -> dict[str, Any]:
    """A series with a change."""
    return {
        "series_id": 7,
        "device": "pixel-3",
        "device_kind": "android",
        "simulated": False,
        "model": "torchvision/mobilenet_v3_small",
        "runtime": "litert",
        "recipe": "int8-static",
        "options": "t1 b1 burst",
        "change": 0.08,
        "change_interval": [0.061, 0.102],
        "before_ms": 5.0,
        "after_ms": 5.4,
        **changed,
    }


def incident(**changed: Any) -> dict[str, Any]:
    """An incident in short."""
    return {
        "id": 12,
        "title": "mobilenet_v3_small is 8 % slower on pixel-3",
        "state": "open",
        "cause": "code",
        "cause_why": "the same artifact of before is as fast as it was",
        "change": 0.08,
        "change_interval": [0.061, 0.102],
        "sweep": "nightly",
        "sweep_run_id": 341,
        "revision_good": "1f0c3aa",
        "revision_bad": "9b2d771",
        "opened_at": AT.isoformat(),
        "resolved_at": None,
        "resolved_by": None,
        **changed,
    }


def incident_document(*listed: dict[str, Any], count: int | None = None, **changed: Any) -> dict[str, Any]:
    """An incident as it is told; what is changed is of the incident."""
    found = listed or (series(),)
    return {
        "schema_version": 1,
        "incident": incident(**changed),
        "began_at": AT.isoformat(),
        "environment": {"driver": ["535.1", "550.2"]},
        "note": None,
        "series": {"count": len(found) if count is None else count, "first": list(found)},
        "commands": ["benchfarm regressions show 12"],
    }


def some(*entries: dict[str, Any], count: int | None = None) -> dict[str, Any]:
    """A list of a document."""
    return {"count": len(entries) if count is None else count, "first": list(entries)}


def digest(**changed: Any) -> dict[str, Any]:
    """The digest of a quiet night."""
    return {
        "schema_version": 1,
        "run": {"id": 341, "sweep": "nightly", "revision": "9b2d771", "watched": True, "purpose": None},
        "compared_with_run": 340,
        "at": AT.isoformat(),
        "cases": {"wanted": 40, "open": 0, "measured": 40, "valid": 40, "invalid": {}},
        **{
            name: some()
            for name in (
                *("regressed", "recovered", "still_open", "improved"),
                *("undecided", "failed", "missing"),
            )
        },
        "cannot_see": {**some(), "change": 0.05, "unknown": 0},
        "unsupported": {"count": 0},
        "commands": ["benchfarm sweep show 341"],
        "quiet": True,
        **changed,
    }


def message(kind: str, document: dict[str, Any], **changed: Any) -> Message:
    """A message at its first try."""
    told: dict[str, Any] = {
        "id": 1,
        "channel": "team",
        "key": "incident/12/opened",
        "kind": kind,
        "document": document,
        "incident_id": 12,
        "created_at": AT,
        "attempt": 1,
        **changed,
    }
    return Message(**told)
