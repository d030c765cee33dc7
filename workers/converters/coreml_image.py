"""pt2 fp32 -> mlpackage fp16 that takes an image and gives class labels, as an app would ship it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, ClassVar

from workers.converters.converter import ConversionInput, Converter, Route
from workers.converters.coreml_export import convert_exported
from workers.coremltools_alone import import_coremltools
from workers.errors import AttemptError, Cause, UnsupportedError, first_line
from workers.examples import load_examples
from workers.models.source import Made
from workers.runtimes.core_ml_image import INTERFACE, ImageInterface

_TARGET = "iOS16"
#: Names of classes that a source may give instead of listing a thousand.
_IMAGENET = "imagenet-1k"


class CoreMlImage(Converter):
    """8-bit RGB in; scale 1/255 and a bias per channel in the image type, the division by each channel's deviation,
    for which that has no place, as the program's first operation.
    """

    packages: ClassVar[tuple[str, ...]] = ("torch", "coremltools")
    extra: ClassVar[str] = "coreml"
    routes: ClassVar[tuple[Route, ...]] = (Route("pt2", "fp32", "mlpackage", "image-input"),)

    def import_libraries(self) -> None:
        """See `Converter.import_libraries`."""
        import_coremltools()
        super().import_libraries()

    def convert(self, source: ConversionInput) -> Made:
        """See `Converter.convert`."""
        coremltools = import_coremltools()
        name, shape, taken = _interface(source)
        bias = [-mean for mean in taken.mean]
        image = coremltools.ImageType(
            name=name, shape=shape, scale=1 / 255, bias=bias, color_layout=coremltools.colorlayout.RGB
        )
        settings: dict[str, Any] = {"inputs": [image], "minimum_deployment_target": coremltools.target[_TARGET]}
        if taken.labels is not None:
            settings["classifier_config"] = coremltools.ClassifierConfig(list(taken.labels))
        model = convert_exported(_dividing(source, taken.std), "fp16", **settings)
        model.user_defined_metadata[INTERFACE] = taken.text
        artifact = source.folder / "model.mlpackage"
        model.save(str(artifact))
        return Made(
            artifact,
            facts={
                "deployment_target": _TARGET,
                "image_scale": 1 / 255,
                "image_bias": bias,
                "image_deviation": list(taken.std),
                "labels": None if taken.labels is None else len(taken.labels),
            },
        )


def _interface(source: ConversionInput) -> tuple[str, tuple[int, ...], ImageInterface]:
    """The one input's name and shape, and what it is taken for.

    Raises:
        UnsupportedError: it takes anything but one image, or nobody says how that is normalised.
    """
    told = source.facts.get("image")
    if not told:
        raise UnsupportedError("its source does not say how images are normalised for it (fact `image`: mean, std)")
    examples = load_examples(source.examples)
    (name, value), *others = examples.input_at(0).items()
    if others or value.ndim != 4 or value.shape[0] != 1 or value.shape[1] != 3:
        raise UnsupportedError(
            f"Core ML takes one image of three channels at a time; this program takes {examples.shapes()}"
        )
    labels = _labels(source.facts.get("classes"))
    if labels is not None and (not examples.outputs or len(labels) != examples.outputs[0].shape[-1]):
        labels = None  # of other outputs than these
    return name, tuple(value.shape), ImageInterface(tuple(told["mean"]), tuple(told["std"]), labels)


def _labels(classes: str | Sequence[str] | None) -> tuple[str, ...] | None:
    """Names of all classes, each once: Core ML answers with a dictionary of them."""
    if classes == _IMAGENET:
        try:
            from torchvision.models import _meta
        except ImportError:
            return None
        named = list(_meta._IMAGENET_CATEGORIES)
    elif isinstance(classes, str) or not classes:
        return None
    else:
        named = list(classes)
    count = Counter(named)  # ImageNet has two cranes: the bird and the machine
    return tuple(f"{label} ({number})" if count[label] > 1 else label for number, label in enumerate(named))


def _dividing(source: ConversionInput, deviations: Sequence[float]) -> Any:
    """The program with its image divided by each channel's deviation first."""
    import torch

    from workers.models.torch_export import load_program, tensors

    inner = load_program(source.artifact).module()

    class Divided(torch.nn.Module):  # type: ignore[misc]  # torch is untyped here
        def __init__(self) -> None:
            super().__init__()
            self.inner = inner
            self.register_buffer("scale", 1 / torch.tensor(deviations).reshape(1, 3, 1, 1))

        def forward(self, image: torch.Tensor) -> Any:
            return self.inner(image * self.scale)

    try:
        with torch.no_grad():
            return torch.export.export(Divided(), tuple(tensors(load_examples(source.examples).input_at(0))))
    except Exception as error:
        raise AttemptError(
            Cause.MODEL, "does_not_export", f"torch cannot export it with an image as input: {first_line(error)}"
        ) from error
