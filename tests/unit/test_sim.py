"""Simulated devices: the same luck for the same seed, physics that hold, faults as scripted, reports as real ones."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_registry.errors import UsageError
from workers.codec import from_dict, to_dict
from workers.contract import ConvertTask, Failure, Limits, MeasureTask, ModelRequest, Options, Order
from workers.converters.converter import ConversionInput
from workers.converters.sim_quantize import SimQuantize
from workers.devices.sim import SimDevices
from workers.devices.sim_fleet import FLEET_VARIABLE, Fault, Group, Latency, Thermal, read_fleet
from workers.devices.sim_reports import failure_report, success_report
from workers.devices.sim_unit import Outcome, SimUnit
from workers.errors import AttemptError, Cause
from workers.models.sim_zoo import MODELS, SimZoo
from workers.models.source import UnknownModelError
from workers.report import Report

PHONE = Group(model="Pixel 8", soc="tensor-g3", os="14")
#: Warms in seconds, so that a run of three is throttled in its middle.
OVEN = Thermal(tau_s=2.0, rise_c=60.0)


def _unit(group: Group = PHONE, seed: int = 1, number: int = 1, time_scale: float = 1.0) -> SimUnit:
    name = f"lab-pixel-8-{number:02d}"
    return SimUnit(
        key=f"sim:{name}", name=name, group=group, number=number, time_scale=time_scale, seed=seed, began=0.0
    )


def _order(
    attempt_id: int = 1, *, place: str = "sim:lab-pixel-8-01", kind: str = "measure", **changes: Any
) -> dict[str, Any]:
    task = {"model": "sim/mobilenet", "recipe": "fp32", "options": Options()} | {
        name: changes.pop(name) for name in ("model", "recipe", "options") if name in changes
    }
    measure = MeasureTask(
        runtime="sim", entry="workers.runtimes.sim:Sim", format="sim", weights="random", compute_unit="sim", **task
    )
    fields: dict[str, Any] = {
        "attempt_id": attempt_id,
        "token": f"{attempt_id:032d}",
        "place": place,
        "limits": Limits(deadline_s=600.0, memory_bytes=2**30),
        "inputs": {"artifact": "a" * 64},
        kind: measure,
    }
    return to_dict(Order(**fields | changes))


def _report(unit: SimUnit, order: dict[str, Any], now: float = 0.0) -> Report:
    """What an attempt comes to, through JSON as on the wire."""
    outcome = unit.begin(order, now)
    if outcome.run is not None:
        data = success_report(order, unit, outcome.run, time.time(), time.time())
    else:
        assert outcome.failure is not None
        data = failure_report(order, outcome.failure, time.time(), time.time())
    return from_dict(Report, json.loads(json.dumps(data, allow_nan=False)))


def _p50(outcome: Outcome) -> float:
    assert outcome.run is not None
    return outcome.run.p50_ms


def _code(outcome: Outcome) -> str | None:
    return outcome.failure.code if outcome.failure is not None else None


def test_the_same_seed_is_the_same_luck_and_another_is_not() -> None:
    orders = [_order(attempt_id) for attempt_id in range(1, 6)]
    first, again, other = (
        [_p50(unit.begin(order, 100.0 * order["attempt_id"])) for order in orders]
        for unit in (_unit(), _unit(), _unit(seed=2))
    )
    assert first == again
    assert first != other
    assert len(set(first)) == len(first)


def test_no_two_units_of_a_model_are_equally_fast_but_all_are_about_so() -> None:
    times = [_p50(_unit(number=number).begin(_order(), 0.0)) for number in range(1, 30)]
    assert len(set(times)) == len(times)
    assert all(7.0 < p50_ms < 9.0 for p50_ms in times)


def test_int8_and_a_faster_device_are_faster_and_a_larger_batch_is_slower() -> None:
    plain = _p50(_unit().begin(_order(), 0.0))
    assert _p50(_unit().begin(_order(recipe="int8-static"), 0.0)) < plain * 0.6
    assert _p50(_unit(Group(model="Pixel 8", speed=2.0)).begin(_order(), 0.0)) < plain * 0.6
    assert _p50(_unit().begin(_order(options=Options(batch=4)), 0.0)) > plain * 3


def test_a_report_is_a_report_as_real_ones_are_and_says_that_it_is_simulated() -> None:
    order = _order(7)
    report = _report(_unit(), order)
    assert (report.attempt_id, report.token, report.artifact_sha256) == (7, order["token"], "a" * 64)
    assert report.judgement is not None
    assert (report.judgement.verdict, report.judgement.flags) == ("valid", ("simulated",))
    assert report.environment["simulated"] == "true"
    assert report.result.measurement is not None
    assert "simulated" in report.result.measurement.runtime.evidence
    assert {reading.quantity for reading in report.telemetry} == {"temperature"}
    assert report.energy is not None
    assert (report.energy.quality, report.energy.energy_mj) == ("unsupported", None)


def test_a_profile_lists_the_layers_of_its_model() -> None:
    report = _report(_unit(), _order(kind="profile", model="sim/transformer"))
    profile = report.result.profile
    assert profile is not None
    assert [op.name for op in profile.ops] == [layer.name for layer in MODELS["sim/transformer"].layers]
    assert sum(op.time_us for op in profile.ops) == pytest.approx(profile.run_ms * 1e3, rel=0.1)
    assert report.judgement is not None
    assert report.judgement.flags == ("simulated",)


latencies = st.builds(
    Latency,
    sigma=st.floats(0, 0.3),
    outliers=st.floats(0, 0.2),
    outlier_factor=st.floats(1, 10),
    unit_sigma=st.floats(0, 0.2),
    process_sigma=st.floats(0, 0.1),
    drift=st.floats(0, 0.1),
)
thermals = st.none() | st.builds(
    Thermal, rise_c=st.floats(0, 80), tau_s=st.floats(0.1, 1000), throttled_speed=st.floats(0.1, 1)
)
options = st.builds(
    Options, batch=st.integers(1, 64), min_seconds=st.floats(0, 30), percentile=st.sampled_from([90, 99])
)


@given(latencies, thermals, st.integers(0, 9), st.sampled_from(sorted(MODELS)), options, st.floats(0, 30))
def test_whatever_the_fleet_reports_follow_the_contract_and_their_numbers_agree(
    latency: Latency, thermal: Thermal | None, seed: int, model: str, wanted: Options, pause_s: float
) -> None:
    unit = _unit(Group(model="Any", latency=latency, thermal=thermal), seed)
    now = 0.0
    for attempt_id in range(1, 4):
        report = _report(unit, _order(attempt_id, model=model, options=wanted, limits=_patient()), now)
        now += pause_s
        assert report.result.measurement is not None
        timings = report.result.measurement.timings
        percentiles = [value for value in (timings.p90_ms, timings.p95_ms, timings.p99_ms) if value is not None]
        in_order = [timings.min_ms, timings.p50_ms, *percentiles, timings.max_ms]
        assert all(low <= high * (1 + 1e-9) for low, high in pairwise(in_order))
        assert timings.iterations >= (64 if wanted.percentile == 90 else 662)
        assert report.result.measurement.throughput_per_s > 0


def _patient() -> Limits:
    return Limits(deadline_s=1e9, memory_bytes=1)


@given(st.lists(st.tuples(st.floats(0, 500), st.sampled_from(["wait", "none"])), min_size=1, max_size=20))
def test_a_device_is_never_colder_than_its_room_nor_warmer_than_its_limit(runs: list[tuple[float, str]]) -> None:
    thermal = Thermal(rise_c=60.0)
    unit = _unit(Group(model="Any", thermal=thermal))
    now = 0.0
    for pause_s, gate in runs:
        unit.begin(_order(gate=gate), now)
        assert thermal.ambient_c <= unit.celsius <= thermal.limit_c
        now += pause_s


def test_a_run_beyond_the_limit_is_throttled_and_the_judge_says_so() -> None:
    unit = _unit(Group(model="Hot", thermal=OVEN))
    report = _report(unit, _order())
    assert report.judgement is not None
    assert report.judgement.verdict == "throttled"
    assert any("slower than the first" in reason for reason in report.judgement.reasons)
    assert {reading.quantity for reading in report.telemetry} == {"temperature", "throttle_events"}
    slow = report.result.measurement
    fast = _report(_unit(Group(model="Hot", thermal=None)), _order()).result.measurement
    assert slow is not None
    assert fast is not None
    assert slow.timings.mean_ms > fast.timings.mean_ms * 1.1


def test_a_warm_device_waits_at_the_gate_and_a_strict_gate_gives_up() -> None:
    thermal = Thermal(tau_s=20.0, rise_c=60.0)
    unit = _unit(Group(model="Hot", thermal=thermal))
    for attempt_id in range(1, 6):
        unit.begin(_order(attempt_id, gate="none"), 0.0)
    assert unit.celsius > thermal.start_limit_c
    outcome = unit.begin(_order(8, gate="strict", gate_timeout_s=1.0), 0.0)
    assert _code(outcome) == "gate_timeout"
    waited = unit.begin(_order(9), 0.0)
    assert waited.run is not None
    assert waited.run.heat is not None
    assert waited.run.heat.waited_s > 0
    assert waited.run.heat.ready


def test_a_device_cools_while_nothing_runs() -> None:
    unit = _unit(Group(model="Hot", thermal=Thermal(rise_c=60.0)))
    ended = unit.begin(_order(1), 0.0).seconds
    warm = unit.celsius
    outcome = unit.begin(_order(2), ended + 600.0)
    assert outcome.run is not None
    assert outcome.run.heat is not None
    assert outcome.run.heat.start_c < warm


@pytest.mark.parametrize(
    ("kind", "cause", "code"),
    [("hang", "model", "hung"), ("crash", "model", "crashed"), ("vanish", "infrastructure", "device_gone")],
)
def test_a_fault_that_always_strikes_strikes_each_attempt(kind: Any, cause: str, code: str) -> None:
    unit = _unit(Group(model="Bad", faults=(Fault(fault=kind, probability=1.0, seconds=5.0),)))
    failure = _report(unit, _order()).result.failure
    assert failure is not None
    assert (failure.cause, failure.code) == (cause, code)


def test_a_hang_lasts_until_the_deadline() -> None:
    unit = _unit(Group(model="Bad", faults=(Fault(fault="hang", probability=1.0),)))
    assert unit.begin(_order(limits=Limits(deadline_s=33.0, memory_bytes=1)), 0.0).seconds == 33.0


def test_an_attempt_that_takes_longer_than_its_deadline_is_hung() -> None:
    assert _code(_unit().begin(_order(limits=Limits(deadline_s=1.0, memory_bytes=1)), 0.0)) == "hung"


def test_faults_strike_about_as_often_as_their_probability_says() -> None:
    unit = _unit(Group(model="Bad", thermal=None, faults=(Fault(fault="crash", probability=0.1),)))
    codes = [_code(unit.begin(_order(attempt_id), 0.0)) for attempt_id in range(1, 2001)]
    assert 120 < codes.count("crashed") < 280


def test_a_scheduled_fault_hits_its_unit_when_it_is_due_and_again() -> None:
    group = Group(model="Bad", faults=(Fault(fault="vanish", at_s=10, every_s=100, seconds=5, units=(2,)),))
    here = {n: [_unit(group, number=n).is_here(now) for now in (9.0, 11.0, 16.0, 111.0)] for n in (1, 2)}
    assert here[1] == [True, True, True, True]
    assert here[2] == [True, False, True, False]


def test_a_flapping_device_comes_and_goes() -> None:
    unit = _unit(Group(model="Bad", faults=(Fault(fault="flap", at_s=0, seconds=2, times=3),)))
    assert [unit.is_here(now) for now in (1.0, 3.0, 5.0, 7.0, 9.0, 11.0)] == [False, True, False, True, False, True]


def test_a_sick_device_fails_for_its_own_sake_until_it_is_rebooted() -> None:
    unit = _unit(Group(model="Bad", faults=(Fault(fault="sick", at_s=0, seconds=1e9),)))
    outcome = unit.begin(_order(), 1.0)
    assert outcome.failure is not None
    assert (outcome.failure.cause, outcome.failure.code) == (Cause.DEVICE, "unwell")
    assert not unit.reconnect(2.0)
    unit.reboot(2.0)
    assert unit.begin(_order(2), 3.0).run is not None


def test_a_slow_device_is_slow_for_a_while() -> None:
    unit = _unit(Group(model="Bad", faults=(Fault(fault="slow", at_s=0, seconds=50, factor=3.0),)))
    slow, well = _p50(unit.begin(_order(1), 1.0)), _p50(unit.begin(_order(2), 1000.0))
    assert slow == pytest.approx(3 * well, rel=0.1)


class _Farm:
    """Takes what a driver tells."""

    def __init__(self) -> None:
        self.started: list[int] = []
        self.reports: dict[int, Report] = {}

    def __call__(self, *, started: Sequence[tuple[int, str]] = (), finished: Sequence[dict[str, Any]] = ()) -> None:
        self.started += [attempt_id for attempt_id, _ in started]
        for data in finished:
            self.reports[data["attempt_id"]] = from_dict(Report, data)

    def report(self, attempt_id: int) -> Report:
        deadline = time.monotonic() + 30
        while attempt_id not in self.reports:
            assert time.monotonic() < deadline, f"no report of attempt {attempt_id}"
            time.sleep(0.002)
        return self.reports[attempt_id]

    def code(self, attempt_id: int) -> str | None:
        failure = self.report(attempt_id).result.failure
        return failure.code if failure is not None else None


Simulate = Callable[..., tuple[SimDevices, _Farm]]


@pytest.fixture
def fleet_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where this host's fleet file is."""
    path = tmp_path / "fleet.json"
    monkeypatch.setenv(FLEET_VARIABLE, str(path))
    return path


