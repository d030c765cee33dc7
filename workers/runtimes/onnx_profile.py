"""onnxruntime's own profile: which kernels ran, for how long, and what they multiplied in.

A node is `onnx.NodeProto`; neither onnx nor onnxruntime is imported here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from workers.onnx_macs import Shape, count_macs, input_shapes, macs_by_kernel, multiplies

CPU_PROVIDER = "CPUExecutionProvider"
INTEGERS = frozenset(("uint8", "int8", "uint4", "int4"))
#: Operators that multiply and accumulate in integers, whatever their first operand is.
_MULTIPLY_INTEGERS = frozenset(
    (
        *("QLinearConv", "ConvInteger", "QGemm", "QLinearMatMul", "MatMulInteger", "DynamicQuantizeMatMul"),
        *("MatMulIntegerToFloat", "DynamicQuantizeLSTM"),
    )
)
#: MatMulNBits' level of accuracy at which it may round its input to int8: where the processor has the instructions.
_PERHAPS_INTEGERS = 4

Event = Mapping[str, Any]


@dataclass(frozen=True)
class OptimisedGraph:
    """What is known beforehand of the nodes that a profile will name; all but `weights` by a node's name."""

    nodes: dict[str, Any]
    #: Shapes of constants.
    weights: dict[str, Shape]
    layers: dict[str, tuple[str, ...]]
    #: Nodes of the graph before it was optimised that each seems to compute.
    covered: dict[str, Sequence[str]]
    #: The loop or branch that each lies in.
    owners: dict[str, str]


@dataclass(frozen=True)
class Kernel:
    """One kernel: all that one node did in a run."""

    name: str
    type: str
    provider: str
    #: Per run; without what the kernels inside it took.
    times_us: list[float]
    layers: tuple[str, ...]
    #: Type of what is multiplied, for kernels that multiply; else of the first input.
    arithmetic: str
    #: 0 where it multiplies nothing, None where they cannot be counted.
    macs: int | None
    bytes: int


@dataclass(frozen=True)
class Shares:
    """What a run's multiply-accumulates were done in."""

    #: Element type that most were done in; "unknown" where that of any is not known.
    arithmetic: str
    integers: float | None
    #: Share that a provider beside the CPU's did; None where there is none, or it cannot be told.
    delegated: float | None


def split_runs(events: Sequence[Event]) -> list[dict[str, list[Event]]]:
    """The events of each run's kernels, in the order they began, by the name of their node."""
    found = []
    kernels = sorted(
        (event for event in events if event.get("cat") == "Node" and "op_name" in event.get("args", {})),
        key=lambda event: event["ts"],
    )
    for run in sorted((event for event in events if event["name"] == "model_run"), key=lambda event: event["ts"]):
        by_name: dict[str, list[Event]] = {}
        for event in kernels:
            if run["ts"] <= event["ts"] <= run["ts"] + run["dur"]:
                by_name.setdefault(event["name"].removesuffix("_kernel_time"), []).append(event)
        found.append(by_name)
    return found


def read_macs(
    run: Mapping[str, Sequence[Event]], nodes: Mapping[str, Any], weights: Mapping[str, Shape]
) -> dict[str, int | None]:
    """MACs of each node that multiplied in a run, in all turns of the loop it lies in."""
    return {
        name: _macs(nodes[name], events, weights)
        for name, events in run.items()
        if name in nodes and multiplies(nodes[name].op_type)
    }


