"""pt2 fp32 -> tflite fp32 by litert-torch."""

from __future__ import annotations

from typing import ClassVar

from workers.converters.converter import ConversionInput, Converter, Route
from workers.errors import AttemptError, Cause, first_line
from workers.examples import load_examples
from workers.models.source import Made


class LiteRtExport(Converter):
    """Needs PyTorch, no TensorFlow."""

    packages: ClassVar[tuple[str, ...]] = ("torch", "litert-torch", "ai-edge-litert")
    extra: ClassVar[str] = "litert"
    routes: ClassVar[tuple[Route, ...]] = (Route("pt2", "fp32", "tflite", "fp32"),)

    def convert(self, source: ConversionInput) -> Made:
        """See `Converter.convert`."""
        import litert_torch
        import torch

        from workers.models.torch_export import load_program

        module = load_program(source.artifact).module()
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
