"""Per-operator times: old and new columns, the CSV export, and what a delegate tells of its insides."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.android import outputs
from tests.unit.android.mutations import mutated
from workers.android.tools.op_table import read_op_table

TABLES = [outputs.OPS_OLD, outputs.OPS_NEW, outputs.OPS_INNER, outputs.OPS_CSV]


def test_old_table_is_read_once_in_run_order_without_the_initialization() -> None:
    ops = read_op_table(outputs.OPS_OLD).ops
    assert [(op.type, op.name) for op in ops] == [("CONV_2D", "[net/conv, part 1]:0"), ("SOFTMAX", "[net/softmax]:1")]
    assert [op.time_us for op in ops] == pytest.approx([4250, 1050])  # the average, neither start nor first


def test_new_table_tells_nodes_of_the_delegate_from_those_of_the_cpu() -> None:
    ops = read_op_table(outputs.OPS_NEW, "nnapi").ops
    assert [(op.compute_unit, op.time_us) for op in ops] == [("nnapi", 4000), ("cpu", 60), ("nnapi", 2600)]


def test_csv_export_has_the_same_rows() -> None:
    ops = read_op_table(outputs.OPS_CSV).ops
    assert [op.type for op in ops] == ["CONV_2D", "SOFTMAX"]
    assert ops[0].time_us == pytest.approx(4250.125)


def test_operators_inside_a_delegate_take_the_place_of_its_row() -> None:
    table = read_op_table(outputs.OPS_INNER, "cpu")
    assert [op.type for op in table.ops] == ["QUANTIZE", "TfLiteXNNPackDelegate", "DEQUANTIZE"]
    finest = table.finest
    assert [op.type.split(" (")[0] for op in finest] == ["QUANTIZE", "Convolution", "Fully Connected", "DEQUANTIZE"]
    assert finest[1].precision == "fp16"  # XNNPACK names its kernels' arithmetic
    assert finest[0].precision is None


@pytest.mark.parametrize("text", TABLES)
def test_prefixes_of_logs_change_nothing(text: str) -> None:
    logged = "".join(f"11-20 10:15:44.123  3380  3380 I tflite  : {line}\n" for line in text.splitlines())
    assert read_op_table(logged).ops == read_op_table(text).ops


def test_any_damaged_table_is_read() -> None:
    for text in mutated(TABLES):
        table = read_op_table(text)
        assert all(op.time_us >= 0 and op.type for op in table.finest)


@given(st.text(max_size=500))
def test_any_text_is_read(text: str) -> None:
    read_op_table("============================== Run Order ==============================\n" + text)
