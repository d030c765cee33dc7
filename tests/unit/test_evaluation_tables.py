"""Tables of evaluations: every figure with what makes it doubtful, and an answer about a difference with its size."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console, RenderableType

from exporters.evaluation_tables import comparison_view, evaluation_view, evaluations_table


def record(**changed: Any) -> dict[str, Any]:
    """An evaluation as `scheduler.evaluations` gives it."""
    values: dict[str, Any] = {
        "evaluation": 3,
        "model": "digits/cnn",
        "weights": "random",
        "runtime": "onnxruntime",
        "runtime_options": {},
        "recipe": "fp32",
        "precision": "fp32",
        "compute_unit": "cpu",
        "device": "vm-cpu",
        "simulated": False,
        "inputs": {"x": ["float32", 1, 1, 8, 8]},
        "task": "classification",
        "data": "digits",
        "data_sha256": "ab" * 32,
        "examples": 360,
        "skipped": 0,
        "correct": 351,
        "not_finite": 0,
        "top1": 0.975,
        "top1_ci": [0.9532, 0.9868],
        "top5": 1.0,
        "f1_macro": 0.974,
        "wer": None,
        "seconds": 0.42,
        "artifact_sha256": "cd" * 32,
        "outcomes": "1" * 351 + "0" * 9,
    }
    return values | changed


def shown(view: RenderableType) -> str:
    """What a terminal would show."""
    printed = io.StringIO()
    Console(width=200, file=printed).print(view)
    return printed.getvalue()


def test_a_share_has_its_interval_and_absent_figures_no_column() -> None:
    text = shown(evaluations_table([record(), record(evaluation=4, recipe="int8-static")]))
    assert "97.5% [95.3, 98.7]" in text
    assert "WER" not in text
    assert "skipped" not in text
    assert "351" in text


def test_what_is_doubtful_is_said() -> None:
    text = shown(evaluations_table([record(not_finite=2, skipped=3, skipped_files=["cat/1.png is no image"])]))
    assert "2 of 360 answers held NaN or infinity and count as wrong" in text
    assert "3 files of digits could not be read and are in no figure" in text
    assert "cat/1.png is no image" in text


def test_one_evaluation_names_its_examples_that_were_answered_wrong() -> None:
    text = shown(evaluation_view(record()))
    assert "answered wrong, counted from 0: 351, 352" in text
    assert "every example was answered right" in shown(evaluation_view(record(outcomes="1" * 360)))


def test_a_comparison_gives_the_answer_the_size_and_the_test() -> None:
    compared = {
        "before": record(),
        "after": record(evaluation=4, recipe="int8-static"),
        "examples": 360,
        "both_right": 345,
        "only_before_right": 6,
        "only_after_right": 4,
        "neither_right": 5,
        "difference": -2 / 360,
        "difference_ci": [-0.0231, 0.0118],
        "p": 0.7539,
        "answer": "no difference shown",
        "test": "McNemar, exact, two-sided",
    }
    text = shown(comparison_view(compared))
    assert "no difference shown" in text
    assert "4 is right -0.56 points more often than 3 [-2.31, +1.18], p 0.75 (McNemar, exact, two-sided)" in text
    assert "one of 2.31 points may be there all the same" in text
    assert "below 0.0001" in shown(comparison_view({**compared, "p": 1e-9, "answer": "differ"}))
