"""Simulated and real never meet in a plan, and nobody who does not ask is told of what is simulated."""

from __future__ import annotations

import pytest

from device_registry.errors import UsageError
from scheduler.plan import Request, all_models, plan
from tests.unit.builders import make_device

PHONE = make_device(
    2, kind="sim", driver="sim", key="sim:a", name="lab-pixel-01", attributes={"simulated": True, "compute_unit": "sim"}
)
CPU = make_device(1)


def test_a_simulated_model_runs_on_simulated_devices_in_each_of_its_recipes() -> None:
    made = plan(Request(models=("sim/mobilenet",)), [PHONE, CPU])
    assert {(item.task.runtime, item.task.recipe) for item in made.measurements} == {
        ("sim", "fp32"),
        ("sim", "int8-static"),
    }
    assert all(item.device is PHONE for item in made.measurements)
    assert {item.task.compute_unit for item in made.measurements} == {"sim"}
    assert len(made.conversions) == 2


def test_a_real_model_has_no_line_on_what_is_simulated() -> None:
    made = plan(Request(models=("torchvision/resnet18",)), [PHONE, CPU])
    assert all(item.device is CPU for item in made.measurements)
    assert "sim" not in {item.task.runtime for item in made.measurements}
    assert [entry for entry in made.unsupported if entry["runtime"] == "sim" and CPU.name in entry["device"]] == []


def test_a_simulated_model_on_a_real_device_is_refused() -> None:
    with pytest.raises(UsageError, match="sim does not run on a cpu"):
        plan(Request(models=("sim/mobilenet",), runtimes=("sim",)), [CPU])


def test_nobody_makes_up_an_accuracy() -> None:
    made = plan(Request(models=("sim/mobilenet",), evaluate=True), [PHONE])
    assert {item.kind for item in made.measurements} == {"measure"}
    told = [entry for entry in made.unsupported if entry.get("kind") == "evaluate"]
    assert {entry["recipe"] for entry in told} == {"fp32", "int8-static"}
    assert all("measured, not evaluated: a simulated device computes nothing" in entry["why"] for entry in told)
    with pytest.raises(UsageError, match="nothing can be evaluated: a simulated device computes nothing"):
        plan(Request(models=("sim/mobilenet",), kind="evaluate"), [PHONE])


def test_simulated_models_are_listed_last() -> None:
    names = all_models()
    simulated = [name for name in names if name.startswith("sim/")]
    assert simulated == names[-len(simulated) :]
    assert set(names) - set(all_models(simulated=False)) == set(simulated)
