"""Multiply-accumulates of the nodes of an ONNX graph, from their shapes, and of the kernels that compute them.

A node is `onnx.NodeProto`, a model `onnx.ModelProto`; neither is imported here. Shapes come from a run, for only
that knows them all: symbolic sizes, the turns of loops.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Shape = tuple[int, ...]
#: Of a node's inputs, in its order; None for one left out, or not known.
Shapes = Sequence[Shape | None]
#: Where a graph is: names of the nodes around it, each with the attribute that holds the next; () for the outermost.
Path = tuple[tuple[str, str], ...]

#: Every operator that multiplies and accumulates has one of these in its type, whether its MACs can be counted or not.
_MULTIPLIES = re.compile("Conv|Gemm|MatMul|Attention|LSTM|GRU|RNN|Einsum|MoE|LinearClassifier|LinearRegressor|SVM")
#: One kernel of these may compute several products of the graph; of all others, one.
_SEVERAL = re.compile("Attention|MoE")

#: Which input holds the weights of a convolution.
_CONV_WEIGHTS = {
    **dict.fromkeys(("Conv", "FusedConv", "NhwcFusedConv", "ConvInteger", "DeformConv"), 1),
    "QLinearConv": 3,
}
#: Matrix products by the last dimension of their first input, transposed or not.
_PRODUCTS = frozenset(
    (
        *("MatMul", "FusedMatMul", "FusedMatMulActivation", "MatMulInteger", "MatMulIntegerToFloat", "QLinearMatMul"),
        *("DynamicQuantizeMatMul", "Gemm", "FusedGemm", "GemmFastGelu", "QGemm", "MatMulNBits"),
    )
)
_RECURRENT = frozenset(("LSTM", "GRU", "RNN", "DynamicQuantizeLSTM"))


def multiplies(operator: str) -> bool:
    """Whether such an operator multiplies and accumulates."""
    return bool(_MULTIPLIES.search(operator))


def count_macs(node: Any, inputs: Shapes, output: Shape) -> int | None:
    """Multiply-accumulates of one node; 0 where it does none, None where they cannot be counted.

    Args:
        node: its type, domain and attributes are read.
        inputs: shapes of its inputs.
        output: shape of its first output.
    """
    if not multiplies(node.op_type):
        return 0
    try:
        return _count(node, list(inputs), output)
    except (IndexError, KeyError, TypeError, ValueError, ZeroDivisionError):
        return None  # a shape is missing, or is not what the operator's description says


def _count(node: Any, inputs: list[Any], output: Shape) -> int | None:
    kind = node.op_type
    if kind in _CONV_WEIGHTS:
        return math.prod(output) * int(math.prod(inputs[_CONV_WEIGHTS[kind]][1:]))
    if kind == "ConvTranspose":
        return int(math.prod(inputs[0]) * math.prod(inputs[1][1:]))
    if kind in _PRODUCTS:
        return math.prod(output) * _depth(node, inputs[0])
    if kind in _RECURRENT:
        return int(math.prod(inputs[0][:2]) * (math.prod(inputs[1]) + math.prod(inputs[2])))
    if kind == "Einsum":
        return _einsum(_attribute(node, "equation", b"").decode(), inputs, output)
    if kind == "MultiHeadAttention":
        return _multi_head(inputs)
    if kind == "Attention":
        return _attention_of_matrices(node, inputs) if node.domain in ("", "ai.onnx") else _attention(node, inputs)
    return None


def _depth(node: Any, first: Shape) -> int:
    """Length of the sums of a matrix product."""
    if len(first) < 2:
        return first[-1]
    if _attribute(node, "transA", 0):
        # `transBatchA` moves the first dimension to where rows are.
        return first[0] if _attribute(node, "transBatchA", 0) else first[-2]
    return first[-1]


def _einsum(equation: str, inputs: list[Any], output: Shape) -> int | None:
    terms, arrow, result = equation.replace(" ", "").partition("->")
    operands = terms.split(",")
    if len(operands) == 1:
        return 0
    if len(operands) > 2:
        return None  # depends on the order that the runtime multiplies in
    if not arrow:
        letters = terms.replace(",", "").replace(".", "")
        result = "".join(sorted(letter for letter in set(letters) if letters.count(letter) == 1))
    elif "..." in terms and "..." not in result:
        return None
    sizes: dict[str, int] = {}
    for operand, shape in zip(operands, inputs, strict=True):
        before, dots, after = operand.partition("...")
        if not dots and len(operand) != len(shape):
            return None
        ends = [*zip(before, shape, strict=False), *zip(reversed(after), reversed(shape), strict=False)]
        for letter, size in ends:
            sizes[letter] = max(size, sizes.get(letter, 1))
    return math.prod(output) * math.prod(size for letter, size in sizes.items() if letter not in result)


def _multi_head(inputs: list[Any]) -> int | None:
    """Of com.microsoft's MultiHeadAttention: queries by keys, and what is seen by values."""
    inputs += [None] * (7 - len(inputs))
    query, key, value, past = inputs[0], inputs[1], inputs[2], inputs[6]
    if len(query) == 5:  # queries, keys and values in one: batch, length, heads, 3, size
        batch, length, heads, _, size = query
        keys, width, value_width = length, heads * size, heads * size
    elif len(key) == 5:  # keys and values in one
        batch, length, width = query
        keys, value_width = key[1], key[2] * key[4]
    else:
        batch, length, width = query
        keys = key[2] if len(key) == 4 else key[1]
        value_width = value[1] * value[3] if len(value) == 4 else value[2]
    keys += past[2] if past is not None else 0
    return int(batch * length * keys * (width + value_width))


