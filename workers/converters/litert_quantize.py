"""tflite fp32 -> fp16 or 4-bit weights, int8 with dynamic or static (calibrated) activations, by ai-edge-quantizer."""

from __future__ import annotations

from typing import Any, ClassVar

from workers.converters.converter import ConversionInput, Converter, Route
from workers.errors import AttemptError, Cause, UnsupportedError, first_line
from workers.examples import load_examples
from workers.models.source import Made
from workers.runtimes.lite_rt import in_signature


class LiteRtQuantize(Converter):
    """Inputs and outputs stay float32 in every recipe, so that all are compared on the same interface."""

    packages: ClassVar[tuple[str, ...]] = ("ai-edge-quantizer", "ai-edge-litert")
    extra: ClassVar[str] = "litert"
    routes: ClassVar[tuple[Route, ...]] = (
        Route("tflite", "fp32", "tflite", "fp16"),
        Route("tflite", "fp32", "tflite", "int8-dynamic"),
        Route("tflite", "fp32", "tflite", "int8-static"),
        Route("tflite", "fp32", "tflite", "int4-weight"),
    )
    calibrated: ClassVar[frozenset[str]] = frozenset({"int8-static"})

    def convert(self, source: ConversionInput) -> Made:
        """See `Converter.convert`."""
        from ai_edge_quantizer import quantizer

        try:
            engine = quantizer.Quantizer(str(source.artifact), _recipe(source.recipe))
            statistics = engine.calibrate(_calibration(source)) if source.recipe in self.calibrated else None
            quantised = engine.quantize(statistics)
        except Exception as error:
            raise AttemptError(
                Cause.MODEL, "does_not_convert", f"ai-edge-quantizer cannot make {source.recipe}: {first_line(error)}"
            ) from error
        if source.recipe == "int4-weight" and not _has_int4(quantised.quantized_model):
            raise UnsupportedError("the graph has no fully connected layer whose weights could be kept in 4 bits")
        artifact = source.folder / "model.tflite"
        quantised.export_model(str(artifact))
        return Made(artifact)


def _has_int4(flatbuffer: bytes) -> bool:
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(flatbuffer, 0)
    graphs = [model.Subgraphs(index) for index in range(model.SubgraphsLength())]
    return any(
        graph.Tensors(index).Type() == schema.TensorType.INT4
        for graph in graphs
        for index in range(graph.TensorsLength())
    )


def _recipe(name: str) -> Any:
    from ai_edge_quantizer import qtyping, recipe, recipe_manager

    everything = qtyping.TFLOperationName.ALL_SUPPORTED
    manager = recipe_manager.RecipeManager()
    if name == "int8-dynamic":
        return recipe.dynamic_wi8_afp32()
    if name == "int4-weight":
        manager.add_weight_only_config(regex=".*", operation_name=qtyping.TFLOperationName.FULLY_CONNECTED, num_bits=4)
        return manager.get_quantization_recipe()
    if name == "int8-static":
        manager.add_static_config(regex=".*", operation_name=everything, activation_num_bits=8, weight_num_bits=8)
        for border in (qtyping.TFLOperationName.INPUT, qtyping.TFLOperationName.OUTPUT):
            manager.add_quantization_config(
                regex=".*", operation_name=border, algorithm_key=recipe.AlgorithmName.NO_QUANTIZE
            )
    else:
        weights = qtyping.TensorQuantizationConfig(num_bits=16, dtype=qtyping.TensorDataType.FLOAT)
        config = qtyping.OpQuantizationConfig(
            weight_tensor_config=weights, compute_precision=qtyping.ComputePrecision.FLOAT, explicit_dequantize=True
        )
        manager.add_quantization_config(
            regex=".*", operation_name=everything, op_config=config, algorithm_key=recipe.AlgorithmName.FLOAT_CASTING
        )
    return manager.get_quantization_recipe()


def _calibration(source: ConversionInput) -> dict[str, list[dict[str, Any]]]:
    from ai_edge_litert.interpreter import Interpreter

    signatures = Interpreter(str(source.artifact)).get_signature_list()
    signature = next(iter(signatures))
    names = signatures[signature]["inputs"]
    return {signature: [in_signature(names, example) for example in load_examples(source.calibration).each()]}