@pytest.fixture
def simulate(fleet_file: Path) -> Iterator[Simulate]:
    """A driver of the given groups, open."""
    made: list[SimDevices] = []

    def make(*groups: dict[str, Any], time_scale: float = 0.0) -> tuple[SimDevices, _Farm]:
        fleet_file.write_text(json.dumps({"devices": groups, "time_scale": time_scale}))
        driver, farm = SimDevices(), _Farm()
        driver.host_name = "lab-3"
        made.append(driver)
        driver.discover()
        driver.open(farm)
        return driver, farm

    yield make
    for driver in made:
        driver.close()


PLACE = "sim:lab-3:pixel-8:1"


def test_devices_are_named_after_host_and_model_and_say_that_they_are_simulated(simulate: Simulate) -> None:
    driver, _ = simulate({"model": "Pixel 8", "count": 2, "os": "14"}, {"model": "Pixel 8", "os": "15"}, {"model": "A"})
    found = driver.discover()
    assert [device.name for device in found] == [
        "lab-3-pixel-8-01",
        "lab-3-pixel-8-02",
        "lab-3-pixel-8-03",
        "lab-3-a-01",
    ]
    assert [device.key for device in found][:2] == ["sim:lab-3:pixel-8:1", "sim:lab-3:pixel-8:2"]
    assert [device.attributes["os"] for device in found][:3] == ["14", "14", "15"]
    assert all(device.attributes["simulated"] is True and device.kind == "sim" for device in found)


