"""What a `.pte` holds: the instructions of its program, the graphs that XNNPACK takes, and what each of them costs.

ExecuTorch's own Python readers import its whole exporter (seconds, and hundreds of megabytes). Its wheel carries the
schemas of its files and `flatc`, which needs neither.
"""

from __future__ import annotations

import importlib.util
import json
import math
import re
import struct
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

#: A folder artifact: the program, and which layers of the model it computes.
PROGRAM_FILE = "model.pte"
LAYERS_FILE = "layers.json"

_PROGRAM_SCHEMA = "exir/_serialize/program.fbs"
_XNNPACK_SCHEMA = "backends/xnnpack/serialization/schema.fbs"
_TRACE_SCHEMA = "devtools/etdump/etdump_schema_flatcc.fbs"
#: flatc writes these two as no JSON reader takes them.
_NOT_FINITE = re.compile(r"(?<=[ \[])[-+]?(inf|nan)\b")
#: XNNPACK's id for "no such value".
_ABSENT = 2**32 - 1
#: Handle of a node that the exporter inserted into a graph of XNNPACK.
_NO_HANDLE = 2**16 - 1

_SCALAR_BYTES = {"DOUBLE": 8, "LONG": 8, "FLOAT": 4, "INT": 4, "HALF": 2, "BFLOAT16": 2, "SHORT": 2}
_SCALAR_PRECISIONS = {"DOUBLE": "fp64", "FLOAT": "fp32", "HALF": "fp16", "BFLOAT16": "bf16"}
#: Kernels that multiply matrices: which of their operands has the summed axis last.
_MATRIX_PRODUCTS = {"aten::mm": 0, "aten::bmm": 0, "aten::linear": 0, "aten::addmm": 1, "aten::baddbmm": 1}


@dataclass(frozen=True)
class Work:
    """One kernel call, or one node of a graph that XNNPACK takes."""

    #: aten::mm.out, XNNConv2d
    type: str
    #: What its layers are found by (`Layers`); None for what the exporter inserted.
    handle: int | None
    #: Multiply-accumulates; None for what is neither convolution nor matrix product.
    macs: int | None
    #: Inputs, weights and outputs, each once.
    bytes: int
    #: Type of its first operand, where that is a type one computes in.
    precision: str | None


@dataclass(frozen=True)
class Instruction:
    """One instruction of a program: a kernel call with its work, or a delegate's call with all it was given."""

    #: The operator or the delegate.
    name: str
    works: tuple[Work, ...]
    is_delegate: bool = False


@dataclass(frozen=True)
class Layers:
    """Which layers of the model a program computes. ExecuTorch knows each node of the exported program by a handle."""

    #: Handle to layers.
    layers: dict[int, tuple[str, ...]]
    #: Handle to that of the node that makes its first input.
    producers: dict[int, int]
    #: Handle of each instruction that is a kernel call.
    instructions: dict[int, int]

    def of(self, ran: Iterable[int]) -> dict[int, tuple[str, ...]]:
        """Layers that each handle computed that ran: a node that did not is part of the one that makes its input."""
        alive = set(ran)
        found = {handle: list(self.layers.get(handle, ())) for handle in alive}
        for handle, layers in self.layers.items():
            into = handle
            seen = set()
            while into not in alive and into in self.producers and into not in seen:
                seen.add(into)
                into = self.producers[into]
            if into in alive:
                found[into] += layers
        return {handle: tuple(dict.fromkeys(layers)) for handle, layers in found.items()}

    def write(self, path: Path) -> None:
        """Write as JSON."""
        path.write_text(
            json.dumps({"layers": self.layers, "producers": self.producers, "instructions": self.instructions}),
            encoding="utf-8",
        )

    @classmethod
    def read(cls, path: Path) -> Layers:
        """Read what `write` wrote."""
        found = json.loads(path.read_bytes())
        return cls(
            layers={int(handle): tuple(layers) for handle, layers in found["layers"].items()},
            producers={int(handle): producer for handle, producer in found["producers"].items()},
            instructions={int(index): handle for index, handle in found["instructions"].items()},
        )


def read_program(path: Path, layers: Layers) -> tuple[Instruction, ...]:
    """The instructions of a program's first method, in order."""
    data = path.read_bytes()
    # Behind the flatbuffer's own first 8 bytes: magic, length, size of the program, where its segments begin.
    program_size, segments_at = struct.unpack_from("<QQ", data, 16)
    program = _decoded(_PROGRAM_SCHEMA, data[:program_size])
    plan = program["execution_plan"][0]

    def delegate(index: int) -> Instruction:
        chosen = plan["delegates"][index]
        segment = program["segments"][chosen["processed"]["index"]]
        begin = segments_at + segment["offset"]
        works = _xnnpack_works(data[begin : begin + segment["size"]]) if chosen["id"] == "XnnpackBackend" else ()
        return Instruction(name=chosen["id"], works=works, is_delegate=True)

    instructions = []
    for index, instruction in enumerate(plan["chains"][0]["instructions"]):
        kind, arguments = instruction["instr_args_type"], instruction["instr_args"]
        if kind == "DelegateCall":
            instructions.append(delegate(arguments["delegate_index"]))
        elif kind == "KernelCall":
            operator = plan["operators"][arguments["op_index"]]
            name = f"{operator['name']}.{operator['overload']}"
            work = kernel_work(
                name, [plan["values"][item] for item in arguments["args"]], layers.instructions.get(index)
            )
            instructions.append(Instruction(name=name, works=(work,)))
        else:
            instructions.append(Instruction(name=kind, works=()))
    return tuple(instructions)


