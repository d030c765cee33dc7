"""workers.onnx_macs: multiply-accumulates of ONNX operators from their shapes, and whose they are once optimised."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.onnx_macs import Shape, count_macs, input_shapes, macs_by_kernel, multiplies


def node(kind: str, domain: str = "", **attributes: Any) -> Any:
    """A node as ONNX describes it, without its tensors."""
    items = []
    for name, value in attributes.items():
        item = SimpleNamespace(name=name, i=0, s=b"", ints=[])
        if isinstance(value, bytes):
            item.s = value
        elif isinstance(value, list):
            item.ints = value
        else:
            item.i = value
        items.append(item)
    return SimpleNamespace(op_type=kind, domain=domain, attribute=items)


HEADS, SIZE, LENGTH, KEYS = 4, 8, 16, 20
WIDTH = HEADS * SIZE


@pytest.mark.parametrize(
    ("made", "inputs", "output", "expected"),
    [
        (node("Conv"), [(1, 8, 6, 6), (16, 4, 3, 3)], (1, 16, 6, 6), 16 * 36 * 4 * 9),
        (node("QLinearConv"), [(1, 8, 6, 6), (), (), (16, 8, 1, 1)], (1, 16, 6, 6), 16 * 36 * 8),
        (node("ConvTranspose"), [(1, 8, 6, 6), (8, 3, 4, 4)], (1, 3, 12, 12), 8 * 36 * 3 * 16),
        (node("Gemm"), [(2, 5), (5, 7)], (2, 7), 2 * 7 * 5),
        (node("Gemm", transA=1, transB=1), [(5, 2), (7, 5)], (2, 7), 2 * 7 * 5),
        (node("FusedMatMul", transA=1), [(3, 5, 2), (3, 5, 7)], (3, 2, 7), 3 * 2 * 7 * 5),
        (node("FusedMatMul", transBatchA=1), [(2, 3, 5), (3, 5, 7)], (3, 2, 7), 3 * 2 * 7 * 5),
        (node("FusedMatMul", transA=1, transBatchA=1), [(5, 3, 2), (3, 5, 7)], (3, 2, 7), 3 * 2 * 7 * 5),
        (node("MatMul"), [(5,), (5,)], (), 5),
        (node("MatMul"), [(5,), (3, 5, 7)], (3, 7), 3 * 7 * 5),
        (node("MatMul"), [(2, 5), (5,)], (2,), 2 * 5),
        (node("LSTM"), [(9, 2, 8), (1, 12, 8), (1, 12, 3)], (9, 1, 2, 3), 9 * 2 * (96 + 36)),
        (node("DynamicQuantizeLSTM"), [(9, 2, 8), (1, 8, 12), (1, 3, 12)], (9, 1, 2, 3), 9 * 2 * (96 + 36)),
        (node("Einsum", equation=b"bij,bjk->bik"), [(3, 2, 5), (3, 5, 7)], (3, 2, 7), 3 * 2 * 7 * 5),
        (node("Einsum", equation=b"ij, jk"), [(2, 5), (5, 7)], (2, 7), 2 * 7 * 5),
        (node("Einsum", equation=b"...ij,...jk->...ik"), [(3, 2, 5), (3, 5, 7)], (3, 2, 7), 3 * 2 * 7 * 5),
        (node("Einsum", equation=b"ij->ji"), [(2, 5)], (5, 2), 0),
        (node("Einsum", equation=b"ij,jk,kl->il"), [(2, 5), (5, 7), (7, 2)], (2, 2), None),
        (
            node("MultiHeadAttention", "com.microsoft", num_heads=HEADS),
            [(1, LENGTH, WIDTH), (1, KEYS, WIDTH), (1, KEYS, WIDTH)],
            (1, LENGTH, WIDTH),
            2 * LENGTH * KEYS * WIDTH,
        ),
        (
            node("MultiHeadAttention", "com.microsoft", num_heads=HEADS),
            [(1, LENGTH, HEADS, 3, SIZE)],
            (1, LENGTH, WIDTH),
            2 * LENGTH * LENGTH * WIDTH,
        ),
        (
            node("Attention", "com.microsoft", num_heads=HEADS),
            [(1, LENGTH, 24), (24, 3 * WIDTH), (3 * WIDTH,)],
            (1, LENGTH, WIDTH),
            LENGTH * 24 * 3 * WIDTH + 2 * LENGTH * LENGTH * WIDTH,
        ),
        (
            node("Attention"),
            [(1, HEADS, LENGTH, SIZE), (1, HEADS, KEYS, SIZE), (1, HEADS, KEYS, SIZE)],
            (1, HEADS, LENGTH, SIZE),
            2 * LENGTH * KEYS * WIDTH,
        ),
        (
            node("Attention", q_num_heads=HEADS, kv_num_heads=2),
            [(1, LENGTH, WIDTH), (1, KEYS, 2 * SIZE), (1, KEYS, 2 * SIZE)],
            (1, LENGTH, WIDTH),
            2 * LENGTH * KEYS * WIDTH,
        ),
        (node("Relu"), [(2, 5)], (2, 5), 0),
        (node("ConvInteger"), [(1, 8, 6, 6), None], (1, 16, 6, 6), None),
        (node("GroupQueryAttention", "com.microsoft"), [(1, LENGTH, WIDTH)], (1, LENGTH, WIDTH), None),
    ],
)
def test_multiply_accumulates_are_those_of_the_operators_description(
    made: Any, inputs: list[Shape | None], output: Shape, expected: int | None
) -> None:
    assert count_macs(made, inputs, output) == expected


@pytest.mark.parametrize("kind", ["GRU", "QMoE", "QAttention", "QOrderedMatMul", "MatMulBnb4", "GemmFloat8"])
def test_what_multiplies_but_cannot_be_counted_is_known_to_multiply(kind: str) -> None:
    assert multiplies(kind)
    assert count_macs(node(kind), [(4, 4)], (4, 4)) is None


@pytest.mark.parametrize("kind", ["QuantizeLinear", "QLinearAdd", "Loop", "Softmax", "SkipLayerNormalization"])
def test_what_does_not_multiply_counts_as_nothing(kind: str) -> None:
    assert count_macs(node(kind), [(4, 4)], (4, 4)) == 0


@given(st.lists(st.integers(1, 5), max_size=4), st.integers(1, 5), st.integers(1, 5), st.integers(1, 5))
def test_an_einsum_of_a_batched_product_is_the_product(batch: list[int], rows: int, depth: int, columns: int) -> None:
    letters = "abcd"[: len(batch)]
    shapes: list[Shape | None] = [(*batch, rows, depth), (*batch, depth, columns)]
    out = (*batch, rows, columns)
    einsum = node("Einsum", equation=f"{letters}xy,{letters}yz->{letters}xz".encode())
    assert count_macs(einsum, shapes, out) == count_macs(node("MatMul"), shapes, out) == math.prod(out) * depth


def test_a_packed_weight_and_an_absent_input_are_found_again() -> None:
    weights: dict[str, Shape] = {"w": (8, 8), "b": (8,)}
    assert input_shapes(["x", "w", "", "b"], [(2, 8), (8,)], weights) == [(2, 8), (8, 8), None, (8,)]
    assert input_shapes(["w", "x"], [(8, 2)], weights) == [(8, 8), (8, 2)]
    assert input_shapes(["x", "w"], [(2, 8), (8, 8)], weights) == [(2, 8), (8, 8)]


def test_a_kernel_has_the_product_that_it_stands_for_not_its_neighbours() -> None:
    # The Gemm's neighbour was not recognised as a border, so the Gemm seems to cover it too.
    kernels = {"conv": "FusedConv", "gemm": "Gemm", "relu": "Relu"}
    covered = {"conv": ["c", "r"], "gemm": ["g", "r", "c"], "relu": ["r", "c"]}
    assert macs_by_kernel(kernels, covered, {"c": 100, "g": 10}) == {"conv": 100, "gemm": 10}


def test_a_kernel_that_may_stand_for_either_of_two_products_is_left_out() -> None:
    assert macs_by_kernel({"gemm": "Gemm"}, {"gemm": ["g", "c"]}, {"c": 100, "g": 10}) == {}


def test_a_fused_attention_has_all_products_it_covers() -> None:
    covered = {"attention": ["qk", "softmax", "pv"]}
    assert macs_by_kernel({"attention": "Attention"}, covered, {"qk": 3, "pv": 4}) == {"attention": 7}
    assert macs_by_kernel({"attention": "Attention"}, covered, {"qk": 3, "pv": None}) == {"attention": None}
