"""mlpackage fp16 -> weights in int8, or palettised to 1, 2, 4, 6 or 8 bits or a mixture, by coremltools.optimize."""

from __future__ import annotations

from typing import Any, ClassVar

from workers.converters.converter import ConversionInput, Converter, Route
from workers.converters.mixed_bits import average_bits, choose_bits
from workers.coremltools_alone import import_coremltools
from workers.errors import UnsupportedError
from workers.models.source import Made
from workers.recipes import parse_step

#: Sizes of a table that Core ML reads since iOS 16; of 3 bits it does since iOS 18 (`coreml_low_bit`).
BITS = (1, 2, 4, 6, 8)
#: Smaller tensors stay as they are, as coremltools has it by default.
LEAST_WEIGHTS = 2048


class CoreMlCompress(Converter):
    """Weights only: Core ML dequantises them to fp16 when it loads or runs the model."""

    packages: ClassVar[tuple[str, ...]] = ("coremltools", "scikit-learn")
    extra: ClassVar[str] = "coreml"
    routes: ClassVar[tuple[Route, ...]] = tuple(
        Route("mlpackage", "fp16", "mlpackage", recipe)
        for recipe in ("int8-weight", *(f"palettize-{bits}" for bits in BITS), "palettize")
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
        facts: dict[str, Any] = {}
        if source.recipe == "int8-weight":
            settings = optimize.OpLinearQuantizerConfig(mode="linear_symmetric")
            model = optimize.linear_quantize_weights(model, optimize.OptimizationConfig(global_config=settings))
        elif source.recipe.startswith("palettize("):
            model, facts = _palettise_to_average(model, float(parse_step(source.recipe)["bits"]))
        else:
            model = palettise(model, int(source.recipe.rpartition("-")[2]))
        artifact = source.folder / "model.mlpackage"
        model.save(str(artifact))
        return Made(artifact, facts=facts)


def palettise(model: Any, bits: int) -> Any:
    """An `MLModel` whose weights are indices into tables found by k-means."""
    from coremltools.optimize import coreml as optimize

    palette = optimize.OpPalettizerConfig(nbits=bits, mode="kmeans")
    return optimize.palettize_weights(model, optimize.OptimizationConfig(global_config=palette))


def _palettise_to_average(model: Any, average: float) -> tuple[Any, dict[str, Any]]:
    """Each tensor with bits of its own; facts say the average that came about, and how many tensors have which bits."""
    from coremltools.optimize import coreml as optimize

    tensors = {
        name: item.val for name, item in optimize.get_weights_metadata(model, weight_threshold=LEAST_WEIGHTS).items()
    }
    if not tensors:
        raise UnsupportedError(f"no tensor of the program has more than {LEAST_WEIGHTS} weights to palettise")
    bits = choose_bits(tensors, average, BITS)
    settings = {
        name: optimize.OpPalettizerConfig(nbits=count, mode="kmeans", weight_threshold=LEAST_WEIGHTS)
        for name, count in bits.items()
    }
    model = optimize.palettize_weights(model, optimize.OptimizationConfig(op_name_configs=settings))
    facts = {
        "average_bits": average_bits(tensors, bits),
        "tensors_by_bits": {str(count): list(bits.values()).count(count) for count in sorted(set(bits.values()))},
    }
    return model, facts
