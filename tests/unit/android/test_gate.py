"""workers.android.gate and .foreign: what keeps a phone from being measured, and what may pass as unknown."""

from __future__ import annotations

import pytest

from tests.unit.android.snapshots import process_stat, sample, snapshot
from workers.android.foreign import foreign_load
from workers.android.gate import GateLimits, freshness, gate_checks, power_facts
from workers.report import ForeignLoad

QUIET = ForeignLoad(share_of_core=0.02, window_s=2.0)
USB = sample("battery_usb")


def test_a_ready_phone_passes_every_check() -> None:
    checks = gate_checks(snapshot(0.0, battery=USB, thermal=sample("thermal_samsung")), QUIET, GateLimits())
    assert set(checks.values()) == {"ok"}


@pytest.mark.parametrize(
    ("battery", "thermal", "limits", "check", "word"),
    [
        (USB, "thermal_samsung", {"battery_min_percent": 70.0}, "battery_level", "61 %, to start from 70"),
        (USB, "thermal_samsung", {"battery_max_percent": 60.0}, "battery_level", "to 60 %"),
        (sample("battery_faked"), "thermal_samsung", {}, "battery_reports", "UPDATES STOPPED"),
        (USB, "thermal_pixel", {}, "thermal_status", "1 (light)"),
        (USB, "thermal_pixel", {"thermal_status_max": 1, "skin_limit_c": 35.0}, "skin_temperature", "35.2 C"),
        (USB, "thermal_not_ready", {}, "thermal_status", "by hand"),
    ],
)
def test_what_is_wrong_is_said_in_words(
    battery: str, thermal: str, limits: dict[str, float], check: str, word: str
) -> None:
    seen = snapshot(0.0, battery=battery, thermal=sample(thermal))
    checks = gate_checks(seen, QUIET, GateLimits(**limits))  # type: ignore[arg-type]
    assert word in checks.pop(check)
    if check != "thermal_status":
        assert all(answer in ("ok", "unknown") for answer in checks.values())


def test_absent_sensors_are_unknown_and_no_reason_to_wait() -> None:
    unknown = ForeignLoad(share_of_core=None, window_s=0.0)
    bare = snapshot(0.0, battery=sample("battery_no_service"), thermal="Can't find service: thermalservice\n")
    for seen in (None, snapshot(0.0), bare):
        assert set(gate_checks(seen, unknown, GateLimits()).values()) == {"unknown"}


def test_what_a_phone_told_long_ago_or_before_it_restarted_is_not_gone_by() -> None:
    full = snapshot(100.0, battery=USB)
    assert freshness(full, snapshot(109.0), 110.0) == "ok"
    assert freshness(full, snapshot(100.0), 160.0) == "the phone has not told how it is for 60 s"
    assert "restarted" in freshness(full, snapshot(101.0, boot="boot-2"), 102.0)
    assert freshness(None, None, 100.0) == "the phone has not told yet how it is"


def test_a_box_without_a_battery_has_no_level() -> None:
    checks = gate_checks(snapshot(0.0, battery=sample("battery_tv_box")), QUIET, GateLimits(battery_max_percent=80.0))
    assert checks["battery_level"] == "unknown"


def test_foreign_work_is_wrong_and_named() -> None:
    load = ForeignLoad(share_of_core=0.5, window_s=2.0)
    assert "50% of a core" in gate_checks(snapshot(0.0, battery=USB), load, GateLimits())["foreign_load"]


def test_power_is_noted_for_the_environment() -> None:
    seen = snapshot(0.0, battery=USB, screen=sample("screen"))
    assert power_facts(seen) == {"power": "USB", "screen": "off", "battery_saver": "on"}
    assert power_facts(None) == {}
    assert power_facts(snapshot(0.0, battery=sample("battery_unplugged")))["power"] == "battery"


def test_busy_time_of_nobody_of_ours_is_foreign() -> None:
    load = foreign_load([snapshot(0.0, busy_ticks=1000), snapshot(2.0, busy_ticks=1060)], 0.0, 2.0)
    assert load.share_of_core == pytest.approx(0.30)
    assert load.window_s == 2.0


def test_our_job_and_our_looking_are_not_foreign() -> None:
    def moment(at: int) -> str:
        tool = process_stat(20, "benchmark_model", 10, 10, 90 * at)
        return process_stat(10, "sh", 1, 10, 0) + tool

    snapshots = [
        snapshot(
            float(at),
            busy_ticks=100 * at,
            job=moment(at),
            # a shell of its own each time, three ticks by it and its children; the daemon, two ticks more each time
            watchers=process_stat(900 + at, "sh", 5, 5, 1, of_children=2) + process_stat(5, "adbd", 1, 5, 2 * at),
        )
        for at in range(6)
    ]
    assert foreign_load(snapshots, 0.0, 5.0).share_of_core == pytest.approx(0.05)


def test_the_time_of_a_tool_that_ended_has_gone_to_its_leader() -> None:
    before = process_stat(10, "sh", 1, 10, 0) + process_stat(20, "tool", 10, 10, 150)
    after = process_stat(10, "sh", 1, 10, 0, of_children=190) + process_stat(21, "tool", 10, 10, 8)
    load = foreign_load([snapshot(0.0, job=before), snapshot(2.0, busy_ticks=48, job=after)], 0.0, 2.0)
    assert load.share_of_core == 0.0


def test_a_job_that_begins_is_ours_from_its_beginning_and_the_step_it_ends_in_says_nothing() -> None:
    job = process_stat(10, "sh", 1, 10, 180)
    snapshots = [
        snapshot(0.0),
        snapshot(2.0, busy_ticks=200, job=job),
        snapshot(3.0, busy_ticks=900),  # the job's last second is in here, unseen
        snapshot(5.0, busy_ticks=910),
    ]
    load = foreign_load(snapshots, 0.0, 5.0)
    assert load.share_of_core == pytest.approx(0.30 / 4)
    assert load.window_s == 4.0


def test_time_is_the_phone_s_own_and_a_reboot_ends_it() -> None:
    late = [snapshot(0.0), snapshot(9.0, uptime_s=2.0, busy_ticks=20)]  # seven seconds went to the cable
    assert foreign_load(late, 0.0, 9.0).share_of_core == pytest.approx(0.10)
    again = [snapshot(0.0), snapshot(2.0, boot="boot-2", busy_ticks=50)]
    assert foreign_load(again, 0.0, 2.0) == ForeignLoad(share_of_core=None, window_s=0.0)
    assert foreign_load([snapshot(0.0)], 0.0, 2.0).share_of_core is None