def test_a_host_without_a_fleet_file_simulates_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(FLEET_VARIABLE, raising=False)
    assert SimDevices().discover() == []


def test_devices_are_plugged_in_and_out_by_changing_the_file(simulate: Simulate, fleet_file: Path) -> None:
    driver, _ = simulate({"model": "A", "count": 3})
    fleet_file.write_text('{"devices": [{"model": "A"}, {"model": "B"}]}')
    assert [device.name for device in driver.discover()] == ["lab-3-a-01", "lab-3-b-01"]
    fleet_file.write_text("{")  # somebody is writing it
    assert [device.name for device in driver.discover()] == ["lab-3-a-01", "lab-3-b-01"]


def test_a_device_takes_on_what_the_file_says_of_it_and_stays_the_same_device(
    simulate: Simulate, fleet_file: Path
) -> None:
    driver, farm = simulate({"model": "Pixel 8", "os": "14", "thermal": None})
    driver.begin([_order(1, place=PLACE)])
    before = farm.report(1)
    update = {"model": "Pixel 8", "os": "15", "speed": 0.8, "thermal": None}
    fleet_file.write_text(json.dumps({"devices": [update], "time_scale": 0.0}))
    assert [device.attributes["os"] for device in driver.discover()] == ["15"]
    driver.begin([_order(2, place=PLACE)])
    after = farm.report(2)
    assert (before.environment["os"], after.environment["os"]) == ("14", "15")
    assert before.result.measurement is not None
    assert after.result.measurement is not None
    ratio = after.result.measurement.timings.p50_ms / before.result.measurement.timings.p50_ms
    assert ratio == pytest.approx(1.25, rel=0.05)


