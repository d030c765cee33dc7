"""Which layers of the model each kernel of inductor computes: for profiles, by a compilation that keeps account."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

from workers.runtimes.torch_eager import multiplied
from workers.runtimes.torch_events import Event


class InductorTrace:
    """The program compiled for the profiler, with the program's nodes noted at those of inductor's graph."""

    def __init__(self, module: Any) -> None:
        import torch

        self._module = module
        self._kernels: dict[str, list[str]] = {}
        self._origins: dict[str, list[str]] = {}
        self.callable = torch.compile(module, dynamic=False, fullgraph=True, backend=self._compile)

    def settings(self) -> AbstractContextManager[None]:
        """Settings of inductor that hold while it compiles."""
        from torch._inductor import config

        settings: AbstractContextManager[None] = config.patch(
            {
                "cpp.enable_kernel_profile": True,
                "trace.provenance_tracking_level": 1,
                "fx_graph_cache": False,  # an entry of it names no nodes
            }
        )
        return settings

    def _compile(self, graph_module: Any, inputs: list[Any]) -> Any:
        """Dynamo's graph has the program's nodes in their order, under names of its own: note ours, then compile."""
        from torch._inductor.compile_fx import compile_fx, compile_fx_inner

        mine, theirs = (
            [node for node in module.graph.nodes if node.op == "call_function"]
            for module in (graph_module, self._module)
        )
        if [node.target for node in mine] == [node.target for node in theirs]:
            for node, original in zip(mine, theirs, strict=True):
                # A kernel that ends by quantising its result bears what is noted at that node.
                of = original.args[0] if _is_inserted(original) else original
                # The one note that every pass of torch hands on.
                node.meta["nn_module_stack"] = {"program": (of.name, "")}

        def compile_inner(graph: Any, example: Any, **options: Any) -> Any:
            compiled = compile_fx_inner(graph, example, **options)
            told = json.loads(compiled.inductor_provenance_mapping_str or "{}")
            self._kernels = told.get("cppCodeToPost", {})
            self._origins = {node.name: _origins_of(node) for node in graph.graph.nodes}
            return compiled

        return compile_fx(graph_module, inputs, inner_compile=compile_inner)

    def layers(self, events: list[Event]) -> list[tuple[str, ...]]:
        """The layers that each event computes; none for all where inductor's account does not match the events."""
        from workers.models.torch_export import layer_of

        places = places_of(list(self._kernels), [event.name for event in events])
        found: list[list[str]] = [[] for _ in events]
        for place, names in zip(places, nodes_of(self._kernels, list(self._origins)), strict=False):
            found[place] = [origin for name in names for origin in self._origins[name]]
        if places:
            found = with_fused(found, [multiplied(event)[0] is not None for event in events], *_fusible(self._module))
        layers = {node.name: layer_of(node) for node in self._module.graph.nodes}
        return [tuple(dict.fromkeys(layer for name in item if (layer := layers.get(name)))) for item in found]


def places_of(kernels: list[str], events: list[str]) -> list[int]:
    """Where the kernels of a generated program stand among the events of a run; empty unless each is found, in order.

    Args:
        kernels: inductor's names: `cpp_fused_mul_2:7`, `torch.ops.mkldnn._linear.default:8`, `extern_kernels.mm:9`.
        events: the profiler's: `graph_0_cpp_fused_mul_2`, `mkldnn::_linear`, `aten::mm`.
    """
    places = []
    place = 0
    for kernel in kernels:
        name = kernel.rpartition(":")[0]
        while place < len(events) and not _is_event_of(name, events[place]):
            place += 1
        if place == len(events):
            return []
        places.append(place)
        place += 1
    return places


def _is_event_of(kernel: str, event: str) -> bool:
    if _is_generated(kernel):
        return event.endswith(kernel)
    parts = kernel.split(".")
    if kernel.startswith("torch.ops."):
        return event == f"{parts[2]}::{parts[3]}"
    return event == f"aten::{parts[1]}"  # extern_kernels.addmm, aten.convolution


