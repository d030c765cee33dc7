"""`benchfarm profile` and `benchfarm runtimes` as a user types them."""

from __future__ import annotations

import csv
import io
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import Command, Typed, call, document

#: Two convolutions whose lines are known, on a pooled head.
CODE = """
import torch

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = torch.nn.Conv2d(3, 32, 3, padding=1)
        self.body = torch.nn.Conv2d(32, 64, 3, padding=1)
        self.head = torch.nn.Linear(64, 10)

    def forward(self, x):
        x = torch.relu(self.stem(x))
        x = torch.relu(self.body(x))  # line 13
        return self.head(x.mean((2, 3)))

def net():
    torch.manual_seed(0)
    return Net(), {"image": torch.randn(1, 3, 32, 32)}
"""
#: Multiply-accumulates of the second convolution, twice: a fact of its shape.
BODY_FLOPS = 2 * 64 * 32 * 32 * 32 * 9
QUICK = ("--no-gate", "--executor", "local")


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the model's code."""
    folder = tmp_path_factory.mktemp("profiles")
    (folder / "mine.py").write_text(CODE)
    return folder


@pytest.fixture(scope="module")
def profiled(code: Path) -> tuple[Path, dict[str, Any]]:
    """A data directory with two profiles of onnxruntime and one of torch, and what the command said of them."""
    home = code / "home"
    wanted = ("--runtime", "onnxruntime", "--runtime", "torch", "--recipe", "fp32", "--recipe", "int8-static")
    finished = call(home, "profile", "mine:net", "--allow-code", *wanted, *QUICK, "--json", cwd=code)
    assert finished.returncode == 0, finished.stderr
    return home, document(finished)


@pytest.fixture
def asked(profiled: tuple[Path, dict[str, Any]], typed: Typed, monkeypatch: pytest.MonkeyPatch) -> Typed:
    """Type a command that only reads what was profiled."""
    monkeypatch.setenv("BENCHFARM_HOME", str(profiled[0]))
    monkeypatch.setenv("COLUMNS", "200")
    return typed


@pytest.fixture
def has_program(code: Path, profiled: tuple[Path, dict[str, Any]], home: Path) -> Path:
    """The test's own data directory, with what was converted for the profiles; nothing was measured in it."""
    shutil.copytree(profiled[0], home)
    return code


def _profile(shown: dict[str, Any], runtime: str, recipe: str) -> dict[str, Any]:
    (found,) = [row for row in shown["profiles"] if (row["runtime"], row["recipe"]) == (runtime, recipe)]
    return dict(found)


@pytest.mark.parametrize("runtime", ["onnxruntime", "torch"])
def test_operations_are_led_back_to_the_layer_and_line_of_the_model(
    profiled: tuple[Path, dict[str, Any]], runtime: str
) -> None:
    shown = _profile(profiled[1], runtime, "fp32")
    (body,) = [op for op in shown["ops"] if "body" in op["layers"] and op["flops"]]
    assert body["source"].endswith("mine.py:13")
    assert body["flops"] == BODY_FLOPS
    assert body["gflops_per_s"] == pytest.approx(body["flops"] / body["time_us"] / 1e3)
    assert (body["precision"], body["compute_unit"]) == ("fp32", "cpu")
    assert body["bytes"] >= 4 * (32 * 32 * 32 + 64 * 32 * 32), "its input and its output at least"


def test_a_profile_states_its_sum_its_run_and_the_run_without_it(profiled: tuple[Path, dict[str, Any]]) -> None:
    for shown in profiled[1]["profiles"]:
        assert shown["sum_ms"] == pytest.approx(sum(op["time_us"] for op in shown["ops"]) / 1e3)
        assert shown["sum_over_profiled_run"] == pytest.approx(shown["sum_ms"] / shown["profiled_run_ms"])
        assert shown["unprofiled_run_ms"] > 0
        assert shown["method"]
        assert sum(op["share"] for op in shown["ops"]) == pytest.approx(1)


def test_profiles_are_no_measurements(asked: Typed) -> None:
    assert asked("results", "list", "--json").json == []


def test_what_eager_torch_does_not_compute_is_listed_as_unsupported(profiled: tuple[Path, dict[str, Any]]) -> None:
    assert ("torch", "int8-static") in {(row["runtime"], row["recipe"]) for row in profiled[1]["unsupported"]}


