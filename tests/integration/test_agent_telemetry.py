"""What an agent tells of its devices: while they work, thinned and in full, and between attempts."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.integration.agent_orders import HANGS, event_of, order, readings_in, report_of, until
from workers import attempts, clock, host_monitor, idle_readings
from workers.agent import HostAgent
from workers.artifacts import ArtifactStore
from workers.contract import MeasureTask, StoredFile
from workers.examples import Examples
from workers.report import Reading, Report
from workers.sensors.sensor import Sensor
from workers.telemetry_block import read_block

_REAL_TIME = time.time


class _Counter(Sensor):
    """A counter that is read with every look, and now and then is no number."""

    name, domain, quantity, unit = "made-up", "d", "energy", "mJ"

    def __init__(self) -> None:
        self._looks = 0

    def why_not(self) -> None:
        return None

    def read(self, at: float, pids: frozenset[int]) -> list[Reading]:
        self._looks += 1
        return [self.reading(at, float("nan") if self._looks % 7 == 3 else float(self._looks))]


@pytest.fixture
def agent(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HostAgent]:
    """An agent that looks ten times a second, and tells of idle devices as often."""
    monkeypatch.setattr(host_monitor, "_PERIOD_S", 0.1)
    monkeypatch.setattr("workers.agent.READINGS_PERIOD_S", 0.2)
    monkeypatch.setattr("workers.agent.load_sensors", lambda home: [_Counter(), *_slow(home)])
    made = HostAgent(home, f"file://{home / 'store'}", drivers=["cpu"])
    yield made
    made.close()


def _slow(home: Path) -> Sequence[Sensor]:
    from workers.host import load_sensors

    return [sensor for sensor in load_sensors(home) if sensor.slow]


def _measure(agent: HostAgent) -> dict[str, Any]:
    """A measurement on this host's CPU that hangs until its deadline."""
    known: dict[str, Any] = {"runtime": "r", "format": "pt2", "recipe": "fp32", "model": "m", "weights": "random"}
    task = MeasureTask(**known, entry=HANGS, compute_unit="cpu")
    place = agent.hello()["devices"][0]["key"]
    folder = agent._spool.root
    Examples({"x": np.zeros((1, 4), np.float32)}).save(folder / "examples.npz")
    inputs = {
        "artifact": agent._store.put_bytes(b"a program", folder),
        "examples": agent._store.put_bytes((folder / "examples.npz").read_bytes(), folder),
    }
    return order("", convert=None, measure=task, place=place, gate="none", deadline_s=3.0, inputs=inputs)


def _block(home: Path, report: Report) -> list[Reading]:
    assert isinstance(report.telemetry_block, StoredFile)
    data = ArtifactStore(f"file://{home / 'store'}", home / "cache").fetch(report.telemetry_block.sha256).read_bytes()
    assert len(data) == report.telemetry_block.bytes
    return read_block(data)


def test_rows_are_thinned_and_the_block_holds_everything(agent: HostAgent, home: Path) -> None:
    agent.start([_measure(agent)])
    report = report_of(agent)
    assert report.result.failure is not None  # what was read until then is kept all the same
    full = _block(home, report)
    assert len(full) > len(report.telemetry) > 2
    counted = [one for one in full if one.value is not None]
    told = [one for one in report.telemetry if one.value is not None]
    assert (told[0].value, told[-1].value) == (counted[0].value, counted[-1].value)
    odd = [one for one in full if one.value is None]
    assert odd
    assert {(one.quality, one.why) for one in odd} == {("implausible", "the sensor said nan")}
    assert [one.why for one in report.telemetry if one.value is None] == [one.why for one in odd]


