"""`prefix/<backbone>(blocks=N,linear=0|1)`: the first N blocks of a backbone, the stem counted as one.

The last block is the average pool, so that all of them with the linear layer are the whole model. With `linear=1` a
shorter prefix ends in an average pool and a linear layer to 1000 classes, without it in the last block's output.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from workers.contract import ModelRequest
from workers.examples import Array
from workers.models.parameters import Number, read_name, write_name
from workers.models.source import BuiltModule, ModuleSource, Resolved, finding_weights, images
from workers.plugins import package_versions

if TYPE_CHECKING:
    from torch import nn

PREFIX = "prefix/"
_CLASSES = 1000


def _numbers(blocks: int) -> dict[str, Number]:
    return {"blocks": Number(default=blocks, high=blocks), "linear": Number(default=1, low=0, high=1)}


#: Stem, blocks (17 inverted residuals, 16 MBConvs), last convolution, pool.
BACKBONES: dict[str, Mapping[str, Number]] = {
    PREFIX + "mobilenet_v2": _numbers(20),
    PREFIX + "efficientnet_b0": _numbers(19),
}


class PrefixZoo(ModuleSource):
    """Prefixes of torchvision's backbones, on images of 224 x 224, with seeded random or pretrained weights."""

    packages: ClassVar[tuple[str, ...]] = ("torch", "torchvision")
    extra: ClassVar[str] = "torch"

    def names(self) -> list[str]:
        """Each backbone, whole."""
        return list(BACKBONES)

    def resolve(self, request: ModelRequest) -> Resolved | None:
        """See `ModelSource.resolve`."""
        if not request.name.startswith(PREFIX):
            return None
        name, values = read_name(request.name, BACKBONES)
        known = write_name(name, values, BACKBONES[name])
        identity = {"versions": package_versions(self.packages)}
        return Resolved(known, "pt2", "fp32", identity, replace(request, name=known))

    def build(self, request: ModelRequest) -> BuiltModule:
        """Cut the backbone."""
        import torch
        import torchvision
        from torch import nn

        torch.manual_seed(request.seed)
        name, values = read_name(request.name, BACKBONES)
        weights = "DEFAULT" if request.weights == "pretrained" else None
        with finding_weights(request):
            whole = torchvision.models.get_model(name.removeprefix(PREFIX), weights=weights)
        shape = (request.batch, 3, 224, 224)
        # EfficientNet's stages are sequences of blocks, MobileNetV2 has its blocks in one
        blocks = [block for stage in whole.features for block in (stage if type(stage) is nn.Sequential else [stage])]
        pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        kept = [*blocks, pool][: values["blocks"]]
        complete = kept[-1] is pool
        if values["linear"]:
            head = whole.classifier if complete else nn.Linear(_channels(kept[-1]), _CLASSES)
            kept += [head] if complete else [pool, head]

        def make_inputs(generator: np.random.Generator, count: int) -> dict[str, Array]:
            return {"image": images(generator, count, shape)}

        facts = {"task": "classification" if values["linear"] else "features"}
        return BuiltModule(nn.Sequential(*kept), make_inputs, facts, calibrate_norms=request.weights == "random")


def _channels(block: nn.Module) -> int:
    """Channels that a block puts out: its last batch norm's."""
    from torch import nn

    return int([layer.num_features for layer in block.modules() if isinstance(layer, nn.BatchNorm2d)][-1])