def test_many_attempts_end_in_a_report_each_and_what_takes_no_time_is_not_told_twice(simulate: Simulate) -> None:
    driver, farm = simulate({"model": "Pixel 8", "count": 50})
    driver.begin([_order(number, place=f"sim:lab-3:pixel-8:{number}") for number in range(1, 51)])
    assert all(farm.report(number).result.measurement is not None for number in range(1, 51))
    assert farm.started == []


def test_an_attempt_lasts_as_long_as_the_scale_of_time_says(simulate: Simulate) -> None:
    driver, farm = simulate({"model": "Pixel 8"}, time_scale=0.01)
    driver.begin([_order(1, place=PLACE)])
    assert farm.started == [1]
    assert farm.report(1).result.measurement is not None
    wall_s = farm.reports[1].wall_s
    assert wall_s is not None
    assert wall_s > 0.03


def test_an_attempt_that_is_ended_tells_why_and_nothing_later(simulate: Simulate) -> None:
    driver, farm = simulate({"model": "Pixel 8"}, time_scale=0.02)
    driver.begin([_order(1, place=PLACE)])
    driver.end([1, 99], Failure(cause=Cause.USER, code="cancelled", message="enough"))
    assert farm.code(1) == "cancelled"
    driver.begin([_order(2, place=PLACE)])
    assert farm.report(2).result.measurement is not None  # its time came after that of the first
    assert farm.code(1) == "cancelled"


