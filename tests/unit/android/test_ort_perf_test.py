"""onnxruntime_perf_test: means, percentiles in seconds, and where the nodes went."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.android import outputs
from tests.unit.android.mutations import mutated
from tests.unit.android.tasks import files, task
from workers.android.tools.ort_perf_test import OrtPerfTest

TOOL = OrtPerfTest()


def test_median_is_taken_where_percentiles_are_printed() -> None:
    found = TOOL.read(outputs.ORT, {})
    assert (found.statistic, found.value_ms, found.runs) == ("median", pytest.approx(100), 5)
    assert (found.init_ms, found.first_ms) == (250, 180)
    assert (found.min_ms, found.max_ms, found.p90_ms) == pytest.approx((98, 104, 104))
    assert found.peak_memory_bytes == 262144000


def test_mean_is_taken_where_there_are_none() -> None:
    text = "\n".join(line for line in outputs.ORT.splitlines() if "Latency" not in line)
    found = TOOL.read(text, {})
    assert (found.statistic, found.value_ms) == ("mean", 100.5)


def test_output_of_2019() -> None:
    found = TOOL.read(outputs.ORT_2019, {})
    assert (found.statistic, found.value_ms, found.runs) == ("median", pytest.approx(60), 1000)


def test_nodes_of_the_provider_are_a_share() -> None:
    found = TOOL.read(outputs.ORT_PLACED, {}, "nnapi")
    assert found.delegate.share == 0.75
    facts = TOOL.facts([found], task("nnapi"), "1.31")
    assert (facts.compute_unit, facts.delegated_share) == ("nnapi+cpu", 0.75)
    assert "deprecated" in facts.evidence


def test_provider_that_took_nothing_is_refused() -> None:
    text = outputs.ORT_PLACED.replace("NnapiExecutionProvider", "CPUExecutionProvider")
    refusal = TOOL.read(text, {}, "nnapi").delegate.refuse(require_full=False)
    assert refusal is not None
    assert refusal.code == "not_delegated"


def test_session_without_fallback_that_started_is_proof() -> None:
    found = TOOL.read(outputs.ORT, {}, "qnn")
    facts = TOOL.facts([found], task("qnn", full=True), "1.31")
    assert (facts.compute_unit, facts.delegated_share) == ("npu", 1.0)
    assert "session.disable_cpu_ep_fallback|1" in TOOL.command(task("qnn", full=True), files(), 1.0)
    assert TOOL.facts([found], task("qnn"), "1.31").compute_unit == "unknown"


def test_full_delegation_is_proven_by_the_log_before_anything_is_refused() -> None:
    words = TOOL.command(task("qnn", full=True), files(), 1.0)
    assert "-v" in words
    assert "session.disable_cpu_ep_fallback|1" in words
    options = "[I:onnxruntime:, inference_session.cc:1] config_options: { session.disable_cpu_ep_fallback: 1 }\n"
    proof = TOOL.read(options + outputs.ORT, {}, "qnn").delegate
    assert proof.refuse(require_full=True) is None
    assert TOOL.read(outputs.ORT, {}, "qnn").delegate.refuse(require_full=True) is not None
    # Where the log places nodes, they count.
    assert TOOL.read(options + outputs.ORT_PLACED, {}, "nnapi").delegate.share == 0.75


def test_words_of_a_run_are_in_whole_seconds() -> None:
    words = TOOL.command(task(threads=2), files(), 0.4)
    assert words[words.index("-t") + 1] == "1"
    assert words[words.index("-x") + 1] == "2"
    assert words[-1] == files().model
    assert "-v" not in words


def test_failed_session_says_why() -> None:
    text = "2026-01-08 11:14:46.904 [E:onnxruntime:, sequential_executor.cc:1] Non-zero status code returned"
    assert "Non-zero status" in (TOOL.read(text, {}).why_not_measured or "")


def test_any_damaged_output_is_read() -> None:
    for text in mutated([outputs.ORT, outputs.ORT_2019, outputs.ORT_PLACED]):
        found = TOOL.read(text, {}, "nnapi")
        assert found.value_ms is None or found.value_ms >= 0
        TOOL.facts([found], task("nnapi", full=True), "1.31")


@given(st.text(max_size=400))
def test_any_text_is_read(text: str) -> None:
    TOOL.read(text, {}, "qnn")
