"""Which layer of the model each node of an ONNX graph computes: what runtimes of ONNX files name operations by."""

from __future__ import annotations

import ast
from typing import Any

#: What torch's exporter notes at each node: the modules around it, outermost first, and the node's own name last.
_SCOPES = "pkg.torch.onnx.name_scopes"


def layers_by_node(model: Any) -> dict[str, tuple[str, ...]]:
    """Node name to the layers it computes, for an `onnx.ModelProto`; empty for nodes that a quantiser inserted.

    torch's exporter notes the layer at each node; a node that it fused with its neighbour still names the
    neighbour's weights. A graph of another exporter has no such notes: there a node's own name is the layer.
    """
    noted = {node.name: _noted(node) for node in model.graph.node}
    if not any(noted.values()):
        return {node.name: (node.name,) for node in model.graph.node}
    known = {layer for layer in noted.values() if layer}
    weights = {item.name: item.name.rpartition(".")[0] for item in model.graph.initializer}
    found = {}
    for node in model.graph.node:
        layers = [noted[node.name], *(weights.get(name) for name in node.input)]
        # A weight's own layer counts only beside a note: what a quantiser inserted works on weights too.
        found[node.name] = tuple(dict.fromkeys(layer for layer in layers if layer)) if noted[node.name] in known else ()
    return found


def _noted(node: Any) -> str | None:
    for item in node.metadata_props:
        if item.key == _SCOPES:
            scopes = ast.literal_eval(item.value)
            return str(scopes[-2]) if len(scopes) > 1 and scopes[-2] else None
    return None
