"""scheduler.suites.readings: the latest valid figures of a block, whichever of its runs they are of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from device_registry.database import reading, writing
from scheduler.comparisons import latest_cases
from scheduler.executors.scripted import Outcome, Succeed
from scheduler.queue import sweep_runs
from scheduler.suites import readings
from scheduler.suites.readings import Listed, Readings, add_bounds, block_readings, is_sound
from tests.unit.scheduler.builders import CRASHED, INT8, ONNX, TORCH, Farm, plan_of
from workers.contract import Order
from workers.report import Verdict

SWEEP = "suite/small/latency"
NET = [Listed(text="as(listed=1)", name="net", values={"listed": 1})]


def run(farm: Farm, play: Callable[[Order], Outcome], *cases: Any, **options: Any) -> int:
    """One more run of the block."""
    farm.play(play)
    run_id = farm.run(plan_of(farm.devices(), *cases, **options))
    with writing(farm.engine) as connection:
        connection.execute(sweep_runs.update().where(sweep_runs.c.id == run_id).values(sweep=SWEEP))
    return run_id


def taking(verdict: Verdict = "valid", **ms: float) -> Callable[[Order], Outcome]:
    """Each runtime takes so long."""

    def play(order: Order) -> Outcome:
        if order.measure is None:
            return Succeed()
        recipe = order.measure.recipe.replace("-", "_")
        return Succeed(p50_ms=ms.get(recipe, ms.get(order.measure.runtime, 1.0)), verdict=verdict)

    return play


def found(farm: Farm, listed: Sequence[Listed] = NET) -> Readings:
    """What the block found."""
    with reading(farm.engine) as connection:
        return block_readings(connection, SWEEP, listed)


def test_what_was_never_run_has_no_reading(farm: Farm) -> None:
    assert found(farm) == Readings(rows=[], failed=[], unsupported=[], run_ids=[])


def test_the_latest_valid_value_stands_and_is_compared_across_runs(farm: Farm) -> None:
    first = run(farm, taking(torch=8.0, onnxruntime=4.0, int8_static=1.0), TORCH, ONNX, INT8, repeats=5)
    second = run(farm, taking(onnxruntime=2.0), ONNX, repeats=5)
    third = run(farm, taking("contaminated", torch=80.0), TORCH)
    block = found(farm)
    rows = {(row["runtime"], row["recipe"]): row for row in block.rows}
    assert block.run_ids == [first, second, third]
    assert [row["run"] for row in block.rows] == [second, first, first]
    assert [(row["listed"], row["values"]) for row in block.rows] == [("as(listed=1)", {"listed": 1})] * 3
    assert rows["onnxruntime", "fp32"]["speed_up"] == pytest.approx(4)
    assert rows["onnxruntime", "fp32"]["speed_up_over"] == "torch/fp32"
    assert rows["onnxruntime", "fp32"]["speed_up_own"] is None
    assert rows["onnxruntime", "int8-static"]["speed_up_own"] == pytest.approx(2)
    assert rows["onnxruntime", "int8-static"]["speed_up_own_ci"] == pytest.approx([2, 2])
    assert all(is_sound(row) for row in block.rows)


def test_what_was_never_valid_is_told_and_not_sound(farm: Farm) -> None:
    run(farm, taking("contaminated", torch=8.0), TORCH)
    latest = run(farm, taking("contaminated", torch=9.0), TORCH)
    [row] = found(farm).rows
    assert (row["run"], row["p50_ms"], row["verdict"], row["processes"]) == (latest, 9.0, "contaminated", 0)
    assert not is_sound(row)


def test_failures_are_those_of_the_latest_run_and_other_models_are_left_out(farm: Farm) -> None:
    run(farm, lambda order: CRASHED if order.measure is not None else Succeed(), TORCH)
    assert [entry["why"] for entry in found(farm).failed] == [CRASHED.message]
    other = [Listed(text="other", name="other")]
    assert found(farm, other).failed == []
    run(farm, taking(torch=8.0), TORCH)
    assert found(farm).failed == []
    assert found(farm, other).rows == []


def test_facts_of_the_artifact_become_figures_and_tell_what_bounds(farm: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    run(farm, taking(torch=2.0, onnxruntime=1.0, int8_static=0.5), TORCH, ONNX, INT8)
    facts = {"flops": 4_000_000_000, "operator_flops": 5_000_000_000, "bytes_minimal": 8_000_000, "nodes": 3}

    def with_facts(connection: Any, run_ids: Sequence[int]) -> list[dict[str, Any]]:
        cases = latest_cases(connection, run_ids)
        return [{**case, "facts": facts, "model": "op/matmul"} for case in cases]

    monkeypatch.setattr(readings, "latest_cases", with_facts)
    block = found(farm, [Listed(text="op/matmul", name="op/matmul")])
    roofs = add_bounds(block.rows)
    rows = {(row["runtime"], row["recipe"]): row for row in block.rows}
    torch, int8 = rows["torch", "fp32"], rows["onnxruntime", "int8-static"]
    assert (torch["gmac"], torch["gflop"], torch["nodes"]) == (2, 5, 3)
    assert (torch["gflops_per_s"], torch["gb_per_s"]) == pytest.approx((2500, 4))
    assert (int8["gflops_per_s"], int8["gb_per_s"]) == (pytest.approx(10_000), None), "bytes are those of fp32"
    assert {key[1]: roof.gflops_per_s and roof.gflops_per_s.value for key, roof in roofs.items()} == {
        "torch": pytest.approx(2500),
        "onnxruntime": pytest.approx(5000),
    }
    assert {row["bound"] for row in block.rows} == {None}, "without a copy there is no roof of memory"
