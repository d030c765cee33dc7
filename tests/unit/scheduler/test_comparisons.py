"""What a run shows: results, failures and what is unsupported, each apart; intervals and speed-ups only when earned."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import pytest

from device_registry.database import reading
from device_registry.errors import UsageError
from scheduler import comparisons
from scheduler.comparisons import RunResults, latest_results, run_results
from scheduler.executors.scripted import Outcome, Succeed
from scheduler.plan import Request
from scheduler.repeats import LEAST_REPEATS
from scheduler.status import known_run
from tests.unit.scheduler.builders import (
    CRASHED,
    INT8,
    ONNX,
    TORCH,
    UNSUPPORTED,
    Farm,
    in_turn,
    of_invocations_in_turn,
    only,
    plan_of,
)
from workers.contract import Options, Order

MakeFarm = Callable[..., Farm]
FILE = ("onnxruntime", "onnx", "original")


def _shown(farm: Farm, run_id: int) -> RunResults:
    with reading(farm.engine) as connection:
        return run_results(connection, run_id)


def _by_runtime(times: dict[str, Iterable[float]], bad: str | None = None) -> Callable[[Order], Outcome]:
    """Times of each runtime, repeat by repeat; the last of `bad` is contaminated."""
    left = {runtime: list(values) for runtime, values in times.items()}

    def play(order: Order) -> Outcome:
        if order.measure is None:
            return Succeed()
        values = left[order.measure.runtime]
        value = values.pop(0)
        return Succeed(p50_ms=value, verdict="contaminated" if order.measure.runtime == bad and not values else "valid")

    return play


def _rows(farm: Farm, script: Callable[[Order], Outcome], **options: Any) -> dict[str, dict[str, Any]]:
    """The rows of a run of torch and onnxruntime, by runtime."""
    farm.play(script)
    run_id = farm.run(plan_of(farm.devices(), TORCH, ONNX, **options))
    return {row["runtime"]: row for row in _shown(farm, run_id).results}


def test_results_failures_and_what_is_unsupported_stay_apart(farm: Farm) -> None:
    def play(order: Order) -> Outcome:
        recipe = order.measure.recipe if order.measure is not None else ""
        runtime = order.measure.runtime if order.measure is not None else ""
        return UNSUPPORTED if recipe == "int8-static" else CRASHED if runtime == "onnxruntime" else Succeed()

    farm.play(play)
    listed = {"model": "net", "runtime": "coreml", "recipe": "fp16", "device": "d0", "why": "needs a Mac"}
    shown = _shown(farm, farm.run(plan_of(farm.devices(), TORCH, ONNX, INT8, unsupported=[listed])))
    assert [row["runtime"] for row in shown.results] == ["torch"]
    [failed] = shown.failed
    assert (failed["runtime"], failed["recipe"], failed["cause"], failed["code"]) == (
        "onnxruntime",
        "fp32",
        "model",
        "crashed",
    )
    assert failed["why"] == CRASHED.message
    assert [(entry["runtime"], entry["recipe"], entry["why"]) for entry in shown.unsupported] == [
        ("coreml", "fp16", "needs a Mac"),
        ("onnxruntime", "int8-static", UNSUPPORTED.message),
    ]


def test_what_cannot_be_converted_is_unsupported_and_not_failed(farm: Farm) -> None:
    farm.play(only("convert onnx", UNSUPPORTED))
    shown = _shown(farm, farm.run(plan_of(farm.devices(), TORCH, ONNX, repeats=3)))
    assert shown.failed == []
    assert {entry["why"] for entry in shown.unsupported} == {UNSUPPORTED.message}
    assert ("onnxruntime", "d0") in {(entry["runtime"], entry["device"]) for entry in shown.unsupported}


def test_repeats_that_are_unsupported_are_told_once(farm: Farm) -> None:
    farm.play(in_turn(then=UNSUPPORTED))
    shown = _shown(farm, farm.run(plan_of(farm.devices(), TORCH, repeats=4)))
    assert len(shown.unsupported) == 1


def test_what_a_failed_conversion_keeps_from_running_is_told_as_failed_with_the_reason(farm: Farm) -> None:
    farm.play(only("convert onnx", CRASHED))
    shown = _shown(farm, farm.run(plan_of(farm.devices(), TORCH, ONNX)))
    assert [(entry["kind"], entry["runtime"]) for entry in shown.failed] == [
        ("convert", "conversion"),
        ("measure", "onnxruntime"),
    ]
    assert all(CRASHED.message in entry["why"] for entry in shown.failed)


def test_what_was_cancelled_is_shown_as_cancelled(farm: Farm) -> None:
    run_id = farm.submit(plan_of(farm.devices(), TORCH)).sweep_run_id
    farm.cancel(farm.job("measure").id)
    farm.settle()
    [entry] = _shown(farm, run_id).failed
    assert (entry["state"], entry["code"]) == ("cancelled", "cancelled")


def test_what_was_converted_for_another_host_is_shown_with_its_artifact(farm: Farm) -> None:
    made = plan_of(farm.devices(), TORCH, ONNX)
    key = made.conversions[1].variant.key
    entry = {"model": "net", "runtime": "coreml", "recipe": "fp32", "device": "d0", "why": "needs a Mac"}
    made.unsupported = [entry | {"artifact_key": key}]
    [shown] = _shown(farm, farm.run(made)).unsupported
    assert shown == entry | {"artifact_sha256": farm.artifact().sha256, "artifact_bytes": farm.artifact().bytes}


def test_a_row_tells_the_median_of_its_valid_repeats_and_each_process(farm: Farm) -> None:
    rows = _rows(farm, _by_runtime({"torch": [3.0, 1.0, 99.0], "onnxruntime": [1.0] * 3}, bad="torch"), repeats=3)
    row = rows["torch"]
    assert (row["p50_ms"], row["verdict"]) == (2.0, "valid")
    assert sorted((process["p50_ms"], process["verdict"]) for process in row["processes"]) == [
        (1.0, "valid"),
        (3.0, "valid"),
        (99.0, "contaminated"),
    ]
    assert row["artifact_sha256"] == farm.artifact("pt2 fp32").sha256
    assert row["artifact_bytes"] == farm.artifact("pt2 fp32").bytes


@pytest.mark.parametrize("repeats", [LEAST_REPEATS - 1, LEAST_REPEATS])
def test_intervals_and_their_ratio_need_enough_repeats(farm: Farm, repeats: int) -> None:
    torch, onnx = [2.0 + 0.01 * i for i in range(repeats)], [1.0 + 0.01 * i for i in range(repeats)]
    rows = _rows(farm, _by_runtime({"torch": torch, "onnxruntime": onnx}), repeats=repeats)
    baseline, row = rows["torch"], rows["onnxruntime"]
    assert row["speedup"] == pytest.approx(baseline["p50_ms"] / row["p50_ms"])
    assert (baseline["speedup"], baseline["speedup_ci"]) == (1.0, None)
    if repeats < LEAST_REPEATS:
        assert (row["p50_ci_ms"], row["speedup_ci"]) == (None, None)
        return
    low, high = row["p50_ci_ms"]
    assert min(onnx) <= low <= row["p50_ms"] <= high <= max(onnx)
    low, high = row["speedup_ci"]
    assert min(torch) / max(onnx) <= low <= row["speedup"] <= high <= max(torch) / min(onnx)


@pytest.mark.parametrize("bad", ["torch", "onnxruntime"])
def test_repeats_that_do_not_count_earn_no_interval(farm: Farm, bad: str) -> None:
    times: dict[str, Iterable[float]] = {"torch": [2.0] * LEAST_REPEATS, "onnxruntime": [1.0] * LEAST_REPEATS}
    rows = _rows(farm, _by_runtime(times, bad=bad), repeats=LEAST_REPEATS)
    assert rows[bad]["p50_ci_ms"] is None
    assert rows["onnxruntime"]["speedup"] == pytest.approx(2.0)
    assert rows["onnxruntime"]["speedup_ci"] is None


def test_speed_up_compares_the_same_device_and_threads_only(make_farm: MakeFarm) -> None:
    farm = make_farm(kind="phone", devices=2)
    first, second = farm.devices()

    def play(order: Order) -> Outcome:
        if order.measure is None:
            return Succeed()
        base = 8.0 if order.measure.runtime == "torch" else 2.0
        return Succeed(p50_ms=base / order.measure.options.threads)

    farm.play(play)
    made = plan_of([first], TORCH, ONNX, threads=(1, 2))
    other = plan_of([second], ONNX, threads=(1, 4))
    made.measurements += other.measurements
    rows = _shown(farm, farm.run(made)).results
    speedups = {(row["device"], row["threads"]): row["speedup"] for row in rows if row["runtime"] == "onnxruntime"}
    assert speedups == {("d0", 1): 4.0, ("d0", 2): 4.0, ("d1", 1): None, ("d1", 4): None}


def test_a_model_file_is_its_own_baseline(farm: Farm) -> None:
    farm.play(in_turn(Succeed(p50_ms=4.0), Succeed(p50_ms=1.0)))
    run_id = farm.run(plan_of(farm.devices(), FILE, INT8))
    rows = {row["recipe"]: row for row in _shown(farm, run_id).results}
    assert (rows["original"]["speedup"], rows["int8-static"]["speedup"]) == (1.0, 4.0)


def test_another_models_baseline_is_no_baseline(farm: Farm) -> None:
    made = plan_of(farm.devices(), TORCH, model="a")
    other = plan_of(farm.devices(), ONNX, model="b")
    made.conversions += other.conversions
    made.measurements += other.measurements
    rows = {row["model"]: row for row in _shown(farm, farm.run(made)).results}
    assert (rows["a"]["speedup"], rows["b"]["speedup"]) == (1.0, None)


def test_rows_are_fastest_first_within_a_device(farm: Farm) -> None:
    farm.play(in_turn(Succeed(p50_ms=4.0), Succeed(p50_ms=1.0), Succeed(p50_ms=2.0)))
    shown = _shown(farm, farm.run(plan_of(farm.devices(), TORCH, ONNX, INT8)))
    assert [row["p50_ms"] for row in shown.results] == [1.0, 2.0, 4.0]


def test_of_a_large_run_no_more_documents_are_read_than_its_first_rows_need(
    make_farm: MakeFarm, monkeypatch: pytest.MonkeyPatch
) -> None:
    farm = make_farm(kind="phone", devices=6)
    times = iter(range(1, 1000))
    farm.play(lambda order: Succeed(p50_ms=float(next(times))) if order.measure is not None else Succeed())
    for model in ("b", "a"):
        farm.run(plan_of(farm.devices(), TORCH, ONNX, model=model, threads=(2, 1)))
    with reading(farm.engine) as connection:
        whole = [latest_results(connection, count) for count in (1, 7, 30, 99)]
        monkeypatch.setattr("scheduler.comparisons._RESULTS_AT_ONCE", 5)
        read: list[Any] = []
        monkeypatch.setattr("scheduler.comparisons._case_row", _seeing(read, comparisons._case_row))
        assert [latest_results(connection, count) for count in (1, 7, 30, 99)] == whole
        read.clear()
        assert len(latest_results(connection, 2)) == 2
    assert 2 <= len(read) <= 2 * 4  # of the devices of two rows, four cases each; not of six


def _seeing(seen: list[Any], act: Callable[..., Any]) -> Callable[..., Any]:
    def see(*given: Any) -> Any:
        seen.append(given)
        return act(*given)

    return see


def test_the_latest_results_come_first_and_are_no_more_than_asked(farm: Farm) -> None:
    runs = [farm.run(plan_of(farm.devices(), TORCH, ONNX)) for _ in range(3)]
    with reading(farm.engine) as connection:
        found = latest_results(connection, 3)
    assert [row["run"] for row in found] == [runs[2], runs[2], runs[1]]


def test_a_profile_is_no_run_to_show_results_of(farm: Farm) -> None:
    measured = farm.run(plan_of(farm.devices(), TORCH))
    profiled = farm.submit(plan_of(farm.devices(), TORCH, salt="profile"), Request(models=("net",), kind="profile"))
    farm.settle()
    with reading(farm.engine) as connection:
        assert known_run(connection, None) == measured
        with pytest.raises(UsageError, match=f"run {profiled.sweep_run_id} made profiles"):
            known_run(connection, profiled.sweep_run_id)


def test_the_baseline_has_no_options_of_its_own_whichever_case_ran_first(farm: Farm) -> None:
    made = plan_of(farm.devices(), FILE)
    (plain,) = made.measurements
    options = Options(runtime_options={"execution": "parallel"})
    made.measurements.insert(0, replace(plain, task=replace(plain.task, options=options), case_key="parallel"))
    farm.play(in_turn(Succeed(p50_ms=2.0), Succeed(p50_ms=4.0)))
    rows = _shown(farm, farm.run(made)).results
    assert {row["p50_ms"]: row["speedup"] for row in rows} == {2.0: 2.0, 4.0: 1.0}


def test_means_and_medians_of_one_case_are_two_rows(farm: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    of_invocations_in_turn(monkeypatch, "median", "mean", "median", "mean")
    farm.play(in_turn(*[Succeed(p50_ms=p50_ms) for p50_ms in (1.0, 10.0, 3.0, 30.0)]))
    rows = _shown(farm, farm.run(plan_of(farm.devices(), TORCH, repeats=4))).results
    assert [(row["of_invocations"], row["p50_ms"], len(row["processes"])) for row in rows] == [
        ("median", 2.0, 2),
        ("mean", 20.0, 2),
    ]
