"""Recipes of ONNX that are made on request: graphs fused offline, matrix products with weights in 4 bits."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from workers.converters.converter import ConversionInput, Converter
from workers.converters.onnx_int4 import OnnxInt4
from workers.converters.onnx_optimize import OnnxOptimize
from workers.converters.onnx_quantize import OnnxQuantize
from workers.errors import UnsupportedError
from workers.examples import Examples
from workers.models.source import Made
from workers.onnx_layers import layers_by_output

RANDOM = np.random.default_rng(0)
IMAGE = RANDOM.normal(size=(1, 4, 8, 8)).astype(np.float32)
ROWS = RANDOM.normal(size=(2, 8, 64)).astype(np.float32)


def weights(name: str, *shape: int) -> Any:
    """A constant of that shape."""
    return numpy_helper.from_array(RANDOM.normal(size=shape).astype(np.float32), name)


def save(folder: Path, nodes: list[Any], constants: list[Any], shape: tuple[int, ...]) -> Path:
    """A graph whose nodes are noted as torch's exporter notes them: each the layer of its own name."""
    for node in nodes:
        item = node.metadata_props.add()
        item.key, item.value = "pkg.torch.onnx.name_scopes", repr(["", f"layer.{node.name}", node.name])
    ends = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
    ends.append(helper.make_tensor_value_info("out", TensorProto.FLOAT, None))
    graph = helper.make_graph(nodes, "graph", ends[:1], ends[1:], constants)
    path = folder / "source.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=8), path)
    return path


def convolution(folder: Path) -> Path:
    """Convolution, batch norm, ReLU: the middle one folds into the first."""
    norm = [weights(name, 8) for name in ("scale", "shift", "mean")]
    variance = numpy_helper.from_array(np.ones(8, dtype=np.float32), "variance")
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], name="conv"),
        helper.make_node("BatchNormalization", ["a", "scale", "shift", "mean", "variance"], ["b"], name="norm"),
        helper.make_node("Relu", ["b"], ["out"], name="relu"),
    ]
    return save(folder, nodes, [weights("w", 8, 4, 3, 3), *norm, variance], IMAGE.shape)


def block(folder: Path) -> Path:
    """Two linear layers around a Gelu, and a sum that is normalised."""
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["a"], name="up"),
        helper.make_node("Add", ["a", "b1"], ["b"], name="bias"),
        helper.make_node("Gelu", ["b"], ["c"], name="gelu"),
        helper.make_node("MatMul", ["c", "w2"], ["d"], name="down"),
        helper.make_node("Add", ["x", "d"], ["e"], name="skip"),
        helper.make_node("LayerNormalization", ["e", "scale", "shift"], ["out"], name="norm", axis=-1),
    ]
    constants = [weights("w1", 64, 128), weights("b1", 128), weights("w2", 128, 64)]
    return save(folder, nodes, [*constants, weights("scale", 64), weights("shift", 64)], ROWS.shape)


def converted(converter: Converter, source: Path, recipe: str, folder: Path) -> Made:
    """An artifact in a folder of its own."""
    out = folder / recipe
    out.mkdir()
    files = [folder / "examples.npz"] * 2
    return converter.convert(
        ConversionInput(source, "onnx", recipe, examples=files[0], calibration=files[1], folder=out)
    )


def run(path: Path, x: Any) -> Any:
    """The outputs of a model."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x})[0]


def kinds(path: Path) -> Counter[str]:
    """How many nodes of each type."""
    return Counter(node.op_type for node in onnx.load(path).graph.node)


def test_a_norm_is_folded_and_what_is_left_can_be_quantised(tmp_path: Path) -> None:
    source = convolution(tmp_path)
    made = converted(OnnxOptimize(), source, "onnx-optimize", tmp_path)
    assert kinds(made.artifact) == {"Conv": 1, "Relu": 1}
    assert made.facts["operations_removed"] == {"BatchNormalization": 1}
    np.testing.assert_allclose(run(made.artifact, IMAGE), run(source, IMAGE), rtol=1e-4, atol=1e-4)
    Examples({"x": IMAGE[None].repeat(2, axis=0)}).save(tmp_path / "examples.npz")
    for recipe in ("int8-dynamic", "int8-static", "fp16"):
        quantised = converted(OnnxQuantize(), made.artifact, recipe, tmp_path)
        assert run(quantised.artifact, IMAGE).shape == (1, 8, 6, 6)


def test_transformer_parts_are_fused_and_named_by_their_layers(tmp_path: Path) -> None:
    source = block(tmp_path)
    made = converted(OnnxOptimize(), source, "onnx-optimize", tmp_path)
    assert made.facts["fusions"] == {"bias_gelu": 1, "skip_layer_normalization": 1}
    assert kinds(made.artifact) == {"MatMul": 2, "BiasGelu": 1, "SkipLayerNormalization": 1}
    np.testing.assert_allclose(run(made.artifact, ROWS), run(source, ROWS), rtol=1e-3, atol=1e-3)
    layers = {frozenset(names) for names in layers_by_output(onnx.load(made.artifact).graph).values()}
    wanted = [["layer.up"], ["layer.gelu", "layer.bias"], ["layer.down"], ["layer.norm", "layer.skip"]]
    assert layers == set(map(frozenset, wanted))


def test_weights_of_matrix_products_are_kept_in_four_bits(tmp_path: Path) -> None:
    source = block(tmp_path)
    made = converted(OnnxInt4(), source, "int4-weight", tmp_path)
    assert kinds(made.artifact)["MatMulNBits"] == 2
    assert made.facts["int4_products"] == 2
    assert made.facts["int4_weight_share"] == pytest.approx(2 * 64 * 128 / (2 * 64 * 128 + 128 + 64 + 64))
    exact, got = run(source, ROWS), run(made.artifact, ROWS)
    assert np.square(exact).sum() / np.square(got - exact).sum() > 30  # 15 dB
    assert ("layer.up",) in set(layers_by_output(onnx.load(made.artifact).graph).values())


@pytest.mark.parametrize("transposed", [0, 1])
def test_a_gemm_is_a_matrix_product_too(tmp_path: Path, transposed: int) -> None:
    shape = (16, 64) if transposed else (64, 16)
    nodes = [helper.make_node("Gemm", ["x", "w", "b"], ["out"], name="head", transB=transposed)]
    source = save(tmp_path, nodes, [weights("w", *shape), weights("b", 16)], (2, 64))
    made = converted(OnnxInt4(), source, "int4-weight", tmp_path)
    assert kinds(made.artifact)["MatMulNBits"] == 1
    exact, got = run(source, ROWS[:, 0]), run(made.artifact, ROWS[:, 0])
    assert np.square(exact).sum() / np.square(got - exact).sum() > 30


def test_a_graph_without_matrix_products_is_unsupported(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="no matrix product"):
        converted(OnnxInt4(), convolution(tmp_path), "int4-weight", tmp_path)
