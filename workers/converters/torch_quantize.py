"""pt2 fp32 -> pt2 int8-static: PT2E of torchao, calibrated, in the layout that inductor fuses on x86."""

from __future__ import annotations

import operator
from typing import Any, ClassVar

from workers.converters.converter import ConversionInput, Converter, Route
from workers.errors import AttemptError, Cause, UnsupportedError, first_line
from workers.examples import Array, load_examples
from workers.models.source import Made


class TorchQuantize(Converter):
    """Unsigned activations per tensor, signed weights per channel; what runs it must fuse, or it computes in fp32."""

    packages: ClassVar[tuple[str, ...]] = ("torch", "torchao")
    extra: ClassVar[str] = "torch"
    routes: ClassVar[tuple[Route, ...]] = (Route("pt2", "fp32", "pt2", "int8-static"),)
    calibrated: ClassVar[frozenset[str]] = frozenset({"int8-static"})

    def convert(self, source: ConversionInput) -> Made:
        """See `Converter.convert`."""
        import torch

        from workers.models.torch_export import load_program

        module = load_program(source.artifact).module()
        try:
            with torch.no_grad():
                quantised = _quantise(module, [_tensors(item) for item in load_examples(source.calibration).each()])
                program = torch.export.export(quantised, _tensors(load_examples(source.examples).input_at(0)))
        except Exception as error:
            raise AttemptError(
                Cause.MODEL, "does_not_convert", f"PT2E cannot quantise it: {first_line(error)}"
            ) from error
        if not any("quantized_decomposed" in str(node.target) for node in program.graph.nodes):
            raise UnsupportedError("PT2E finds no convolution or linear layer to quantise in this program")
        artifact = source.folder / "model.pt2"
        torch.export.save(program, artifact)
        return Made(artifact)


def _quantise(module: Any, calibration: list[tuple[Any, ...]]) -> Any:
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
    from torchao.quantization.pt2e.quantizer.x86_inductor_quantizer import (
        X86InductorQuantizer,
        get_default_x86_inductor_quantization_config,
    )

    _name_sources(module)
    quantizer = X86InductorQuantizer()
    quantizer.set_global(get_default_x86_inductor_quantization_config(is_dynamic=False))
    prepared = prepare_pt2e(module, quantizer)
    for example in calibration:
        prepared(*example)
    quantised = convert_pt2e(prepared)
    drop_unused_tensors(quantised)
    return quantised


def drop_unused_tensors(module: Any) -> None:
    """Take out of a graph module the tensors that its graph reads no more: they would be saved and loaded with it."""
    module.graph.eliminate_dead_code()
    module.recompile()
    used = {node.target for node in module.graph.nodes if node.op in ("get_attr", "call_module")}
    tensors = (*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False))
    for path, _ in tensors:
        owner, _, name = path.rpartition(".")
        if path not in used and owner not in used:
            delattr(module.get_submodule(owner), name)


def _name_sources(module: Any) -> None:
    """Tell the quantiser what module each node stands for.

    A reloaded program does not say it as the quantiser reads it: an activation that a model calls at several places
    (ResNet's ReLU) would count as one node with many outputs, and be refused.
    """
    import torch

    aten, nn = torch.ops.aten, torch.nn
    kinds = {
        aten.conv1d: nn.Conv1d,
        aten.conv2d: nn.Conv2d,
        aten.linear: nn.Linear,
        aten.batch_norm: nn.BatchNorm2d,
        aten.add: operator.add,
        aten.add_: operator.add,
        aten.relu: nn.ReLU,
        aten.relu_: nn.ReLU,
        aten.hardtanh: nn.Hardtanh,
        aten.hardtanh_: nn.Hardtanh,
        aten.hardswish: nn.Hardswish,
        aten.hardswish_: nn.Hardswish,
        aten.silu: nn.SiLU,
        aten.silu_: nn.SiLU,
        aten.leaky_relu: nn.LeakyReLU,
        aten.leaky_relu_: nn.LeakyReLU,
        aten.gelu: nn.GELU,
        aten.tanh: nn.Tanh,
    }
    for node in module.graph.nodes:
        kind = kinds.get(getattr(node.target, "overloadpacket", None))
        if kind is not None:
            node.meta["source_fn_stack"] = [(node.name, kind)]


def _tensors(example: dict[str, Array]) -> tuple[Any, ...]:
    import torch

    return tuple(torch.from_numpy(value.copy()) for value in example.values())
