"""pt2 fp32 -> pte fp32, int8 with static (calibrated) or dynamic activations, by ExecuTorch with XNNPACK."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from workers.converters.converter import ConversionInput, Converter, Route
from workers.errors import AttemptError, Cause, first_line
from workers.examples import Array, load_examples
from workers.models.source import Made
from workers.pte_program import LAYERS_FILE, PROGRAM_FILE, Layers

if TYPE_CHECKING:
    import torch


class ExecuTorchExport(Converter):
    """Weights are quantised symmetrically per channel, activations asymmetrically: what XNNPACK has kernels for.

    The artifact is a folder: the program, and which layers of the model its parts compute, which it does not hold.
    """

    packages: ClassVar[tuple[str, ...]] = ("torch", "executorch", "torchao")
    extra: ClassVar[str] = "executorch"
    routes: ClassVar[tuple[Route, ...]] = (
        Route("pt2", "fp32", "pte", "fp32"),
        Route("pt2", "fp32", "pte", "int8-static"),
        Route("pt2", "fp32", "pte", "int8-dynamic"),
    )
    calibrated: ClassVar[frozenset[str]] = frozenset({"int8-static"})

    def convert(self, source: ConversionInput) -> Made:
        """See `Converter.convert`."""
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower

        from workers.models.torch_export import load_program

        program = load_program(source.artifact)
        norms = _folded_norms(program)
        try:
            if source.recipe != "fp32":
                program = _quantised(program, source)
            edge = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
            # Read before the program is emitted: emitting numbers the nodes anew.
            layers, producers = _layers_of_handles(edge.exported_program(), norms)
            made = edge.to_executorch()
        except Exception as error:
            raise AttemptError(
                Cause.MODEL, "does_not_convert", f"ExecuTorch cannot make {source.recipe} of it: {first_line(error)}"
            ) from error
        artifact = source.folder / "model"
        artifact.mkdir()
        with Path(artifact, PROGRAM_FILE).open("wb") as file:
            made.write_to_file(file)
        # A delegate's call has a list: its graph names the handle of each node itself.
        handles = made.debug_handle_map["forward"]
        instructions = {index: handle for index, handle in handles.items() if isinstance(handle, int)}
        Layers(layers, producers, instructions).write(artifact / LAYERS_FILE)
        return Made(artifact)


def _quantised(program: torch.export.ExportedProgram, source: ConversionInput) -> torch.export.ExportedProgram:
    """The program with quantised operations, by PT2E."""
    import torch
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
        XNNPACKQuantizer,
        get_symmetric_quantization_config,
    )
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    dynamic = source.recipe == "int8-dynamic"
    quantizer = XNNPACKQuantizer().set_global(
        get_symmetric_quantization_config(is_per_channel=True, is_dynamic=dynamic)
    )
    module = program.module()
    _keep_integers(module)
    prepared = prepare_pt2e(module, quantizer)
    example = _tensors(load_examples(source.examples).input_at(0))
    # Dynamic activations find their ranges at each run: one pass shows the observers the weights.
    seen = [example] if dynamic else map(_tensors, load_examples(source.calibration).each())
    with torch.no_grad():
        for inputs in seen:
            prepared(*inputs)
        return torch.export.export(convert_pt2e(prepared), example)


def _keep_integers(module: torch.fx.GraphModule) -> None:
    """The quantizer makes a float tensor of every number that is added to a tensor; a sum of integers would be float.

    Positions are such sums, and index. The overloads for numbers it leaves alone.
    """
    import torch

    by_number = {
        torch.ops.aten.add.Tensor: torch.ops.aten.add.Scalar,
        torch.ops.aten.mul.Tensor: torch.ops.aten.mul.Scalar,
    }
    for node in module.graph.nodes:
        is_sum = node.target in by_number and not isinstance(node.args[1], torch.fx.Node)
        if is_sum and not node.meta["val"].is_floating_point():
            node.target = by_number[node.target]
    module.recompile()


def _folded_norms(program: torch.export.ExportedProgram) -> dict[str, str]:
    """Layer of each convolution to the batch norm behind it, which every recipe folds into its weights."""
    import torch

    from workers.models.torch_export import layer_of

    found = {}
    for node in program.graph.nodes:
        if node.target == torch.ops.aten.batch_norm.default and isinstance(node.args[0], torch.fx.Node):
            before, norm = layer_of(node.args[0]), layer_of(node)
            if before is not None and norm is not None:
                found[before] = norm
    return found


def _layers_of_handles(
    program: torch.export.ExportedProgram, norms: dict[str, str]
) -> tuple[dict[int, tuple[str, ...]], dict[int, int]]:
    """Handle to layers, and to the handle of what makes its first input, of all nodes, delegated ones included."""
    from workers.models.torch_export import layer_of

    layers: dict[int, tuple[str, ...]] = {}
    producers: dict[int, int] = {}
    for graph in _graphs(program):
        for node in graph.nodes:
            handle, layer = node.meta.get("debug_handle"), layer_of(node)
            if node.op != "call_function" or not handle:
                continue
            if layer is not None:
                folded = norms.get(layer) if "convolution" in str(node.target) else None
                layers.setdefault(handle, (layer, folded) if folded is not None else (layer,))
            for before in node.all_input_nodes[:1]:
                producer = before.meta.get("debug_handle")
                if producer and producer != handle:
                    producers.setdefault(handle, producer)
    return layers, producers


def _graphs(program: torch.export.ExportedProgram) -> Iterable[Any]:
    from executorch.exir.lowered_backend_module import get_lowered_submodules

    yield program.graph
    for _, lowered, _ in get_lowered_submodules(program.graph_module):
        yield lowered.original_module.graph


def _tensors(example: dict[str, Array]) -> tuple[torch.Tensor, ...]:
    import numpy as np
    import torch

    return tuple(torch.from_numpy(np.ascontiguousarray(value)) for value in example.values())
