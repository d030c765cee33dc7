"""Which layers of the model each node of an ONNX graph computes: how operations of ONNX runtimes are named for people.

A graph is `onnx.GraphProto`, a model `onnx.ModelProto`; neither is imported here.
"""

from __future__ import annotations

import ast
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

#: What torch's exporter notes at each node: the modules around it, outermost first, and the node's own name last.
_SCOPES = "pkg.torch.onnx.name_scopes"
#: What our quantiser notes at each node, for the tools it works with drop the exporter's notes.
_LAYERS = "benchfarm.layers"
#: Nodes by which onnxruntime changes the layout in memory around its blocked convolutions.
_REORDERS = ("ReorderInput", "ReorderOutput")
#: Nodes that a quantiser inserts, whatever they lead to.
_QUANTISE = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear")
#: Those by which it makes a matrix of what a matrix product is fused over.
_GEMM_RESHAPES = ("gemm_input_reshape", "gemm_output_reshape")
#: What onnxruntime appends to the name of a node that it fused, or whose name is taken.
_RENAMED = re.compile(r"(/\w+Fusion/?|_token_\d+)+$")
#: How onnxruntime names a blocked convolution: by the output of the node that it stands for.
_BLOCKED = "_nchwc"
#: What it puts before the name of a float16 tensor that it computes in float32, for want of a kernel.
_WIDENED = "InsertedPrecisionFreeCast_"

Layers = tuple[str, ...]


def layers_by_node(model: Any) -> dict[str, Layers]:
    """Node name to the layers it computes; empty for nodes that a quantiser inserted.

    torch's exporter notes the layer at each node; a node that it fused with its neighbour still names the
    neighbour's weights. A graph of another exporter has no such notes: there a node's own name is the layer.
    """
    layers = layers_by_output(model.graph)
    return {node.name: layers[first_output(node)] for node in model.graph.node if node.name}


def first_output(node: Any) -> str:
    """What a node is known by: its first output that is not left out."""
    return next((str(tensor) for tensor in node.output if tensor), "")


def layers_by_output(graph: Any) -> dict[str, Layers]:
    """The same by a node's first output, for tools leave nodes without names, or several with one."""
    noted = {first_output(node): _noted(node) for node in graph.node}
    if not any(noted.values()):
        return {first_output(node): (node.name,) if node.name else () for node in graph.node}
    # Equal constants are stored once: one that several nodes use names no layer.
    uses = Counter(name for node in graph.node for name in node.input)
    weights = {item.name: item.name.rpartition(".")[0] for item in graph.initializer if uses[item.name] == 1}
    found = {}
    for node in graph.node:
        layers = noted[first_output(node)]
        # A weight's own layer counts only beside a note: what a quantiser inserted works on weights too.
        fused = [weights[name] for name in node.input if weights.get(name)] if layers else []
        found[first_output(node)] = tuple(dict.fromkeys([*layers, *fused]))
    return found


def layers_of_optimised(model: Any, optimised: Any) -> list[Layers]:
    """The layers that each node of an optimised graph computes, by what lies between its inputs and its outputs.

    Args:
        model: what was optimised; its notes are read.
        optimised: what onnxruntime made of it: nodes fused, renamed, reordered in memory; no notes.
    """
    layers = layers_by_output(model.graph)
    return [
        tuple(dict.fromkeys(layer for tensor in covered for layer in layers[tensor]))
        for covered in covered_by_optimised(model.graph, optimised.graph)
    ]


def covered_by_optimised(graph: Any, optimised: Any) -> list[list[str]]:
    """The nodes of a graph that each node of the optimised one seems to compute, each by its first output."""
    producers = {tensor: node for node in graph.node for tensor in node.output if tensor}
    consumers: dict[str, list[Any]] = {}
    for node in graph.node:
        for tensor in node.input:
            consumers.setdefault(tensor, []).append(node)
    outputs_by_name = {node.name: list(node.output) for node in graph.node if node.name}
    made = [_original_outputs(node, producers, consumers, outputs_by_name) for node in optimised.node]
    borders = {tensor for outputs in made for tensor in outputs}
    return [_between(outputs, borders - set(outputs), producers) for outputs in made]


def note_layers(model: Any, prepared: Any, quantised: Any) -> None:
    """Note at the nodes of a quantised model which layers they compute.

    Args:
        model: the model before it was prepared and quantised; its notes are read.
        prepared: what was quantised: the model optimised, without notes.
        quantised: is changed. A node is known by its name (a dynamic quantiser makes `NAME_quant` of NAME) or by its
            first output.
    """
    layers = layers_of_optimised(model, prepared)
    by_output = {first_output(node): computed for node, computed in zip(prepared.graph.node, layers, strict=True)}
    known = {tensor for node in model.graph.node for tensor in node.output}
    for node in reversed(prepared.graph.node):  # a function that was inlined is known by its last node only
        for tensor in node.input:
            if tensor not in known:
                by_output[tensor] = by_output.get(tensor) or by_output[first_output(node)]
    by_name = {node.name: by_output[first_output(node)] for node in prepared.graph.node if node.name}
    for node in quantised.graph.node:
        node.name = node.name or f"node_{first_output(node)}"  # for a runtime renames the tensors
        noted = by_name.get(node.name.removesuffix("_quant"))
        if noted is None and node.op_type not in _QUANTISE:
            noted = by_output.get(first_output(node))
        if noted:
            item = node.metadata_props.add()
            item.key, item.value = _LAYERS, json.dumps(noted)


def _noted(node: Any) -> list[str]:
    for item in node.metadata_props:
        if item.key == _LAYERS:
            return [str(layer) for layer in json.loads(item.value)]
        if item.key == _SCOPES:
            scopes = ast.literal_eval(item.value)
            return [str(scopes[-2])] if len(scopes) > 1 and scopes[-2] else []
    return []


def _original_outputs(
    node: Any,
    producers: Mapping[str, Any],
    consumers: Mapping[str, list[Any]],
    outputs_by_name: Mapping[str, list[str]],
) -> list[str]:
    """The tensors of the original graph that an optimised node makes."""
    if node.op_type in _REORDERS or node.name.startswith(_GEMM_RESHAPES):
        return []
    outputs = [tensor for name in node.output if (tensor := name.removeprefix(_WIDENED)) in producers]
    if not outputs and node.name.endswith(_BLOCKED):
        tensor = node.name.removesuffix(_BLOCKED).removeprefix(_WIDENED)
        outputs = [tensor] if tensor in producers else []
    if not outputs:  # moved to another layout: its tensors were renamed, it was not
        outputs = outputs_by_name.get(_RENAMED.sub("", node.name), [])
    # Named before what follows was fused into it: an activation, or the bias of a matrix product.
    fused = next((item.s.decode() for item in node.attribute if item.name == "activation"), None)
    fused = "Add" if node.op_type == "Gemm" else fused
    if fused is not None and len(outputs) == 1 and producers[outputs[0]].op_type not in (fused, "Gemm"):
        following = consumers.get(outputs[0], [])
        if len(following) == 1 and following[0].op_type == fused:
            outputs = list(following[0].output)
    return outputs


def _between(outputs: Iterable[str], borders: set[str], producers: Mapping[str, Any]) -> list[str]:
    """First outputs of the original nodes from some tensors back to the nearest borders, last node first."""
    found: dict[str, None] = {}
    left = list(outputs)
    while left:
        node = producers.get(left.pop())
        if node is not None and first_output(node) not in found:
            found[first_output(node)] = None
            left += [tensor for tensor in node.input if tensor not in borders]
    return list(found)
