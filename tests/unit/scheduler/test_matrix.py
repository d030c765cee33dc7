"""scheduler.matrix and scheduler.exports over the views of a real database: SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import update

from device_registry.database import reading, writing
from device_registry.errors import UsageError
from device_registry.registry import hosts
from device_registry.tables import utc_now
from exporters.report.places import places_of
from scheduler.cells import Row, Wanted
from scheduler.executors.scripted import Succeed
from scheduler.exports import count_results, stream_rows
from scheduler.matrix import matrix
from tests.unit.scheduler.builders import CRASHED, INT8, ONNX, TORCH, Farm, only, plan_of
from workers.contract import Order

MakeFarm = Callable[..., Farm]
#: Milliseconds of each runtime and recipe; the n-th repeat adds a little.
SPEEDS = {"pt2 fp32": 20.0, "onnx fp32": 10.0, "onnx int8-static": 5.0}


def play_speeds(farm: Farm, verdict: str = "valid") -> None:
    """Each case has its speed; repeats differ by a thousandth each."""
    seen: dict[str, int] = {}

    def play(order: Order) -> Any:
        if order.measure is None:
            return Succeed()
        name = f"{order.measure.format} {order.measure.recipe}"
        seen[name] = seen.get(name, 0) + 1
        return Succeed(p50_ms=SPEEDS[name] * (1 + seen[name] / 1000), verdict=verdict)  # type: ignore[arg-type]

    farm.play(play)


def rows_of(farm: Farm, **wanted: Any) -> dict[tuple[str, str, str], Row]:
    """Cells by runtime, recipe and device."""
    with reading(farm.engine) as connection:
        found = matrix(connection, Wanted(**wanted), utc_now())
        return {(row["runtime"], row["recipe"], row["device"]): row for _, rows in found for row in rows}


@pytest.fixture
def measured(make_farm: MakeFarm) -> Farm:
    """Three variants on two devices, five times each, just now."""
    farm = make_farm(devices=2)
    farm.clock.now = utc_now() - timedelta(minutes=10)
    play_speeds(farm)
    farm.run(plan_of(farm.devices(), TORCH, ONNX, INT8, repeats=5))
    return farm


def test_variants_by_devices_with_intervals_and_verdicts(measured: Farm) -> None:
    rows = rows_of(measured)
    assert len(rows) == 6
    row = rows["onnxruntime", "int8-static", "d1"]
    assert (row["state"], row["processes"], row["baseline"]) == ("valid", 5, "torch/fp32")
    assert row["answer"] == "faster"
    assert row["speedup"] == pytest.approx(4.0, rel=0.01)
    assert row["value_ci"][0] <= row["value"] <= row["value_ci"][1]
    assert not row["not_alternated"]
    assert rows["torch", "fp32", "d0"]["is_baseline"]


def test_another_baseline_and_a_selector(measured: Farm) -> None:
    rows = rows_of(measured, baseline=("onnxruntime", "fp32"), selector="name=d1")
    assert {device for _, _, device in rows} == {"d1"}
    assert rows["torch", "fp32", "d1"]["answer"] == "slower"
    assert rows["onnxruntime", "fp32", "d1"]["is_baseline"]


def test_a_later_run_of_one_variant_did_not_alternate_with_its_baseline(measured: Farm) -> None:
    measured.run(plan_of(measured.devices(), INT8, repeats=5, salt="again"))
    row = rows_of(measured)["onnxruntime", "int8-static", "d0"]
    assert (row["answer"], row["not_alternated"]) == ("faster", True)


def test_failed_unsupported_and_missing_stay_apart(make_farm: MakeFarm) -> None:
    farm = make_farm(devices=2)
    farm.clock.now = utc_now() - timedelta(minutes=10)
    farm.play(only("measure onnx int8-static", CRASHED))
    first = farm.devices()[:1]
    farm.run(plan_of(first, TORCH, INT8))
    rows = rows_of(farm)
    assert {key: row["state"] for key, row in rows.items()} == {
        ("torch", "fp32", "d0"): "valid",
        ("torch", "fp32", "d1"): "missing",
        ("onnxruntime", "int8-static", "d0"): "failed",
        ("onnxruntime", "int8-static", "d1"): "missing",
    }
    assert "SIGSEGV" in rows["onnxruntime", "int8-static", "d0"]["why"]


def test_what_was_judged_invalid_is_shown_and_compared_when_asked_for(make_farm: MakeFarm) -> None:
    farm = make_farm()
    farm.clock.now = utc_now() - timedelta(minutes=10)
    play_speeds(farm, "contaminated")
    farm.run(plan_of(farm.devices(), TORCH, ONNX))
    row = rows_of(farm)["onnxruntime", "fp32", "d0"]
    assert (row["state"], row["verdict"], row["value"]) == ("invalid", "contaminated", None)
    assert row["invalid_value"] == pytest.approx(10.0, rel=0.01)
    row = rows_of(farm, invalid=True)["onnxruntime", "fp32", "d0"]
    assert (row["state"], row["baseline"]) == ("invalid", "torch/fp32")
    assert row["speedup"] == pytest.approx(2.0, rel=0.01)


def refusal(farm: Farm, **wanted: Any) -> str:
    """The sentence."""
    with pytest.raises(UsageError) as raised:
        rows_of(farm, **wanted)
    return str(raised.value)


def test_refusals_help(measured: Farm, make_farm: MakeFarm) -> None:
    assert refusal(measured, models=("ne",)) == "no result of a model 'ne': did you mean net?"
    assert refusal(measured, models=("zzz",)) == "no result of a model 'zzz': measured are net"
    assert "no device matches 'name=d9'" in refusal(measured, selector="name=d9")
    assert "cannot read" in refusal(measured, selector="=x")
    assert refusal(make_farm()) == "nothing was measured yet: benchfarm run MODEL measures"


def exported(farm: Farm, **options: Any) -> list[Row]:
    """Rows of an export."""
    with reading(farm.engine) as connection:
        return list(stream_rows(connection, **options))


def test_an_export_is_the_rows_of_each_run_newest_first(measured: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    again = measured.run(plan_of(measured.devices(), ONNX, salt="again"))
    whole = exported(measured)
    assert [row["run"] for row in whole] == [again] * 2 + [again - 1] * 6
    assert {(row["device"], row["recipe"]) for row in whole[2:]} == {
        (device, recipe) for device in ("d0", "d1") for recipe in ("fp32", "int8-static")
    }
    monkeypatch.setattr("scheduler.exports._RESULTS_AT_ONCE", 1)  # a device at a time is the same
    assert sorted(map(str, exported(measured))) == sorted(map(str, whole))
    with reading(measured.engine) as connection:
        assert count_results(connection) == 32
        assert count_results(connection, run_id=again) == 2


def test_an_export_of_some(measured: Farm) -> None:
    second = measured.devices()[1].id
    assert {row["device"] for row in exported(measured, device_ids=[second])} == {"d1"}
    assert exported(measured, models=["other"]) == []
    later: datetime = utc_now() + timedelta(days=1)
    assert exported(measured, since=later) == []
    assert len(exported(measured, since=later - timedelta(days=3))) == 6


def test_devices_of_one_name_are_told_apart(make_farm: MakeFarm) -> None:
    """Two hosts that came out of one image have one name: their devices' results are two columns, not one."""
    farm = make_farm()
    farm.clock.now = utc_now() - timedelta(minutes=10)
    twin = farm.add_host("there", devices=2)
    twin.plug([replace(device, name=name) for device, name in zip(twin.devices, ("d0", "own"), strict=True)])
    farm.tick()
    farm.run(plan_of(farm.devices(), TORCH))
    with reading(farm.engine) as connection:
        [(_, rows)] = matrix(connection, Wanted(), utc_now())
    assert [(row["device"], row["host"], row["device_label"]) for row in rows] == [
        ("d0", "here", "d0@here"),
        ("d0", "there", "d0@there"),
        ("own", "there", "own"),
    ]
    assert places_of(rows).names == ("d0@here", "d0@there", "own")
    with writing(farm.engine) as connection:
        connection.execute(update(hosts).values(name="image"))
    with reading(farm.engine) as connection:
        [(_, rows)] = matrix(connection, Wanted(), utc_now())
    assert [row["device_label"] for row in rows] == [f"d0#{rows[0]['device_id']}", f"d0#{rows[1]['device_id']}", "own"]