def test_orders_that_cannot_be_are_answered_and_harm_no_other(simulate: Simulate) -> None:
    driver, farm = simulate({"model": "Pixel 8", "count": 4})
    convert = ConvertTask(entry="x:Y", format="sim", recipe="fp32")
    places = [f"sim:lab-3:pixel-8:{number}" for number in range(1, 5)]
    driver.begin(
        [
            _order(1, place="sim:lab-3:pixel-8:9"),
            _order(2, place=places[1], measure=None, convert=convert),
            _order(3, place=places[2], model="torchvision/alexnet"),
            _order(4, place=places[3]),
        ]
    )
    assert [farm.code(number) for number in range(1, 5)] == ["device_gone", "bad_order", "unsupported", None]


def test_an_accuracy_is_never_made_up(simulate: Simulate) -> None:
    driver, farm = simulate({"model": "Pixel 8"})
    driver.begin([_order(1, place=PLACE, kind="evaluate")])
    assert farm.code(1) == "unsupported"


def test_the_ladder_brings_back_what_vanished_and_heals_what_is_sick(simulate: Simulate) -> None:
    driver, farm = simulate({"model": "Pixel 8", "faults": [{"fault": "vanish", "probability": 1.0, "seconds": 1e6}]})
    [device] = driver.discover()
    driver.begin([_order(1, place=PLACE)])
    assert farm.code(1) == "device_gone"
    assert driver.discover() == []
    driver.recover(device, driver.recovery.index("reconnect"))
    assert driver.discover() == [device]


