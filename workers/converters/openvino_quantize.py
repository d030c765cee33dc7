"""openvino fp32 -> int8 with static (calibrated) activations, or int8 or 4-bit weights alone, by NNCF."""

from __future__ import annotations

import math
import os
from collections import Counter
from typing import Any, ClassVar

from workers.converters.converter import ConversionInput, Converter, Route
from workers.converters.openvino_export import save
from workers.errors import AttemptError, Cause, UnsupportedError, first_line
from workers.examples import load_examples
from workers.models.source import Made
from workers.runtimes.open_vino import in_ports

#: Of 4-bit weights so many along the summed axis share a scale.
_BLOCK = 32


class OpenVinoQuantize(Converter):
    """Symmetric int8 in activations and weights, the latter per channel; inputs and outputs stay float32."""

    packages: ClassVar[tuple[str, ...]] = ("openvino", "nncf")
    extra: ClassVar[str] = "openvino"
    routes: ClassVar[tuple[Route, ...]] = (
        Route("openvino", "fp32", "openvino", "int8-static"),
        Route("openvino", "fp32", "openvino", "int8-weight"),
        Route("openvino", "fp32", "openvino", "int4-weight"),
    )
    calibrated: ClassVar[frozenset[str]] = frozenset({"int8-static"})

    def import_libraries(self) -> None:
        """See `Converter.import_libraries`."""
        os.environ["NNCF_CI"] = "1"  # without it and a file of consent, NNCF reports what it does to its makers
        super().import_libraries()

    def convert(self, source: ConversionInput) -> Made:
        """See `Converter.convert`."""
        import nncf
        import openvino

        model = openvino.Core().read_model(source.artifact / "model.xml")
        weights = _constants(model)
        try:
            if source.recipe == "int8-weight":
                quantised = nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT8_SYM)
            elif source.recipe == "int4-weight":
                quantised = _to_int4(model)
            else:
                quantised = _quantise(model, source)
        except Exception as error:
            raise AttemptError(
                Cause.MODEL, "does_not_convert", f"NNCF cannot make {source.recipe}: {first_line(error)}"
            ) from error
        facts = {}
        if source.recipe == "int4-weight":
            in_4_bits = _constants(quantised)["i4"]
            if not in_4_bits:
                raise UnsupportedError("the graph has no matrix product with constant weights to keep in 4 bits")
            facts = {"int4_weight_share": in_4_bits / max(weights["f32"], in_4_bits), "block": _BLOCK}
        return Made(save(quantised, source.folder), facts=facts)


def _to_int4(model: Any) -> Any:
    """Symmetric, in blocks; what is no matrix product keeps its weights, as in the other formats."""
    import nncf
    from nncf.quantization.advanced_parameters import AdvancedCompressionParameters, GroupSizeFallbackMode

    return nncf.compress_weights(
        model,
        mode=nncf.CompressWeightsMode.INT4_SYM,
        ratio=1.0,
        group_size=_BLOCK,
        all_layers=True,
        backup_mode=nncf.BackupMode.NONE,
        ignored_scope=nncf.IgnoredScope(types=["Gather"], validate=False),
        advanced_parameters=AdvancedCompressionParameters(group_size_fallback_mode=GroupSizeFallbackMode.ADJUST),
    )


def _constants(model: Any) -> Counter[str]:
    """How many numbers of each type the constants of a model hold."""
    found: Counter[str] = Counter()
    for operation in model.get_ops():
        if operation.get_type_name() == "Constant":
            found[operation.get_element_type().get_type_name()] += math.prod(operation.get_output_shape(0))
    return found


def _quantise(model: Any, source: ConversionInput) -> Any:
    import nncf

    names = [port.get_names() for port in model.inputs]
    types = [port.get_element_type().to_dtype() for port in model.inputs]
    rows = [
        [value.astype(kind) for value, kind in zip(in_ports(names, example), types, strict=True)]
        for example in load_examples(source.calibration).each()
    ]
    return nncf.quantize(
        model,
        nncf.Dataset(rows),
        subset_size=len(rows),
        preset=nncf.QuantizationPreset.PERFORMANCE,
        model_type=nncf.ModelType.TRANSFORMER if _has_attention(model) else None,
    )


def _has_attention(model: Any) -> bool:
    """Whether a softmax feeds anything but the outputs: NNCF has a scheme of its own for such models."""
    kinds = {
        user.get_node().get_type_name()
        for operation in model.get_ops()
        if operation.get_type_name() == "Softmax"
        for user in operation.output(0).get_target_inputs()
    }
    return bool(kinds - {"Result"})
