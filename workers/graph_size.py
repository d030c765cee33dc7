"""How many operations an artifact's graph has, of the real file: what a runtime is given, before it optimises it."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from workers.errors import first_line

#: What a SavedModel's graph holds beside operations: values, calls of functions, reads of weights.
_NO_OPERATIONS = frozenset(
    (
        *("Const", "Placeholder", "Identity", "IdentityN", "NoOp", "ReadVariableOp", "VarHandleOp"),
        *("PartitionedCall", "StatefulPartitionedCall"),
    )
)
_NO_LAYERS = frozenset(("Parameter", "Const", "Result"))


def count_nodes(format_: str, artifact: Path) -> dict[str, Any]:
    """Facts of an artifact's graph: `nodes`, its operations without constants, inputs and outputs.

    Args:
        format_: its format.
        artifact: a file or folder.

    Returns:
        Empty for a format without graphs; where a file cannot be read so, `nodes` is None and `nodes_unknown` says why.
    """
    count = _COUNTERS.get(format_)
    if count is None:
        return {}
    try:
        return count(artifact)
    except Exception as error:  # of whatever library reads the format; the artifact stands without the figure
        return {"nodes": None, "nodes_unknown": f"{type(error).__name__}: {first_line(error)}"}


def _pt2(path: Path) -> dict[str, Any]:
    """Calls in the graph of an exported program, read as JSON: loading it would take a second."""
    with zipfile.ZipFile(path) as archive:
        name = next(name for name in archive.namelist() if name.endswith("models/model.json"))
        program = json.loads(archive.read(name))
    return {"nodes": len(program["graph_module"]["graph"]["nodes"])}


def _onnx(path: Path) -> dict[str, Any]:
    import onnx

    from workers.onnx_macs import graphs

    model = onnx.load(path, load_external_data=False)
    nodes = [node for graph in graphs(model).values() for node in graph.node]
    return {"nodes": sum(node.op_type != "Constant" for node in nodes)}


def _tflite(path: Path) -> dict[str, Any]:
    """Operators of all subgraphs. The file is not unpacked: that would copy its weights."""
    model = _tflite_schema().Model.GetRootAs(path.read_bytes(), 0)
    return {"nodes": sum(model.Subgraphs(index).OperatorsLength() for index in range(model.SubgraphsLength()))}


def _tflite_schema() -> Any:
    try:
        from ai_edge_litert import schema_py_generated
    except ImportError:
        from tensorflow.lite.python import schema_py_generated
    return schema_py_generated


def _openvino(folder: Path) -> dict[str, Any]:
    import xml.etree.ElementTree as ET

    # Written by our own converter, from a model that OpenVINO itself had read.
    layers = ET.parse(folder / "model.xml").iter("layer")  # noqa: S314
    return {"nodes": sum(layer.get("type") not in _NO_LAYERS for layer in layers)}


def _pte(folder: Path) -> dict[str, Any]:
    """Kernel calls, and the nodes of the graphs that delegates take; how many of the latter."""
    from workers.pte_program import LAYERS_FILE, PROGRAM_FILE, Layers, read_program

    program = read_program(folder / PROGRAM_FILE, Layers.read(folder / LAYERS_FILE))
    delegated = [len(instruction.works) for instruction in program if instruction.is_delegate]
    return {
        "nodes": sum(len(instruction.works) for instruction in program),
        "delegates": len(delegated),
        "delegated_nodes": sum(delegated),
    }


def _mlpackage(folder: Path) -> dict[str, Any]:
    """Operations of the ML program; constants, compressed ones included, are none."""
    from workers.coremltools_alone import import_coremltools

    spec = import_coremltools().utils.load_spec(str(folder))
    blocks = [
        block for function in spec.mlProgram.functions.values() for block in function.block_specializations.values()
    ]
    return {"nodes": sum(not kind.startswith("const") for kind in _mil_types(blocks))}


def _mil_types(blocks: Iterable[Any]) -> Iterable[str]:
    for block in blocks:
        for operation in block.operations:
            yield str(operation.type)
            yield from _mil_types(operation.blocks)


def _savedmodel(folder: Path) -> dict[str, Any]:
    """Operations of the served function and of those it calls; reads of weights and calls are none."""
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    model = SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    graph = model.meta_graphs[0].graph_def
    functions = {function.signature.name: function for function in graph.library.function}
    served = model.meta_graphs[0].signature_def["serving_default"]
    made_by = {output.name.partition(":")[0] for output in served.outputs.values()}
    return {"nodes": sum(_operations_below([node for node in graph.node if node.name in made_by], functions))}


def _operations_below(nodes: Iterable[Any], functions: dict[str, Any]) -> Iterable[int]:
    for node in nodes:
        yield node.op not in _NO_OPERATIONS
        if "f" in node.attr and node.attr["f"].func.name in functions:
            yield from _operations_below(functions[node.attr["f"].func.name].node_def, functions)


_COUNTERS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "pt2": _pt2,
    "onnx": _onnx,
    "tflite": _tflite,
    "openvino": _openvino,
    "pte": _pte,
    "mlpackage": _mlpackage,
    "savedmodel": _savedmodel,
}
