"""pt2 fp32 -> tflite fp32 by litert-torch."""

from __future__ import annotations

from typing import Any, ClassVar

from workers.converters.converter import ConversionInput, Converter, Route
from workers.errors import AttemptError, Cause, first_line
from workers.examples import load_examples
from workers.models.source import Made


class LiteRtExport(Converter):
    """Needs PyTorch, no TensorFlow."""

    packages: ClassVar[tuple[str, ...]] = ("torch", "litert-torch", "ai-edge-litert")
    extra: ClassVar[str] = "litert"
    revision: ClassVar[int] = 2  # whole layer names
    routes: ClassVar[tuple[Route, ...]] = (Route("pt2", "fp32", "tflite", "fp32"),)

    def convert(self, source: ConversionInput) -> Made:
        """See `Converter.convert`."""
        import litert_torch
        import torch

        from workers.models.torch_export import load_program

        module = load_program(source.artifact).module()
        _whole_layer_names(module)
        example = tuple(torch.from_numpy(value) for value in load_examples(source.examples).input_at(0).values())
        try:
            model = litert_torch.convert(module, example)
        except Exception as error:
            raise AttemptError(
                Cause.MODEL, "does_not_convert", f"litert-torch cannot convert it: {first_line(error)}"
            ) from error
        artifact = source.folder / "model.tflite"
        model.export(str(artifact))
        return Made(artifact)


def _whole_layer_names(module: Any) -> None:
    """Let each module's entry in the nodes' module stacks say all of its path below the entry before it.

    litert-torch names a module by the last part of its path, so a ModuleList, which is never called itself, would be
    missing: `transformer.0` of `transformer.layer.0`. A colon stands for the dot, at which litert-torch cuts;
    `workers.runtimes.lite_rt_graph` reads it back.
    """
    for node in module.graph.nodes:
        stack, outer = {}, ""
        for key, (path, kind) in node.meta.get("nn_module_stack", {}).items():
            below = path.removeprefix(f"{outer}.") if outer else path
            stack[key], outer = (below.replace(".", ":"), kind), path
        if stack:
            node.meta["nn_module_stack"] = stack
