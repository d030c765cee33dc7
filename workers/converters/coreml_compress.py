"""mlpackage fp16 -> int8 or 4-bit palettised weights, by coremltools.optimize."""

from __future__ import annotations

from typing import ClassVar

from workers.converters.converter import ConversionInput, Converter, Route
from workers.coremltools_alone import import_coremltools
from workers.models.source import Made


class CoreMlCompress(Converter):
    """Weights only: Core ML dequantises them to fp16 when it loads or runs the model."""

    packages: ClassVar[tuple[str, ...]] = ("coremltools", "scikit-learn")
    extra: ClassVar[str] = "coreml"
    routes: ClassVar[tuple[Route, ...]] = (
        Route("mlpackage", "fp16", "mlpackage", "int8-weight"),
        Route("mlpackage", "fp16", "mlpackage", "palettize-4"),
    )

    def import_libraries(self) -> None:
        """See `Converter.import_libraries`."""
        import_coremltools()
        super().import_libraries()

    def convert(self, source: ConversionInput) -> Made:
        """See `Converter.convert`."""
        coremltools = import_coremltools()
        from coremltools.optimize import coreml as optimize

        model = coremltools.models.MLModel(str(source.artifact), skip_model_load=True)
        if source.recipe == "int8-weight":
            settings = optimize.OpLinearQuantizerConfig(mode="linear_symmetric")
            model = optimize.linear_quantize_weights(model, optimize.OptimizationConfig(global_config=settings))
        else:
            palette = optimize.OpPalettizerConfig(nbits=4, mode="kmeans")
            model = optimize.palettize_weights(model, optimize.OptimizationConfig(global_config=palette))
        artifact = source.folder / "model.mlpackage"
        model.save(str(artifact))
        return Made(artifact)
