"""ExecuTorch's programs and traces: what a kernel computes, in which arithmetic, for which layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.pte_program import Layers, Work, kernel_work, xnnpack_work
from workers.runtimes.execu_torch import kernel_precision, kernel_type, match

TYPES = ("XNNConv2d", "XNNFullyConnected", "XNNAdd", "XNNClamp", "XNNStaticTranspose", "XNNHardswish")
#: As XNNPACK names what computes them.
KERNELS = {
    "XNNConv2d": "Convolution (NHWC, F32) IGEMM",
    "XNNFullyConnected": "Fully Connected (NC, F32) GEMM",
    "XNNAdd": "Add (ND)",
    "XNNClamp": "Clamp (NC)",
    "XNNStaticTranspose": "Transpose (ND, X32)",
    "XNNHardswish": "HardSwish (NC)",
}


def make_work(type_: str, handle: int = 1) -> Work:
    multiplies = type_ in ("XNNConv2d", "XNNFullyConnected")
    return Work(type=type_, handle=handle, macs=10 if multiplies else None, bytes=4, precision="fp32")


def tensor(*sizes: int, scalar_type: str = "FLOAT") -> dict[str, Any]:
    return {"val_type": "Tensor", "val": {"sizes": list(sizes), "scalar_type": scalar_type}}


@pytest.mark.parametrize(
    ("kernel", "precision"),
    [
        ("Fully Connected (NC, F32) GEMM", "fp32"),
        ("Fully Connected (NC, QS8, QC8W) GEMM", "int8"),
        ("Fully Connected (NC, QDU8, F32, QC8W) GEMM", "int8"),
        ("Fully Connected (NC, F32, QC8W) GEMM", "fp32"),  # int8 weights alone are multiplied as floats
        ("Convolution (NHWC, QC8) DWConv", "int8"),
        ("Convolution (NHWC, F16) IGEMM", "fp16"),
        ("Max Pooling (NHWC, S8)", "int8"),
        ("Transpose (ND, X8)", None),
        ("Clamp (NC)", None),
        ("Invalid Unary Op", None),
    ],
)
def test_the_arithmetic_that_a_kernel_names(kernel: str, precision: str | None) -> None:
    assert kernel_precision(kernel) == precision


@given(st.text())
def test_no_name_of_a_kernel_breaks_the_reader(name: str) -> None:
    assert kernel_precision(name) in (None, "int8", "fp32", "fp16", "bf16")
    assert name.startswith(kernel_type(name))


def test_the_type_of_a_kernel_is_its_name_without_its_number() -> None:
    assert kernel_type("Clamp (NC) #12") == "Clamp (NC)"
    assert kernel_type("Invalid Unary Op #1") == "Invalid Unary Op"


@given(st.lists(st.sampled_from(TYPES), max_size=30), st.data())
def test_kernels_find_their_nodes_whatever_else_was_dropped_or_inserted(types: list[str], data: st.DataObject) -> None:
    works = [make_work(type_, handle) for handle, type_ in enumerate(types)]
    ran = [work for work in works if work.macs is not None or data.draw(st.booleans())]
    kernels = [f"{KERNELS[work.type]} #{index}" for index, work in enumerate(ran)]
    inserted = data.draw(st.integers(0, len(kernels)))
    kernels.insert(inserted, "Convert (NC, F32, QDU8) #1")
    found = match(kernels, works)
    assert found.pop(inserted) is None
    handles = [work.handle for work in found if work is not None]
    assert handles == sorted(handles)
    assert [work.type if work else None for work in found] == [work.type for work in ran]
    assert [work for work in found if work and work.macs] == [work for work in works if work.macs]


def test_kernels_that_multiply_more_or_less_than_the_graph_match_nothing() -> None:
    works = [make_work("XNNConv2d"), make_work("XNNConv2d"), make_work("XNNAdd")]
    assert match(["Convolution (NHWC, F32) IGEMM #1", "Add (ND) #1"], works) == [None, None]


def test_a_convolution_may_run_as_a_matrix_product_and_a_table_as_any_activation() -> None:
    works = [make_work("XNNConv2d", 1), make_work("XNNHardswish", 2), make_work("XNNGlobalAvgPooling2d", 3)]
    assert match(["Fully Connected (NC, QS8, QC8W) GEMM #1", "Invalid Unary Op #1", "Mean (ND) #1"], works) == works


def test_kernel_calls_that_multiply() -> None:
    out = tensor(2, 5, 7)
    work = kernel_work("aten::bmm.out", [tensor(2, 5, 3), tensor(2, 3, 7), out, out], 4)
    assert (work.macs, work.precision, work.handle) == (2 * 5 * 7 * 3, "fp32", 4)
    assert work.bytes == 4 * (2 * 5 * 3 + 2 * 3 * 7 + 2 * 5 * 7)
    out = tensor(5, 7)
    assert kernel_work("aten::addmm.out", [tensor(7), tensor(5, 3), tensor(3, 7), out, out], 4).macs == 5 * 7 * 3


@pytest.mark.parametrize(
    ("transposed", "weights", "out", "macs"),
    [
        (False, (16, 4, 3, 3), (1, 16, 6, 6), 16 * 36 * 4 * 9),  # two groups
        (True, (8, 4, 3, 3), (1, 4, 10, 10), 8 * 64 * 4 * 9),
    ],
)
def test_kernel_calls_that_convolve(
    transposed: bool, weights: tuple[int, ...], out: tuple[int, ...], macs: int
) -> None:
    rest = [{"val_type": "Null", "val": {}}] * 4
    flag = {"val_type": "Bool", "val": {"bool_val": transposed}}
    made = tensor(*out)
    arguments = [tensor(1, 8, 8, 8), tensor(*weights), *rest, flag, *rest[:2], made, made]
    assert kernel_work("aten::convolution.out", arguments, None).macs == macs


def test_kernel_calls_that_multiply_nothing() -> None:
    out = tensor(4, scalar_type="BOOL")
    work = kernel_work("aten::eq.Scalar_out", [tensor(4, scalar_type="LONG"), out, out], None)
    assert (work.macs, work.bytes, work.precision) == (None, 4 * 8 + 4, None)


@pytest.mark.parametrize(
    ("kind", "image", "weights", "out", "macs"),
    [
        ("XNNConv2d", [1, 8, 8, 4], [16, 3, 3, 4], [1, 6, 6, 16], 6 * 6 * 16 * 36),
        ("XNNDepthwiseConv2d", [1, 8, 8, 4], [1, 3, 3, 4], [1, 6, 6, 4], 6 * 6 * 4 * 9),
        ("XNNConvTranspose2d", [1, 8, 8, 4], [16, 3, 3, 4], [1, 10, 10, 16], 8 * 8 * 4 * 16 * 9),
        ("XNNFullyConnected", [5, 4], [16, 4], [5, 16], 5 * 16 * 4),
    ],
)
def test_nodes_of_xnnpack_that_multiply(
    kind: str, image: list[int], weights: list[int], out: list[int], macs: int
) -> None:
    values = {
        0: {"datatype": "qint8", "dims": image},
        1: {"datatype": "qcint8", "dims": weights},
        2: {"datatype": "qint8", "dims": out},
    }
    ids = {"input1_id": 0, "filter_id": 1, "bias_id": 2**32 - 1, "output_id": 2, "groups": 1}
    work = xnnpack_work({"xnode_union_type": kind, "xnode_union": ids, "debug_handle": 7}, values)
    assert (work.macs, work.handle, work.precision) == (macs, 7, "int8")


def test_what_the_exporter_inserts_into_a_graph_of_xnnpack_has_no_layers() -> None:
    values = {0: {"datatype": "fp32", "dims": [2, 3]}, 1: {"datatype": "fp32", "dims": [3, 2]}}
    node = {
        "xnode_union_type": "XNNStaticTranspose",
        "xnode_union": {"input_id": 0, "output_id": 1},
        "debug_handle": 2**16 - 1,
    }
    work = xnnpack_work(node, values)
    assert (work.handle, work.macs, work.bytes) == (None, None, 48)


def test_what_did_not_run_by_itself_is_part_of_what_makes_its_input() -> None:
    names: dict[int, tuple[str, ...]] = {1: ("conv",), 2: ("norm",), 3: ("relu",), 4: ("head",)}
    layers = Layers(layers=names, producers={2: 1, 3: 2, 4: 3}, instructions={})
    assert layers.of([1, 4]) == {1: ("conv", "norm", "relu"), 4: ("head",)}
    assert layers.of([1, 3, 4]) == {1: ("conv", "norm"), 3: ("relu",), 4: ("head",)}
    assert layers.of([9]) == {9: ()}


def test_layers_of_a_circle_of_producers_end() -> None:
    layers = Layers(layers={1: ("a",), 2: ("b",), 3: ("c",)}, producers={1: 2, 2: 1}, instructions={})
    assert layers.of([3]) == {3: ("c",)}


@given(
    st.dictionaries(st.integers(1, 99), st.lists(st.text(), max_size=3).map(tuple)),
    st.dictionaries(st.integers(1, 99), st.integers(1, 99)),
)
def test_layers_survive_their_file(
    tmp_path_factory: pytest.TempPathFactory, layers: dict[int, tuple[str, ...]], numbers: dict[int, int]
) -> None:
    path: Path = tmp_path_factory.mktemp("layers") / "layers.json"
    written = Layers(layers=layers, producers=numbers, instructions=numbers)
    written.write(path)
    assert Layers.read(path) == written
