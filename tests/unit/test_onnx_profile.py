"""workers.runtimes.onnx_profile: what onnxruntime's profile tells of kernels, loops, and providers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from workers.runtimes.onnx_profile import (
    CPU_PROVIDER,
    Kernel,
    OptimisedGraph,
    read_kernels,
    read_macs,
    share_out,
    split_runs,
)

COREML = "CoreMLExecutionProvider"


def node(name: str, kind: str, inputs: str) -> Any:
    """A node as ONNX describes it."""
    return SimpleNamespace(name=name, op_type=kind, domain="", input=inputs.split(), attribute=[])


def event(name: str, kind: str, at: int, took: int, inputs: list[list[int]], output: list[int]) -> dict[str, Any]:
    """An event of a kernel as the profiler writes it."""
    return {
        "cat": "Node",
        "name": f"{name}_kernel_time",
        "ts": at,
        "dur": took,
        "args": {
            "op_name": kind,
            "provider": CPU_PROVIDER,
            "input_type_shape": [{"float": shape} for shape in inputs],
            "output_type_shape": [{"float": output}],
            "activation_size": "8",
            "parameter_size": "0",
            "output_size": "4",
        },
    }


def run_of(at: int) -> list[dict[str, Any]]:
    """The events of one run of a loop that turns three times, and of what follows it."""
    body = [event("body", "MatMul", at + 10 + 20 * turn, 15, [[2, 3]], [2, 5]) for turn in range(3)]
    loop = event("loop", "Loop", at + 5, 70, [[2, 3]], [2, 5])
    after = event("after", "Relu", at + 80, 4, [[2, 5]], [2, 5])
    return [*body, loop, after, {"cat": "Session", "name": "model_run", "ts": at, "dur": 90}]


def test_the_turns_of_a_loop_are_one_kernel_and_count_once() -> None:
    graph = OptimisedGraph(
        nodes={"body": node("body", "MatMul", "x w")}, weights={"w": (3, 5)}, layers={}, covered={}, owners={}
    )
    graph.owners["body"] = "loop"
    kernels = read_kernels(split_runs([*run_of(1000), *run_of(2000)]), graph, {})
    times = {kernel.name: kernel.times_us for kernel in kernels}
    assert times == {"loop": [25.0, 25.0], "body": [45.0, 45.0], "after": [4.0, 4.0]}
    macs = {kernel.name: kernel.macs for kernel in kernels}
    assert macs == {"loop": 0, "body": 3 * 2 * 5 * 3, "after": 0}
    assert next(kernel.bytes for kernel in kernels if kernel.name == "body") == 3 * 12


def test_the_macs_of_a_graph_are_those_of_the_nodes_that_ran() -> None:
    run = split_runs(run_of(0))[0]
    nodes = {"body": node("body", "MatMul", "x w"), "other": node("other", "MatMul", "x w")}
    assert read_macs(run, nodes, {"w": (3, 5)}) == {"body": 90}


def kernel(kind: str, macs: int | None, arithmetic: str = "float", provider: str = CPU_PROVIDER) -> Kernel:
    """A kernel of a run."""
    return Kernel(kind, kind, provider, [1.0], (), arithmetic, macs, 0)


def test_integers_are_a_share_of_all_that_was_multiplied() -> None:
    shares = share_out([kernel("QLinearConv", 30, "uint8"), kernel("Conv", 70)], 100, CPU_PROVIDER)
    assert (shares.arithmetic, shares.integers, shares.delegated) == ("float", 0.3, None)


@pytest.mark.parametrize("other", [kernel("GroupQueryAttention", None), kernel("MatMulNBits", 70, "unknown")])
def test_a_kernel_that_cannot_be_counted_makes_the_share_unknown(other: Kernel) -> None:
    shares = share_out([kernel("QLinearConv", 30, "uint8"), other], None, CPU_PROVIDER)
    assert (shares.arithmetic, shares.integers) == ("unknown", None)


def test_parts_that_a_provider_compiled_have_what_no_kernel_of_the_cpu_has() -> None:
    ran = [kernel("CoreML_1", 0, "float", COREML), kernel("MatMul", 20)]
    shares = share_out(ran, 100, COREML)
    assert (shares.arithmetic, shares.integers, shares.delegated) == ("unknown", None, 0.8)
    assert share_out(ran, None, COREML).delegated is None, "not known how much there is to delegate"
    assert share_out([*ran, kernel("GRU", None)], 100, COREML).delegated is None


def test_a_provider_that_took_nothing_is_told_from_one_that_does_not_tell() -> None:
    assert share_out([kernel("Conv", 100)], 100, COREML).delegated == 0
    own = share_out([kernel("Conv", 100, "float", "XnnpackExecutionProvider")], 100, "XnnpackExecutionProvider")
    assert (own.arithmetic, own.integers, own.delegated) == ("float", 0.0, 1.0)
