"""pt2 fp32 -> mlpackage fp32 or fp16 by coremltools. Converts on any host; Core ML itself runs on a Mac."""

from __future__ import annotations

from typing import Any, ClassVar

from workers.converters.converter import ConversionInput, Converter, Route
from workers.errors import AttemptError, Cause, first_line
from workers.models.source import Made


class CoreMlExport(Converter):
    """ML programs for iOS 16 / macOS 13: the first that hold palettised weights."""

    packages: ClassVar[tuple[str, ...]] = ("torch", "coremltools")
    extra: ClassVar[str] = "coreml"
    routes: ClassVar[tuple[Route, ...]] = (
        Route("pt2", "fp32", "mlpackage", "fp32"),
        Route("pt2", "fp32", "mlpackage", "fp16"),
    )

    def convert(self, source: ConversionInput) -> Made:
        """See `Converter.convert`."""
        import coremltools

        from workers.models.torch_export import load_program

        program = load_program(source.artifact).run_decompositions({})
        precision = {"fp32": coremltools.precision.FLOAT32, "fp16": coremltools.precision.FLOAT16}[source.recipe]
        _teach_new_ones()
        try:
            model = coremltools.convert(
                program, compute_precision=precision, minimum_deployment_target=coremltools.target.iOS16
            )
        except Exception as error:
            raise AttemptError(
                Cause.MODEL, "does_not_convert", f"coremltools cannot convert it: {first_line(error)}"
            ) from error
        artifact = source.folder / "model.mlpackage"
        model.save(str(artifact))
        return Made(artifact)


def _teach_new_ones() -> None:
    """coremltools 9.0 has no `new_ones`, which transformers' attention masks are made with."""
    from coremltools.converters.mil import Builder
    from coremltools.converters.mil.frontend.torch.ops import _get_inputs
    from coremltools.converters.mil.frontend.torch.torch_op_registry import _TORCH_OPS_REGISTRY, register_torch_op

    if _TORCH_OPS_REGISTRY.get_func("new_ones") is not None:
        return

    @register_torch_op  # type: ignore[untyped-decorator]
    def new_ones(context: Any, node: Any) -> None:
        shape = _get_inputs(context, node)[1]
        context.add(Builder.fill(shape=shape, value=1.0, name=node.name))
