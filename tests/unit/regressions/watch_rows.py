"""Histories and findings for tests of the watch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from scheduler.regressions.grouping import Finding
from scheduler.regressions.levels import HistoryPoint

FIRST = datetime(2026, 1, 1, tzinfo=UTC)
#: A level with a little noise.
QUIET = (1.0, 1.01, 0.99, 1.005, 0.995, 1.0, 1.01, 0.99, 1.0, 1.005)


def history(
    values: Sequence[float | None], *, environments: str = "", artifacts: str = "", first: int = 1
) -> list[HistoryPoint]:
    """A point a night; None is an invalid one. A letter each names environment and artifact; "a" where none is left."""
    return [
        HistoryPoint(
            id=number,
            run_id=100 + number,
            value=1.0 if value is None else value,
            valid=value is not None,
            environment=environments[at : at + 1] or environments[-1:] or "a",
            artifact=artifacts[at : at + 1] or artifacts[-1:] or "a",
            at=FIRST + timedelta(days=number),
        )
        for at, (number, value) in enumerate(zip(range(first, first + len(values)), values, strict=True))
    ]


def finding(**changes: Any) -> Finding:
    """A series that became slower by its code."""
    made = Finding(
        series_id=1,
        device_id=1,
        device_class=("sim", "pixel"),
        case_key="case",
        model="net",
        cause="code",
        why="because",
        change=0.1,
        low=0.08,
        high=0.12,
        found_by="trial",
        trial_id=1,
        baseline_point_id=1,
        candidate_point_id=2,
    )
    return replace(made, **changes)