def read_trace(path: Path) -> list[list[dict[str, Any]]]:
    """Profile events of each run that an ETDump holds, in order; the first block, of the load, is left out."""
    dump = _decoded(_TRACE_SCHEMA, path.read_bytes(), size_prefixed=True)
    return [
        [event["profile_event"] for event in run["events"] if "profile_event" in event]
        for run in dump["run_data"]
        if run["name"] == "Execute"
    ]


def kernel_work(name: str, arguments: list[dict[str, Any]], handle: int | None) -> Work:
    """The work of a kernel call.

    Args:
        name: operator and overload.
        arguments: values as the program describes them, the output last.
        handle: what it is known by.
    """
    tensors = [item["val"] for item in arguments if item["val_type"] == "Tensor"]
    operator = name.partition(".")[0]
    macs = None
    if tensors and operator in _MATRIX_PRODUCTS:
        macs = math.prod(tensors[-1]["sizes"]) * tensors[_MATRIX_PRODUCTS[operator]]["sizes"][-1]
    elif operator == "aten::convolution":
        transposed = arguments[6]["val"]["bool_val"]
        macs = math.prod(tensors[0 if transposed else -1]["sizes"]) * math.prod(tensors[1]["sizes"][1:])
    # The output is listed twice: as an argument, and as what the call returns.
    each_once = {id(tensor): tensor for tensor in tensors}.values()
    return Work(
        type=name,
        handle=handle,
        macs=macs,
        bytes=sum(math.prod(tensor["sizes"]) * _SCALAR_BYTES.get(tensor["scalar_type"], 1) for tensor in each_once),
        precision=_SCALAR_PRECISIONS.get(tensors[0]["scalar_type"]) if tensors else None,
    )


def xnnpack_work(node: dict[str, Any], values: dict[int, dict[str, Any]]) -> Work:
    """The work of one node of an XNNPACK graph.

    Args:
        node: the node as the graph describes it.
        values: type and dimensions of each value by its id.
    """
    kind, details = node["xnode_union_type"], node["xnode_union"]
    operands = {role: values[details[role]] for role in details if role.endswith("_id") and details[role] != _ABSENT}
    first = next((operands[role] for role in ("input_id", "input1_id") if role in operands), None)
    out = math.prod(operands["output_id"]["dims"]) if "output_id" in operands else 0
    macs = None
    if kind == "XNNConvTranspose2d" and first is not None:
        kernel = operands["filter_id"]["dims"]
        macs = math.prod(first["dims"]) * math.prod(kernel[:-1]) // details["groups"]
    elif kind == "XNNConv2d":
        macs = out * math.prod(operands["filter_id"]["dims"][1:])
    elif kind == "XNNDepthwiseConv2d":
        macs = out * math.prod(operands["filter_id"]["dims"][1:3])
    elif kind in ("XNNFullyConnected", "XNNBatchMatrixMultiply") and first is not None:
        macs = out * first["dims"][-1]
    each_once = {details[role]: operands[role] for role in operands}.values()
    return Work(
        type=kind,
        handle=node["debug_handle"] if node["debug_handle"] != _NO_HANDLE else None,
        macs=macs,
        bytes=sum(_bytes_of(value) for value in each_once),
        precision=_datatype_precision(first["datatype"]) if first is not None else None,
    )


def _xnnpack_works(payload: bytes) -> tuple[Work, ...]:
    # Four zeros, magic, length of the header, then where the graph begins and its size.
    begin, size = struct.unpack_from("<II", payload, 10)
    graph = _decoded(_XNNPACK_SCHEMA, payload[begin : begin + size])
    values = {}
    for value in graph["xvalues"]:
        plain = value["xvalue_union"].get("tensor_value", value["xvalue_union"])
        values[plain["id_out"]] = {
            "datatype": plain["datatype"].removeprefix("xnn_datatype_"),
            "dims": plain.get("dims", []),  # a scalar has none
        }
    works = []
    for node in graph["xnodes"]:
        work = xnnpack_work(node, values)
        works.append(work)
        # Convolutions and matrix products bound their outputs themselves; behind others XNNPACK does it apart.
        if work.macs is None and "output_min_max" in node and work.type != "XNNClamp":
            works.append(replace(work, type="XNNClamp", bytes=2 * _bytes_of(values[node["xnode_union"]["output_id"]])))
    return tuple(works)


def _bytes_of(value: dict[str, Any]) -> int:
    bits = int(value["datatype"][-2:].lstrip("abcdefghijklmnopqrstuvwxyz"))  # fp32, qcint8, bf16, qbint4
    elements = math.prod(int(size) for size in value["dims"])
    return -(-elements * bits // 8)


def _datatype_precision(datatype: str) -> str | None:
    """Arithmetic of an XNNPACK type: fp32, pfp32, qcint8, ..."""
    if datatype.startswith("q"):
        return "int8" if datatype.endswith("8") else None
    return {"fp32": "fp32", "pfp32": "fp32", "fp16": "fp16", "bf16": "bf16"}.get(datatype)


def _decoded(schema: str, data: bytes, *, size_prefixed: bool = False) -> Any:
    """A flatbuffer by one of ExecuTorch's schemas."""
    spec = importlib.util.find_spec("executorch")
    assert spec is not None
    assert spec.submodule_search_locations
    package = Path(next(iter(spec.submodule_search_locations)))
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "read.bin").write_bytes(data)
        options = ["--size-prefixed"] if size_prefixed else []
        subprocess.run(
            [
                str(package / "data" / "bin" / "flatc"),
                *("--json", "--strict-json", "--defaults-json", "-o", folder),
                *(*options, str(package / schema), "--", str(Path(folder, "read.bin"))),
            ],
            check=True,
        )
        text = Path(folder, "read.json").read_text(encoding="utf-8")
    return json.loads(_NOT_FINITE.sub("null", text))
