"""scheduler.plan: what was asked for by name and cannot be is refused; what a matrix merely contains is listed."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from device_registry.errors import UsageError
from scheduler.cases import case_of
from scheduler.plan import Plan, Request, all_models, all_recipes, plan
from tests.unit.builders import make_device
from workers.contract import Options
from workers.models import torchvision_zoo
from workers.models.source import UnknownModelError
from workers.plugins import plugins
from workers.runtimes.lite_rt import LiteRt
from workers.runtimes.onnx_runtime import OnnxRuntime

RESNET = "torchvision/resnet18"
NO_COREML = {"coreml": "Core ML runs on macOS only"}


@pytest.fixture(autouse=True)
def zoo(monkeypatch: pytest.MonkeyPatch) -> None:
    """A zoo of two models, whatever is installed here."""
    monkeypatch.setattr(torchvision_zoo, "_registered", lambda: ["mobilenet_v3_small", "resnet18"])


@pytest.fixture
def onnx_file(tmp_path: Path) -> Path:
    """A model file; planning reads its bytes and no more."""
    path = tmp_path / "mine.onnx"
    path.write_bytes(b"model")
    return path


def planned(request: Request | None = None, *, why_not: dict[str, str] | None = None, **changed: Any) -> Plan:
    """A plan for one CPU that has every runtime, but for those that `why_not` names."""
    request = request or Request(models=(RESNET,))
    return plan(dataclasses.replace(request, **changed), [make_device(why_not=why_not)])


def refusal(**changed: Any) -> str:
    """The sentence that a request is refused with."""
    with pytest.raises(UsageError) as refused:
        planned(**changed)
    assert refused.value.exit_code == 2
    return str(refused.value)


def cases(made: Plan) -> set[tuple[str, str]]:
    """Runtime and recipe of every measurement."""
    return {(item.task.runtime, item.task.recipe) for item in made.measurements}


# What is refused


def test_an_unknown_runtime_is_answered_with_a_close_one() -> None:
    assert refusal(runtimes=("onnxruntim",)) == "unknown runtime 'onnxruntim': did you mean onnxruntime?"
    assert f"known are {', '.join(sorted(plugins('runtimes')))}" in refusal(runtimes=("zzz",))


def test_an_unknown_recipe_is_answered_with_a_close_one() -> None:
    assert refusal(recipes=("int8-statik",)) == "unknown recipe 'int8-statik': did you mean int8-static?"


@pytest.mark.parametrize("name", ["torchvision/resnet81", "resnet18", "torchvison/resnet18"])
def test_an_unknown_model_is_answered_with_a_close_one(name: str) -> None:
    with pytest.raises(UnknownModelError, match=rf"unknown model {name}; did you mean .*{RESNET}"):
        planned(models=(name,))


def test_a_model_like_no_other_is_answered_with_how_to_list_them() -> None:
    assert refusal(models=("zzzzzz",)) == "unknown model zzzzzz; see benchfarm models list"


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert "no such file" in refusal(models=(str(tmp_path / "none.onnx"),))


def test_a_calibration_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert "cannot read the calibration file" in refusal(calibration=str(tmp_path / "none.npz"))


def test_a_named_runtime_that_cannot_run_here_is_refused_with_the_reason() -> None:
    sentence = refusal(runtimes=("torch", "coreml"), why_not=NO_COREML)
    assert sentence == "--runtime coreml: Core ML runs on macOS only"


def test_a_named_recipe_that_no_runtime_offers_here_is_refused_with_the_reason() -> None:
    why_not = {"torch-cast": "torch not installed"}
    sentence = refusal(recipes=("fp32", "bf16"), runtimes=("torch",), why_not=why_not)
    assert sentence == "--recipe bf16: torch not installed"


def test_a_request_of_which_nothing_can_be_measured_is_refused_with_every_reason() -> None:
    sentence = refusal(runtimes=("coreml",), why_not=NO_COREML)
    assert sentence == "nothing can be measured: Core ML runs on macOS only"


def test_a_runtime_that_does_not_run_on_such_a_device_says_so() -> None:
    with pytest.raises(UsageError, match="torch does not run on a toaster"):
        plan(Request(models=(RESNET,), runtimes=("torch",)), [make_device(kind="toaster")])


# What is listed


def test_what_a_matrix_contains_and_cannot_be_is_listed_with_the_reason() -> None:
    made = planned(why_not=NO_COREML)
    meant = {name for name, plugin in plugins("runtimes").items() if "cpu" in plugin.load().device_kinds}
    assert {runtime for runtime, _ in cases(made)} == meant - {"coreml", "tensorflow"}
    listed = [entry for entry in made.unsupported if entry["runtime"] == "coreml"]
    assert {entry["why"] for entry in listed} == {"Core ML runs on macOS only"}
    assert "fp32" in {entry["recipe"] for entry in listed}
    assert {entry["model"] for entry in listed} == {RESNET}


def test_what_only_another_host_can_measure_is_converted_last() -> None:
    made = planned(why_not=NO_COREML)
    spare = {item.variant.key: item.variant.format for item in made.spare_conversions}
    assert set(spare.values()) == {"mlpackage"}
    assert not set(spare) & {item.variant.key for item in made.conversions}
    assert set(spare) == {entry["artifact_key"] for entry in made.unsupported if "artifact_key" in entry}


def test_what_cannot_be_converted_is_listed_and_not_converted() -> None:
    made = planned(why_not={"onnx-quantize": "onnx not installed"})
    assert ("onnxruntime", "fp32") in cases(made)
    assert ("onnxruntime", "int8-static") not in cases(made)
    assert ("onnxruntime", "int8-static", "onnx not installed") in {
        (entry["runtime"], entry["recipe"], entry["why"]) for entry in made.unsupported
    }


def test_calibrated_int8_is_measured_wherever_integers_are_multiplied() -> None:
    made = planned(recipes=("int8-static",), why_not=NO_COREML)
    by_runtime = {item.task.runtime: item.task.format for item in made.measurements}
    wanted = {"torch-compile": "pt2", "onnxruntime": "onnx", "openvino": "openvino", "litert": "tflite"}
    assert by_runtime == wanted | {"executorch": "pte"}
    chains = {item.variant.format for item in made.conversions if item.variant.recipe == "int8-static"}
    assert chains == set(by_runtime.values())


def test_a_file_is_measured_as_it_is_and_by_the_runtimes_that_take_it(onnx_file: Path) -> None:
    made = planned(models=(str(onnx_file),))
    assert ("onnxruntime", "original") in cases(made)
    assert ("onnxruntime", "fp16") in cases(made)
    assert {task.weights for task in (item.task for item in made.measurements)} == {"of the file"}
    assert {"runtime": "torch", "recipe": "any"}.items() <= next(
        entry for entry in made.unsupported if entry["runtime"] == "torch"
    ).items()


# What is planned


def test_every_measurement_has_the_conversions_it_needs_and_each_artifact_is_made_once() -> None:
    made = planned(repeats=3, threads=(1, 2))
    made_keys = [item.variant.key for item in made.conversions]
    assert len(made_keys) == len(set(made_keys))
    assert {item.variant.key for item in made.measurements} <= set(made_keys)
    for number, item in enumerate(made.conversions):
        assert item.variant.parent is None or item.variant.parent in made_keys[:number]  # its source comes first


def test_each_case_is_planned_once_per_repeat_device_and_number_of_threads() -> None:
    request = Request(models=(RESNET,), runtimes=("torch",), recipes=("fp32",), threads=(1, 4), repeats=5)
    made = plan(request, [make_device(1), make_device(2)])
    assert Counter((item.device.id, item.task.options.threads, item.repeat_no) for item in made.measurements) == {
        (device, threads, repeat): 1 for device in (1, 2) for threads in (1, 4) for repeat in range(5)
    }
    assert len({item.case_key for item in made.measurements}) == 4


def test_repeats_go_in_rounds_so_that_a_slow_spell_hits_no_case_alone() -> None:
    made = planned(repeats=3)
    rounds = [item.repeat_no for item in made.measurements]
    assert rounds == sorted(rounds)
    assert set(rounds) == {0, 1, 2}


def test_the_shuffled_order_is_the_same_for_the_same_request_and_another_for_another() -> None:
    def order(seed: int) -> list[tuple[str, str, int]]:
        made = planned(repeats=3, seed=seed)
        return [(item.task.runtime, item.task.recipe, item.repeat_no) for item in made.measurements]

    assert order(0) == order(0)
    assert sorted(order(0)) == sorted(order(1))
    assert len({tuple(order(seed)) for seed in range(4)}) > 1


def test_a_round_is_not_in_the_order_of_the_matrix() -> None:
    orders = {tuple(item.task.runtime for item in planned(seed=seed).measurements) for seed in range(5)}
    assert any(list(order) != sorted(order) for order in orders)


CHANGES: dict[str, Any] = {
    "kind": "profile",
    "runtime_options": {"execution": ("parallel",)},
    "models": ("torchvision/mobilenet_v3_small",),
    "runtimes": ("torch",),
    "recipes": ("fp32",),
    "selector": "kind=cpu",
    "threads": (2,),
    "options": Options(batch=2),
    "repeats": 5,
    "weights": "pretrained",
    "seed": 1,
    "allow_code": True,
    "search_path": ("elsewhere",),
    "gate": "strict",
    "gate_timeout_s": 1.0,
    "spread": "any",
    "priority": 1,
    "owner": "ci",
    "queue_timeout_s": 60.0,
    "run_timeout_s": 60.0,
    "wait_for_device": True,
    "sweep": {"text": "name: nightly"},
    "evaluate": True,
    "data": "digits",
    "data_limit": 10,
    "max_memory_bytes": 1 << 30,
}


def test_the_digest_is_the_same_for_the_same_request() -> None:
    assert planned().digest == planned().digest


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(Request)])
def test_the_digest_changes_with_every_field_of_the_request(field: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "mine.npz", image=np.zeros((1, 3, 224, 224)))
    changes = {**CHANGES, "calibration": str(tmp_path / "mine.npz")}
    assert planned(**{field: changes[field]}).digest != planned().digest


def test_the_digest_changes_with_the_devices_and_not_with_their_order() -> None:
    request = Request(models=(RESNET,))
    one, two = make_device(1), make_device(2)
    assert plan(request, [one, two]).digest == plan(request, [two, one]).digest != plan(request, [one]).digest


def test_the_digest_and_the_keys_change_with_the_bytes_of_a_file(onnx_file: Path) -> None:
    request = Request(models=(str(onnx_file),))
    first = planned(request)
    onnx_file.write_bytes(b"another model")
    second = planned(request)
    assert second.digest != first.digest
    assert not {item.variant.key for item in second.conversions} & {item.variant.key for item in first.conversions}


def test_the_digest_changes_with_the_bytes_of_the_calibration_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.npz"
    path.write_bytes(b"1")
    first = planned(calibration=str(path))
    path.write_bytes(b"2")
    assert planned(calibration=str(path)).digest != first.digest


@pytest.mark.parametrize("field", ["weights", "seed", "options", "calibration"])
def test_another_program_has_another_key(field: str, tmp_path: Path) -> None:
    (tmp_path / "mine.npz").write_bytes(b"1")
    changes = {**CHANGES, "calibration": str(tmp_path / "mine.npz")}
    changed, first = planned(**{field: changes[field]}), planned()
    assert not {item.variant.key for item in changed.conversions} & {item.variant.key for item in first.conversions}


def test_a_case_is_the_same_whatever_else_was_asked_for() -> None:
    alone = planned(runtimes=("torch",), recipes=("fp32",), repeats=1)
    among = planned(repeats=5, gate="strict", selector="kind=cpu")
    (key,) = {item.case_key for item in alone.measurements}
    assert Counter(item.case_key for item in among.measurements)[key] == 5


@pytest.mark.parametrize("options", [Options(batch=2), Options(rate_hz=30.0), Options(mode="sustained")])
def test_another_way_of_measuring_is_another_case(options: Options) -> None:
    first, changed = planned(), planned(options=options)
    assert not {item.case_key for item in first.measurements} & {item.case_key for item in changed.measurements}


def test_two_files_of_one_name_are_two_cases_or_refused(tmp_path: Path) -> None:
    models = []
    for number in (1, 2):
        (tmp_path / str(number)).mkdir()
        path = tmp_path / str(number) / "model.onnx"
        path.write_bytes(b"model %d" % number)
        models.append(str(path))
    try:
        made = planned(models=tuple(models), runtimes=("onnxruntime",), recipes=("fp16",))
    except UsageError:
        return
    artifacts_of_case = {(item.case_key, item.variant.key) for item in made.measurements}
    assert len({case for case, _ in artifacts_of_case}) == len(artifacts_of_case)


def test_what_needs_this_host_stays_on_it(onnx_file: Path) -> None:
    def at_home(made: Plan) -> set[str]:
        return {item.task.recipe for item in made.conversions if item.on_this_host}

    assert at_home(planned(models=(str(onnx_file),))) == {"original"}
    assert at_home(planned()) == set()


def test_all_recipes_and_models_can_be_listed() -> None:
    assert {"fp32", "original", "int8-static", "fp16", "bf16"} <= set(all_recipes())
    assert {RESNET, "torchvision/mobilenet_v3_small"} <= set(all_models())
    assert all_recipes() == sorted(set(all_recipes()))


# Runtimes' own options, and what a runtime refuses


def own_options(made: Plan) -> list[dict[str, str]]:
    """The runtime's own options of every measurement."""
    return sorted((item.task.options.runtime_options for item in made.measurements), key=str)


