"""What one inference of a program costs in theory: multiplications, bytes, weights. Of exported torch programs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def count_flops(run: Callable[[], object]) -> int:
    """FLOPs of one inference by torch's own counter: two per multiply-accumulate of convolutions and matrix products.

    Nothing else counts: activations, norms and sums are no FLOPs there. What a table of multiply-adds calls 0.39 G is
    0.78 G here.

    Args:
        run: computes it once, eagerly.
    """
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    # The counter has no formula for the fused attention of a CPU; its parts are matrix products.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        run()
    return int(counter.get_total_flops())


def program_facts(program: torch.export.ExportedProgram) -> dict[str, int]:
    """Named facts of a program: its weights, and the bytes that one inference moves."""
    weights = list(program.parameters())
    nodes = [node for node in program.graph.nodes if node.op == "call_function"]
    return {
        "parameters": sum(weight.numel() for weight in weights),
        "nonzero_parameters": sum(int(weight.count_nonzero()) for weight in weights),
        "bytes_moved": sum(map(_bytes_moved, nodes)),
        "bytes_minimal": _bytes_minimal(program),
    }


def _bytes_moved(node: torch.fx.Node) -> int:
    """What an operation reads and writes by itself: inputs, weights and outputs, each once.

    Summed over a program an upper bound: a runtime that fuses operations keeps in registers what lies between them.
    """
    import torch

    if getattr(node.target, "is_view", False) or _is_idle(node):
        return 0
    outputs = list(_tensors(node.meta.get("val")))
    read = list(node.all_input_nodes)
    if node.target == torch.ops.aten.embedding.default:
        # Of its table, the rows that are looked up.
        return sum(map(_size, _tensors(read[1].meta.get("val")))) + 2 * sum(map(_size, outputs))
    return sum(_size(value) for item in read for value in _tensors(item.meta.get("val"))) + sum(map(_size, outputs))


def _is_idle(node: torch.fx.Node) -> bool:
    """Whether it computes nothing in an inference."""
    import torch

    return node.target == torch.ops.aten.dropout.default or not isinstance(node.target, torch._ops.OpOverload)


def _bytes_minimal(program: torch.export.ExportedProgram) -> int:
    """Weights, inputs and outputs, each once: what even a runtime that fuses everything has to move."""
    graph = program.graph
    read = [node for node in graph.nodes if node.op == "placeholder" and node.users]
    written = [item for node in graph.nodes if node.op == "output" for item in node.all_input_nodes]
    return sum(_size(value) for node in (*read, *written) for value in _tensors(node.meta.get("val")))


def _tensors(value: Any) -> Iterable[Any]:
    """Tensors of a node's value, which may be several."""
    import torch

    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)


def _size(tensor: Any) -> int:
    return int(tensor.numel()) * int(tensor.element_size())