def read_kernels(
    runs: Sequence[Mapping[str, Sequence[Event]]], graph: OptimisedGraph, macs: Mapping[str, int | None]
) -> list[Kernel]:
    """The kernels of some runs, in the order of the first.

    Args:
        runs: as of `split_runs`.
        graph: what ran.
        macs: those of the nodes of the graph before it was optimised.
    """
    types = {name: events[0]["args"]["op_name"] for name, events in runs[0].items()}
    matched = macs_by_kernel(types, {name: graph.covered.get(name, ()) for name in types}, macs)
    times = [_own_times(run, graph.owners) for run in runs]
    kernels = []
    for name, events in runs[0].items():
        details, node = events[0]["args"], graph.nodes.get(name)
        count = matched.get(name, 0)
        if multiplies(types[name]) and name not in matched:
            count = _macs(node, events, graph.weights) if node is not None else None
        kernels.append(
            Kernel(
                name=name,
                type=types[name],
                provider=details["provider"],
                times_us=[run.get(name, 0.0) for run in times],
                layers=graph.layers.get(name, ()),
                arithmetic=_arithmetic(types[name], node, details["input_type_shape"]),
                macs=count,
                bytes=sum(
                    int(event["args"][size])
                    for event in events
                    for size in ("activation_size", "parameter_size", "output_size")
                ),
            )
        )
    return kernels


def share_out(kernels: Sequence[Kernel], total: int | None, provider: str) -> Shares:
    """What was done in integers, and what by a provider.

    Args:
        kernels: all of a run.
        total: MACs of the whole graph before it was optimised; None where they are not known.
        provider: the one that was asked for. One that compiles parts of the graph shows each as one kernel, of whose
            MACs it tells nothing: it has those that no kernel of the CPU's provider has.
    """
    counts = [kernel.macs for kernel in kernels if kernel.macs is not None]
    known = len(counts) == len(kernels) and all(kernel.arithmetic != "unknown" for kernel in kernels if kernel.macs)
    by_cpu = sum(kernel.macs or 0 for kernel in kernels if kernel.provider != provider)
    delegated, counted = None, sum(counts)
    if provider != CPU_PROVIDER:
        if all(kernel.provider != provider for kernel in kernels):
            delegated = 0.0
        elif total and len(counts) == len(kernels):
            delegated = max(0.0, 1 - by_cpu / total)
        known = known and (delegated == 0 or (total is not None and counted >= total))
    if not known or not counted:
        return Shares("unknown", None, delegated)
    macs: Counter[str] = Counter()
    for kernel in kernels:
        macs[kernel.arithmetic] += kernel.macs or 0
    integers = sum(count for kind, count in macs.items() if kind in INTEGERS)
    floats = Counter({kind: count for kind, count in macs.items() if kind not in INTEGERS})
    main = macs if integers * 2 >= counted else floats
    return Shares(main.most_common(1)[0][0], integers / counted, delegated)


def _own_times(run: Mapping[str, Sequence[Event]], owners: Mapping[str, str]) -> dict[str, float]:
    """Time of each node in a run, without that of the nodes inside it."""
    whole = {name: float(sum(event["dur"] for event in events)) for name, events in run.items()}
    inside: dict[str, float] = {}
    for name, time_us in whole.items():
        if name in owners:
            inside[owners[name]] = inside.get(owners[name], 0.0) + time_us
    return {name: max(0.0, time_us - inside.get(name, 0.0)) for name, time_us in whole.items()}


def _macs(node: Any, events: Sequence[Event], weights: Mapping[str, Shape]) -> int | None:
    total = 0
    for event in events:
        inputs, outputs = (_shapes(event["args"][key]) for key in ("input_type_shape", "output_type_shape"))
        count = count_macs(node, input_shapes(node.input, inputs, weights), outputs[0]) if outputs else None
        if count is None:
            return None
        total += count
    return total


def _shapes(tensors: Sequence[Mapping[str, Sequence[int]]]) -> list[Shape]:
    return [tuple(shape) for tensor in tensors for shape in tensor.values()]


def _arithmetic(operator: str, node: Any, inputs: Sequence[Mapping[str, Any]]) -> str:
    if operator in _MULTIPLY_INTEGERS:
        return "uint8"
    if operator == "MatMulNBits" and node is not None:
        level = next((item.i for item in node.attribute if item.name == "accuracy_level"), 0)
        if level == _PERHAPS_INTEGERS:
            return "unknown"
    return next(iter(inputs[0]), "none") if inputs else "none"