def _attention(node: Any, inputs: list[Any]) -> int | None:
    """Of com.microsoft's Attention, which makes queries, keys and values of its input first."""
    inputs += [None] * (5 - len(inputs))
    batch, length, _ = inputs[0]
    widths = _attribute(node, "qkv_hidden_sizes", []) or [inputs[1][1] // 3] * 3
    past = inputs[4]
    keys = length + (past[3] if past is not None else 0)
    return int(batch * length * (math.prod(inputs[1]) + keys * (widths[0] + widths[2])))


def _attention_of_matrices(node: Any, inputs: list[Any]) -> int | None:
    """Of ONNX's own Attention."""
    inputs += [None] * (6 - len(inputs))
    query, key, value, past = inputs[0], inputs[1], inputs[2], inputs[4]
    if len(query) == 4:
        batch, heads, length, size = query
        keys, value_size = key[2], value[3]
    else:
        batch, length, width = query
        heads = _attribute(node, "q_num_heads", 0)
        size, value_size = width // heads, value[2] // _attribute(node, "kv_num_heads", 0)
        keys = key[1]
    keys += past[2] if past is not None else 0
    return int(batch * heads * length * keys * (size + value_size))


def _attribute(node: Any, name: str, default: Any) -> Any:
    for item in node.attribute:
        if item.name == name:
            return list(item.ints) if isinstance(default, list) else item.s if isinstance(default, bytes) else item.i
    return default


def input_shapes(names: Sequence[str], seen: Sequence[Shape], weights: Mapping[str, Shape]) -> list[Shape | None]:
    """The shapes of a node's inputs, of what a profile tells: it leaves out absent inputs and packed weights.

    Args:
        names: the inputs, "" for one that is absent.
        seen: the shapes in the profile, in order.
        weights: shapes of the graph's constants.
    """
    left = list(seen)
    packed = sum(map(bool, names)) - len(left)
    found: list[Shape | None] = []
    for name in names:
        shape = weights.get(name) if name else None
        if not name:
            found.append(None)
        elif packed > 0 and shape is not None and (not left or left[0] != shape):
            packed -= 1
            found.append(shape)
        else:
            found.append(left.pop(0) if left else shape)
    return found


def graphs(model: Any) -> dict[Path, Any]:
    """The graph of a model and those inside its nodes: bodies of loops, branches."""
    return dict(_graphs(model.graph, ()))


def _graphs(graph: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    yield path, graph
    for node in graph.node:
        for item in node.attribute:
            for body in [item.g] if item.HasField("g") else item.graphs:
                yield from _graphs(body, (*path, (node.name, item.name)))


def name_nodes(model: Any) -> bool:
    """Give each node of a model a name of its own, for a profile knows them by name; whether any was changed."""
    taken: set[str] = set()
    changed = False
    for graph in graphs(model).values():
        for index, node in enumerate(graph.node):
            name = node.name or f"{node.op_type}_of_{next(filter(None, node.output), index)}"
            while name in taken:
                name += "_"
            changed |= name != node.name
            node.name = name
            taken.add(name)
    return changed


def macs_by_kernel(
    kernels: Mapping[str, str], covered: Mapping[str, Sequence[str]], macs: Mapping[str, int | None]
) -> dict[str, int | None]:
    """MACs of the kernels that multiply, as the graph had them before it was optimised: without padding or blocks.

    A kernel that cannot be matched to its product is left out.

    Args:
        kernels: name to type.
        covered: name of a kernel to the nodes of the graph that lie between its inputs and its outputs. A kernel
            whose neighbour was not recognised may seem to cover the neighbour's nodes too.
        macs: name of a node of the graph that multiplies to its MACs; None where they cannot be counted.
    """
    found: dict[str, int | None] = {}
    taken: set[str] = set()
    for name in sorted((name for name in kernels if multiplies(kernels[name])), key=lambda name: len(covered[name])):
        products = [node for node in covered[name] if node in macs and node not in taken]
        if len(products) == 1 or (products and _SEVERAL.search(kernels[name])):
            taken.update(products)
            counts = [macs[node] for node in products]
            known = [count for count in counts if count is not None]
            found[name] = sum(known) if len(known) == len(counts) else None
    return found
