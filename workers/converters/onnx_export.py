"""pt2 fp32 -> onnx fp32 by torch's dynamo exporter."""

from __future__ import annotations

from typing import ClassVar

from workers.converters.converter import ConversionInput, Converter, Route
from workers.errors import AttemptError, Cause, first_line
from workers.models.source import Made

#: The newest operator set that the quantisation tools of onnxruntime handle in full.
_OPSET = 20


class OnnxExport(Converter):
    """Starts from the reloaded program, so that the weights are those of every other format."""

    packages: ClassVar[tuple[str, ...]] = ("torch", "onnx", "onnxscript")
    extra: ClassVar[str] = "onnx"
    routes: ClassVar[tuple[Route, ...]] = (Route("pt2", "fp32", "onnx", "fp32"),)

    def convert(self, source: ConversionInput) -> Made:
        """See `Converter.convert`."""
        import torch

        from workers.models.torch_export import load_program

        program = load_program(source.artifact)
        try:
            exported = torch.onnx.export(program, dynamo=True, opset_version=_OPSET, verbose=False)
        except Exception as error:
            raise AttemptError(
                Cause.MODEL, "does_not_convert", f"torch.onnx cannot export it: {first_line(error)}"
            ) from error
        artifact = source.folder / "model.onnx"
        exported.save(artifact, external_data=False)
        return Made(artifact)
