"""`benchfarm evaluate` and `run --evaluate` as a user types them, on the digits that come with benchfarm."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import Typed, call, document

QUICK = ("--executor", "local", "--json")
RECIPES = ("--recipe", "fp32", "--recipe", "int8-static")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A data directory with two evaluations of a small model, and what the command said."""
    home = tmp_path_factory.mktemp("evaluations") / "home"
    finished = call(home, "evaluate", "digits/mlp", "--runtime", "onnxruntime", *RECIPES, *QUICK)
    assert finished.returncode == 0, finished.stderr
    assert "evaluated digits/mlp on onnxruntime int8-static" in finished.stderr
    return home, document(finished)


@pytest.fixture
def asked(made: tuple[Path, dict[str, Any]], typed: Typed, monkeypatch: pytest.MonkeyPatch) -> Typed:
    """Type a command that only reads what was evaluated."""
    monkeypatch.setenv("BENCHFARM_HOME", str(made[0]))
    monkeypatch.setenv("COLUMNS", "200")
    return typed


def test_accuracies_are_true_and_have_their_intervals(made: tuple[Path, dict[str, Any]]) -> None:
    rows = {row["recipe"]: row for row in made[1]["evaluations"]}
    assert rows.keys() == {"fp32", "int8-static"}
    for row in rows.values():
        low, high = row["top1_ci"]
        assert 0.9 < low < row["top1"] == row["correct"] / row["examples"] < high <= 1
        assert row["examples"] > 100
        assert (row["skipped"], row["not_finite"]) == (0, 0)
    assert rows["int8-static"]["precision"] == "int8"
    assert len({row["data_sha256"] for row in rows.values()}) == 1


def test_evaluations_are_listed_shown_and_compared(asked: Typed) -> None:
    listed = asked("evaluate", "list", "--json").json
    numbers = [str(row["evaluation"]) for row in listed]
    shown = asked("evaluate", "show", numbers[0], "--json").json
    assert shown["outcomes"].count("1") == shown["correct"]
    compared = asked("evaluate", "compare", *numbers, "--json").json
    assert compared["both_right"] + compared["only_before_right"] == compared["before"]["correct"]
    assert compared["answer"] in ("differ", "no difference shown")
    text = asked("evaluate", "compare", *numbers).out
    assert compared["answer"] in text
    assert "McNemar" in text
    assert asked("results", "list", "--json").json == [], "an accuracy is no latency"


def test_accuracy_stands_beside_a_latency(made: tuple[Path, dict[str, Any]]) -> None:
    home, told = made
    only = ("--runtime", "onnxruntime", "--recipe", "fp32", "--max-seconds", "0.2", "--no-gate")
    finished = call(home, "run", "digits/mlp", "--evaluate", *only, *QUICK)
    assert finished.returncode == 0, finished.stderr
    (row,) = document(finished)["results"]
    assert row["p50_ms"] > 0
    assert row["accuracy"]["top1"] == next(r["top1"] for r in told["evaluations"] if r["recipe"] == "fp32")
    assert row["accuracy"]["evaluation"] > max(r["evaluation"] for r in told["evaluations"]), "made beside it"


def test_a_model_without_labelled_data_is_refused_before_anything_runs(typed: Typed) -> None:
    said = typed("evaluate", "torchvision/mobilenet_v3_small", "--executor", "local")
    assert said.code == 2
    assert "name some with --data" in said.err
