"""Profiles: made like measurements, kept apart from them, and compared part by part."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_registry.database import reading
from device_registry.errors import UsageError
from scheduler.plan import Request
from scheduler.profiles import compare_profiles, list_profiles, profile_record
from tests.unit.scheduler.builders import INT8, ONNX, UNSUPPORTED, Farm, check_history, only, plan_of

MakeFarm = Callable[..., Farm]
_REQUEST = Request(models=("net",), kind="profile")


def op(type_: str, time_us: float, *layers: str) -> dict[str, Any]:
    """An operation of a record."""
    return {"type": type_, "time_us": time_us, "layers": list(layers)}


def record(*ops: dict[str, Any], model: str = "net") -> dict[str, Any]:
    """A profile with some operations."""
    alike = {"weights": "random", "inputs": {}, "device": "d0", "threads": 1, "batch": 1, "verdict": "valid"}
    return {"profile": 1, "model": model, "ops": list(ops), **alike}


def test_a_profile_is_kept_and_makes_neither_result_nor_point(make_farm: MakeFarm) -> None:
    farm = make_farm()
    run_id = farm.submit(plan_of(farm.devices(), ONNX, INT8), _REQUEST).sweep_run_id
    farm.settle()
    check_history(farm)
    assert not farm.results()
    assert not farm.points()
    with reading(farm.engine) as connection:
        made = list_profiles(connection, run_id=run_id)
        whole = profile_record(connection, made[0]["profile"])
        latest = profile_record(connection, None)
    assert [(row["runtime"], row["recipe"]) for row in made] == [
        ("onnxruntime", "fp32"),
        ("onnxruntime", "int8-static"),
    ]
    assert made[0]["sum_over_profiled_run"] == pytest.approx(0.5)
    assert (whole["ops"][0]["share"], whole["ops"][0]["gflops_per_s"]) == (1.0, pytest.approx(1000 / 500 / 1e3))
    assert whole["ops"][0]["gbytes_per_s"] is None, "unknown bytes are no zero"
    assert latest["profile"] == made[1]["profile"]


def test_a_profile_that_a_runtime_does_not_offer_is_unsupported(make_farm: MakeFarm) -> None:
    farm = make_farm()
    farm.play(only("profile", UNSUPPORTED))
    farm.submit(plan_of(farm.devices(), ONNX), _REQUEST)
    farm.settle()
    assert farm.job("profile").failure_code == "unsupported"
    with reading(farm.engine) as connection:
        assert list_profiles(connection) == []


def test_no_such_profile_is_answered_with_how_to_make_one(make_farm: MakeFarm) -> None:
    with reading(make_farm().engine) as connection:
        with pytest.raises(UsageError, match="no profile 7; see benchfarm profile list"):
            profile_record(connection, 7)
        with pytest.raises(UsageError, match="benchfarm profile MODEL"):
            profile_record(connection, None)


def test_operations_that_share_layers_are_one_part_on_both_sides() -> None:
    fused = record(op("FusedConv", 10.0, "conv", "norm", "act"), op("Gemm", 5.0, "head"))
    apart = record(op("QConv", 4.0, "conv", "norm"), op("HardSwish", 3.0, "act"), op("QGemm", 2.0, "head"))
    compared = compare_profiles(fused, apart)
    by_layers = {tuple(part["layers"]): part for part in compared["parts"]}
    assert set(by_layers) == {("act", "conv", "norm"), ("head",)}
    conv = by_layers["act", "conv", "norm"]
    assert (conv["before"], conv["after"]) == (["FusedConv"], ["QConv", "HardSwish"])
    assert (conv["before_us"], conv["after_us"], conv["ratio"]) == (10.0, 7.0, 0.7)


def test_what_was_inserted_is_added_up_by_type() -> None:
    before = record(op("Conv", 10.0, "conv"), op("ReorderInput", 1.0))
    after = record(op("Quantize", 1.0), op("Conv", 5.0, "conv"), op("Quantize", 2.0))
    inserted = {part["type"]: part for part in compare_profiles(before, after)["inserted"]}
    assert (inserted["Quantize"]["before_us"], inserted["Quantize"]["after_us"]) == (None, 3.0)
    assert (inserted["ReorderInput"]["after_us"], inserted["ReorderInput"]["ratio"]) == (None, None)


def test_the_largest_changes_come_first() -> None:
    before = record(op("A", 10.0, "a"), op("B", 10.0, "b"), op("C", 10.0, "c"))
    after = record(op("A", 9.0, "a"), op("B", 30.0, "b"), op("C", 5.0, "c"))
    assert [part["layers"] for part in compare_profiles(before, after)["parts"]] == [["b"], ["c"], ["a"]]


def test_what_is_not_alike_is_said() -> None:
    compared = compare_profiles(record(), {**record(), "batch": 4, "threads": 2})
    assert compared["differences"] == [
        {"what": "threads", "before": 1, "after": 2},
        {"what": "batch", "before": 1, "after": 4},
    ]


def test_profiles_of_different_models_are_not_compared() -> None:
    with pytest.raises(UsageError, match="different models: net and other"):
        compare_profiles(record(), record(model="other"))


_OPS = st.lists(
    st.builds(
        lambda type_, time_us, layers: op(type_, time_us, *layers),
        st.sampled_from(["Conv", "Add"]),
        st.floats(0, 1e6),
        st.lists(st.sampled_from("abcdef"), max_size=3, unique=True),
    ),
    max_size=8,
)


@given(_OPS, _OPS)
def test_no_time_is_lost_or_counted_twice(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> None:
    compared = compare_profiles(record(*before), record(*after))
    rows = [*compared["parts"], *compared["inserted"]]
    for side, ops in (("before", before), ("after", after)):
        assert sum(row[f"{side}_us"] or 0 for row in rows) == pytest.approx(sum(item["time_us"] for item in ops))
    layers = [layer for part in compared["parts"] for layer in part["layers"]]
    assert len(layers) == len(set(layers)), "a layer is in one part only"