def test_each_value_of_an_option_is_a_case_and_the_default_is_the_case_without_it() -> None:
    wanted = {"runtimes": ("onnxruntime",), "recipes": ("fp32",)}
    made = planned(**wanted, runtime_options={"graph_optimization": ("all", "basic"), "execution": ("parallel",)})
    assert own_options(made) == [
        {"execution": "parallel"},
        {"graph_optimization": "basic", "execution": "parallel"},
    ]
    plain = planned(**wanted)
    explicit = planned(**wanted, runtime_options={"graph_optimization": ("all",)})
    assert [item.case_key for item in explicit.measurements] == [item.case_key for item in plain.measurements]


def test_a_runtime_without_the_option_runs_once() -> None:
    made = planned(runtimes=("onnxruntime", "torch"), recipes=("fp32",), runtime_options={"execution": ("parallel",)})
    by_runtime = {item.task.runtime: item.task.options.runtime_options for item in made.measurements}
    assert by_runtime == {"onnxruntime": {"execution": "parallel"}, "torch": {}}


def test_a_value_that_only_another_runtime_takes_is_no_case(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LiteRt, "options", {"execution": ("quick", "parallel")})
    values = {"execution": ("sequential", "parallel", "quick")}
    made = planned(runtimes=("onnxruntime", "litert"), recipes=("fp32",), runtime_options=values)
    shown = sorted((item.task.runtime, str(item.task.options.runtime_options)) for item in made.measurements)
    parallel = "{'execution': 'parallel'}"
    assert shown == [("litert", parallel), ("litert", "{}"), ("onnxruntime", parallel), ("onnxruntime", "{}")]


