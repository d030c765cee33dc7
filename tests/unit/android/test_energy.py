"""workers.android.energy: a number only where the source carries it, and why there is none everywhere else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.android.snapshots import sample, snapshot
from workers.android.energy import charger_is_off, discharge_percent_per_hour, energy
from workers.android.power import charge_mah, currents_ma, feed_of
from workers.android.snapshot import FULL_EVERY, Snapshot

UNPLUGGED = sample("battery_unplugged")
USB = sample("battery_usb")


def on_battery(seconds: int, current: list[int], first: float = 0.0) -> list[Snapshot]:
    """A phone off its charger, one snapshot a second, every fifth full."""
    return [
        snapshot(
            first + second,
            battery=UNPLUGGED if second % FULL_EVERY == 0 else None,
            status="Discharging",
            current=current[second % len(current)],
            voltage_uv=4_000_000,
            chargers={"usb": 0},
        )
        for second in range(seconds + 1)
    ]


def on_rails(seconds: int, milliwatts: int, first_uj: int = 0) -> list[Snapshot]:
    """A phone on USB whose two known rails draw so much each, and its display ten times that."""
    return [
        snapshot(
            float(second),
            battery=USB if second % FULL_EVERY == 0 else None,
            rails_uj={
                "S4M_VDD_CPUCL0": first_uj + second * milliwatts * 1000,
                "S10M_VDD_TPU": second * milliwatts * 1000,
                "VSYS_PWR_DISPLAY": second * milliwatts * 10_000,
            },
        )
        for second in range(seconds + 1)
    ]


def test_rails_give_energy_even_on_usb_and_name_themselves() -> None:
    seen = energy(on_rails(20, 750), 10.0, 20.0, 0.0, 5.0, 100)
    assert seen.quality == "ok"
    assert seen.energy_mj == pytest.approx(15_000)
    assert seen.window_s == pytest.approx(10)
    assert seen.source == "android-rails: S4M_VDD_CPUCL0, S10M_VDD_TPU"
    assert seen.idle_power_mw == pytest.approx(1500)
    assert seen.energy_per_inference_mj == pytest.approx(150)


def test_the_part_of_a_run_between_two_looks_stands_for_the_whole() -> None:
    seen = energy(on_rails(20, 750), 9.5, 19.5, 0.0, 5.0, 100)
    assert seen.window_s == 9.0
    assert seen.energy_per_inference_mj == pytest.approx(150)


@given(first=st.integers(0, (1 << 32) - 1))
def test_a_rail_that_counts_in_32_bits_wraps_around(first: int) -> None:
    seen = energy(
        [
            snapshot(float(second), rails_uj={"VDD_CPU": (first + second * 2_000_000) % (1 << 32)})
            for second in range(5)
        ],
        0.0,
        4.0,
        0.0,
        0.0,
        1,
    )
    assert seen.energy_mj == pytest.approx(8000)


def test_a_rail_that_goes_backwards_or_a_reboot_gives_no_number() -> None:
    back = [snapshot(float(at), rails_uj={"VDD_CPU": uj}) for at, uj in enumerate([9 << 32, 8 << 32])]
    again = [snapshot(float(at), rails_uj={"VDD_CPU": 100 + at}, boot=f"boot-{at}") for at in range(2)]
    for snapshots, word in ((back, "backwards"), (again, "anew")):
        seen = energy(snapshots, 0.0, 5.0, 0.0, 0.0, 1)
        assert (seen.quality, seen.energy_mj) == ("implausible", None)
        assert word in str(seen.why)


def test_rails_of_nothing_that_computes_are_no_energy_of_a_model() -> None:
    snapshots = [snapshot(float(at), rails_uj={"VSYS_PWR_DISPLAY": at}, battery=USB) for at in range(5)]
    seen = energy(snapshots, 0.0, 5.0, 0.0, 0.0, 1)
    assert (seen.quality, seen.energy_mj) == ("unsupported", None)
    assert "VSYS_PWR_DISPLAY" in str(seen.why)


def test_on_usb_power_the_result_says_why_there_is_none() -> None:
    snapshots = [snapshot(float(at), battery=USB, current=-350_000) for at in range(60)]
    seen = energy(snapshots, 10.0, 50.0, 0.0, 5.0, 100)
    assert (seen.quality, seen.energy_mj, seen.energy_per_inference_mj) == ("unsupported", None, None)
    assert "draws power from USB" in str(seen.why)
    assert "no power rails" in str(seen.why)


def test_a_battery_that_alone_feeds_the_phone_gives_current_times_voltage() -> None:
    # 4 V and 200 to 240 mA: 0.88 W on average
    snapshots = on_battery(60, [-200_000, -210_000, -220_000, -230_000, -240_000])
    seen = energy(snapshots, 10.0, 50.0, 0.0, 10.0, 400)
    assert (seen.quality, seen.source, seen.window_s) == ("ok", "android-battery", 40.0)
    assert seen.energy_mj == pytest.approx(880 * 40, rel=0.01)
    assert seen.energy_per_inference_mj == pytest.approx(88, rel=0.01)
    assert seen.idle_power_mw == pytest.approx(880, rel=0.02)


@pytest.mark.parametrize("scale", [1000, -1000, 1, -1])
def test_energy_is_the_same_whatever_unit_and_sign_the_driver_tells(scale: int) -> None:
    snapshots = on_battery(60, [ma * scale for ma in (200, 210, 220, 230, 240)])
    assert energy(snapshots, 10.0, 50.0, 0.0, 10.0, 400).energy_mj == pytest.approx(880 * 40, rel=0.01)


@pytest.mark.parametrize(
    ("change", "quality", "word"),
    [
        ({"battery": sample("battery_faked")}, "unsupported", "set the battery's values by hand"),
        ({"battery": USB}, "unsupported", "USB"),
        ({"battery": UNPLUGGED.replace("status: 3", "status: 5")}, "unsupported", "not said to discharge"),
        ({"battery": None, "status": "Charging"}, "unsupported", "a charger"),
        ({"battery": None, "chargers": {"wireless": 1}}, "unsupported", "a charger"),
    ],
)
def test_one_doubtful_moment_in_the_window_is_enough(change: dict[str, str], quality: str, word: str) -> None:
    snapshots = on_battery(60, [-200_000, -210_000, -220_000, -230_000, -240_000])
    values = {"battery": UNPLUGGED, "status": "Discharging", "current": -200_000, **change}
    snapshots[33] = snapshot(33.0, **values)  # type: ignore[arg-type]
    seen = energy(snapshots, 10.0, 50.0, 0.0, 10.0, 400)
    assert (seen.quality, seen.energy_mj) == (quality, None)
    assert word in str(seen.why)


def test_a_charger_nobody_asked_about_is_not_off() -> None:
    snapshots = [snapshot(float(at), battery=UNPLUGGED if at == 5 else None, current=-200_000) for at in range(60)]
    assert charger_is_off(snapshots, 5.0, 15.0) is None
    assert "nothing proves" in str(charger_is_off(snapshots, 5.0, 50.0))
    assert "nothing proves" in str(charger_is_off([], 5.0, 50.0))


def test_a_short_run_has_no_battery_energy() -> None:
    seen = energy(on_battery(60, [-200_000, -210_000, -220_000, -230_000, -240_000]), 10.0, 30.0, 0.0, 10.0, 9)
    assert (seen.quality, seen.energy_mj) == ("unsupported", None)
    assert "30 s" in str(seen.why)


def test_a_current_that_stands_still_is_stale() -> None:
    seen = energy(on_battery(60, [-200_000, -210_000]), 10.0, 50.0, 0.0, 10.0, 9)
    assert (seen.quality, seen.energy_mj) == ("stale", None)


def test_a_current_whose_sign_changes_off_the_charger_is_implausible() -> None:
    seen = energy(on_battery(60, [-200_000, 210_000, 220_000, 230_000, 240_000]), 10.0, 50.0, 0.0, 10.0, 9)
    assert (seen.quality, seen.energy_mj) == ("implausible", None)


def test_a_refused_current_is_told_as_refused() -> None:
    snapshots = [snapshot(float(at), battery=UNPLUGGED, current="denied") for at in range(60)]
    assert energy(snapshots, 10.0, 50.0, 0.0, 10.0, 9).quality == "no_permission"


def test_no_snapshots_no_energy() -> None:
    seen = energy([], 0.0, 60.0, 0.0, 0.0, 9)
    assert (seen.quality, seen.energy_mj) == ("unsupported", None)


@pytest.mark.parametrize(
    ("model", "raw", "milliamperes"),
    [("Mi A1", 350_000, -350.0), ("HD1901", 363, -363.0), ("SM-G991B", -363, -363.0), ("", -363_000, -363.0)],
)
def test_models_are_known_by_their_habits(model: str, raw: int, milliamperes: float) -> None:
    assert [value.value for value in currents_ma([snapshot(0.0, battery=USB, current=raw)], model)] == [milliamperes]


def test_one_small_value_is_read_in_the_unit_of_the_others() -> None:
    values = currents_ma([snapshot(float(at), battery=USB, current=raw) for at, raw in enumerate([-350_000, -9_000])])
    assert [value.value for value in values] == [-350.0, -9.0]
    assert values[0].quality == "partial"  # on a charger the sign is the driver's own


def test_a_current_no_phone_can_draw_is_implausible() -> None:
    (value,) = currents_ma([snapshot(0.0, battery=USB, current=99_000_000)])
    assert (value.value, value.quality) == (None, "implausible")


@pytest.mark.parametrize(
    ("dump", "charge"), [("battery_usb", 2745.0), ("battery_samsung", 3120.0), ("battery_xiaomi_no_header", 2415.0)]
)
def test_a_charge_counter_is_told_in_either_unit(dump: str, charge: float) -> None:
    assert charge_mah(snapshot(0.0, battery=sample(dump))).value == charge


def test_a_counter_at_nought_is_absent_and_one_of_no_battery_implausible() -> None:
    assert charge_mah(snapshot(0.0, battery=sample("battery_emulator"))).quality == "unsupported"
    wrong = USB.replace("2745000", "27")
    assert charge_mah(snapshot(0.0, battery=wrong)).quality == "implausible"


def test_who_feeds_the_phone() -> None:
    assert feed_of(snapshot(0.0, battery=USB)) == "charger"
    assert feed_of(snapshot(0.0, battery=UNPLUGGED)) == "battery"
    assert feed_of(snapshot(0.0, battery=sample("battery_faked"))) == "faked"
    assert feed_of(snapshot(0.0, battery=sample("battery_no_service"))) == "silent"
    assert feed_of(snapshot(0.0, status="Discharging")) == "silent"  # no charger said that it is off
    assert feed_of(snapshot(0.0, status="Discharging", chargers={"usb": 0})) == "battery"


def test_percent_per_hour_of_ten_minutes_off_the_charger() -> None:
    def level(at: float) -> str:
        return UNPLUGGED.replace("level: 61", f"level: {61 - int(at // 120)}")

    snapshots = [snapshot(float(at), battery=level(at)) for at in range(0, 601, 5)]
    assert discharge_percent_per_hour(snapshots, 0.0, 600.0) == pytest.approx(30)
    assert discharge_percent_per_hour(snapshots, 0.0, 200.0) is None
    plugged = [snapshot(float(at), battery=USB) for at in range(0, 601, 5)]
    assert discharge_percent_per_hour(plugged, 0.0, 600.0) is None
