"""Cells: every case that somebody wanted of a device has one, and it tells the latest word; canaries have none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select, update

from device_registry.database import reading, writing
from device_registry.tables import utc_now
from scheduler import quarantine
from scheduler.cases import Case, case_of, shared_options_text
from scheduler.coverage import Unsupported, cells
from scheduler.executors.scripted import Succeed
from scheduler.plan import Request
from scheduler.queue import sweep_runs
from scheduler.states import jobs
from scheduler.tables import CANARY
from scheduler.views import STALE_DAYS, view_of
from tests.unit.scheduler.builders import (
    BROKEN,
    CRASHED,
    INT8,
    ONNX,
    TORCH,
    UNSUPPORTED,
    Farm,
    in_turn,
    only,
    plan_of,
)
from workers.contract import MeasureTask, Options

MakeFarm = Callable[..., Farm]


@pytest.fixture
def farm(make_farm: MakeFarm) -> Farm:
    """A farm of today."""
    return _today(make_farm())


def _today(farm: Farm) -> Farm:
    """Whether a cell is stale, the database says by its own clock."""
    farm.clock.jump((utc_now() - farm.clock.now).total_seconds())
    return farm


def _coverage(farm: Farm) -> dict[tuple[str, str, str], Any]:
    table = view_of("coverage")
    with reading(farm.engine) as connection:
        rows = connection.execute(select(table)).all()
    found = {(row.device, row.runtime, row.recipe): row for row in rows}
    assert len(found) == len(rows)
    return found


def _states(farm: Farm) -> dict[tuple[str, str, str], str]:
    return {key: row.state for key, row in _coverage(farm).items()}


def _one(farm: Farm) -> Any:
    [found] = _coverage(farm).values()
    return found


def test_a_valid_result_makes_a_valid_cell(farm: Farm) -> None:
    run_id = farm.run(plan_of(farm.devices(), TORCH))
    found = _one(farm)
    assert (found.device, found.model, found.weights, found.format, found.threads, found.mode) == (
        "d0",
        "net",
        "random",
        "pt2",
        1,
        "burst",
    )
    assert (found.state, found.verdict, found.why, found.job_id) == ("valid", "valid", None, farm.job("measure").id)
    assert abs(found.age_s) < 60
    [cell] = farm.rows(cells)
    assert (cell.sweep_run_id, cell.series_id, cell.at) == (run_id, farm.series()[0].id, farm.results()[0].created_at)


def test_an_old_one_is_stale(farm: Farm) -> None:
    farm.clock.jump(-timedelta(days=STALE_DAYS, minutes=1).total_seconds())
    farm.run(plan_of(farm.devices(), TORCH))
    assert (_one(farm).state, _one(farm).verdict) == ("stale", "valid")
    assert _one(farm).age_s > STALE_DAYS * 86400


def test_invalid_says_its_verdict_and_one_valid_repeat_makes_it_valid(farm: Farm) -> None:
    farm.play(in_turn(Succeed(verdict="contaminated"), Succeed(verdict="valid"), Succeed(verdict="throttled")))
    farm.run(plan_of(farm.devices(), TORCH))
    assert (_one(farm).state, _one(farm).verdict) == ("invalid", "contaminated")
    farm.run(plan_of(farm.devices(), TORCH, repeats=2))
    assert (_one(farm).state, _one(farm).verdict) == ("valid", "valid")
    farm.play(in_turn(then=Succeed(verdict="unusable")))
    farm.run(plan_of(farm.devices(), TORCH, salt="again"))
    assert (_one(farm).state, _one(farm).verdict) == ("invalid", "unusable")


def test_the_latest_word_counts_and_the_series_keeps_its_point(farm: Farm) -> None:
    farm.run(plan_of(farm.devices(), TORCH))
    farm.play(in_turn(then=CRASHED))
    farm.run(plan_of(farm.devices(), TORCH, salt="again"))
    found = _one(farm)
    assert (found.state, found.verdict, found.why) == ("failed", None, CRASHED.message)
    assert found.job_id == farm.job("measure", 1).id
    assert farm.series()[0].latest_valid_point_id == farm.points()[0].id
    farm.play(Succeed())
    farm.run(plan_of(farm.devices(), TORCH, salt="and again"))
    assert (_one(farm).state, _one(farm).why) == ("valid", None)


@pytest.mark.parametrize("failing", [0, 1, 2])
def test_one_valid_repeat_makes_its_case_valid_wherever_another_fails(farm: Farm, failing: int) -> None:
    farm.play(in_turn(*(CRASHED if number == failing else Succeed() for number in range(3))))
    farm.run(plan_of(farm.devices(), TORCH, repeats=3))
    assert sorted(row.state for row in farm.jobs())[0] == "failed"
    assert (_one(farm).state, _one(farm).verdict) == ("valid", "valid")


def test_what_a_runtime_cannot_run_is_unsupported(farm: Farm) -> None:
    farm.play(in_turn(then=UNSUPPORTED))
    farm.run(plan_of(farm.devices(), TORCH))
    assert (_one(farm).state, _one(farm).why) == ("unsupported", UNSUPPORTED.message)


def test_what_a_failed_conversion_keeps_from_running_is_failed_with_the_reason(farm: Farm) -> None:
    farm.play(only("convert onnx fp32", CRASHED))
    farm.run(plan_of(farm.devices(), TORCH, ONNX, repeats=2))
    assert _states(farm) == {("d0", "torch", "fp32"): "valid", ("d0", "onnxruntime", "fp32"): "failed"}
    assert CRASHED.message in _coverage(farm)["d0", "onnxruntime", "fp32"].why


def test_a_failure_that_is_tried_again_is_not_told_before_the_last(farm: Farm) -> None:
    farm.play(in_turn(BROKEN, BROKEN, then="silent"))
    farm.submit(plan_of(farm.devices(), TORCH))
    for _ in range(8):
        farm.tick()
    assert _coverage(farm) == {}
    farm.host.finish(farm.live()[0].id, BROKEN)
    farm.settle()
    assert (_one(farm).state, BROKEN.message in _one(farm).why) == ("failed", True)


def test_what_nobody_took_in_time_is_failed(farm: Farm) -> None:
    farm.play("silent")
    made = plan_of(farm.devices(), TORCH)
    farm.submit(made, Request(models=("net",), queue_timeout_s=5))
    farm.clock.advance(6)
    farm.tick()
    assert "queue timeout" in _one(farm).why
    assert _one(farm).state == "failed"


def test_what_was_cancelled_says_nothing(farm: Farm) -> None:
    farm.run(plan_of(farm.devices(), TORCH))
    farm.play("silent")
    farm.submit(plan_of(farm.devices(), TORCH, salt="again"))
    farm.cancel(farm.job("measure", 1).id)
    farm.settle()
    assert _one(farm).state == "valid"


def test_what_was_for_any_device_is_told_of_the_one_that_ran_it(make_farm: MakeFarm) -> None:
    farm = make_farm(kind="phone", devices=2)
    farm.play(in_turn(then=CRASHED))
    farm.run(plan_of(farm.devices(), TORCH, pinned=False))
    told = {row.device_id: row.state for row in farm.rows(cells)}
    ran = {row.device_id for row in farm.attempts() if row.device_id is not None}
    assert told == dict.fromkeys(ran, "failed")
    assert ran


def test_a_result_that_came_too_late_is_no_cell(farm: Farm) -> None:
    farm.play(lambda order: "silent" if order.measure is not None else Succeed())
    run_id = farm.submit(plan_of(farm.devices(), TORCH)).sweep_run_id
    while not farm.live() or farm.live()[0].job_id != farm.job("measure").id:
        farm.tick()
    attempt = farm.live()[0]
    farm.host.state = "silent"
    farm.clock.advance(600)
    farm.tick()
    farm.leave(run_id)
    farm.host.finish(attempt.id, Succeed())
    farm.host.state = "answers"
    farm.play("vanish")
    for _ in range(5):
        farm.tick()
    assert [row.stale for row in farm.results()] == [True]
    assert farm.rows(cells) == []


def test_a_canary_is_nobodys_result(farm: Farm) -> None:
    run_id = farm.submit(plan_of(farm.devices(), TORCH, ONNX)).sweep_run_id
    with writing(farm.engine) as connection:
        connection.execute(update(sweep_runs).where(sweep_runs.c.id == run_id).values(purpose=CANARY))
        connection.execute(update(jobs).where(jobs.c.kind == "measure").values(canary=True))
        device_id = farm.devices()[0].id
        quarantine.set_admin(connection, device_id, "quarantined", who="tester", why=None, now=farm.clock())
    farm.play(lambda order: CRASHED if order.measure is not None and order.measure.runtime == "torch" else Succeed())
    with writing(farm.engine) as connection:  # a person's quarantine has no probes of its own
        connection.execute(update(jobs).where(jobs.c.kind == "measure").values(state="queued"))
    for _ in range(12):
        farm.tick()
    assert len(farm.results()) == 1
    assert (farm.rows(cells), farm.points(), farm.series()) == ([], [], [])


def test_missing_is_what_another_of_its_kind_has(make_farm: MakeFarm) -> None:
    farm = _today(make_farm(kind="phone", devices=4))
    found = farm.host.devices
    farm.host.plug([*found[:3], replace(found[3], attributes={"simulated": True})])
    farm.add_host("server", kind="gpu")
    farm.tick()
    d0, d1, _, d3, gpu = sorted(farm.devices(), key=lambda device: device.name)
    farm.play(lambda order: UNSUPPORTED if order.measure is not None and order.place == d1.key else Succeed())
    farm.run(plan_of([d0], TORCH))
    farm.run(plan_of([d1], ONNX))
    farm.run(plan_of([d3], INT8))
    assert gpu.kind == "gpu"
    assert _states(farm) == {
        ("d0", "torch", "fp32"): "valid",
        ("d1", "torch", "fp32"): "missing",
        ("d2", "torch", "fp32"): "missing",
        # What is unsupported on the one device that was asked is asked of no other.
        ("d1", "onnxruntime", "fp32"): "unsupported",
        # A simulated device is no measure for real ones, nor they for it.
        ("d3", "onnxruntime", "int8-static"): "valid",
    }
    missing = _coverage(farm)["d2", "torch", "fp32"]
    assert (missing.at, missing.age_s, missing.job_id, missing.verdict) == (None, None, None, None)
    assert (missing.model, missing.format, missing.simulated) == ("net", "pt2", False)


def test_what_a_plan_finds_unsupported_is_a_cell_of_the_devices_that_it_names(farm: Farm) -> None:
    farm.run(plan_of(farm.devices(), TORCH, ONNX))
    made = plan_of(farm.devices(), TORCH, salt="later")
    [device] = farm.devices()
    case = case_of(next(item.task for item in plan_of(farm.devices(), ONNX).measurements))
    made.unsupported_cells = [Unsupported(device.id, case, "it is not installed any more")]
    farm.run(made)
    found = _coverage(farm)["d0", "onnxruntime", "fp32"]
    assert (found.state, found.why, found.job_id) == ("unsupported", "it is not installed any more", None)
    assert _coverage(farm)["d0", "torch", "fp32"].state == "valid"


def test_a_profile_makes_no_cells(farm: Farm) -> None:
    made = plan_of(farm.devices(), TORCH)
    case = case_of(made.measurements[0].task)
    made.unsupported_cells = [Unsupported(farm.devices()[0].id, case, "it cannot")]
    farm.submit(made, Request(models=("net",), kind="profile"))
    farm.play(in_turn(then=CRASHED))
    farm.settle()
    assert farm.rows(cells) == []


def _task(**options: Any) -> MeasureTask:
    return MeasureTask(
        runtime="litert",
        entry="e",
        format="tflite",
        recipe="fp32",
        model="m",
        weights="random",
        compute_unit="cpu",
        options=Options(**options),
    )


@pytest.mark.parametrize(
    ("options", "expected", "shared"),
    [
        ({}, "", ""),
        ({"threads": 4, "batch": 2, "mode": "offline"}, "", ""),
        ({"rate_hz": 10.0, "runtime_options": {"delegate": "gpu"}}, "rate_hz=10 delegate=gpu", "rate_hz=10"),
        ({"affinity": (0, 3), "percentile": 99}, "affinity=0,3 percentile=99", "affinity=0,3 percentile=99"),
        ({"runtime_options": {"b": "2", "a": "1"}}, "a=1 b=2", ""),
        ({"min_seconds": 1.5, "max_seconds": 20.0}, "min_seconds=1.5 max_seconds=20", "min_seconds=1.5 max_seconds=20"),
    ],
)
def test_options_are_told_where_they_differ(options: dict[str, Any], expected: str, shared: str) -> None:
    task = _task(**options)
    assert case_of(task).options_text == expected
    assert shared_options_text(task.options) == shared


def test_cases_that_differ_have_keys_that_differ() -> None:
    base = case_of(_task())
    fields = base._asdict()
    changed = [Case(**{**fields, name: "x" if isinstance(value, str) else 7}) for name, value in fields.items()]
    keys = {case.key for case in [base, *changed]}
    assert len(keys) == len(Case._fields) + 1
    assert case_of(_task(threads=1)).key == base.key
