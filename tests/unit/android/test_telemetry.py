"""workers.android.telemetry: readings of a run, what they make of throttling, and one for each absent sensor."""

from __future__ import annotations

from tests.unit.android.snapshots import process_stat, sample, snapshot
from tests.unit.builders import make_energy, make_gate, make_measurement
from workers.android.snapshot import read_snapshot
from workers.android.telemetry import idle_readings, readings
from workers.judge import judge
from workers.report import Reading


def values(told: tuple[Reading, ...], quantity: str, domain: str | None = None) -> list[tuple[float, float | None]]:
    """Moments and values of one quantity."""
    return [(r.at, r.value) for r in told if r.quantity == quantity and domain in (None, r.domain)]


def test_a_run_s_readings_begin_with_the_last_full_look_before_it() -> None:
    snapshots = [
        snapshot(8.0, battery=sample("battery_usb"), thermal=sample("thermal_pixel"), zones=sample("zones_mixed")),
        snapshot(9.0, current=-400_000),
        snapshot(10.0, current=-500_000, rails_uj={"VDD_CPU": 7000}),
        snapshot(11.0, current=-600_000, rails_uj={"VDD_CPU": 9000}),
        snapshot(12.0),
    ]
    told = readings(snapshots, 10.0, 11.5)
    assert values(told, "level") == [(8.0, 61.0)]
    assert values(told, "temperature", "skin") == [(8.0, 35.25), (8.0, 33.1)]  # the HAL's, and the zones'
    assert values(told, "temperature", "cpu") == [(8.0, 44.1), (8.0, 45.2)]
    assert values(told, "current") == [(8.0, None), (10.0, -500.0), (11.0, -600.0)]
    assert values(told, "energy", "rail:VDD_CPU") == [(10.0, 7.0), (11.0, 9.0)]
    assert values(told, "clock", "policy0") == [(10.0, 1500.0), (11.0, 1500.0)]
    assert values(told, "clock_limit") == [(10.0, 2000.0)]
    assert values(told, "thermal_status") == [(8.0, 1.0)]
    assert all(reading.value is None or reading.quality in ("ok", "partial") for reading in told)


def test_every_absent_sensor_says_why_once() -> None:
    bare = snapshot(
        10.0,
        battery=sample("battery_no_service"),
        thermal="Can't find service: thermalservice\n",
        voltage_uv=None,
        current="denied",
        limits_khz=(),
        zones="grep: /sys/class/thermal/thermal_zone*/type: Permission denied\n",
    )
    told = {(r.sensor, r.quantity): r for r in readings([bare, bare], 9.0, 11.0) if r.value is None}
    qualities = {key: reading.quality for key, reading in told.items()}
    assert qualities == {
        ("android-battery", "level"): "unsupported",
        ("android-battery", "temperature"): "unsupported",
        ("android-battery", "voltage"): "unsupported",
        ("android-battery", "current"): "no_permission",
        ("android-battery", "charge"): "unsupported",
        ("android-thermal", "thermal_status"): "unsupported",
        ("android-thermal", "temperature"): "unsupported",
        ("android-zones", "temperature"): "no_permission",
        ("android-clocks", "clock"): "unsupported",
        ("android-rails", "energy"): "unsupported",
        ("android-memory", "rss"): "unsupported",
    }
    assert all(reading.why for reading in told.values())


def test_no_look_at_all_is_no_reading_of_nought() -> None:
    told = readings([], 0.0, 3.0)
    assert told
    assert all(reading.value is None and reading.why for reading in told)


def test_a_lowered_clock_limit_makes_the_verdict_throttled() -> None:
    snapshots = [snapshot(100.0, limits_khz=[2_000_000]), snapshot(101.0, limits_khz=[2_000_000])]
    gate, energy = make_gate(), make_energy()
    steady = readings(snapshots, 101.0, 103.0)
    assert judge(make_measurement(), gate, gate, steady, energy).verdict == "valid"
    lowered = readings([*snapshots, snapshot(102.0, limits_khz=[1_500_000])], 101.0, 103.0)
    judgement = judge(make_measurement(), gate, gate, lowered, energy)
    assert judgement.verdict == "throttled"
    assert judgement.reasons == ("android-clocks: 1 throttle events",)


def test_a_limit_that_the_preparation_set_is_no_throttling() -> None:
    told = readings([snapshot(99.0, limits_khz=[2_800_000]), snapshot(101.0, limits_khz=[1_800_000])], 100.0, 103.0)
    assert values(told, "throttle_events", "policy0") == [(103.0, 0.0)]


def test_a_moderate_thermal_status_is_a_throttle_event() -> None:
    hot = snapshot(101.0, battery=sample("battery_usb"), thermal="Thermal Status: 2\n")
    assert values(readings([hot], 100.0, 103.0), "throttle_events", "phone") == [(103.0, 1.0)]


def test_memory_of_the_phone_and_of_the_job_s_processes() -> None:
    status = "".join(f"/proc/{pid}/status:VmRSS:\t   {kb} kB\n" for pid, kb in ((10, 2000), (11, 40_000)))
    plain = snapshot(101.0, job=process_stat(10, "sh", 1, 10, 0)).raw
    seen = read_snapshot(plain.replace("/proc/meminfo", f"{status}/proc/meminfo"), 101.0)
    told = readings([seen], 100.0, 103.0)
    assert values(told, "available") == [(101.0, 1000 * 1024.0)]
    assert values(told, "rss") == [(101.0, 42_000 * 1024.0)]


def test_sustained_runs_tell_percent_per_hour_or_why_not() -> None:
    plugged = [snapshot(float(at), battery=sample("battery_usb")) for at in range(0, 601, 5)]
    (reading,) = [r for r in readings(plugged, 0.0, 600.0) if r.quantity == "discharge"]
    assert (reading.value, reading.quality) == (None, "unsupported")
    assert "USB" in str(reading.why)

    def dump(at: int) -> str:
        return sample("battery_unplugged").replace("level: 61", f"level: {61 - at // 200}")

    off = [snapshot(float(at), battery=dump(at)) for at in range(0, 601, 5)]
    (reading,) = [r for r in readings(off, 0.0, 600.0) if r.quantity == "discharge"]
    assert (reading.value, reading.unit, reading.quality) == (18.0, "%/h", "partial")


def test_a_phone_that_runs_nothing_tells_its_newest_values_once() -> None:
    full = snapshot(8.0, battery=sample("battery_usb"), thermal=sample("thermal_pixel"), zones=sample("zones_mixed"))
    latest = snapshot(9.0, current=-400_000, rails_uj={"VDD_CPU": 7000})
    told = idle_readings(full, latest)
    keys = [(one.sensor, one.domain, one.quantity) for one in told]
    assert len(keys) == len(set(keys))
    assert all(one.value is not None for one in told)
    assert values(told, "level") == [(8.0, 61.0)]
    assert values(told, "current") == [(9.0, -400.0)]
    assert values(told, "temperature", "skin") == [(8.0, 35.25), (8.0, 33.1)]
    # What only a run is asked about is not told.
    assert not {"energy", "clock", "clock_limit", "throttle_events", "rss"} & {one.quantity for one in told}


def test_a_phone_without_a_full_look_tells_what_it_has() -> None:
    assert {one.quantity for one in idle_readings(None, snapshot(9.0, current=-400_000))} <= {
        "current",
        "voltage",
        "available",
    }