def nodes_of(kernels: Mapping[str, list[str]], graph: list[str]) -> list[list[str]]:
    """The nodes of inductor's graph that each kernel computes.

    Args:
        kernels: what inductor says of each, in the order they are called.
        graph: names of all nodes, in the graph's order.
    """
    place = {name: index for index, name in enumerate(graph)}
    nodes = [sorted((name for name in names if name in place), key=place.__getitem__) for names in kernels.values()]
    calls = [index for index, kernel in enumerate(kernels) if not _is_generated(kernel)]
    # At a call of a library it says what its inputs were viewed from, too; the call itself is the last.
    for index in calls:
        nodes[index] = nodes[index][-1:]
    # Of a buffer that is added to in place, it says for every writer who wrote last.
    last = {tuple(nodes[index]): index for index in calls}
    return [names if index not in calls or last[tuple(names)] == index else [] for index, names in enumerate(nodes)]


def with_fused(
    nodes: list[list[str]],
    multiplies: list[bool],
    products: list[tuple[str, list[str]]],
    norms: list[tuple[str, str]],
) -> list[list[str]]:
    """Nodes of the program that each operation computes, with those that were fused into one and no longer named.

    Args:
        nodes: that inductor names, of each operation.
        multiplies: whether it is a convolution or matrix product.
        products: such nodes of the program in order, each with the nodes after it that it may be fused with.
        norms: batch norms of the program, each with the node before it, into whose weights it is folded.
    """
    out = [list(item) for item in nodes]
    named = {name for item in nodes for name in item}
    own = {name for name, _ in products}
    unnamed = []
    for name, following in products:
        if name in named:
            continue
        free = (i for i, item in enumerate(out) if multiplies[i] and not own & set(item) and set(following) & set(item))
        if (home := next(free, None)) is None:
            unnamed.append(name)
        else:
            out[home].insert(0, name)
    bare = [i for i, item in enumerate(out) if multiplies[i] and not own & set(item)]
    if len(bare) == len(unnamed):  # else nobody can tell which is which
        for home, name in zip(bare, unnamed, strict=True):
            out[home].insert(0, name)
    for name, before in norms:
        for item in out:
            if name not in named and before in item:
                item.insert(item.index(before) + 1, name)
    return out


def _fusible(module: Any) -> tuple[list[tuple[str, list[str]]], list[tuple[str, str]]]:
    """Products and batch norms of a program, as `with_fused` takes them."""
    products = []
    norms = []
    for node in module.graph.nodes:
        if _is_product(node):
            following = []
            after = next(iter(node.users), None)
            # What is quantised ends a kernel.
            while after is not None and not _is_product(after) and not _is_inserted(after):
                following.append(after.name)
                after = next(iter(after.users), None)
            products.append((node.name, following))
        elif "batch_norm" in str(node.target):
            norms.append((node.name, node.args[0].name))
    return products, norms


def _is_product(node: Any) -> bool:
    words = ("conv", "linear", "mm", "matmul", "scaled_dot_product")
    return node.op == "call_function" and any(word in str(node.target) for word in words)


def _is_inserted(node: Any) -> bool:
    """Whether a quantiser inserted the node."""
    return str(node.target).startswith("quantized_decomposed.")


def _is_generated(kernel: str) -> bool:
    """Whether inductor generated the kernel, rather than call one of a library."""
    return "." not in kernel


def _origins_of(node: Any) -> list[str]:
    """Nodes of the program behind a node of inductor's last graph: all that a fusion put into one."""
    from workers.models.torch_export import layer_of

    if _is_inserted(node) or not node.all_input_nodes:  # equal constants of all layers are one
        return []
    # Inductor's fusions are functions with the match they replace as their first argument.
    match = getattr(node.target, "args", None)
    nodes = [*getattr(match[0], "nodes", ()), node] if match else [node]
    return list(dict.fromkeys(name for item in nodes if (name := layer_of(item))))
