"""onnx fp32 -> onnx with the weights of matrix products in 4 bits, by onnxruntime's MatMulNBits."""

from __future__ import annotations

import math
from typing import Any, ClassVar

from workers.converters.converter import ConversionInput, Converter, Route
from workers.errors import UnsupportedError
from workers.models.source import Made

#: So many weights along the summed axis share a scale.
BLOCK = 32


class OnnxInt4(Converter):
    """Symmetric; activations stay fp32, and so do the weights of convolutions, for which onnxruntime has no kernels."""

    packages: ClassVar[tuple[str, ...]] = ("onnx", "onnxruntime", "onnx-ir", "ml-dtypes")
    extra: ClassVar[str] = "onnx"
    routes: ClassVar[tuple[Route, ...]] = (Route("onnx", "fp32", "onnx", "int4-weight"),)

    def convert(self, source: ConversionInput) -> Made:
        """See `Converter.convert`."""
        import onnx
        from onnxruntime.quantization.matmul_nbits_quantizer import DefaultWeightOnlyQuantConfig, MatMulNBitsQuantizer

        model = onnx.load(source.artifact)
        _split_gemms(model.graph)
        notes = {node.output[0]: list(node.metadata_props) for node in model.graph.node}
        # Level 1: products are accumulated in fp32, so that the arithmetic is what the recipe says.
        settings = DefaultWeightOnlyQuantConfig(block_size=BLOCK, is_symmetric=True, accuracy_level=1, bits=4)
        quantizer = MatMulNBitsQuantizer(model, algo_config=settings)
        quantizer.process()
        quantised = quantizer.model.model
        for node in quantised.graph.node:
            if node.op_type == "MatMulNBits" and not node.metadata_props:
                # The tool drops the exporter's notes of the layers that a node computes.
                node.metadata_props.extend(notes.get(node.output[0], ()))
        facts = _facts(quantised.graph)
        if not facts["int4_products"]:
            raise UnsupportedError("the graph has no matrix product with constant weights to keep in 4 bits")
        artifact = source.folder / "model.onnx"
        onnx.save(quantised, artifact)
        return Made(artifact, facts=facts)


def _split_gemms(graph: Any) -> None:
    """Make a MatMul and an Add of each Gemm with constant weights: the quantizer knows MatMul alone."""
    import numpy as np
    from onnx import helper, numpy_helper

    constants = {item.name: item for item in graph.initializer}
    nodes = []
    for node in graph.node:
        settings = {item.name: helper.get_attribute_value(item) for item in node.attribute}
        plain = settings.get("alpha", 1.0) == settings.get("beta", 1.0) == 1.0 and not settings.get("transA", 0)
        if node.op_type != "Gemm" or not plain or node.input[1] not in constants:
            nodes.append(node)
            continue
        weights = numpy_helper.to_array(constants[node.input[1]])
        kept = f"{node.output[0]}_weights"
        matrix = np.ascontiguousarray(weights.T if settings.get("transB", 0) else weights)
        graph.initializer.append(numpy_helper.from_array(matrix, kept))
        has_bias = len(node.input) > 2 and bool(node.input[2])
        product = f"{node.output[0]}_product" if has_bias else node.output[0]
        made = [helper.make_node("MatMul", [node.input[0], kept], [product], name=f"{node.name}_product")]
        if has_bias:
            made.append(helper.make_node("Add", [product, node.input[2]], list(node.output), name=f"{node.name}_bias"))
        for new in made:
            new.metadata_props.extend(node.metadata_props)
        nodes += made
    used = {name for node in nodes for name in node.input}
    left = [item for item in graph.initializer if item.name in used]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(left)


def _facts(graph: Any) -> dict[str, Any]:
    """How much is in 4 bits: products, and their share of all weights."""
    sizes = {item.name: math.prod(item.dims) for item in graph.initializer}
    products = [node for node in graph.node if node.op_type == "MatMulNBits"]
    packed = {name for node in products for name in node.input[1:4]}
    shapes = [{item.name: item.i for item in node.attribute} for node in products]
    in_4_bits = sum(shape["K"] * shape["N"] for shape in shapes)
    others = sum(size for name, size in sizes.items() if name not in packed)
    return {"int4_products": len(products), "int4_weight_share": in_4_bits / max(1, in_4_bits + others), "block": BLOCK}
