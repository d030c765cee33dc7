"""Every runtime that is installed, on one small model through the whole farm: each keeps what its labels promise."""

from __future__ import annotations

import platform
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import call, document
from tests.conftest import needs_compiler
from tests.warm import WarmTorch
from workers.plugins import plugins

#: Convolutions, a depthwise one, and a linear layer wide enough for every quantiser.
CODE = """
import torch

def net():
    torch.manual_seed(0)
    layers = [
        torch.nn.Conv2d(3, 32, 3, stride=2, padding=1), torch.nn.ReLU(),
        torch.nn.Conv2d(32, 32, 3, padding=1, groups=32), torch.nn.ReLU(),
        torch.nn.Conv2d(32, 64, 1), torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(4), torch.nn.Flatten(), torch.nn.Linear(1024, 64),
    ]
    return torch.nn.Sequential(*layers), {"image": torch.randn(1, 3, 64, 64)}
"""
#: Take no torch model, or run on another system only.
ELSEWHERE = {"tensorflow", "coreml"}
HERE = {name for name, plugin in plugins("runtimes").items() if "cpu" in plugin.load().device_kinds} - ELSEWHERE


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory, warm_torch: WarmTorch) -> Any:
    """What `benchfarm run` says of the model with every runtime in fp32, and with the longest chain in calibrated int8.

    Other runtimes in int8: onnxruntime and litert in test_run; torch-compile and executorch in their integration tests.
    """
    folder = tmp_path_factory.mktemp("runtimes")
    (folder / "mine.py").write_text(CODE)
    (folder / "home").mkdir(mode=0o700)
    # What inductor finds out of this CPU, by building programs, it finds once for all tests.
    warm_torch.cache.mkdir(exist_ok=True)
    (folder / "home" / "compiled").symlink_to(warm_torch.cache)
    said: dict[str, Any] = {"results": [], "failed": [], "unsupported": []}
    for wanted in (("--recipe", "fp32"), ("--recipe", "int8-static", "--runtime", "openvino")):
        quick = ("--max-seconds", "0.3", "--no-gate", "--executor", "local", "--json")
        finished = call(folder / "home", "run", "mine:net", "--allow-code", *wanted, *quick, cwd=folder)
        assert finished.returncode == 0, finished.stderr
        for part in said:
            said[part] += document(finished)[part]
    return said


def _marked(runtime: str) -> Any:
    return pytest.param(runtime, marks=needs_compiler) if runtime == "torch-compile" else runtime


def _case(outcome: Any, runtime: str, recipe: str) -> Any:
    found = [row for row in outcome["results"] if (row["runtime"], row["recipe"]) == (runtime, recipe)]
    assert len(found) == 1, (runtime, recipe, outcome["failed"], outcome["unsupported"])
    return found[0]


@pytest.mark.parametrize("runtime", [_marked(name) for name in sorted(HERE)])
def test_fp32_is_fp32_and_right_on_every_runtime(outcome: Any, runtime: str) -> None:
    row = _case(outcome, runtime, "fp32")
    assert (row["precision"], row["compute_unit"]) == ("fp32", "cpu")
    assert row["fidelity"]["identical"] or row["fidelity"]["snr_db"] > 60
    assert not row["quantised_flop_share"]
    assert row["p50_ms"] > 0


def test_calibrated_int8_at_the_end_of_a_chain_multiplies_in_integers(outcome: Any) -> None:
    row = _case(outcome, "openvino", "int8-static")
    assert row["quantised_flop_share"] > 0.9
    assert row["fidelity"]["snr_db"] > 15
    assert row["artifact_bytes"] < _case(outcome, "openvino", "fp32")["artifact_bytes"]


@needs_compiler
def test_only_what_compiles_apart_from_loading_has_a_compile_time(outcome: Any) -> None:
    compiled = {row["runtime"] for row in outcome["results"] if row["compile_ms"] is not None}
    assert compiled == {"torch-compile"}


def test_eager_torch_is_the_baseline_of_every_speed_up(outcome: Any) -> None:
    assert _case(outcome, "torch", "fp32")["speedup"] == 1.0
    assert all(row["speedup"] is not None for row in outcome["results"] if row["recipe"] == "fp32")


def test_what_a_runtime_never_computes_is_listed_before_anything_runs(outcome: Any) -> None:
    why = {(entry["runtime"], entry["recipe"]): entry["why"] for entry in outcome["unsupported"]}
    assert why["tensorflow", "any"] == "no converter leads from pt2 to tensorflow's format"


@pytest.mark.skipif(sys.platform == "darwin", reason="Core ML can be measured on a Mac")
def test_what_another_host_can_measure_is_converted_and_kept(outcome: Any) -> None:
    (core_ml,) = [
        entry for entry in outcome["unsupported"] if (entry["runtime"], entry["recipe"]) == ("coreml", "fp32")
    ]
    assert core_ml["why"] == f"Core ML runs on macOS only, this host is {platform.system()}"
    assert core_ml["artifact_bytes"] > 0


def test_a_users_keras_folder_is_refused_or_run_by_name_only(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    finished = call(tmp_path / "home", "run", str(tmp_path / "empty"))
    assert finished.returncode == 2
    assert "Traceback" not in finished.stderr
