"""The operations of a tflite file: what each multiplies, moves and computes of the model."""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

_PRECISIONS = {"FLOAT32": "fp32", "FLOAT16": "fp16", "BFLOAT16": "bf16", "INT8": "int8", "UINT8": "int8"}
_INTEGERS = frozenset({"INT8", "UINT8", "INT4", "INT16"})
_BITS = {"INT4": 4, "UINT4": 4, "BOOL": 8, "BFLOAT16": 16, "COMPLEX64": 64, "COMPLEX128": 128}
#: What a quantiser puts between layers.
_CONVERSIONS = frozenset({"QUANTIZE", "DEQUANTIZE"})
#: What multiplies, or may for all that a file tells; `_macs` counts some of it, what an operation calls is looked into.
_MULTIPLYING = frozenset(
    (
        *("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "CONV_3D", "CONV_3D_TRANSPOSE"),
        *("FULLY_CONNECTED", "BATCH_MATMUL", "STABLEHLO_CONVOLUTION", "STABLEHLO_DOT_GENERAL"),
        *("LSTM", "UNIDIRECTIONAL_SEQUENCE_LSTM", "BIDIRECTIONAL_SEQUENCE_LSTM"),
        *("RNN", "UNIDIRECTIONAL_SEQUENCE_RNN", "BIDIRECTIONAL_SEQUENCE_RNN", "SVDF"),
        *("CUSTOM", "STABLEHLO_CUSTOM_CALL", "DELEGATE"),
    )
)
#: A module in a name of litert-torch: its class, then what its parent calls it; a second call of it ends in @1.
_MODULE = re.compile(r"_*[^_]+_(?P<called>.+?)(@\d+)?")


@dataclass(frozen=True)
class Operation:
    """One operation of the first subgraph."""

    #: CONV_2D, ...
    type: str
    #: Numbers of the tensors it reads and writes.
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    #: Layers of the model that it computes.
    layers: tuple[str, ...]
    #: Of convolutions and matrix products; None for every other type.
    macs: int | None
    #: It multiplies, or may, and nothing tells how often.
    uncounted: bool
    #: Its weights are integers.
    integer_weights: bool
    #: Of its arithmetic, by the types of its tensors; None for indices, truth values and what is not counted.
    precision: str | None
    #: Inputs, weights and outputs, each once; and how much of it is fp32.
    bytes: int
    fp32_bytes: int
    #: An activation is fused into it.
    activated: bool
    #: It works on constants alone: it runs at load, in no inference.
    at_load: bool


def operations(flatbuffer: bytes) -> list[Operation]:
    """Operations of the first subgraph, in the order of the file."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(flatbuffer, 0)
    graph = model.subgraphs[0]
    types = {number: name for name, number in vars(schema.TensorType).items() if isinstance(number, int)}
    kinds = {number: name for name, number in vars(schema.BuiltinOperator).items() if isinstance(number, int)}
    tensors = [_Tensor(tensor, types[tensor.type]) for tensor in graph.tensors]
    codes = [kinds[max(code.builtinCode, code.deprecatedBuiltinCode)] for code in model.operatorCodes]
    makers = {number: codes[operation.opcodeIndex] for operation in graph.operators for number in operation.outputs}
    owners = [_own_layer(codes[operation.opcodeIndex], operation, tensors, makers) for operation in graph.operators]
    owned = Counter(owner for owner in owners if owner)
    multiplying = _multiplying_graphs(model.subgraphs, codes)
    changing = {int(number) for number in graph.inputs}
    found = []
    for operation, own in zip(graph.operators, owners, strict=True):
        kind = codes[operation.opcodeIndex]
        inputs = tuple(int(number) for number in operation.inputs if number >= 0)
        outputs = tuple(int(number) for number in operation.outputs)
        at_load = bool(inputs) and changing.isdisjoint(inputs)
        if not at_load:
            changing.update(outputs)
        macs = _macs(kind, operation, tensors)
        uncounted = macs is None and (kind in _MULTIPLYING or not multiplying.isdisjoint(_called_graphs(operation)))
        moved = [tensors[number] for number in dict.fromkeys((*inputs, *outputs))]
        integer = macs is not None and tensors[inputs[1]].type in _INTEGERS
        result, first = tensors[outputs[0]].type if outputs else "", tensors[inputs[0]].type if inputs else ""
        named = layers_in(tensors[outputs[0]].name) if outputs and kind not in _CONVERSIONS else ()
        folded = layers_in(tensors[inputs[1]].name) if own else ()
        found.append(
            Operation(
                type=kind,
                inputs=inputs,
                outputs=outputs,
                layers=_computed(own, (*folded[::-1], *named[::-1]), owned) if own else named[:1],
                macs=macs,
                uncounted=uncounted,
                integer_weights=integer,
                precision="int8" if integer else _float_precision(result, first, uncounted=uncounted),
                bytes=sum(tensor.bytes for tensor in moved),
                fp32_bytes=sum(tensor.bytes for tensor in moved if tensor.type == "FLOAT32"),
                activated=bool(getattr(operation.builtinOptions, "fusedActivationFunction", 0)),
                at_load=at_load,
            )
        )
    return found


class _Tensor:
    def __init__(self, tensor: Any, kind: str) -> None:
        self.name = tensor.name.decode() if tensor.name else ""
        self.type = kind
        self.shape: list[int] = [] if tensor.shape is None else [int(size) for size in tensor.shape]
        digits = re.search(r"\d+$", kind)
        bits = _BITS.get(kind) or (int(digits.group()) if digits else 0)
        self.bytes = (math.prod(self.shape) * bits + 7) // 8


def _float_precision(result: str, first: str, *, uncounted: bool) -> str | None:
    """By the types of the result and the first operand, which say nothing of products that nobody sees."""
    return None if uncounted else _PRECISIONS.get(result) or _PRECISIONS.get(first)


def _called_graphs(operation: Any) -> set[int]:
    """Numbers of the subgraphs that an operation runs: a loop's condition and body, the branches of a choice."""
    options = [getattr(operation, name, None) for name in ("builtinOptions", "builtinOptions2")]
    fields = [field for option in options if option is not None for field in vars(option).items()]
    # What only initialises (initSubgraphIndex) runs at load.
    numbers = [value for name, value in fields if "subgraph" in name.casefold() and not name.startswith("init")]
    return {int(number) for value in numbers if value is not None for number in np.ravel(value)}


def _multiplying_graphs(graphs: list[Any], codes: list[str]) -> set[int]:
    """Numbers of the subgraphs in which something multiplies, or in one that they call."""
    calls = [{number for operation in graph.operators for number in _called_graphs(operation)} for graph in graphs]
    found = {
        number
        for number, graph in enumerate(graphs)
        if any(codes[operation.opcodeIndex] in _MULTIPLYING for operation in graph.operators)
    }
    while grown := {number for number, called in enumerate(calls) if called & found} - found:
        found |= grown
    return found


def _macs(kind: str, operation: Any, tensors: list[_Tensor]) -> int | None:
    """Multiply-accumulates: those of one output, times the outputs; None for what is not counted here."""
    if len(operation.inputs) < 2 or operation.inputs[1] < 0:
        return None
    first, second = tensors[operation.inputs[0]].shape, tensors[operation.inputs[1]].shape
    made = tensors[operation.outputs[0]].shape
    factors = {
        "CONV_2D": [*made, *second[1:]],
        "DEPTHWISE_CONV_2D": [*made, *second[1:3]],
        "CONV_3D": [*made, *second[:4]],
        "FULLY_CONNECTED": [*made, *second[-1:]],
    }
    if kind == "TRANSPOSE_CONV":
        factors[kind] = [*tensors[operation.inputs[2]].shape, *second[:3]]
    if kind == "CONV_3D_TRANSPOSE":
        factors[kind] = [*tensors[operation.inputs[2]].shape, *second[:4]]
    if kind == "BATCH_MATMUL":
        factors[kind] = [*made, first[-2 if operation.builtinOptions.adjX else -1]]
    return int(math.prod(factors[kind])) if kind in factors else None


def _own_layer(kind: str, operation: Any, tensors: list[_Tensor], makers: dict[int, str]) -> str | None:
    """The layer that a multiplying operation holds the weights of: the innermost in their name."""
    if _macs(kind, operation, tensors) is None:
        return None
    weights = operation.inputs[1]
    named = layers_in(tensors[weights].name) if makers.get(weights, "DEQUANTIZE") == "DEQUANTIZE" else ()
    if not named:
        return None
    # Weights that the program scales before use are named by the module that scales them; the output knows better.
    within = [layer for layer in layers_in(tensors[operation.outputs[0]].name) if layer.startswith(f"{named[-1]}.")]
    return within[-1] if within else named[-1]


def _computed(own: str, named: tuple[str, ...], owned: Counter[str]) -> tuple[str, ...]:
    """Layers of a multiplying operation: its own and its neighbours that were fused into it.

    The exporter merges what is equal in two layers (zeros, shapes) and then names both: of those named, only the own
    layer's siblings count that no operation multiplies for.
    """
    parent = own.rpartition(".")[0]
    fused = [layer for layer in named if layer.rpartition(".")[0] == parent and not owned[layer]]
    return tuple(dict.fromkeys((own, *fused)))


def layers_in(name: str) -> tuple[str, ...]:
    """Layers in a tensor's name: the last one's output first, the innermost last; none where it tells nothing.

    litert-torch names a tensor by the modules around what made it (`pkg.Net/torch.nn.Sequential_features/
    torch.nn.Conv2d_0;`), TensorFlow by the scopes (`net/features/conv/Conv2D;...`). What the parent calls a module
    begins after the first underscore, so a class with an underscore in its name shifts it.
    """
    parts = [part.split("/") for part in name.split(";") if "/" in part]
    if any("." in part[0] for part in parts):
        paths = [[_called(module) for module in part[1:]] for part in parts if "." in part[0]]
    else:
        paths = [_without_retrace(part[:-1])[1:] for part in parts]
    return tuple(dict.fromkeys(".".join(filter(None, path)) for path in paths if any(path)))


def _called(module: str) -> str:
    found = _MODULE.fullmatch(module.rpartition(".")[2])
    return found["called"].replace(":", ".") if found else ""


def _without_retrace(scopes: list[str]) -> list[str]:
    """Keras traces a model again for the export: each scope then ends in the same number."""
    suffix = re.search(r"_\d+$", scopes[0])
    if suffix and all(scope.endswith(suffix.group()) for scope in scopes):
        return [scope.removesuffix(suffix.group()) for scope in scopes]
    return scopes
