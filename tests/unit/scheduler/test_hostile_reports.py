"""Numbers that no column holds: whatever an agent or a user says, the dispatcher goes on."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import select

from device_registry.database import reading
from device_registry.errors import UsageError
from scheduler.coverage import cells
from scheduler.executors import scripted
from scheduler.executors.scripted import Succeed
from scheduler.ingest import results
from scheduler.plan import Request
from scheduler.telemetry import telemetry
from scheduler.views import VIEWS, view_of
from tests.unit.scheduler.builders import CRASHED, TORCH, Farm, plan_of
from workers.contract import Options

_CHANNEL = ["rapl", "package", "energy", "mJ"]


def _columns(anchor: float, *offset_s: float) -> str:
    count = len(offset_s)
    told = {"anchor": anchor, "channels": [_CHANNEL], "offset_s": list(offset_s), "channel": [0] * count}
    return json.dumps({**told, "value": [1.0] * count, "quality": [0] * count, "why": {}})


def _measuring(farm: Farm) -> int:
    farm.play(lambda order: "silent" if order.convert is None else Succeed())
    farm.submit(plan_of(farm.devices(), TORCH))
    for _ in range(20):
        farm.tick()
        if farm.host.running:
            return min(farm.host.running)
    raise AssertionError("nothing runs")


#: Their sums are times, and they are none.
_FAR = [(1e305, -1e305), (1e18, -1e18)]


@pytest.mark.parametrize("times", _FAR)
def test_an_anchor_that_is_no_time_fails_its_attempt_alone(farm: Farm, times: tuple[float, float]) -> None:
    attempt = _measuring(farm)
    farm.host.finish(attempt, Succeed(), telemetry=[])
    farm.host._events[-1]["telemetry"] = _columns(*times)
    farm.settle()
    assert farm.job("measure").failure_code == "bad_report"
    assert farm.rows(telemetry) == []


@pytest.mark.parametrize("times", _FAR)
def test_between_attempts_it_is_dropped(farm: Farm, times: tuple[float, float]) -> None:
    farm.host.read({"here:0": _columns(*times)})
    farm.tick()
    farm.host.read({"here:0": _columns(1000.0, 0.0)})
    farm.tick()
    assert len(farm.rows(telemetry)) == 1


@pytest.mark.parametrize("clock", [1e300, 1e14, -1e14])
def test_a_clock_that_tells_no_time_moves_nothing(farm: Farm, clock: float) -> None:
    attempt = _measuring(farm)
    farm.host.now = clock
    farm.host.finish(attempt, Succeed(), telemetry=[])
    farm.host._events[-1]["telemetry"] = _columns(1000.0, 0.0)
    farm.host.read({"here:0": _columns(1000.0, 0.0)})
    farm.settle()
    assert farm.job("measure").state == "succeeded"
    assert [row.at.timestamp() for row in farm.rows(telemetry)] == [1000.0, 1000.0]


@pytest.mark.parametrize("peak", [2**63, -(2**63) - 1, 10**40])
def test_an_integer_that_no_column_holds_fails_its_attempt_alone(farm: Farm, peak: int) -> None:
    attempt = _measuring(farm)
    farm.host.finish(attempt, Succeed())
    event = farm.host._events[-1]
    report = json.loads(event["report"])
    report["result"]["measurement"]["peak_rss_bytes"] = peak
    event["report"] = json.dumps(report)
    farm.settle()
    assert farm.job("measure").failure_code == "bad_report"


@pytest.mark.parametrize("clock", [math.inf, -math.inf, math.nan])
def test_a_clock_that_tells_no_number_is_not_heard(farm: Farm, clock: float) -> None:
    [host] = farm.dispatcher._roster.hosts.values()
    host.hear(clock, farm.clock().timestamp())
    assert (list(host.heard), host.ahead_s) == ([], 0.0)


@pytest.mark.parametrize("count", [0, 2**31, 2**63])
def test_counts_that_no_column_holds_are_refused_before_they_are_asked_for(count: int) -> None:
    for request in (
        Request(models=("net",), threads=(1, count)),
        Request(models=("net",), options=Options(batch=count)),
    ):
        with pytest.raises(UsageError, match=f"{count}: from 1 to 2147483647"):
            request.check()


def test_the_largest_counts_are_kept(farm: Farm) -> None:
    farm.play(lambda order: CRASHED if order.measure is not None else Succeed())
    farm.run(plan_of(farm.devices(), TORCH, threads=(2**31 - 1,)))
    assert [row.threads for row in farm.rows(cells)] == [2**31 - 1]


_ODD: dict[str, dict[str, Any]] = {
    "a NUL": {"attributes": {"model": "x\0", "board\0": "y\0"}},
    "no UTF-8": {"attributes": {"model": "x\ud800"}},
    "no number": {"attributes": {"model": "x", "size": math.nan}},
    "a NUL in its name": {"name": "d\0", "kind": "cpu\0"},
    "a long name": {"name": "d" * 1000},
}


@pytest.mark.parametrize("odd", _ODD.values(), ids=list(_ODD))
def test_one_odd_device_takes_no_view_from_the_farm(
    farm: Farm, odd: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scripted, "_wire", lambda document: document)
    farm.host.plug([replace(farm.host.devices[0], **odd)])
    farm.run(plan_of(farm.devices(), TORCH))
    assert farm.job("measure").state == "succeeded"
    with reading(farm.engine) as connection:
        told = {view.name: connection.execute(select(view_of(view.name))).all() for view in VIEWS}
    [latest] = told["latest_result"]
    assert latest.device.startswith("d")
    assert latest.device_model in ("", "x", "x?")


def test_a_nul_in_a_report_costs_nothing_but_itself(farm: Farm) -> None:
    attempt = _measuring(farm)
    farm.host.finish(attempt, Succeed())
    event = farm.host._events[-1]
    report = json.loads(event["report"])
    report["environment"] = {"board": "a\0b", "path": "c:\\u0000"}
    report["judgement"]["flags"] = ["noisy\0"]
    event["report"] = json.dumps(report)
    farm.settle()
    assert farm.job("measure").state == "succeeded"
    with reading(farm.engine) as connection:  # a part of it, as the database itself reads it
        [environment] = connection.execute(select(results.c.document["environment"])).scalars()
    assert environment == {"board": "ab", "path": "c:\\u0000"}
    assert [point.flags for point in farm.points()] == ["noisy"]


@pytest.mark.parametrize("p50", [-1.0, 1e308])
def test_a_latency_that_nothing_has_is_no_result(farm: Farm, p50: float) -> None:
    attempt = _measuring(farm)
    farm.host.finish(attempt, Succeed(p50_ms=p50))
    farm.settle()
    job = farm.job("measure")
    assert (job.state, job.failure_code, f"{p50:g} ms" in job.failure_message) == ("failed", "bad_report", True)
    assert farm.points() == []
