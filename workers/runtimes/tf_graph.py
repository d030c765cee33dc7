"""What each node of a TensorFlow graph computes: shapes, multiply-accumulates, bytes, and the Keras layers it is of."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

#: What multiplies, in all of oneDNN's and the optimiser's forms: _MklNativeFusedConv2D, _MklNativeConv2DWithBias.
_MULTIPLIES = re.compile(
    r"Conv[23]DBackpropInput(?:V2)?|DepthwiseConv2dNative(?!Backprop)|Conv[23]D(?!Backprop)|BatchMatMul(?:V[23])?|MatMul|Einsum"
)
_CONVOLUTIONS = frozenset(("Conv2D", "Conv3D"))
#: Their filter is spread over the output: as many multiplications as over the gradient that they take as input.
_TRANSPOSED = frozenset(("Conv2DBackpropInput", "Conv2DBackpropInputV2", "Conv3DBackpropInputV2"))
_PRODUCTS = frozenset(("MatMul", "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3"))
_PRECISIONS = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16", "float64": "fp64"}
_INTEGERS = frozenset(("int8", "uint8", "qint8", "quint8"))
_PADDING = "/padding"
#: Code that XLA compiled of its own accord, as the environment may tell it.
_CLUSTERS = frozenset(("_XlaRun", "_XlaCompile", "XlaLaunch"))
#: What names of nodes begin with that says nothing of the model: calls that were inlined, constants that were folded.
_PREFIXES = frozenset(("PartitionedCall", "StatefulPartitionedCall", "ConstantFolding"))


@dataclass(frozen=True)
class Node:
    """One node of the graph that ran."""

    type: str
    device: str
    #: The type of its operands, as results name it: fp32, int8.
    precision: str | None
    #: Multiply-accumulates; None for all but convolutions and matrix products.
    macs: int | None
    bytes: int | None
    layers: tuple[str, ...]
    #: A call of code that XLA compiled: operand types of the graph say nothing of what it multiplies in.
    compiled: bool = False
    #: It multiplies, or calls what does.
    multiplies: bool = False


def nodes_of(graph_def: Any, layers: Iterable[str]) -> dict[str, Node]:
    """Name to node of a graph as TensorFlow partitioned it for the device, with shapes inferred.

    Args:
        graph_def: a `GraphDef`.
        layers: names of the Keras layers; empty where the model's are not known.
    """
    import tensorflow as tf

    graph = tf.Graph()
    with graph.as_default():
        tf.import_graph_def(_padded(graph_def), name="")
    known = frozenset(layers)
    definitions = {node.name: node for node in graph_def.node}
    return {
        operation.name: _node(operation, definitions, known)
        for operation in graph.get_operations()
        if operation.name in definitions
    }


def macs_by_precision(nodes: Iterable[Node]) -> Counter[str]:
    """Multiply-accumulates by the type of their operands."""
    macs: Counter[str] = Counter()
    for node in nodes:
        if node.macs is not None and node.precision is not None:
            macs[node.precision] += node.macs
    return macs


def layers_of(name: str, known: frozenset[str]) -> tuple[str, ...]:
    """The layer that a node belongs to, by its name, as a dotted path; empty where it belongs to none.

    Keras opens a layer's scope once to build it and once more to call it, so that the nodes of `conv` are in
    `conv_1`: a scope without such a number is no layer's. Without known layers the scopes are the path.
    """
    name = re.sub(r".*/body/_\d+/", "", name)  # inside a loop the whole path stands twice
    scopes = [scope for scope in name.split("/")[:-1] if scope not in _PREFIXES]
    if known:
        numbered = (re.fullmatch(r"(.+)_\d+", scope) for scope in scopes)
        scopes = [match[1] for match in numbered if match and match[1] in known]
    return (".".join(scopes),) if scopes else ()


def einsum_macs(equation: str, shapes: list[tuple[int, ...]]) -> int | None:
    """Multiply-accumulates of an Einstein sum of two operands; None for what has no named axes.

    Args:
        equation: such as "abc,cd->abd".
        shapes: of its operands.
    """
    operands = equation.partition("->")[0].split(",")
    if len(operands) != 2 or "." in equation or [len(axes) for axes in operands] != [len(shape) for shape in shapes]:
        return None
    sizes: dict[str, int] = {}
    for axes, shape in zip(operands, shapes, strict=True):
        sizes |= zip(axes, shape, strict=True)
    return math.prod(sizes.values())


def _padded(graph_def: Any) -> Any:
    """The graph with every padding that was fused into a convolution before it, for the inference of shapes.

    TensorFlow infers the output of a convolution that pads for itself as if it did not.
    """
    padded = type(graph_def)()
    padded.CopyFrom(graph_def)
    for node in graph_def.node:
        if "PadWith" in node.op:
            pad = padded.node.add(name=node.name + _PADDING, op="Pad", device=node.device)
            pad.input.extend([node.input[0], [item for item in node.input if not item.startswith("^")][-1]])
            for name in ("T", "Tpaddings"):
                pad.attr[name].CopyFrom(node.attr[name])
    for node in padded.node:
        if "PadWith" in node.op:
            node.input[0] = node.name + _PADDING
    return padded


def _node(operation: Any, definitions: dict[str, Any], known: frozenset[str]) -> Node:
    is_cluster = operation.type in _CLUSTERS
    compiled = is_cluster or (
        "_XlaMustCompile" in operation.node_def.attr and operation.node_def.attr["_XlaMustCompile"].b
    )
    operand = operation.get_attr("T").name if "T" in operation.node_def.attr else None
    precision = "int8" if operand in _INTEGERS else _PRECISIONS.get(str(operand), operand)
    inside = _inside(operation) if compiled and not is_cluster else [operation]
    multiplying = [item for item in inside if _MULTIPLIES.search(item.type)]
    macs = [_macs(item) for item in multiplying]
    counted = [count for count in macs if count is not None]
    return Node(
        type=operation.type,
        device=operation.device,
        precision=None if compiled else precision,
        macs=sum(counted) if counted and len(counted) == len(macs) else None,
        bytes=_bytes(operation),
        layers=_layers(operation, definitions, known),
        compiled=compiled,
        multiplies=bool(multiplying) or is_cluster,  # as far as can be known
    )


def _inside(call: Any) -> list[Any]:
    """Operations of the function that a node calls, and of those that it calls, with shapes inferred."""
    import tensorflow as tf
    from tensorflow.python.framework.function_def_to_graph import function_def_to_graph_def
    from tensorflow.python.ops.handle_data_util import get_resource_handle_data, set_handle_data

    definitions = {item.signature.name: item for item in call.graph.as_graph_def().library.function}
    found = []
    waiting = [call]
    while waiting:
        caller = waiting.pop()
        definition = definitions[caller.get_attr("f").name]
        with caller.graph.as_default():
            body, _names = function_def_to_graph_def(definition)
        graph = tf.Graph()
        with graph.as_default():
            given = {}
            for argument, tensor in zip(definition.signature.input_arg, caller.inputs, strict=True):
                given[argument.name] = tf.compat.v1.placeholder(tensor.dtype, tensor.shape)
                if tensor.dtype == tf.resource:  # the shape of the variable
                    set_handle_data(given[argument.name], get_resource_handle_data(tensor))
            tf.import_graph_def(body, input_map=given, name="")
        for operation in graph.get_operations():
            found.append(operation)
            if "f" in operation.node_def.attr and operation.get_attr("f").name in definitions:
                waiting.append(operation)
    return found


def _macs(operation: Any) -> int | None:
    found = _MULTIPLIES.search(operation.type)
    if found is None:
        return None
    kind = found[0]
    ins, outs = [_shape(tensor) for tensor in operation.inputs], [_shape(tensor) for tensor in operation.outputs]
    if kind == "Einsum":
        shapes = [shape for shape in ins if shape is not None]
        return einsum_macs(operation.get_attr("equation").decode(), shapes) if len(shapes) == len(ins) else None
    if kind in _TRANSPOSED:
        weights, gradient = ins[1:3]
        return None if gradient is None or weights is None else math.prod(gradient) * math.prod(weights[:-1])
    if not outs or outs[0] is None or len(ins) < 2 or ins[0] is None or ins[1] is None:
        return None
    if kind in _CONVOLUTIONS:
        return math.prod(outs[0]) * math.prod(ins[1][:-1])
    if kind == "DepthwiseConv2dNative":
        return math.prod(outs[0]) * math.prod(ins[1][:2])
    if kind in _PRODUCTS and ins[0]:
        turned = any(operation.get_attr(name) for name in ("transpose_a", "adj_x") if name in operation.node_def.attr)
        return math.prod(outs[0]) * ins[0][-2 if turned else -1]
    return None


def _bytes(operation: Any) -> int | None:
    total = 0
    read = [tensor.op.inputs[0] if tensor.op.name.endswith(_PADDING) else tensor for tensor in operation.inputs]
    for tensor in {tensor.name: tensor for tensor in [*read, *operation.outputs]}.values():
        shape = _shape(tensor)
        if tensor.dtype.name == "resource":
            continue
        if shape is None:
            return None
        total += math.prod(shape) * tensor.dtype.size
    return total


def _layers(operation: Any, definitions: dict[str, Any], known: frozenset[str]) -> tuple[str, ...]:
    # A node that others were fused into has the name of one of them; the weights that it reads name their own layer.
    definition = definitions[operation.name]
    if not known:
        return layers_of(operation.name, known)
    names = [tensor.op.name for tensor in operation.inputs if tensor.op.type == "ReadVariableOp"]
    names += [*definition.experimental_debug_info.original_node_names, operation.name]
    return tuple(dict.fromkeys(layer for name in names for layer in layers_of(name, known)))


def _shape(tensor: Any) -> tuple[int, ...] | None:
    return tuple(tensor.shape.as_list()) if tensor.shape.is_fully_defined() else None
