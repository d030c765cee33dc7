"""onnx fp32 -> fp16, int8 with dynamic or static (calibrated) activations, by onnxruntime's own tools."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from workers.converters.converter import ConversionInput, Converter, Route
from workers.examples import load_examples
from workers.models.source import Made


class OnnxQuantize(Converter):
    """Int8 is asymmetric in activations (uint8), symmetric per channel in weights: what MLAS has kernels for."""

    packages: ClassVar[tuple[str, ...]] = ("onnx", "onnxruntime", "sympy")
    extra: ClassVar[str] = "onnx"
    revision: ClassVar[int] = 3  # notes layers, none at what belongs to none
    routes: ClassVar[tuple[Route, ...]] = (
        Route("onnx", "fp32", "onnx", "fp16"),
        Route("onnx", "fp32", "onnx", "int8-dynamic"),
        Route("onnx", "fp32", "onnx", "int8-static"),
    )
    calibrated: ClassVar[frozenset[str]] = frozenset({"int8-static"})

    def convert(self, source: ConversionInput) -> Made:
        """See `Converter.convert`."""
        artifact = source.folder / "model.onnx"
        if source.recipe == "fp16":
            _to_fp16(source.artifact, artifact)
        else:
            # Both quantisers want shapes inferred and constants folded; the dynamo export has neither.
            from onnxruntime.quantization.shape_inference import quant_pre_process

            prepared = source.folder / "prepared.onnx"
            quant_pre_process(str(source.artifact), str(prepared))
            if source.recipe == "int8-dynamic":
                _quantise_dynamic(prepared, artifact)
            else:
                _quantise_static(prepared, artifact, source.calibration)
            _keep_layers(source.artifact, prepared, artifact)
        return Made(artifact)


def _keep_layers(source: Path, prepared: Path, artifact: Path) -> None:
    """Note at the quantised nodes which layers they compute: the preparation dropped what the exporter had noted."""
    import onnx

    from workers.onnx_layers import note_layers

    model = onnx.load(artifact)
    note_layers(onnx.load(source), onnx.load(prepared), model)
    onnx.save(model, artifact)


def _to_fp16(source: Path, target: Path) -> None:
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    # Inputs and outputs stay float32, so that fp16 is compared on the same interface.
    onnx.save(convert_float_to_float16(onnx.load(source), keep_io_types=True), target)


def _quantise_dynamic(source: Path, target: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    # ConvInteger has CPU kernels for unsigned weights only.
    quantize_dynamic(str(source), str(target), weight_type=QuantType.QUInt8)


def _quantise_static(source: Path, target: Path, calibration: Path) -> None:
    import onnxruntime
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime is untyped
        def __init__(self) -> None:
            names = [item.name for item in onnxruntime.InferenceSession(str(source)).get_inputs()]
            examples = load_examples(calibration)
            self._rows: Iterator[dict[str, Any]] = iter(
                [dict(zip(names, example.values(), strict=True)) for example in examples.each()]
            )

        def get_next(self) -> dict[str, Any] | None:
            return next(self._rows, None)

    quantize_static(
        str(source),
        str(target),
        Reader(),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
