"""LiteRT 2's block of results on its own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.android import outputs
from tests.unit.android.mutations import mutated
from workers.android.tools.litert_benchmark import is_litert_output, read_litert_output


def test_only_its_own_output_is_taken() -> None:
    assert is_litert_output(outputs.LITERT_2)
    assert not any(is_litert_output(text) for text in (outputs.TFLITE, outputs.TFLITE_2019, outputs.GPU_FULL))


def test_lines_without_their_source_prefix_are_read_too() -> None:
    plain = "\n".join(line.partition("] ")[2] or line for line in outputs.LITERT_2.splitlines())
    assert read_litert_output(plain, "gpu").value_ms == 7.25


def test_no_runs_are_no_time() -> None:
    text = outputs.LITERT_2.replace("7.25 ms (135 runs)", "0.00 ms (0 runs)")
    assert read_litert_output(text, "gpu").value_ms is None


def test_npu_that_fell_back_is_seen() -> None:
    """LiteRT compiles for the CPU instead, without an error."""
    text = outputs.LITERT_2.replace("(LITERT_CL)", "(TfLiteXNNPackDelegate)")
    failed = "ERROR: [litert_dispatch.cc:97] Failed to initialize Dispatch API\n" + text
    assert read_litert_output(failed, "qnn").delegate.share == 0.0
    assert read_litert_output(text, "qnn").delegate.compute_unit == "unknown"


def test_any_damaged_block_is_read() -> None:
    for text in mutated([outputs.LITERT_2]):
        found = read_litert_output(text, "gpu")
        assert found.value_ms is None or found.value_ms >= 0


@given(st.text(max_size=300), st.floats(0, 1e6))
def test_any_text_is_read(text: str, value_ms: float) -> None:
    found = read_litert_output(
        f"{text}\nBENCHMARK RESULTS\nInference (avg):   {value_ms:.2f} ms (9 runs)\n{text}", "npu"
    )
    assert found.value_ms is None or found.value_ms == pytest.approx(value_ms, abs=0.01) or text
