"""savedmodel fp32 -> tflite fp32, fp16 weights, int8 with dynamic activations, full int8, by TensorFlow's converter."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from workers.converters.converter import ConversionInput, Converter, Route
from workers.errors import AttemptError, Cause, first_line
from workers.examples import Array, load_examples
from workers.models.source import Made


class TfLiteExport(Converter):
    """`int8-full` takes and gives int8 too, so that it runs where there is no float arithmetic at all."""

    packages: ClassVar[tuple[str, ...]] = ("tensorflow",)
    extra: ClassVar[str] = "tensorflow"
    routes: ClassVar[tuple[Route, ...]] = tuple(
        Route("savedmodel", "fp32", "tflite", recipe) for recipe in ("fp32", "fp16", "int8-dynamic", "int8-full")
    )
    calibrated: ClassVar[frozenset[str]] = frozenset({"int8-full"})

    def convert(self, source: ConversionInput) -> Made:
        """See `Converter.convert`."""
        import tensorflow as tf

        from workers.models.savedmodel_safety import refuse_code

        refuse_code(source.artifact)
        converter = tf.lite.TFLiteConverter.from_saved_model(str(source.artifact))
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        if source.recipe != "fp32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if source.recipe == "fp16":
            converter.target_spec.supported_types = [tf.float16]
        if source.recipe == "int8-full":
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            converter.inference_input_type = converter.inference_output_type = tf.int8
            converter.representative_dataset = lambda: _calibration(source)
        try:
            flatbuffer: Any = converter.convert()
        except Exception as error:
            raise AttemptError(
                Cause.MODEL, "does_not_convert", f"TensorFlow cannot make tflite {source.recipe}: {first_line(error)}"
            ) from error
        artifact = source.folder / "model.tflite"
        artifact.write_bytes(flatbuffer)
        return Made(artifact)


def _calibration(source: ConversionInput) -> Iterator[dict[str, Array]]:
    return load_examples(source.calibration).each()