def test_a_profile_is_shown_again_filtered_as_table_json_and_csv(
    profiled: tuple[Path, dict[str, Any]], asked: Typed
) -> None:
    shown = profiled[1]
    number = str(_profile(shown, "onnxruntime", "fp32")["profile"])
    table = asked("profile", "show", number, "--top", "1").out
    assert "more" in table
    assert "body" in table
    chosen = asked("profile", "show", number, "--type", "conv", "--by", "flops", "--json").json["ops"]
    assert [op["flops"] for op in chosen] == sorted((op["flops"] for op in chosen), reverse=True)
    assert all("conv" in op["type"].lower() for op in chosen)
    lines = list(csv.DictReader(io.StringIO(asked("profile", "show", number, "--csv").out)))
    assert len(lines) == len(_profile(shown, "onnxruntime", "fp32")["ops"])
    assert len(asked("profile", "list", "--json").json) == len(shown["profiles"])


def test_fp32_and_int8_are_compared_part_by_part(profiled: tuple[Path, dict[str, Any]], asked: Typed) -> None:
    shown = profiled[1]
    numbers = [str(_profile(shown, "onnxruntime", recipe)["profile"]) for recipe in ("fp32", "int8-static")]
    compared = asked("profile", "compare", *numbers, "--json").json
    (body,) = [part for part in compared["parts"] if "body" in part["layers"]]
    assert body["before"] == ["Conv"]
    assert "QLinearConv" in body["after"]
    assert "QuantizeLinear" in {part["type"] for part in compared["inserted"]}
    assert "QLinearConv" in asked("profile", "compare", *numbers).out


def test_no_such_profile_is_refused_in_one_sentence(typed: Typed) -> None:
    said = typed("profile", "show", "7")
    assert said.code == 2
    assert "no profile 7" in said.sentence


def test_a_number_that_no_row_can_have_is_refused(typed: Typed) -> None:
    said = typed("profile", "show", "99999999999999999999")
    assert said.code == 2
    assert "less than or equal to" in said.err
    assert "Traceback" not in said.err


def test_the_group_and_its_default_command_both_have_help(typed: Typed) -> None:
    assert "compare" in typed("profile", "--help").out
    assert "--recipe" in typed("profile", "run", "--help").out


def test_an_unknown_value_of_an_option_is_refused_with_a_close_one(typed: Typed) -> None:
    said = typed("run", "torchvision/resnet18", "--option", "execution=paralel")
    assert said.code == 2
    assert "did you mean parallel" in said.sentence
    assert "write NAME=VALUE" in typed("run", "torchvision/resnet18", "--option", "execution").sentence


def test_options_of_a_runtime_are_compared_as_cases(benchfarm: Command, has_program: Path) -> None:
    only = ("--runtime", "onnxruntime", "--recipe", "fp32", "--max-seconds", "0.3")
    options = ("--option", "graph_optimization=all,none", "--option", "execution=parallel")
    finished = benchfarm("run", "mine:net", "--allow-code", *only, *options, *QUICK, "--json", cwd=has_program)
    assert finished.returncode == 0, finished.stderr
    rows = document(finished)["results"]
    assert {row["delegated_share"] for row in rows} == {None}, "its own kernels are no delegate"
    assert sorted((row["runtime_options"] for row in rows), key=len) == [
        {"execution": "parallel"},
        {"execution": "parallel", "graph_optimization": "none"},
    ]


def test_a_provider_that_this_build_lacks_is_unsupported(benchfarm: Command, has_program: Path) -> None:
    only = ("--runtime", "onnxruntime", "--recipe", "fp32", "--option", "provider=cpu,dnnl", "--max-seconds", "0.3")
    finished = benchfarm("run", "mine:net", "--allow-code", *only, *QUICK, "--json", cwd=has_program)
    shown = document(finished)
    assert [row["runtime_options"] for row in shown["results"]] == [{}]
    assert "has no provider dnnl; it has " in shown["unsupported"][0]["why"]


def test_the_table_of_the_readme_is_what_the_registrations_say(typed: Typed) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    table = typed("runtimes", "list", "--markdown").out
    assert table.strip() in readme, "put what `benchfarm runtimes list --markdown` prints into the README"
