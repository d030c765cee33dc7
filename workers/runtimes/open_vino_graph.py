"""What OpenVINO's compiled graph says of each node: how much it multiplies, in which arithmetic, for which layers."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

#: Where the IR keeps, in its own runtime information, which layers of the model each operation computes (JSON).
LAYERS_KEY = ("benchfarm", "layers")
#: OpenVINO's names of types, lower case, to the names that results use.
PRECISIONS = {"f32": "fp32", "f16": "fp16", "bf16": "bf16", "f64": "fp64", "i8": "int8", "u8": "int8", "i32": "int32"}
_WIDTHS = {"fp32": 32, "fp16": 16, "bf16": 16, "int8": 8}
#: Nodes whose second input is weights.
_WEIGHTED = frozenset(("Convolution", "Deconvolution", "FullyConnected"))
#: Added to the name of an operation whose scale was moved behind it, so that it works on integers itself.
_DEQUANTISED = "/DequantizationMultiply"

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Node:
    """One node of the compiled graph."""

    name: str
    type: str
    #: Name of its kernel, with the type of its first operand at the end: brgconv_avx512_f32.
    kernel: str
    #: Operations of the model that it computes.
    originals: tuple[str, ...]
    #: Shapes; None where they are known only when it runs.
    inputs: tuple[Shape, ...] | None
    output: Shape | None
    #: Inputs, weights and outputs, each once.
    bytes: int | None

    @property
    def precision(self) -> str:
        """The type that its kernel computes in, which for compressed weights is not the type of the weights."""
        return precision_of(self.kernel)


def precision_of(kernel: str) -> str:
    """The type at the end of a kernel's name; unsigned integers are written I8 there."""
    suffix = kernel.rpartition("_")[2].casefold()
    return PRECISIONS.get(suffix, suffix)


def read_nodes(compiled: Any) -> list[Node]:
    """The nodes of a compiled model, in the order they run."""
    return [_node(operation) for operation in compiled.get_runtime_model().get_ordered_ops()]


def _node(operation: Any) -> Node:
    notes = operation.get_rt_info()
    kind, kernel = notes["layerType"].astype(str), notes["primitiveType"].astype(str)
    sources = [port.get_source_output() for port in operation.inputs()]
    outputs = operation.outputs()
    ports = (*sources, *outputs)
    open_shapes = any(port.get_partial_shape().is_dynamic for port in ports)
    widths = [] if open_shapes else [_width(port) for port in ports]
    if kind in _WEIGHTED and widths:
        # The graph shows weights as they are in the file; the kernel has packed them in its own type.
        widths[1] = min(widths[1], _WIDTHS.get(precision_of(kernel), widths[1]))
    return Node(
        name=operation.friendly_name,
        type=kind,
        kernel=kernel,
        originals=tuple(name for name in notes["originalLayersNames"].astype(str).split(",") if name),
        inputs=None if open_shapes else tuple(tuple(port.get_shape()) for port in sources),
        output=None if open_shapes or not outputs else tuple(outputs[0].get_shape()),
        bytes=None
        if open_shapes
        else sum(math.prod(port.get_shape()) * width // 8 for port, width in zip(ports, widths, strict=True)),
    )


def _width(port: Any) -> int:
    """Bits of one element; an absent operand (no bias) has no elements, and no type either."""
    return int(port.get_element_type().bitwidth) if math.prod(port.get_shape()) else 0


def source_macs(model: Any) -> dict[str, int]:
    """Multiply-accumulates of the matrix products of a model that is not compiled, by the operation's name."""
    found = {}
    for operation in model.get_ops():
        ports = (*(port.get_source_output() for port in operation.inputs()), *operation.outputs())
        if operation.get_type_name() == "MatMul" and not any(port.get_partial_shape().is_dynamic for port in ports):
            first, second, output = (tuple(port.get_shape()) for port in ports)
            found[operation.friendly_name] = matmul_macs(first, second, output)
    return found


def macs_by_type(node: Node, source: Mapping[str, int], floating: str) -> Counter[str]:
    """Multiply-accumulates of one node by the type they are done in; empty for nodes that do none.

    Args:
        node: what ran.
        source: `source_macs` of the model it was compiled from: attention is fused into a subgraph that shows no
            shapes of the products inside.
        floating: the type of a product inside a subgraph that is not done in integers.
    """
    if node.type == "Subgraph":
        inside = [name for name in node.originals if name in source]
        macs: Counter[str] = Counter()
        for name in inside:
            macs["int8" if name + _DEQUANTISED in node.originals else floating] += source[name]
        return macs
    if node.inputs is None or node.output is None or len(node.inputs) < 2:
        return Counter()
    first, second = node.inputs[:2]
    counts = {
        "Convolution": lambda: convolution_macs(first, second, node.output or ()),
        "Deconvolution": lambda: convolution_macs(first, second, first),
        "FullyConnected": lambda: math.prod(node.output or ()) * first[-1],
        "MatMul": lambda: matmul_macs(first, second, node.output or ()),
    }
    return Counter({node.precision: counts[node.type]()}) if node.type in counts else Counter()


def convolution_macs(data: Shape, weights: Shape, positions: Shape) -> int:
    """Multiply-accumulates of a convolution; weights of grouped ones have the groups in front.

    Args:
        data: shape of the input.
        weights: (output channels, input channels, *kernel), for deconvolutions the other way round.
        positions: shape of what every value of takes part in a whole kernel: the output, for deconvolutions the input.
    """
    grouped = len(weights) - len(data)
    return math.prod(positions) * math.prod(weights[1 + grouped :])


def matmul_macs(first: Shape, second: Shape, output: Shape) -> int:
    """Multiply-accumulates of a matrix product, whichever of the operands are transposed.

    With M x K, K x N and M x N elements in the three matrices, (M K N)^2 is the product of the three.
    """
    for vector in (first, second):
        if len(vector) == 1:
            return math.prod(output) * vector[0]
    matrices = (math.prod(shape[-2:]) for shape in (first, second, output))
    return math.isqrt(math.prod(matrices)) * math.prod(output[:-2])


def read_layers(model: Any) -> dict[str, list[str]]:
    """Name of each operation of a model that is not compiled to its layers; empty where the file says none."""
    path = list(LAYERS_KEY)
    noted: dict[str, list[str]] = json.loads(model.get_rt_info(path).astype(str)) if model.has_rt_info(path) else {}
    return noted


def layers_of(node: Node, layers: Mapping[str, list[str]]) -> tuple[str, ...]:
    """Layers of the model that a node computes; none for what the runtime or a quantiser inserted.

    Args:
        node: what ran.
        layers: name of each operation of the model to its layers.
    """
    found = (layers.get(name.removesuffix(_DEQUANTISED), []) for name in node.originals)
    return tuple(dict.fromkeys(layer for names in found for layer in names))
