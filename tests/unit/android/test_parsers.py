"""workers.android.parsers on dumps of many vendors: what a phone told, and four answers for what it did not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.android.snapshots import sample
from workers.android.parsers.battery import read_battery
from workers.android.parsers.cpu_clocks import read_cpu_clocks
from workers.android.parsers.cpu_times import read_cpu_times, read_processes
from workers.android.parsers.memory import read_memory
from workers.android.parsers.power_supply import read_power_supply
from workers.android.parsers.properties import read_properties
from workers.android.parsers.rails import read_rails
from workers.android.parsers.screen import read_screen
from workers.android.parsers.temperature import part_of
from workers.android.parsers.thermal_service import read_thermal_service
from workers.android.parsers.thermal_zones import read_thermal_zones, zone_celsius


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_battery_that_charges_over_usb(end: str) -> None:
    battery = read_battery(sample("battery_usb").replace("\n", end))
    assert (battery.level_percent.value, battery.voltage_mv.value, battery.temperature_c.value) == (61, 4050, 28.1)
    assert (battery.status, battery.plugged, battery.charge_raw) == ("charging", ("usb",), 2_745_000)
    assert (battery.present, battery.updates_stopped, battery.unread) == (True, False, ())


def test_a_battery_whose_values_somebody_set_says_so() -> None:
    assert read_battery(sample("battery_faked")).updates_stopped
    assert not read_battery(sample("battery_samsung")).updates_stopped  # said in an event log below the first block


def test_samsung_events_below_the_block_are_left_alone_and_its_own_keys_are_read() -> None:
    battery = read_battery(sample("battery_samsung"))
    assert (battery.level_percent.value, battery.status, battery.temperature_c.value) == (78, "charging", 30.5)
    assert (battery.current_raw, battery.charge_raw) == (363, 3_120_000)


def test_a_block_without_its_header_in_micro_and_thousandths() -> None:
    battery = read_battery(sample("battery_xiaomi_no_header"))
    assert (battery.plugged, battery.level_percent.value, battery.status) == (("ac",), 53, "full")
    assert (battery.voltage_mv.value, battery.temperature_c.value, battery.charge_raw) == (3899, 31.4, 2415)


def test_lines_that_android_16_puts_between_the_keys_are_none() -> None:
    battery = read_battery(sample("battery_android16"))
    assert (battery.level_percent.value, battery.voltage_mv.value, battery.temperature_c.value) == (42, 3780, 26.5)
    assert (battery.plugged, battery.status, battery.unread) == ((), "discharging", ())


def test_a_box_tells_volts_and_has_no_battery() -> None:
    battery = read_battery(sample("battery_tv_box"))
    assert (battery.voltage_mv.value, battery.voltage_mv.quality, battery.present) == (12_000, "partial", False)
    assert (battery.temperature_c.value, battery.temperature_c.quality) == (None, "implausible")


def test_zero_volts_of_an_emulator_are_no_voltage() -> None:
    battery = read_battery(sample("battery_emulator"))
    assert (battery.voltage_mv.value, battery.voltage_mv.quality) == (None, "implausible")
    assert battery.level_percent.value == 100


def test_a_missing_service_is_not_a_battery_at_nought() -> None:
    battery = read_battery(sample("battery_no_service"))
    assert (battery.seen, battery.level_percent.value, battery.level_percent.quality) == (False, None, "unsupported")
    assert battery.plugged is None
    assert battery.unread == ("Can't find service: battery",)


def test_a_field_fails_alone() -> None:
    battery = read_battery(sample("battery_usb").replace("level: 61", "level: ?").replace("status: 2", "status: 9"))
    assert (battery.level_percent.value, battery.status) == (None, None)
    assert battery.voltage_mv.value == 4050
    assert battery.unread == ("status: 9", "level: ?")


@given(level=st.integers(0, 100), tenths=st.integers(1, 600), millivolts=st.integers(2500, 5000))
def test_every_sane_battery_is_read_back(level: int, tenths: int, millivolts: int) -> None:
    text = f"Current Battery Service state:\n  level: {level}\n  voltage: {millivolts}\n  temperature: {tenths}\n"
    battery = read_battery(text)
    assert battery.level_percent.value == level
    assert battery.voltage_mv.value == millivolts
    assert battery.temperature_c.value == pytest.approx(tenths / 10)


def test_only_what_the_hal_tells_now_counts_and_only_temperatures() -> None:
    thermal = read_thermal_service(sample("thermal_pixel"))
    told = {sensor.name: (sensor.part, sensor.celsius.value) for sensor in thermal.temperatures}
    assert told == {
        "BIG": ("cpu", 44.1),
        "LITTLE": ("cpu", 41.9),
        "G3D": ("gpu", 39.5),
        "TPU": ("npu", 38.0),
        "VIRTUAL-SKIN": ("skin", 35.25),
        "skin rear, lower": ("skin", 33.5),
        "battery": ("battery", 29.0),
        "usb_pwr_therm": ("usb", None),
        "charging_therm": (None, 30.0),
    }
    assert (thermal.status, thermal.status_name, thermal.hal_ready, thermal.overridden) == (1, "light", True, False)
    assert thermal.unread == ()


def test_numbers_shifted_by_one_are_seen_through_by_the_names() -> None:
    sensors = {sensor.name: sensor for sensor in read_thermal_service(sample("thermal_samsung")).temperatures}
    parts = {name: sensor.part for name, sensor in sensors.items()}
    assert parts == {
        "CPU": "cpu",
        "BATTERY": "battery",
        "SKIN": "skin",
        "AP": "gpu",
        "PA": "power_amplifier",
        "CP": "usb",
    }
    assert sensors["SKIN"].celsius.value == 32.1
    assert [sensors[name].celsius.quality for name in ("PA", "CP")] == ["implausible", "implausible"]


def test_a_hal_that_is_not_ready_tells_its_status_alone() -> None:
    thermal = read_thermal_service(sample("thermal_not_ready"))
    assert (thermal.status, thermal.hal_ready, thermal.temperatures, thermal.overridden) == (3, False, (), True)


def test_zones_of_one_phone_tell_three_units() -> None:
    look = read_thermal_zones(sample("zones_mixed"))
    zones = {zone.type: (zone.part, zone.celsius.value, zone.celsius.quality) for zone in look.zones}
    assert zones == {
        "battery": ("battery", 28.5, "ok"),
        "cpu-0-0-usr": ("cpu", 45.2, "ok"),
        "gpuss-0-usr": ("gpu", 41.0, "ok"),
        "quiet-therm": ("skin", 33.1, "ok"),
        "cpu-1-0-usr": ("cpu", None, "implausible"),
        "mtktscpu": ("cpu", None, "implausible"),
        "npu": ("npu", None, "no_permission"),
        "cpu-2-0-usr": ("cpu", None, "implausible"),  # 105 or 10.5 C
        "modem": (None, None, "stale"),
    }


@given(celsius=st.integers(16, 99), unit=st.sampled_from([1, 10, 1000]))
def test_a_warm_zone_is_read_whatever_its_unit(celsius: int, unit: int) -> None:
    assert zone_celsius(celsius * unit).value == celsius


def test_zones_that_the_shell_may_not_list_are_forbidden_rather_than_absent() -> None:
    denied = read_thermal_zones("grep: /sys/class/thermal/thermal_zone*/type: Permission denied\n")
    absent = read_thermal_zones("grep: /sys/class/thermal/thermal_zone*/type: No such file or directory\n")
    assert (denied.missing and denied.missing.quality) == "no_permission"
    assert (absent.missing and absent.missing.quality) == "unsupported"


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("soc", "none"),
        ("soc_thermal", None),
        ("pm8350b-bcl-lvl0", "none"),
        ("ibat", "none"),
        ("cpu-1-4-usr", "cpu"),
        ("apc1_cpu2", "cpu"),
        ("mtktsbattery", "battery"),
        ("nspss-0", "npu"),
        ("spacecraft", None),
        ("pa_therm", "power_amplifier"),
    ],
)
def test_a_name_says_what_a_sensor_looks_at(name: str, part: str | None) -> None:
    assert part_of(name) == part


def test_the_battery_s_own_driver_goes_before_its_gauge() -> None:
    supply = read_power_supply(sample("power_supply"))
    assert (supply.current_raw.value, supply.voltage_mv.value, supply.charge_raw.value) == (-352_000, 3921, 2_745_000)
    assert (supply.status, supply.online) == ("discharging", {"usb": False, "wireless": False})


def test_a_refusal_is_told_as_one() -> None:
    supply = read_power_supply(sample("power_supply_refused"))
    assert supply.current_raw.quality == "no_permission"
    assert "Permission denied" in str(supply.current_raw.why)


@pytest.mark.parametrize("raw", ["-22", "0", "-61"])
def test_an_error_number_is_no_current(raw: str) -> None:
    supply = read_power_supply(f"/sys/class/power_supply/battery/current_now:{raw}\n")
    assert (supply.current_raw.value, supply.current_raw.quality) == (None, "implausible")


def test_clocks_come_by_cluster() -> None:
    clocks = read_cpu_clocks(sample("clocks"))
    little, middle, big = clocks.policies
    assert (little.name, little.current_khz.value, little.limit_khz.value, little.top_khz.value) == (
        "policy0",
        1_100_000,
        1_704_000,
        1_704_000,
    )
    assert middle.limit_khz.value == 2_367_000
    assert (big.current_khz.quality, big.top_khz.quality) == ("implausible", "no_permission")


def test_rails_are_known_by_what_they_feed() -> None:
    rails = {rail.name: (rail.part, rail.energy_uj) for rail in read_rails(sample("rails")).rails}
    assert rails["S4M_VDD_CPUCL0"] == ("cpu", 220_341_177)
    assert rails["S8S_VDD_G3D_L2"] == ("gpu", 4_500_000)
    assert rails["S10M_VDD_TPU"][0] == "npu"
    assert rails["VSYS_PWR_DISPLAY"][0] is None


def test_cpu_time_and_memory_of_phone_and_job() -> None:
    text = sample("processes")
    times, memory = read_cpu_times(text), read_memory(text)
    assert times.busy_s == pytest.approx(324.82)  # neither idle nor waiting nor stolen
    assert times.cores == 2
    assert memory.available_bytes == 5_230_464 * 1024
    assert memory.resident_bytes == {4321: 41_004 * 1024}


def test_a_process_may_be_named_anything() -> None:
    (leader, tool), unread = read_processes(sample("process_stats"))
    assert (leader.pid, leader.own_s, leader.children_s, leader.started_ticks) == (4321, 0.05, 4.5, 512_643)
    assert (tool.name, tool.parent, tool.group, tool.own_s) == ("bench (v2) mark", 4321, 4321, 1.25)
    assert unread == ()


def test_properties_may_be_empty_or_span_lines() -> None:
    properties = read_properties(sample("properties"))
    assert (properties.values["ro.product.model"], properties.values["ro.product.marketname"]) == ("Pixel 7", "")
    assert properties.values["persist.sys.boot.reason.history"] == "reboot,1700000000\nshutdown,1690000000"
    assert properties.values["ro.odd"] == "a]b] and [c]"


@given(st.dictionaries(st.from_regex(r"[a-z.]{1,20}", fullmatch=True), st.text("ab[]: \n", max_size=20), max_size=8))
def test_whatever_getprop_lists_is_told_or_named_as_unread(values: dict[str, str]) -> None:
    text = "".join(f"[{name}]: [{value}]\n" for name, value in values.items())
    plain = {name: value for name, value in values.items() if "]\n" not in value and "\n[" not in value}
    if plain == values:
        assert read_properties(text).values == values
    else:
        read_properties(text)


def test_the_screen_s_own_word_goes_first() -> None:
    screen = read_screen(sample("screen"))
    assert (screen.on, screen.battery_saver) == (False, True)
    assert read_screen("Can't find service: power").on is None
