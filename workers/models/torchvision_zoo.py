"""`torchvision/<name>`: any of torchvision's classification models, with seeded random or pretrained weights."""

from __future__ import annotations

import re
from difflib import get_close_matches
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

import numpy as np

from workers.contract import ModelRequest
from workers.examples import Array
from workers.models.source import (
    BuiltModule,
    MissingPackagesError,
    ModuleSource,
    Resolved,
    UnknownModelError,
    finding_weights,
    images,
)
from workers.plugins import package_versions

_PREFIX = "torchvision/"
#: Models whose least input differs from 224 x 224 (torchvision's documentation of each).
_IMAGE_SIZES = {"inception_v3": 299}


class TorchvisionZoo(ModuleSource):
    """Names are read from torchvision's source, for importing it costs three seconds."""

    packages: ClassVar[tuple[str, ...]] = ("torch", "torchvision")
    extra: ClassVar[str] = "torch"
    revision: ClassVar[int] = 2  # carries sources

    def names(self) -> list[str]:
        """All classification models of the installed torchvision."""
        return [_PREFIX + name for name in _registered()]

    def resolve(self, request: ModelRequest) -> Resolved | None:
        """See `ModelSource.resolve`."""
        if not request.name.startswith(_PREFIX):
            return None
        name = request.name.removeprefix(_PREFIX)
        known = _registered()
        if not known:
            raise MissingPackagesError(f"{request.name}: torchvision is not installed; pip install 'benchfarm[torch]'")
        if name not in known:
            close = ", ".join(_PREFIX + match for match in get_close_matches(name, known, n=3))
            raise UnknownModelError(
                f"unknown model {request.name}"
                + (f"; did you mean {close}?" if close else "; see benchfarm models list")
            )
        return Resolved(request.name, "pt2", "fp32", {"versions": package_versions(self.packages)}, request)

    def build(self, request: ModelRequest) -> BuiltModule:
        """Build the model with its weights."""
        import torch
        import torchvision

        name = request.name.removeprefix(_PREFIX)
        torch.manual_seed(request.seed)
        weights = "DEFAULT" if request.weights == "pretrained" else None
        options = {"transform_input": False} if name in ("inception_v3", "googlenet") and weights is None else {}
        if name in ("inception_v3", "googlenet") and weights is None:
            options |= {"init_weights": True}
        with finding_weights(request):
            module = torchvision.models.get_model(name, weights=weights, **options)
        size = _IMAGE_SIZES.get(name, 224)
        shape = (request.batch, 3, size, size)

        def make_inputs(generator: np.random.Generator, count: int) -> dict[str, Array]:
            return {"image": images(generator, count, shape)}

        fresh = request.weights == "random"
        facts = {"task": "classification", "image": _normalisation(name), "classes": "imagenet-1k"}
        return BuiltModule(module, make_inputs, facts, calibrate_norms=fresh)


def _normalisation(name: str) -> dict[str, list[float]]:
    """How images are prepared for a model: as for its default weights, which fresh ones would be trained like."""
    import torchvision

    preset = torchvision.models.get_model_weights(name).DEFAULT.transforms()
    return {"mean": list(preset.mean), "std": list(preset.std)}


@cache
def _registered() -> list[str]:
    """Names registered in torchvision/models/*.py (classification lives there; the other tasks in sub-packages)."""
    spec = find_spec("torchvision")
    if spec is None or spec.origin is None:
        return []
    pattern = re.compile(r"^@register_model\(\s*\)\s*\n(?:@.*\n)*def (\w+)\(", re.MULTILINE)
    named = re.compile(r"^@register_model\(name=\"(\w+)\"\)", re.MULTILINE)
    found: list[str] = []
    for file in sorted((Path(spec.origin).parent / "models").glob("*.py")):
        text = file.read_text(encoding="utf-8")
        found += pattern.findall(text) + named.findall(text)
    return sorted(found)
