"""What OpenVINO's compiled graph says of each node: how much it multiplies, in which arithmetic, for which layers."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

#: Where the IR keeps, in its own runtime information, which layers of the model each operation computes (JSON).
LAYERS_KEY = ("benchfarm", "layers")
#: OpenVINO's names of types, lower case, to the names that results use.
PRECISIONS = {"f32": "fp32", "f16": "fp16", "bf16": "bf16", "f64": "fp64", "i8": "int8", "u8": "int8", "i32": "int32"}
_WIDTHS = {"fp32": 32, "fp16": 16, "bf16": 16, "int8": 8}
#: Nodes whose second input is weights.
_WEIGHTED = frozenset(("Convolution", "Deconvolution", "FullyConnected"))
#: Nodes that multiply, or may for all that the compiled graph tells; `macs_by_type` counts some of them.
_MULTIPLYING = frozenset(
    (
        *("Convolution", "Deconvolution", "BinaryConvolution", "DeformableConvolution", "PagedCausalConv1D"),
        *("FullyConnected", "MatMul", "GatherMatmul", "Einsum", "LLMMLP", "QKVProjection", "LoRA", "Interaction"),
        *("RNNCell", "RNNSeq", "GatedDeltaNet", "PagedGatedDeltaNet", "ScaledDotProductAttention", "PagedAttention"),
        *("TensorIterator", "Loop", "If", "Reference"),
    )
)
#: The same of a model that is not compiled.
_MULTIPLYING_SOURCES = re.compile(
    r"\w*Convolution\w*|MatMul|Einsum|(LSTM|GRU|AUGRU|RNN)(Cell|Sequence)|ScaledDotProductAttention|PagedAttention\w*"
)
#: Operations with models of their own inside.
_LOOPS, _CHOICE = frozenset(("TensorIterator", "Loop")), "If"
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


def source_macs(model: Any) -> dict[str, int | None]:
    """Multiply-accumulates of a model that is not compiled, of what a compiled node shows too little of, by name.

    Matrix products, attention, and operations with models of their own inside; None where they multiply and nothing
    tells how often.
    """
    found: dict[str, int | None] = {}
    for operation in model.get_ops():
        kind = operation.get_type_name()
        ports = (*(port.get_source_output() for port in operation.inputs()), *operation.outputs())
        if kind == "MatMul" and not any(port.get_partial_shape().is_dynamic for port in ports):
            first, second, output = (tuple(port.get_shape()) for port in ports)
            found[operation.friendly_name] = matmul_macs(first, second, output)
        elif kind in {"MatMul", "Einsum", "ScaledDotProductAttention"}:
            found[operation.friendly_name] = None
        elif kind in _LOOPS or kind == _CHOICE:
            found[operation.friendly_name] = None if any(map(_multiplies, _bodies(operation))) else 0
    return found


def _bodies(operation: Any) -> list[Any]:
    kind = operation.get_type_name()
    if kind == _CHOICE:
        return [operation.get_then_body(), operation.get_else_body()]
    return [operation.get_function()] if kind in _LOOPS else []


def _multiplies(model: Any) -> bool:
    return any(
        _MULTIPLYING_SOURCES.fullmatch(operation.get_type_name()) or any(map(_multiplies, _bodies(operation)))
        for operation in model.get_ops()
    )


def macs_by_type(node: Node, source: Mapping[str, int | None], floating: str) -> Counter[str] | None:
    """Multiply-accumulates of one node by the type they are done in; empty for nodes that do none.

    None where a node multiplies and nothing tells how often.

    Args:
        node: what ran.
        source: `source_macs` of the model it was compiled from: attention is fused into a subgraph that shows no
            shapes of the products inside.
        floating: the type of a product inside a subgraph that is not done in integers.
    """
    inside = {name: source[name] for name in node.originals if name in source}
    if node.type == "Subgraph":
        macs: Counter[str] = Counter()
        for name, count in inside.items():
            if count is None:
                return None
            macs["int8" if name + _DEQUANTISED in node.originals else floating] += count
        return macs
    if node.type not in _MULTIPLYING or (inside and not any(count != 0 for count in inside.values())):
        return Counter()
    count = _macs(node)
    return None if count is None else Counter({node.precision: count})


def _macs(node: Node) -> int | None:
    """Multiply-accumulates of a node by its shapes; None where they do not tell."""
    if node.inputs is None or node.output is None or len(node.inputs) < 2:
        return None
    first, second = node.inputs[:2]
    match node.type:
        case "Convolution":
            return convolution_macs(first, second, node.output)
        case "Deconvolution":
            return convolution_macs(first, second, first)
        case "DeformableConvolution":
            return convolution_macs(first, node.inputs[2], node.output)
        case "FullyConnected":
            return math.prod(node.output) * first[-1]
        case "MatMul":
            return matmul_macs(first, second, node.output)
        case "RNNCell" | "RNNSeq":
            return recurrent_macs(node.inputs)
    return None


def recurrent_macs(inputs: Sequence[Shape]) -> int | None:
    """Multiply-accumulates of an LSTM, a GRU or a plain recurrent layer, over all steps; None for any other form.

    Args:
        inputs: shapes of its inputs: (batch, steps, size), for a single step (batch, size), ..., then the weights of
            the input, those of the state, and biases.
    """
    if len(inputs) < 5:
        return None
    data, *_, of_input, of_state, biases = inputs
    # With attention (AUGRU) there is one more at the end.
    if not len(of_input) == len(of_state) == len(biases) + 1:
        return None
    return math.prod(data[:-1]) * (math.prod(of_input) + math.prod(of_state))


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
