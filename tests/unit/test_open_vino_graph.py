"""OpenVINO's compiled graph: what is multiplied, in which arithmetic, for which layers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.runtimes.open_vino import in_ports
from workers.runtimes.open_vino_graph import (
    Node,
    Shape,
    convolution_macs,
    layers_of,
    macs_by_type,
    matmul_macs,
    precision_of,
    recurrent_macs,
)

SIZES = st.integers(1, 50)


def make_node(kind: str, kernel: str, *inputs: Shape, output: Shape = (1,), originals: tuple[str, ...] = ()) -> Node:
    return Node(name="n", type=kind, kernel=kernel, originals=originals, inputs=inputs, output=output, bytes=None)


@given(SIZES, SIZES, SIZES, st.lists(SIZES, max_size=2), st.booleans(), st.booleans())
def test_a_matrix_product_counts_the_same_however_its_operands_lie(
    m: int, k: int, n: int, batch: list[int], first_transposed: bool, second_transposed: bool
) -> None:
    first = (*batch, k, m) if first_transposed else (*batch, m, k)
    second = (n, k) if second_transposed else (k, n)
    assert matmul_macs(first, second, (*batch, m, n)) == int(np.prod(batch, dtype=int)) * m * k * n


def test_a_matrix_times_a_vector() -> None:
    assert matmul_macs((3, 5, 7), (7,), (3, 5)) == 3 * 5 * 7


@pytest.mark.parametrize(
    ("data", "weights", "positions", "macs"),
    [
        ((1, 3, 8, 8), (16, 3, 3, 3), (1, 16, 6, 6), 16 * 36 * 27),
        ((1, 16, 8, 8), (16, 1, 1, 3, 3), (1, 16, 6, 6), 16 * 36 * 9),
        ((1, 16, 8, 8), (4, 8, 4, 3, 3), (1, 32, 6, 6), 32 * 36 * 36),
        ((1, 80, 30), (8, 80, 3), (1, 8, 30), 8 * 30 * 240),
    ],
    ids=["plain", "depthwise", "grouped", "one dimension"],
)
def test_a_convolution_counts_its_whole_kernel_at_each_output(
    data: Shape, weights: Shape, positions: Shape, macs: int
) -> None:
    assert convolution_macs(data, weights, positions) == macs


def test_a_deconvolution_counts_its_whole_kernel_at_each_input() -> None:
    node = make_node("Deconvolution", "jit_avx512_f32", (1, 4, 5, 5), (4, 8, 2, 2), output=(1, 8, 10, 10))
    assert macs_by_type(node, {}, "fp32") == {"fp32": 4 * 25 * 8 * 4}


@pytest.mark.parametrize(
    ("kernel", "precision"),
    [("brgconv_avx512_f32", "fp32"), ("gemm_bf16", "bf16"), ("brgconv_avx512_I8", "int8"), ("brgemm_i8", "int8")],
)
def test_the_end_of_a_kernels_name_is_its_arithmetic(kernel: str, precision: str) -> None:
    assert precision_of(kernel) == precision


def test_a_product_inside_a_subgraph_is_in_integers_where_its_scale_came_behind_it() -> None:
    node = make_node("Subgraph", "jit_avx512_i8", originals=("scores", "scores/DequantizationMultiply", "values"))
    assert macs_by_type(node, {"scores": 10, "values": 20, "elsewhere": 40}, "fp32") == {"int8": 10, "fp32": 20}


def test_nodes_without_products_count_nothing() -> None:
    assert macs_by_type(make_node("Reorder", "reorder_f32", (1, 3), (3,)), {}, "fp32") == {}
    assert (
        macs_by_type(make_node("TensorIterator", "unknown_i32", (1,), originals=("loop",)), {"loop": 0}, "fp32") == {}
    )


@pytest.mark.parametrize(
    "node",
    [
        Node(name="n", type="MatMul", kernel="gemm_f32", originals=("m",), inputs=None, output=None, bytes=None),
        make_node("TensorIterator", "unknown_i32", (1,), (1, 4), originals=("loop",)),
        make_node("If", "unknown_f32", (1,)),
        make_node("Subgraph", "jit_avx512_f32", (1, 4), originals=("counted", "open")),
        make_node("PagedAttention", "any_f32", (1, 4), (1, 4), (1, 4)),
        make_node("RNNSeq", "ref_any_f32", *((1, 7, 8), (1, 1, 16), (1,), (1, 48, 8), (1, 48, 16), (1, 48), (1, 7, 1))),
    ],
    ids=["open shapes", "loop", "choice", "product of open shapes inside", "no formula", "AUGRU"],
)
def test_what_multiplies_nobody_knows_how_often_is_no_zero(node: Node) -> None:
    assert macs_by_type(node, {"loop": None, "counted": 10, "open": None}, "fp32") is None


@pytest.mark.parametrize(
    ("kind", "inputs", "macs"),
    [
        ("RNNSeq", ((2, 7, 8), (2, 1, 16), (2, 1, 16), (2,), (1, 64, 8), (1, 64, 16), (1, 64)), 2 * 7 * 64 * 24),
        ("RNNSeq", ((1, 7, 8), (1, 1, 16), (1,), (1, 48, 8), (1, 48, 16), (1, 48)), 7 * 48 * 24),
        ("RNNCell", ((1, 8), (1, 16), (1, 16), (64, 8), (64, 16), (64,)), 64 * 24),
        ("RNNCell", ((3, 8), (3, 16), (16, 8), (16, 16), (16,)), 3 * 16 * 24),
    ],
    ids=["LSTM", "GRU", "one step of an LSTM", "one step of a plain one"],
)
def test_a_recurrent_layer_counts_its_weights_at_each_step(kind: str, inputs: tuple[Shape, ...], macs: int) -> None:
    assert recurrent_macs(inputs) == macs
    assert macs_by_type(make_node(kind, "ref_any_bf16", *inputs), {}, "fp32") == {"bf16": macs}


def test_layers_are_those_of_all_operations_that_a_node_computes_and_none_of_inserted_ones() -> None:
    known = {"conv": ["a.0"], "relu": ["a.1", "a.0"]}
    quantised = make_node("Convolution", "x_I8", originals=("conv/DequantizationMultiply", "relu", "relu/fq_output_0"))
    assert layers_of(quantised, known) == ("a.0", "a.1")
    assert layers_of(make_node("Subgraph", "x_f32", originals=("relu/fq_output_0",)), known) == ()


def test_inputs_go_to_ports_by_name_else_in_order() -> None:
    first, second = np.zeros(1), np.ones(1)
    inputs = {"x": first, "y": second}
    assert in_ports([{"y", "y:0"}, {"x"}], inputs) == [second, first]
    assert in_ports([{"a"}, {"b"}], inputs) == [first, second]
    assert in_ports([{"x"}, set()], inputs) == [first, second]