def test_what_is_judged_is_the_full_series(agent: HostAgent, monkeypatch: pytest.MonkeyPatch) -> None:
    """Thinned is what was judged, and nothing before."""
    seen: list[int] = []
    real: Callable[..., Report] = attempts.Attempt._with_block

    def note(self: attempts.Attempt, report: Report, *given: Any) -> Report:
        seen.append(len(report.telemetry))
        return real(self, report, *given)

    monkeypatch.setattr(attempts.Attempt, "_with_block", note)
    agent.start([_measure(agent)])
    report = report_of(agent)
    assert seen[0] > len(report.telemetry)


def test_a_wall_clock_that_is_set_meanwhile_bends_no_series(
    agent: HostAgent, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    began = _REAL_TIME()
    agent.start([_measure(agent)])
    event_of(agent, "started")
    monkeypatch.setattr(clock, "time", SimpleNamespace(**vars(time) | {"time": lambda: _REAL_TIME() - 86_400.0}))
    report = report_of(agent)
    times = [one.at for one in _block(home, report)]
    assert times == sorted(times)
    assert began - 1 <= times[0] <= times[-1] <= _REAL_TIME() + 1
    assert began - 1 <= report.result.started_at <= report.result.finished_at <= _REAL_TIME() + 1


def test_a_clock_that_was_set_before_an_attempt_is_its_clock(
    agent: HostAgent, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clock, "time", SimpleNamespace(**vars(time) | {"time": lambda: _REAL_TIME() + 86_400.0}))
    agent.start([_measure(agent)])
    report = report_of(agent)
    times = [one.at for one in [*_block(home, report), *report.telemetry]]
    assert all(abs(at - 86_400.0 - _REAL_TIME()) < 600 for at in [*times, report.result.started_at])


def test_a_store_that_takes_no_block_costs_the_block_and_nothing_else(
    agent: HostAgent, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = agent._store.put_bytes

    def refuse(data: bytes, folder: Path) -> str:
        if b"offset_s.npy" in data:
            raise OSError(28, "No space left on device")
        return real(data, folder)

    monkeypatch.setattr(agent._store, "put_bytes", refuse)
    agent.start([_measure(agent)])
    report = report_of(agent)
    assert report.telemetry_block is None
    assert report.telemetry
    assert report.result.failure is not None
    assert report.result.failure.code == "hung"
    assert "no full-rate telemetry: " in caplog.text


def _between(agent: HostAgent) -> list[dict[str, Any]]:
    return [event for event in agent.poll(0, 0)["events"] if event["kind"] == "readings"]


def test_a_device_that_runs_nothing_is_told_of(agent: HostAgent) -> None:
    [event, *_] = until(lambda: _between(agent), "readings")
    [key] = [device["key"] for device in agent.hello()["devices"]]
    told = readings_in(event["devices"][key])
    assert {(one["sensor"], one["quantity"]) for one in told} == {("disk", "free"), ("made-up", "energy")}
    [disk] = [one for one in told if one["sensor"] == "disk"]
    assert disk["value"] > 0
    assert abs(disk["at"] - time.time()) < 600
    assert json.dumps(event, allow_nan=False)


def test_a_host_that_measures_is_left_alone_for_a_while(agent: HostAgent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idle_readings, "_MOST_SKIPPED", 10**6)
    agent.start([_measure(agent)])
    event_of(agent, "started")
    agent._outbox.take(10**6)
    time.sleep(0.7)
    assert _between(agent) == []
    report_of(agent)
    until(lambda: _between(agent), "readings once it runs nothing")


def test_a_host_that_never_rests_tells_of_its_disk_all_the_same(
    agent: HostAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(idle_readings, "_MOST_SKIPPED", 1)
    agent.start([_measure(agent)])
    event_of(agent, "started")
    agent._outbox.take(10**6)
    [event, *_] = until(lambda: _between(agent), "readings")
    [text] = event["devices"].values()
    assert {one["sensor"] for one in readings_in(text)} == {"disk"}


def test_an_agent_tells_its_time(agent: HostAgent) -> None:
    before = time.time()
    assert before <= agent.poll(0, 0)["now"] <= time.time()
