"""Two plans become pairs."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from device_registry.errors import UsageError
from device_registry.registry import RegisteredDevice
from scheduler.gates.pairing import GatePlan, gate_plan
from scheduler.plan import Plan, resolve_model
from scheduler.request import Request
from tests.unit.scheduler.builders import INT8, ONNX, TORCH, plan_of

SETTINGS = {"most": 30}


@pytest.fixture(scope="module")
def devices() -> list[RegisteredDevice]:
    """Two units."""
    return [
        RegisteredDevice(
            id=number,
            key=f"k{number}",
            name=f"d{number}",
            kind="cpu",
            driver="scripted",
            host_id=1,
            host="here",
            host_description={},
            presence="online",
            admin="enabled",
            not_before=None,
            last_seen_at=datetime(2026, 1, 1, tzinfo=UTC),
            attributes={},
        )
        for number in range(2)
    ]


def keys(made: GatePlan) -> set[tuple[str, str, str]]:
    """(runtime, recipe, device) of the pairs."""
    return {(pair.what.runtime, pair.what.recipe, pair.what.device) for pair in made.pairs}


def test_cases_are_paired_by_all_but_the_model(devices: list[RegisteredDevice]) -> None:
    made = gate_plan(
        plan_of(devices, TORCH, ONNX, model="a", threads=(1, 2)),
        plan_of(devices, TORCH, ONNX, model="b", threads=(1, 2)),
        SETTINGS,
    )
    assert len(made.pairs) == 8
    assert made.unpaired == ()
    for pair in made.pairs:
        assert pair.baseline.task.options == pair.candidate.task.options
        assert pair.baseline.device == pair.candidate.device
        assert (pair.baseline.task.model, pair.what.model) == ("a", "b")
    assert {pair.what.options for pair in made.pairs} == {"", "threads=2"}
    assert any("threads=2" in pair.title for pair in made.pairs)
    # Both sides' conversions, each once, and no measurement: those are the trials'.
    assert len({item.variant.key for item in made.conversions.conversions}) == 4
    assert made.conversions.measurements == []


def test_one_artifact_is_neither_made_nor_measured(devices: list[RegisteredDevice]) -> None:
    made = gate_plan(plan_of(devices, ONNX), plan_of(devices, ONNX), SETTINGS)
    assert [pair.one_artifact for pair in made.pairs] == [True, True]
    assert made.measured == ()
    assert made.conversions.conversions == []


def test_conversions_lead_to_what_is_measured_and_to_nothing_else(devices: list[RegisteredDevice]) -> None:
    base, head = plan_of(devices, ONNX, INT8, model="a"), plan_of(devices, ONNX, model="b")
    made = gate_plan(base, head, SETTINGS)
    assert keys(made) == {("onnxruntime", "fp32", "d0"), ("onnxruntime", "fp32", "d1")}
    recipes = [(item.model, item.variant.format, item.variant.recipe) for item in made.conversions.conversions]
    assert sorted(recipes) == [(name, *what) for name in "ab" for what in (("onnx", "fp32"), ("pt2", "fp32"))]
    assert recipes.index(("a", "pt2", "fp32")) < recipes.index(("a", "onnx", "fp32"))


def test_what_one_side_lacks_is_listed_with_its_reason(devices: list[RegisteredDevice]) -> None:
    base = plan_of(devices[:1], ONNX, INT8, model="a")
    head = plan_of(devices[:1], ONNX, model="b")
    head.unsupported = [{"runtime": "onnxruntime", "recipe": "int8-static", "why": "no calibration"}]
    [lacking] = gate_plan(base, head, SETTINGS).unpaired
    assert (lacking.side, lacking.recipe, lacking.device, lacking.why) == (
        "candidate",
        "int8-static",
        "d0",
        "no calibration",
    )
    [other] = gate_plan(head, base, SETTINGS).unpaired
    assert (other.side, other.why) == ("baseline", "no calibration")


def test_nothing_in_common_is_refused(devices: list[RegisteredDevice]) -> None:
    with pytest.raises(UsageError, match="no case in common: the baseline runs as torch fp32, the candidate as onnx"):
        gate_plan(plan_of(devices, TORCH), plan_of(devices, ONNX), SETTINGS)


def test_the_same_gate_is_known_again(devices: list[RegisteredDevice]) -> None:
    def made(base: Plan, head: Plan, most: int = 30) -> str:
        return gate_plan(base, head, {"most": most}).digest

    one, two = plan_of(devices, model="a"), plan_of(devices, model="b")
    assert made(one, two) == made(plan_of(devices, model="a"), plan_of(devices, model="b"))
    assert made(one, two) != made(two, one)
    assert made(one, two) != made(one, two, 10)
    assert made(one, two) != made(replace(one, digest="x"), two)


def test_a_factory_of_two_checkouts_is_two_programs(tmp_path: Path) -> None:
    found = []
    for name, width in (("base", 8), ("head", 16)):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "net.py").write_text(f"WIDTH = {width}\n")
        request = Request(models=("net:make",), allow_code=True, search_path=(str(folder),))
        found.append(resolve_model(request, "net:make")[1])
    base, head = found
    assert (base.name, base.format) == (head.name, head.format)
    assert base.identity != head.identity
    assert base.request.search_path != head.request.search_path
