"""Readings of devices that run nothing: who is told of, by which driver, and what goes wrong there."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from device_registry.capabilities import DeviceDescription
from scheduler.reports import read_readings
from workers import clock, host_monitor
from workers.devices.cpu import HostCpu
from workers.devices.device import DeviceDriver
from workers.devices.sim import SimDevices
from workers.devices.sim_fleet import FLEET_VARIABLE
from workers.host_monitor import HostMonitor
from workers.idle_readings import idle_readings
from workers.readings import ReadingColumns
from workers.report import Reading
from workers.sensors.disk import Disk
from workers.sensors.sensor import Sensor

_CPU = DeviceDescription(key="cpu:1", name="lab-cpu", kind="cpu", driver="cpu", attributes={})


class _Warm(Sensor):
    """Always as warm."""

    name, domain, quantity, unit = "zones", "zone:a", "temperature", "C"

    def why_not(self) -> None:
        return None

    def read(self, at: float, pids: frozenset[int]) -> list[Reading]:
        return [self.reading(at, 41.5)]


class _Absent(_Warm):
    name = "rapl"

    def why_not(self) -> tuple[Any, str]:  # type: ignore[override]
        return "unsupported", "no counters here"


@pytest.fixture
def monitor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HostMonitor]:
    monkeypatch.setattr(host_monitor, "_PERIOD_S", 3600.0)
    disk = Disk()
    disk.home = tmp_path
    made = HostMonitor([_Warm(), _Absent(), disk])
    yield made
    made.close()


def _told(found: dict[str, str], key: str) -> dict[str, float | None]:
    columns: ReadingColumns = read_readings(found[key])
    return {columns.channels[number][0]: value for number, value in zip(columns.channel, columns.value, strict=True)}


def test_a_cpu_tells_what_was_seen_last_and_its_hosts_disk(monitor: HostMonitor, tmp_path: Path) -> None:
    found = idle_readings({_CPU.key: _CPU}, {"cpu": HostCpu()}, monitor, busy=())
    told = _told(found, _CPU.key)
    assert told.keys() == {"zones", "disk"}  # of what this host lacks nothing is said every minute
    assert told["zones"] == 41.5
    assert told["disk"] == pytest.approx(shutil.disk_usage(tmp_path).free, rel=0.2)


def test_a_device_that_works_is_left_alone_but_for_its_hosts_disk(monitor: HostMonitor) -> None:
    found = idle_readings({_CPU.key: _CPU}, {"cpu": HostCpu()}, monitor, busy={_CPU.key})
    assert _told(found, _CPU.key).keys() == {"disk"}


def test_a_device_that_is_away_is_not_told_of(monitor: HostMonitor) -> None:
    away = replace(_CPU, presence="offline")
    assert idle_readings({away.key: away}, {"cpu": HostCpu()}, monitor, busy=()) == {}


def test_the_disk_is_no_part_of_an_attempt(monitor: HostMonitor) -> None:
    now = monitor.look_now()
    assert {reading.sensor for reading in monitor.telemetry(now - 1, now + 1)} == {"zones", "rapl"}


def test_a_disk_that_cannot_be_asked_says_so(tmp_path: Path) -> None:
    disk = Disk()
    disk.home = tmp_path / "gone"
    [reading] = disk.read(5.0, frozenset())
    assert (reading.value, reading.quality, reading.at) == (None, "stale", 5.0)
    assert reading.why is not None
    assert "No such file" in reading.why


#: Device to what a lab's driver says of it that no reading may say.
_MISTAKES: dict[str, dict[str, Any]] = {
    "text": {"value": "36.5"},
    "word": {"quality": "fine"},
    "time": {"at": None},
    "bytes": {"why": b"x", "value": None},
}


class _Odd(HostCpu):
    """A lab's own driver."""

    def readings(self, device: DeviceDescription, monitor: HostMonitor) -> Sequence[Reading]:
        if device.key == "b":
            raise KeyError("a lab's mistake")
        if device.key in _MISTAKES:
            wrong: dict[str, Any] = {"sensor": "s", "domain": "d", "quantity": "q", "unit": "u", "quality": "ok"}
            return [Reading(**(wrong | {"value": 1.0, "at": clock.steady()} | _MISTAKES[device.key]))]
        known: dict[str, Any] = {"sensor": "s", "domain": "d", "quantity": "q", "unit": "u", "quality": "ok"}
        return [Reading(**known, value=float("inf"), at=clock.steady())]


def test_a_driver_that_fails_costs_its_own_readings(monitor: HostMonitor, caplog: pytest.LogCaptureFixture) -> None:
    devices = {key: replace(_CPU, key=key, kind="other", driver="odd", name=key) for key in "abc"}
    drivers: dict[str, DeviceDriver] = {"odd": _Odd()}
    found = idle_readings(devices, drivers, monitor, busy=())
    assert found.keys() == {"a", "c"}
    assert _told(found, "a").keys() == {"disk", "s"}  # the first of a host without a CPU tells of its disk
    assert _told(found, "c") == {"s": None}
    assert "no readings of b: " in caplog.text


def test_readings_that_cannot_be_sent_cost_nobody_elses(monitor: HostMonitor, caplog: pytest.LogCaptureFixture) -> None:
    """Nor the agent, which would tell of nothing any more."""
    devices = {key: replace(_CPU, key=key, kind="other", driver="odd", name=key) for key in ("a", *_MISTAKES)}
    found = idle_readings(devices, {"odd": _Odd()}, monitor, busy=())
    assert found.keys() == {"a"}
    for name in _MISTAKES:
        assert f"no readings of {name}: " in caplog.text


def test_a_slow_sensor_that_fails_costs_its_own_readings(monitor: HostMonitor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Disk, "read", lambda *_: 1 / 0)
    found = idle_readings({_CPU.key: _CPU}, {"cpu": HostCpu()}, monitor, busy=())
    assert _told(found, _CPU.key).keys() == {"zones"}


def test_a_driver_need_not_tell_any(monitor: HostMonitor) -> None:
    assert list(DeviceDriver.readings(HostCpu(), _CPU, monitor)) == []


def test_times_are_those_of_the_wall_clock_when_they_are_told(
    monitor: HostMonitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.idle_readings.lead_s", lambda: 3600.0)
    columns = read_readings(idle_readings({_CPU.key: _CPU}, {"cpu": HostCpu()}, monitor, ())[_CPU.key])
    assert columns.anchor - clock.steady() == pytest.approx(3600, abs=60)


def test_a_simulated_device_tells_how_warm_it_is(
    monitor: HostMonitor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet = tmp_path / "fleet.json"
    fleet.write_text('{"devices": [{"model": "Warm"}, {"model": "Dumb", "thermal": null}]}')
    monkeypatch.setenv(FLEET_VARIABLE, str(fleet))
    driver = SimDevices()
    warm, dumb = driver.discover()
    [reading] = driver.readings(warm, monitor)
    assert (reading.sensor, reading.domain, reading.quantity, reading.value) == (
        "sim-thermal",
        "soc",
        "temperature",
        25.0,
    )
    assert list(driver.readings(dumb, monitor)) == []
    assert list(driver.readings(replace(warm, key="sim:gone"), monitor)) == []
