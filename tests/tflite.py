"""A TFLite program made by hand: small, and without any converter."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def write_tflite(path: Path, *, layers: int = 4, width: int = 64) -> Path:
    """Fully connected layers, one after the other.

    Args:
        path: where to.
        layers: how many.
        width: floats between two of them; each layer has the square of it as weights.
    """
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    graph, model = schema.SubGraphT(), schema.ModelT()
    graph.tensors, graph.operators = [], []
    model.buffers = [schema.BufferT()]  # the first is the empty one, of tensors without content

    def tensor(name: str, shape: list[int], content: bytes | None = None) -> int:
        made = schema.TensorT()
        made.name, made.shape, made.type, made.buffer = name, shape, schema.TensorType.FLOAT32, 0
        if content is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(content, dtype=np.uint8)
            made.buffer = len(model.buffers)
            model.buffers.append(buffer)
        graph.tensors.append(made)
        return len(graph.tensors) - 1

    random = np.random.default_rng(0)
    last = tensor("x", [1, width])
    graph.inputs = [last]
    for number in range(layers):
        weights = (random.normal(size=(width, width)) / width).astype(np.float32)
        layer = schema.OperatorT()
        layer.opcodeIndex = 0
        layer.inputs = [last, tensor(f"weights{number}", [width, width], weights.tobytes()), -1]
        last = tensor(f"y{number}", [1, width])
        layer.outputs = [last]
        layer.builtinOptionsType = schema.BuiltinOptions.FullyConnectedOptions
        layer.builtinOptions = schema.FullyConnectedOptionsT()
        graph.operators.append(layer)
    graph.outputs = [last]
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.FULLY_CONNECTED
    code.version = 1
    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = "serving_default", 0
    signature.inputs, signature.outputs = [_named("x", graph.inputs[0])], [_named("y", last)]
    model.version, model.operatorCodes, model.subgraphs, model.signatureDefs = 3, [code], [graph], [signature]
    builder = flatbuffers.Builder(1 << 16)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(builder.Output())
    return path


def _named(name: str, index: int) -> object:
    from ai_edge_litert import schema_py_generated as schema

    mapped = schema.TensorMapT()
    mapped.name, mapped.tensorIndex = name, index
    return mapped
