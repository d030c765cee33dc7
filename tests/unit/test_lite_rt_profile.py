"""LiteRT's profile without LiteRT: layers by tensor names, and which operation a kernel computes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.runtimes.lite_rt_graph import Operation, layers_in
from workers.runtimes.lite_rt_kernels import (
    Event,
    apart,
    computed,
    delegated_parts,
    lay_side_by_side,
    precision_of,
    precision_run,
)

NN = "torch.nn.modules"
NET = "my.models.Net"
XNNPACK, INTERPRETER, AROUND = 8, 2, 1


def operation(kind: str, inputs: tuple[int, ...], outputs: tuple[int, ...], **fields: object) -> Operation:
    multiplies = kind in {"CONV_2D", "FULLY_CONNECTED"}
    values: dict[str, object] = {"macs": 10 if multiplies else None, "layers": (), "activated": False, "at_load": False}
    values |= {"uncounted": False, "integer_weights": False, "precision": "fp32", "bytes": 4, "fp32_bytes": 4} | fields
    return Operation(type=kind, inputs=inputs, outputs=outputs, **values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        (f"{NET}/{NN}.container.Sequential_features/{NN}.conv.Conv2d_0;", ("features.0",)),
        (f"{NET}/{NN}.conv.Conv2d_0;2", ("0",)),
        (f"{NET}/{NN}.ReLU_act;;{NET}/{NN}.BatchNorm2d_bn;;{NET}/{NN}.Conv2d_conv;1_dequant", ("act", "bn", "conv")),
        (f"{NET}/my.models._Block_self_attn/{NN}.Linear_q_proj;", ("self_attn.q_proj",)),
        (f"pkg.make.<locals>.Net/my.models.Block_layer:3/{NN}.Linear_lin;", ("layer.3.lin",)),
        (f"{NET}/{NN}.activation.ReLU_relu@2;", ("relu",)),
        (f"{NET};3", ()),
        ("serving_default_output_0_output", ()),
        ("StatefulPartitionedCall_1:0", ()),
        ("", ()),
        ("net_1/act_1/Relu;net_1/block_1/conv_1/convolution1", ("act", "block.conv")),
        ("model_1/conv_2/Conv2D;model_1/bn/FusedBatchNormV3", ("conv_2", "bn")),
        ("model_2/conv_1/Conv2D", ("conv_1",)),
    ],
)
def test_layers_are_read_from_tensor_names(name: str, layers: tuple[str, ...]) -> None:
    assert layers_in(name) == layers


@given(st.text(alphabet="aB_./;:@1<> ", max_size=60))
def test_any_name_is_read_and_no_part_of_a_layer_is_empty(name: str) -> None:
    for layer in layers_in(name):
        assert layer
        assert ";" not in layer


@pytest.mark.parametrize(
    ("kernel", "kind", "precision"),
    [
        ("Convolution (NHWC, F32) IGEMM", XNNPACK, "fp32"),
        ("Fully Connected (NC, F16) GEMM", XNNPACK, "fp16"),
        ("Fully Connected (NC, QDU8, F32, QC8W) GEMM", XNNPACK, "int8"),
        ("Convolution (NHWC, QC8) DWConv", XNNPACK, "int8"),
        ("Transpose (ND, X32) Transpose", XNNPACK, None),
        ("HardSwish (NC)", XNNPACK, None),
        ("HARD_SWISH", INTERPRETER, None),
    ],
)
def test_a_kernel_names_its_arithmetic(kernel: str, kind: int, precision: str | None) -> None:
    assert precision_of(Event(kernel, 1, 0, kind)) == precision


@pytest.mark.parametrize(
    ("kernel", "kind", "precision"),
    [
        ("Fully Connected (NC, F32) GEMM", XNNPACK, "fp32"),
        ("Fully Connected (NC, F16) GEMM", XNNPACK, "fp16"),
        ("Fully Connected (NC, QDU8, F32, QC8W) GEMM", XNNPACK, "int8"),
        ("HardSwish (NC)", XNNPACK, "fp16"),
        ("Transpose (ND, X16) Transpose", XNNPACK, "fp16"),
        ("Transpose (ND, X32) Transpose", XNNPACK, "fp32"),
        ("HARD_SWISH", INTERPRETER, "fp32"),
    ],
)
def test_the_fp16_flag_is_no_word_against_a_type_that_a_kernel_names(kernel: str, kind: int, precision: str) -> None:
    fp32 = operation("FULLY_CONNECTED", (0, 1), (2,))
    assert precision_run(Event(kernel, 1, 0, kind), fp32, forced_fp16=True) == precision


def test_kernels_keep_the_order_of_operations_and_some_of_both_stand_alone() -> None:
    graph = [
        operation("PAD", (0,), (1,)),
        operation("CONV_2D", (1,), (2,)),
        operation("MUL", (2,), (3,)),
        operation("CONV_2D", (3,), (4,)),
        operation("SQUARED_DIFFERENCE", (4,), (5,)),
    ]
    kernels = [
        "Convert (NC, F32, QDU8)",
        "Convolution (NHWC, QDU8, F32, QC8W) IGEMM",
        "Fully Connected (NC, F32) GEMM",
        "Squared Difference (ND)",
    ]
    assert lay_side_by_side(kernels, graph) == [None, 1, 3, 4]


def test_a_multiplying_kernel_is_never_given_up_for_small_ones() -> None:
    graph = [operation("ADD", (0,), (1,)), operation("ADD", (1,), (2,)), operation("CONV_2D", (2,), (3,))]
    kernels = ["Convolution (NHWC, F32) IGEMM", "Add (ND)", "Add (ND)"]
    assert lay_side_by_side(kernels, graph) == [2, None, None]


def test_a_graph_is_cut_as_the_interpreter_cuts_it() -> None:
    # Two branches, each with an operation that XNNPACK does not take, joined at the end.
    graph = [
        operation("CONV_2D", (0,), (1,)),
        operation("CUMSUM", (1,), (2,)),
        operation("RELU", (2,), (3,)),
        operation("CONV_2D", (0,), (4,)),
        operation("CUMSUM", (4,), (5,)),
        operation("ADD", (3, 5), (6,)),
    ]
    assert delegated_parts(graph, {1, 4}) == [[0, 3], [2, 5]]


def test_events_of_several_parts_find_their_operations() -> None:
    graph = [
        operation("CONV_2D", (0,), (1,)),
        operation("CUMSUM", (1,), (2,)),
        operation("ADD", (2,), (3,), activated=True),
        operation("DEQUANTIZE", (9,), (4,), at_load=True),
        operation("MUL", (3, 4), (5,)),
    ]
    events = [
        Event("Invoke", 1, 0, AROUND),
        Event("Convert (NC)", 1, 0, XNNPACK),
        Event("Convolution (NHWC, F32) IGEMM", 1, 1, XNNPACK),
        Event("CUMSUM", 1, 1, INTERPRETER),
        Event("Add (ND)", 1, 0, XNNPACK),
        Event("Clamp (NC)", 1, 1, XNNPACK),
        Event("Convert (NC)", 1, 2, XNNPACK),
        Event("Multiply (ND)", 1, 3, XNNPACK),
    ]
    assert computed(events, graph) == [None, None, 0, 1, 2, 2, None, 4]


def test_what_is_outside_of_operations_is_a_row_of_its_own() -> None:
    events = [
        Event("LiteRT::Run[buffer registration]", 7, 0, AROUND),
        Event("Invoke", 100, 0, AROUND),
        Event("Add (ND)", 60, 0, XNNPACK),
        Event("CUMSUM", 30, 1, INTERPRETER),
    ]
    rows = apart(events)
    assert [row.time_us for row in rows] == [7, 10, 60, 30]
    assert rows[1].kernel == "Invoke (outside of its operations)"
