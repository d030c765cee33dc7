"""pt2 fp32 -> pt2 bf16: weights and floating-point inputs cast, exported again."""

from __future__ import annotations

from typing import Any, ClassVar

from workers.converters.converter import ConversionInput, Converter, Route
from workers.errors import AttemptError, Cause, first_line
from workers.examples import load_examples
from workers.models.source import Made


class TorchCast(Converter):
    """Casting needs the module, so the program is unlifted, cast and exported once more."""

    packages: ClassVar[tuple[str, ...]] = ("torch",)
    extra: ClassVar[str] = "torch"
    routes: ClassVar[tuple[Route, ...]] = (Route("pt2", "fp32", "pt2", "bf16"),)

    def convert(self, source: ConversionInput) -> Made:
        """See `Converter.convert`."""
        import torch

        from workers.models.torch_export import load_program

        program = load_program(source.artifact)
        program = _retype_constants(program)
        module = program.module().to(torch.bfloat16)
        example = [torch.from_numpy(value) for value in load_examples(source.examples).input_at(0).values()]
        inputs = tuple(value.to(torch.bfloat16) if value.is_floating_point() else value for value in example)
        try:
            with torch.no_grad():
                cast = torch.export.export(module, inputs)
        except Exception as error:
            raise AttemptError(
                Cause.MODEL, "does_not_convert", f"the program does not run in bf16: {first_line(error)}"
            ) from error
        artifact = source.folder / "model.pt2"
        torch.export.save(cast, artifact)
        return Made(artifact)


def _retype_constants(program: Any) -> Any:
    """Nodes that were traced with an explicit float32 (masks, positions) would pull the arithmetic back to fp32."""
    import torch

    for node in program.graph.nodes:
        if node.kwargs.get("dtype") == torch.float32:
            node.kwargs = {**node.kwargs, "dtype": torch.bfloat16}
        node.args = tuple(torch.bfloat16 if argument is torch.float32 else argument for argument in node.args)
    program.graph_module.recompile()
    return program
