"""onnxruntime reads back what was multiplied in integers and how much there was, however the graph was rewritten."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from workers.contract import MeasureTask, Op, Options, RuntimeFacts
from workers.converters.converter import ConversionInput
from workers.converters.onnx_quantize import OnnxQuantize
from workers.examples import Array, Examples
from workers.runtimes.onnx_runtime import OnnxRuntime
from workers.runtimes.runtime import LoadedModel

RANDOM = np.random.default_rng(0)
MICROSOFT = "com.microsoft"


def constant(name: str, *shape: int) -> Any:
    """A weight of that shape."""
    return numpy_helper.from_array(RANDOM.normal(size=shape).astype(np.float32), name)


def value(name: str, *shape: int, kind: int = TensorProto.FLOAT) -> Any:
    """An input or an output; without a known shape for an output."""
    return helper.make_tensor_value_info(name, kind, list(shape) or None)


def save(
    folder: Path, nodes: list[Any], inputs: dict[str, tuple[int, ...]], weights: list[Any], functions: Any = ()
) -> Path:
    """A model of some nodes, of which the last makes `out`."""
    graph = helper.make_graph(
        nodes, "graph", [value(name, *shape) for name, shape in inputs.items()], [value("out")], weights
    )
    domains = [helper.make_opsetid("", 17), helper.make_opsetid(MICROSOFT, 1), helper.make_opsetid("local", 1)]
    model = helper.make_model(graph, opset_imports=domains, ir_version=8, functions=functions)
    path = folder / "model.onnx"
    onnx.save(model, path)
    return path


def feeds(inputs: dict[str, tuple[int, ...]]) -> dict[str, Array]:
    """Values for inputs of those shapes."""
    return {name: RANDOM.normal(size=shape).astype(np.float32) for name, shape in inputs.items()}


def load(artifact: Path, **chosen: str) -> LoadedModel:
    """The artifact, on one thread."""
    runtime = OnnxRuntime()
    runtime.import_library()
    options = Options(runtime_options=chosen)
    task = MeasureTask(
        runtime="onnxruntime",
        entry="",
        format="onnx",
        recipe="fp32",
        model="net",
        weights="random",
        compute_unit="cpu",
        options=options,
    )
    return runtime.load(artifact, task)


def ops_of(artifact: Path, inputs: dict[str, tuple[int, ...]], **chosen: str) -> list[Op]:
    """The operations of a profile."""
    return list(load(artifact, **chosen).profile(feeds(inputs), 3).ops)


def total(ops: list[Op]) -> float:
    """Multiply-accumulates of all operations."""
    return sum(op.flops or 0 for op in ops) / 2


def quantised(folder: Path, recipe: str, artifact: Path, inputs: dict[str, tuple[int, ...]]) -> RuntimeFacts:
    """What is read back of a model once it is quantised."""
    calibration = folder / "calibration.npz"
    rows = [feeds(inputs) for _ in range(2)]
    Examples({name: np.stack([row[name] for row in rows]) for name in inputs}).save(calibration)
    out = folder / recipe
    out.mkdir()
    source = ConversionInput(artifact, "onnx", recipe, calibration, calibration, out)
    return load(OnnxQuantize().convert(source).artifact).facts(feeds(inputs))


IMAGE = {"x": (1, 8, 12, 12)}


def test_transposed_convolutions_that_stay_fp32_are_not_left_out_of_the_share(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("ConvTranspose", ["x", "w1"], ["a"], strides=[2, 2]),
        helper.make_node("ConvTranspose", ["a", "w2"], ["b"], strides=[2, 2]),
        helper.make_node("Conv", ["b", "w3"], ["out"]),
    ]
    weights = [constant("w1", 8, 8, 4, 4), constant("w2", 8, 8, 4, 4), constant("w3", 4, 8, 1, 1)]
    artifact = save(tmp_path, nodes, IMAGE, weights)
    transposed = 8 * 12**2 * 8 * 16 + 8 * 26**2 * 8 * 16
    pointwise = 4 * 54**2 * 8
    assert total(ops_of(artifact, IMAGE)) == transposed + pointwise
    facts = quantised(tmp_path, "int8-static", artifact, IMAGE)
    assert facts.precision == "fp32"
    assert facts.quantised_flop_share == pytest.approx(pointwise / (transposed + pointwise))


@pytest.mark.parametrize(("recipe", "precision", "share"), [("int8-static", "fp32", 0.01), ("int8-dynamic", "int8", 1)])
def test_a_recurrent_layer_counts(tmp_path: Path, recipe: str, precision: str, share: float) -> None:
    inputs = {"x": (50, 1, 32)}
    nodes = [
        helper.make_node("LSTM", ["x", "w", "r"], ["", "state"], hidden_size=32),
        helper.make_node("Squeeze", ["state", "axes"], ["flat"]),
        helper.make_node("MatMul", ["flat", "m"], ["out"]),
    ]
    axes = numpy_helper.from_array(np.array([0]), "axes")
    weights = [constant("w", 1, 128, 32), constant("r", 1, 128, 32), constant("m", 32, 40), axes]
    facts = quantised(tmp_path, recipe, save(tmp_path, nodes, inputs, weights), inputs)
    assert facts.precision == precision
    lstm, linear = 50 * 128 * 64, 32 * 40
    assert facts.quantised_flop_share == pytest.approx(linear / (lstm + linear) if share < 1 else 1)


@pytest.mark.parametrize("recipe", ["int8-static", "int8-dynamic"])
def test_convolutions_all_in_integers_are_the_whole(tmp_path: Path, recipe: str) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "w2"], ["out"]),
    ]
    artifact = save(tmp_path, nodes, IMAGE, [constant("w1", 16, 8, 3, 3), constant("w2", 4, 16, 1, 1)])
    facts = quantised(tmp_path, recipe, artifact, IMAGE)
    assert (facts.precision, facts.quantised_flop_share) == ("int8", 1.0)


def test_what_cannot_be_counted_is_said_to_be_unknown(tmp_path: Path) -> None:
    inputs = {"x": (2, 8)}
    nodes = [
        helper.make_node("Einsum", ["x", "w1", "w2"], ["a"], equation="ij,jk,kl->il"),
        helper.make_node("MatMul", ["a", "w1"], ["out"]),
    ]
    artifact = save(tmp_path, nodes, inputs, [constant("w1", 8, 8), constant("w2", 8, 8)])
    facts = load(artifact).facts(feeds(inputs))
    assert (facts.precision, facts.quantised_flop_share) == ("unknown", None)
    assert {op.type: op.flops for op in ops_of(artifact, inputs)} == {"Einsum": None, "MatMul": 2 * 2 * 8 * 8}


@pytest.mark.parametrize("optimised", ["all", "none"])
def test_padding_and_blocks_of_a_fast_convolution_are_not_counted(tmp_path: Path, optimised: str) -> None:
    inputs = {"x": (1, 3, 16, 16)}
    nodes = [  # without names
        helper.make_node("Conv", ["x", "w1", "b1"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "w2"], ["c"], pads=[1, 1, 1, 1], group=10),
        helper.make_node("Conv", ["c", "w3"], ["out"]),
    ]
    weights = [
        constant("w1", 10, 3, 3, 3),
        constant("b1", 10),
        constant("w2", 10, 1, 3, 3),
        constant("w3", 6, 10, 1, 1),
    ]
    ops = ops_of(save(tmp_path, nodes, inputs, weights), inputs, graph_optimization=optimised)
    assert [op.flops for op in ops if op.flops] == [2 * 256 * 10 * 27, 2 * 256 * 10 * 9, 2 * 256 * 6 * 10]
    assert all(op.layers == () for op in ops), "names that we gave are nobody's layers"


def test_a_convolution_whose_weights_are_computed_counts(tmp_path: Path) -> None:
    inputs = {"x": (1, 8, 12, 12), "w": (4, 8, 3, 3)}
    artifact = save(tmp_path, [helper.make_node("Conv", ["x", "w"], ["out"])], inputs, [])
    assert total(ops_of(artifact, inputs)) == 4 * 100 * 8 * 9


@pytest.mark.parametrize(
    ("node", "inputs", "weights", "expected"),
    [
        (("Gemm", "", {"transA": 1, "transB": 1}), {"x": (5, 2)}, {"w": (7, 5)}, 70),
        (("FusedMatMul", MICROSOFT, {"transA": 1}), {"x": (3, 5, 2)}, {"w": (5, 7)}, 210),
        (("MatMul", "", {}), {"x": (5,)}, {"w": (3, 5, 7)}, 105),
        (("MatMul", "", {}), {"x": (2, 5)}, {"w": (5,)}, 10),
        (
            ("MultiHeadAttention", MICROSOFT, {"num_heads": 4}),
            {"q": (1, 6, 32), "k": (1, 9, 32), "v": (1, 9, 32)},
            {},
            2 * 6 * 9 * 32,
        ),
        (
            ("Attention", MICROSOFT, {"num_heads": 4}),
            {"x": (1, 6, 32)},
            {"w": (32, 96), "b": (96,)},
            6 * 32 * 96 + 2 * 6 * 6 * 32,
        ),
        (("GRU", "", {"hidden_size": 4}), {"x": (6, 1, 8)}, {"w": (1, 12, 8), "r": (1, 12, 4)}, 6 * (96 + 48)),
    ],
)
def test_products_are_counted_as_they_are_multiplied(
    tmp_path: Path,
    node: tuple[str, str, dict[str, int]],
    inputs: dict[str, tuple[int, ...]],
    weights: dict[str, tuple[int, ...]],
    expected: int,
) -> None:
    kind, domain, attributes = node
    made = helper.make_node(kind, [*inputs, *weights], ["out"], domain=domain, **attributes)
    artifact = save(tmp_path, [made], inputs, [constant(name, *shape) for name, shape in weights.items()])
    assert total(ops_of(artifact, inputs)) == expected


def test_a_loop_counts_each_turn_and_nothing_twice(tmp_path: Path) -> None:
    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["state", "w"], ["product"], name="product"),
            helper.make_node("Relu", ["product"], ["next"]),
            helper.make_node("Identity", ["going"], ["still"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("going", TensorProto.BOOL, []),
            value("state", 64, 256),
        ],
        [helper.make_tensor_value_info("still", TensorProto.BOOL, []), value("next", 64, 256)],
    )
    nodes = [
        helper.make_node("Loop", ["turns", "", "x"], ["y"], body=body),
        helper.make_node("MatMul", ["y", "w"], ["out"], name="product"),  # names need be unique in a graph only
    ]
    turns = numpy_helper.from_array(np.array(5), "turns")
    inputs = {"x": (64, 256)}
    artifact = save(tmp_path, nodes, inputs, [turns, constant("w", 256, 256)])
    model = load(artifact)
    profile = model.profile(feeds(inputs), 3)
    once = 64 * 256 * 256
    assert sorted(op.flops for op in profile.ops if op.flops) == [2 * once, 2 * 5 * once]
    assert len([op for op in profile.ops if op.type == "MatMul"]) == 2
    assert sum(op.time_us for op in profile.ops) <= 1000 * max(profile.run_ms)
    assert model.facts(feeds(inputs)).precision == "fp32"


def test_a_branch_and_a_function_that_are_inlined_count(tmp_path: Path) -> None:
    def branch(depth: int) -> Any:
        return helper.make_graph([helper.make_node("MatMul", ["x", f"w{depth}"], ["y"])], "branch", [], [value("y")])

    function = helper.make_function(
        "local", "Twice", ["a", "w"], ["c"], [
            helper.make_node("MatMul", ["a", "w"], ["b"]),
            helper.make_node("MatMul", ["b", "w"], ["c"]),
        ], [helper.make_opsetid("", 17)],
    )  # fmt: skip
    nodes = [
        helper.make_node("If", ["yes"], ["y"], then_branch=branch(8), else_branch=branch(9)),
        helper.make_node("Twice", ["y", "w8"], ["out"], domain="local"),
    ]
    yes = numpy_helper.from_array(np.array(True), "yes")
    inputs = {"x": (2, 8)}
    artifact = save(tmp_path, nodes, inputs, [yes, constant("w8", 8, 8), constant("w9", 8, 9)], [function])
    for level in ("all", "none"):
        assert total(ops_of(artifact, inputs, graph_optimization=level)) == 3 * 2 * 8 * 8
