"""pt2 fp32 -> mlpackage fp16 with 4-bit linear weights, or palettised to 3 bits: what Core ML reads since iOS 18."""

from __future__ import annotations

import math
from typing import Any, ClassVar

from workers.converters.converter import ConversionInput, Converter, Route
from workers.converters.coreml_compress import palettise
from workers.converters.coreml_export import to_core_ml
from workers.coremltools_alone import import_coremltools
from workers.errors import UnsupportedError
from workers.models.source import Made

#: Of 4-bit weights so many along the summed axis share a scale.
_BLOCK = 32


class CoreMlLowBit(Converter):
    """Exported anew: a program for older systems has no operation that unpacks such weights."""

    packages: ClassVar[tuple[str, ...]] = ("torch", "coremltools", "scikit-learn")
    extra: ClassVar[str] = "coreml"
    routes: ClassVar[tuple[Route, ...]] = (
        Route("pt2", "fp32", "mlpackage", "int4-weight"),
        Route("pt2", "fp32", "mlpackage", "palettize-3"),
    )

    def import_libraries(self) -> None:
        """See `Converter.import_libraries`."""
        import_coremltools()
        super().import_libraries()

    def convert(self, source: ConversionInput) -> Made:
        """See `Converter.convert`."""
        coremltools = import_coremltools()
        model = to_core_ml(source.artifact, "fp16", minimum_deployment_target=coremltools.target.iOS18)
        facts: dict[str, Any] = {"deployment_target": "iOS18"}
        if source.recipe == "int4-weight":
            model = _to_int4(model)
            facts |= _int4_facts(model)
        else:
            model = palettise(model, 3)
        artifact = source.folder / "model.mlpackage"
        model.save(str(artifact))
        return Made(artifact, facts=facts)


def _to_int4(model: Any) -> Any:
    """Symmetric, in blocks; a tensor whose summed axis is no multiple of a block stays fp16."""
    from coremltools.optimize import coreml as optimize

    settings = optimize.OpLinearQuantizerConfig(
        mode="linear_symmetric", dtype="int4", granularity="per_block", block_size=_BLOCK
    )
    return optimize.linear_quantize_weights(model, optimize.OptimizationConfig(global_config=settings))


def _int4_facts(model: Any) -> dict[str, Any]:
    """Share of the weights that is in 4 bits.

    Raises:
        UnsupportedError: none is.
    """
    packed = plain = 0
    for function in model.get_spec().mlProgram.functions.values():
        for block in function.block_specializations.values():
            for operation in block.operations:
                size = math.prod(item.constant.size for item in operation.outputs[0].type.tensorType.dimensions)
                packed += size if operation.type == "constexpr_blockwise_shift_scale" else 0
                plain += size if operation.type == "const" and size > 1 else 0
    if not packed:
        raise UnsupportedError(f"no tensor of the program can be cut into blocks of {_BLOCK} weights")
    return {"int4_weight_share": packed / (packed + plain), "block": _BLOCK}
