"""pt2 fp32 -> mlpackage fp32 or fp16 by coremltools. Converts on any host; Core ML itself runs on a Mac."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from workers.converters.converter import ConversionInput, Converter, Route
from workers.coremltools_alone import import_coremltools
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

    def import_libraries(self) -> None:
        """See `Converter.import_libraries`."""
        import_coremltools()
        super().import_libraries()

    def convert(self, source: ConversionInput) -> Made:
        """See `Converter.convert`."""
        model = to_core_ml(source.artifact, source.recipe)
        artifact = source.folder / "model.mlpackage"
        model.save(str(artifact))
        return Made(artifact)


def to_core_ml(program: Path, precision: str, **settings: Any) -> Any:
    """An `MLModel` of a `.pt2`.

    Args:
        program: its file.
        precision: fp32 or fp16.
        settings: others of `coremltools.convert`; without a deployment target, iOS 16 is it.

    Raises:
        AttemptError: coremltools cannot convert it.
    """
    from workers.models.torch_export import load_program

    return convert_exported(load_program(program), precision, **settings)


def convert_exported(program: Any, precision: str, **settings: Any) -> Any:
    """The same of a program that is loaded."""
    coremltools = import_coremltools()
    settings = {"minimum_deployment_target": coremltools.target.iOS16, **settings}
    computed = {"fp32": coremltools.precision.FLOAT32, "fp16": coremltools.precision.FLOAT16}[precision]
    _teach_mask_operators()
    try:
        return coremltools.convert(program.run_decompositions({}), compute_precision=computed, **settings)
    except Exception as error:
        raise AttemptError(
            Cause.MODEL, "does_not_convert", f"coremltools cannot convert it: {first_line(error)}"
        ) from error


def _teach_mask_operators() -> None:
    """coremltools 9.0 lacks what transformers' attention masks are made with: `new_ones`, and `&` of its result."""
    import numpy as np
    from coremltools.converters.mil import Builder
    from coremltools.converters.mil.frontend.torch.ops import _get_inputs
    from coremltools.converters.mil.frontend.torch.torch_op_registry import _TORCH_OPS_REGISTRY as REGISTRY

    def new_ones(context: Any, node: Any) -> None:
        shape = _get_inputs(context, node)[1]
        if shape.val is not None and len(shape.val) == 0:
            context.add(Builder.const(val=np.float32(1.0), name=node.name))
        else:
            context.add(Builder.fill(shape=shape, value=1.0, name=node.name))

    def logical_and(context: Any, node: Any) -> None:
        x, y = (Builder.cast(x=value, dtype="bool") for value in _get_inputs(context, node)[:2])
        context.add(Builder.logical_and(x=x, y=y, name=node.name))

    REGISTRY.set_func_by_name(new_ones, "new_ones")
    # Checked under one name, looked up under the other; its own takes booleans only, and `new_ones` yields floats.
    for name in ("__and__", "and"):
        REGISTRY.set_func_by_name(logical_and, name)
