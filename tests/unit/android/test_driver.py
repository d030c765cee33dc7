"""workers.devices.android: which of a phone's moments a gate and an idle baseline are about."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from tests.unit.android.snapshots import process_stat, sample, snapshot
from tests.unit.builders import make_measurement
from workers.android.snapshot import Snapshot
from workers.devices.android import AndroidPhones

DEVICE: Any = SimpleNamespace(key="android:x", name="x")


class _Told:
    """A history of snapshots that are at hand."""

    def __init__(self, snapshots: Sequence[Snapshot] = ()) -> None:
        self.snapshots = snapshots

    def between(self, since: float, until: float = math.inf) -> tuple[Snapshot, ...]:
        return tuple(one for one in self.snapshots if since <= one.at <= until)

    def latest(self, *, full: bool = False) -> Snapshot | None:
        return next((one for one in reversed(self.snapshots) if one.full or not full), None)


def driver_of(*snapshots: Snapshot) -> AndroidPhones:
    """A driver that knows one phone."""
    identity = SimpleNamespace(attributes={"abis": ["arm64-v8a"], "model": "m"})
    known = SimpleNamespace(key=DEVICE.key, history=_Told(snapshots), phone=object(), identity=identity)
    driver = AndroidPhones()
    driver._rack = SimpleNamespace(phone=lambda key: known)  # type: ignore[assignment]
    return driver


def checked(driver: AndroidPhones, since: float, until: float) -> Any:
    return driver.check(DEVICE, None, since, until, ())  # type: ignore[arg-type]


def test_a_phone_that_was_away_is_not_ready_by_what_it_told_before() -> None:
    driver = driver_of(snapshot(100.0, battery=sample("battery_usb")), snapshot(101.0))
    assert checked(driver, 98.0, 102.0).passed
    late = checked(driver, 158.0, 160.0)
    assert (late.passed, late.checks["snapshot"]) == (False, "the phone has not told how it is for 60 s")


def test_what_we_did_before_a_run_is_no_foreign_load_of_it() -> None:
    job = process_stat(10, "sh", 1, 10, 0)
    before = [snapshot(100.0 + at, busy_ticks=100 * at) for at in range(5)]  # pushing: a core
    during = [snapshot(104.0 + at, busy_ticks=400, job=job) for at in range(1, 4)]
    assert checked(driver_of(*before), 101.5, 104.0).foreign_load.share_of_core == pytest.approx(1.0)
    assert checked(driver_of(*before, *during), 104.5, 107.0).foreign_load.share_of_core == 0.0


def test_the_job_before_is_not_in_the_idle_baseline(monkeypatch: pytest.MonkeyPatch) -> None:
    windows: list[tuple[float, float]] = []
    timed: dict[str, Any] = {"timed_from": time.time() + 30.0, "timed_to": time.time() + 40.0}

    class _Attempt:
        job_id, left_clean = "1", True

        def __init__(self, *_: object) -> None:
            pass

        def measure(self, _: object) -> Any:
            return replace(make_measurement(), **timed)

        def result(self, _: object) -> Any:
            return SimpleNamespace(started_at=timed["timed_from"] - 1.0)

    def spent(
        _: object, timed_from: float, timed_to: float, since: float, until: float, *__: object, **___: str
    ) -> Any:
        windows.append((since, until))
        return SimpleNamespace(quality="unsupported")

    monkeypatch.setattr("workers.devices.android.PhoneAttempt", _Attempt)
    monkeypatch.setattr("workers.devices.android.energy", spent)
    driver = driver_of()
    task = SimpleNamespace(runtime="benchmark-model", options=SimpleNamespace(batch=1))
    order = SimpleNamespace(on_device=task, profile=None, evaluate=None)
    errand: Any = SimpleNamespace(order=order, device=DEVICE, folder=None, ending=None, tell_started=None)
    began = time.time()
    for _ in range(2):
        driver.carry(errand)
    assert windows[0][0] == timed["timed_from"] - 60.0
    assert began <= windows[1][0] <= time.time()
