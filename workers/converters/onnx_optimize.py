"""onnx fp32 -> onnx fp32 of fewer, larger operations: transformers' by onnxscript, all others by onnxruntime."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

from workers.converters.converter import ConversionInput, Converter, Route
from workers.errors import AttemptError, Cause, first_line
from workers.models.source import Made


class OnnxOptimize(Converter):
    """Fused offline is what a quantiser still can take: an activation joins its convolution when a session loads it."""

    packages: ClassVar[tuple[str, ...]] = ("onnx", "onnxruntime", "onnxscript")
    extra: ClassVar[str] = "onnx"
    routes: ClassVar[tuple[Route, ...]] = (Route("onnx", "fp32", "onnx", "onnx-optimize"),)

    def convert(self, source: ConversionInput) -> Made:
        """See `Converter.convert`."""
        import onnx

        from workers.onnx_layers import note_layers

        artifact = source.folder / "model.onnx"
        before = onnx.load(source.artifact)
        try:
            fused, fusions = _fuse_transformers(source.artifact)
            _optimise(fused.SerializeToString(), artifact)
        except Exception as error:
            raise AttemptError(
                Cause.MODEL, "does_not_convert", f"onnxruntime cannot optimise it: {first_line(error)}"
            ) from error
        after = onnx.load(artifact)
        for node in after.graph.node:
            node.ClearField("metadata_props")  # of a fused node they name one layer of several
        note_layers(before, after, after)
        onnx.save(after, artifact)
        return Made(artifact, facts={"fusions": fusions, **_difference(before, after)})


def _fuse_transformers(path: Path) -> tuple[Any, dict[str, int]]:
    """The model with attention, normalisation and activations fused, and how many of each.

    onnxruntime's own transformer optimiser knows the graphs of torch's former exporter; of the present one's it fuses
    no attention, and points to these rules.
    """
    import onnx_ir
    from onnxscript.rewriter.ort_fusions import optimize_for_ort

    model, counts = optimize_for_ort(onnx_ir.load(path))
    return onnx_ir.to_proto(model), {name: count for name, count in sorted(counts.items()) if count}


def _optimise(model: bytes, target: Path) -> None:
    """Fold constants and fuse, into operators of the standard where there are such ("basic")."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(target)
    options.log_severity_level = 3
    onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _difference(before: Any, after: Any) -> dict[str, Any]:
    """How many operations of each type went and came."""
    was, now = (Counter(node.op_type for node in model.graph.node) for model in (before, after))
    return {"operations_removed": dict(was - now), "operations_added": dict(now - was)}