def test_an_option_that_no_wanted_runtime_has_is_refused() -> None:
    assert "unknown option 'execution'" in refusal(runtimes=("torch",), runtime_options={"execution": ("parallel",)})
    assert refusal(runtime_options={"executio": ("parallel",)}) == "unknown option 'executio': did you mean execution?"


def test_a_value_that_an_option_does_not_take_is_refused() -> None:
    sentence = refusal(runtime_options={"execution": ("paralel",)})
    assert sentence == "unknown value of option execution 'paralel': did you mean parallel?"


def test_what_a_runtime_refuses_is_listed_and_neither_converted_nor_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OnnxRuntime, "refuses", {"int8-static": "it computes none"})
    made = planned(runtimes=("onnxruntime",))
    assert ("onnxruntime", "int8-static") not in cases(made)
    assert [entry["why"] for entry in made.unsupported if entry["recipe"] == "int8-static"] == ["it computes none"]
    assert "int8-static" not in {item.variant.recipe for item in made.conversions}
    assert "it computes none" in refusal(runtimes=("onnxruntime",), recipes=("int8-static",))


def test_fp32_and_original_asked_for_together_mean_as_it_is(onnx_file: Path) -> None:
    both = ("fp32", "original")
    assert cases(planned(recipes=both, runtimes=("onnxruntime",))) == {("onnxruntime", "fp32")}
    file = planned(models=(str(onnx_file),), recipes=both, runtimes=("onnxruntime",))
    assert cases(file) == {("onnxruntime", "original")}


