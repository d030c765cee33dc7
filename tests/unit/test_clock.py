"""Times inside an agent: a wall clock that is set bends none of them, and children count by the same clock."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from workers import clock
from workers.contract import Failure, Result
from workers.report import Reading, Report, moved

_REAL = time.time


def test_a_wall_clock_that_is_set_leaves_steady_time_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    before = clock.steady()
    monkeypatch.setattr(clock.time, "time", lambda: _REAL() + 3600)
    assert 0 <= clock.steady() - before < 60
    assert clock.lead_s() == pytest.approx(3600, abs=60)


def test_a_child_counts_by_its_agents_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "_EPOCH_AT_BOOT", clock._EPOCH_AT_BOOT - 1e6)  # an agent whose clock was wrong at first
    asked = [sys.executable, "-c", "from workers.clock import steady; print(repr(steady()))"]
    before = clock.steady()
    told = subprocess.run(asked, env={**os.environ, **clock.handed_on()}, capture_output=True, text=True, check=True)
    assert before <= float(told.stdout) <= clock.steady()


def test_a_report_is_told_by_the_clock_at_the_attempts_beginning() -> None:
    failure = Failure(cause="model", code="c", message="m")
    result = Result(attempt_id=1, token="t", started_at=10.0, finished_at=20.0, failure=failure)
    known = {"sensor": "s", "domain": "d", "quantity": "q", "unit": "u", "quality": "ok"}
    told = tuple(Reading(**known, value=1.0, at=at) for at in (11.0, 19.0))  # type: ignore[arg-type]
    report = Report(attempt_id=1, token="t", result=result, telemetry=told)
    later = moved(report, 3600.0)
    assert (later.result.started_at, later.result.finished_at) == (3610.0, 3620.0)
    assert [one.at for one in later.telemetry] == [3611.0, 3619.0]
    assert moved(report, 0.0001) is report