def test_reconnecting_does_not_heal_a_sick_device(simulate: Simulate) -> None:
    driver, _ = simulate({"model": "Pixel 8", "faults": [{"fault": "sick", "at_s": 0, "seconds": 1e6}]})
    [device] = driver.discover()
    with pytest.raises(AttemptError, match="refuses to work"):
        driver.recover(device, 0)
    driver.recover(device, 1)
    driver.recover(device, 0)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("{", "not JSON"),
        ('{"devices": [{"count": 3}]}', "model"),
        ('{"devices": [{"model": "A", "speeed": 2}]}', "unknown field speeed"),
        ('{"devices": [{"model": "A", "speed": 0}]}', "speed must be above 0"),
        ('{"devices": [{"model": "A", "latency": {"outliers": 0.5}}]}', "outliers"),
        ('{"devices": [{"model": "A", "thermal": {"limit_c": 20}}]}', "limit_c"),
        ('{"devices": [{"model": "A", "faults": [{"fault": "explode"}]}]}', "explode"),
        ('{"devices": [{"model": "A", "faults": [{"fault": "crash", "probability": 2}]}]}', "probability"),
        ('{"devices": [], "time_scale": -1}', "time_scale"),
    ],
)
def test_a_fleet_file_that_makes_no_sense_is_refused_with_the_reason(tmp_path: Path, text: str, wrong: str) -> None:
    path = tmp_path / "fleet.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=wrong):
        read_fleet(path)


def test_a_fleet_file_that_is_not_there_is_refused(fleet_file: Path) -> None:
    with pytest.raises(UsageError, match="BENCHFARM_SIM"):
        SimDevices().discover()


def test_a_simulated_model_is_made_and_quantised_without_any_package(tmp_path: Path) -> None:
    source = SimZoo()
    request = ModelRequest(name="sim/mobilenet")
    assert source.resolve(request) is not None
    made = source.materialise(request, tmp_path)
    assert made.examples is not None
    assert made.calibration is not None
    (tmp_path / "int8").mkdir()
    given_ = ConversionInput(
        artifact=made.artifact,
        format="sim",
        recipe="int8-static",
        examples=made.examples,
        calibration=made.calibration,
        folder=tmp_path / "int8",
    )
    known = json.loads(SimQuantize().convert(given_).artifact.read_text())
    assert (known["model"], known["recipe"]) == ("sim/mobilenet", "int8-static")
    assert source.resolve(ModelRequest(name="torchvision/alexnet")) is None
    with pytest.raises(UnknownModelError, match="sim/mobilenet"):
        source.resolve(ModelRequest(name="sim/mobilenett"))


@pytest.mark.parametrize("recipe", ["fp32", "int8-static"])
def test_another_build_of_a_model_is_the_same_series_and_takes_as_long_as_its_name_says(
    tmp_path: Path, recipe: str
) -> None:
    source, request = SimZoo(), ModelRequest(name="sim/mobilenet@1.30")
    resolved = source.resolve(request)
    assert resolved is not None
    assert resolved.name == "sim/mobilenet"
    assert resolved.identity != source.resolve(replace(request, name="sim/mobilenet")).identity  # type: ignore[union-attr]
    made = source.materialise(request, tmp_path)
    if recipe != "fp32":
        (tmp_path / "made").mkdir()
        about: dict[str, Any] = {"examples": made.examples, "calibration": made.calibration, "format": "sim"}
        made = SimQuantize().convert(
            ConversionInput(artifact=made.artifact, recipe=recipe, folder=tmp_path / "made", **about)
        )
    inputs = {"artifact": hashlib.sha256(made.artifact.read_bytes()).hexdigest()}
    quiet = replace(PHONE, thermal=None, latency=Latency(sigma=0.0, unit_sigma=0.0, process_sigma=0.0))
    plain, slow = (_p50(_unit(quiet).begin(_order(recipe=recipe, **more), 0.0)) for more in ({}, {"inputs": inputs}))
    assert slow / plain == pytest.approx(1.30)


@pytest.mark.parametrize("build", ["", "fast", "0.1", "3", "nan", "1e999"])
def test_a_build_that_cannot_be_is_refused(build: str) -> None:
    with pytest.raises(UnknownModelError, match=r"0\.50 to 2\.00"):
        SimZoo().resolve(ModelRequest(name=f"sim/mobilenet@{build}"))