def test_a_profile_is_no_measurement_of_the_same_case() -> None:
    wanted = {"runtimes": ("torch",), "recipes": ("fp32",)}
    (measured,) = planned(**wanted).measurements
    (profiled,) = planned(**wanted, kind="profile").measurements
    assert profiled.case_key != measured.case_key
    assert profiled.variant == measured.variant


# Cells of what cannot be had


def test_what_is_unsupported_is_told_case_by_case() -> None:
    made = planned(why_not=NO_COREML, threads=(1, 2))
    found = [cell for cell in made.unsupported_cells if cell.case.runtime == "coreml"]
    assert {cell.device_id for cell in found} == {make_device().id}
    assert {cell.why for cell in found} == {NO_COREML["coreml"]}
    assert {(cell.case.model, cell.case.weights, cell.case.format) for cell in found} == {
        (RESNET, "random", "mlpackage")
    }
    recipes = {entry["recipe"] for entry in made.unsupported if entry["runtime"] == "coreml"}
    assert {(cell.case.recipe, cell.case.threads) for cell in found} == {
        (recipe, threads) for recipe in recipes - {"any"} for threads in (1, 2)
    }
    measured = {case_of(item.task).key for item in made.measurements}
    assert measured.isdisjoint(cell.case.key for cell in made.unsupported_cells)


def test_a_case_is_the_same_whether_it_was_measured_or_found_unsupported() -> None:
    can = planned(runtimes=("torch", "onnxruntime"), threads=(1, 2))
    cannot = planned(why_not={"onnxruntime": "it is not installed"}, threads=(1, 2))
    measured = {case_of(item.task) for item in can.measurements if item.task.runtime == "onnxruntime"}
    assert measured
    assert measured <= {cell.case for cell in cannot.unsupported_cells}


def test_devices_that_are_not_named_have_no_cells() -> None:
    made = planned(why_not=NO_COREML, spread="any")
    assert any(entry["runtime"] == "coreml" for entry in made.unsupported)
    assert made.unsupported_cells == []
