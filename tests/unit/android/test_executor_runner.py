"""executor_runner: times from every age of its log, and from none where there is none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.android import outputs
from tests.unit.android.mutations import mutated
from tests.unit.android.tasks import files, task
from workers.android.tools.executor_runner import ExecutorRunner

TOOL = ExecutorRunner()
ALL = [
    outputs.EXECUTORCH_OLDEST,
    outputs.EXECUTORCH,
    outputs.EXECUTORCH_ITERATIONS,
    outputs.EXECUTORCH_QNN,
]


def test_each_iteration_gives_a_median_without_the_first_runs() -> None:
    found = TOOL.read(outputs.EXECUTORCH_ITERATIONS, {})
    assert (found.statistic, found.value_ms, found.runs) == ("median", 10.25, 3)
    assert (found.init_ms, found.first_ms, found.warm_up_runs) == (12.25, 20.0, 3)


def test_total_gives_a_mean() -> None:
    found = TOOL.read(outputs.EXECUTORCH, {})
    assert (found.statistic, found.value_ms, found.runs) == ("mean", pytest.approx(9.525), 20)


def test_qualcomm_runner_gives_a_mean_and_names_its_backend() -> None:
    found = TOOL.read(outputs.EXECUTORCH_QNN, {})
    assert (found.statistic, found.value_ms, found.runs) == ("mean", pytest.approx(11.005), 100)
    assert TOOL.facts([found], task(), "1.5").compute_unit == "npu"


def test_oldest_build_has_a_first_inference_and_no_measurement() -> None:
    found = TOOL.read(outputs.EXECUTORCH_OLDEST, {})
    assert found.value_ms is None
    assert found.first_ms == pytest.approx(42.5)
    assert found.why_not_measured


def test_program_whose_backend_is_not_in_the_log_is_of_unknown_unit() -> None:
    facts = TOOL.facts([TOOL.read(outputs.EXECUTORCH, {})], task(), "1.5")
    assert (facts.compute_unit, facts.precision, facts.delegated_share) == ("unknown", "unknown", None)


def test_flags_that_a_build_does_not_list_are_left_out() -> None:
    """Its parser ends the program at the first flag that it does not know."""
    assert TOOL.command(task(), files("model_path", "num_executions"), 1.0)[1:] == [
        f"--model_path={files().model}",
        "--num_executions=32",
    ]
    assert "--warm_up=3" in TOOL.command(task(), files("model_path", "iteration", "warm_up"), 1.0)
    assert "--cpu_threads=4" in TOOL.command(task(), files(), 1.0)


def test_any_damaged_log_is_read() -> None:
    for text in mutated(ALL):
        found = TOOL.read(text, {})
        assert found.value_ms is None or found.value_ms >= 0
        TOOL.facts([found], task(), "1.5")


@given(st.text(max_size=400))
def test_any_text_is_read(text: str) -> None:
    TOOL.read("Iteration 1 of 9: 3 ms\n" * 4 + text, {})
