"""`block/<name>(...)`: one building block of a backbone, or a stack of it: `block/mbconv(hw=56,channels=40,depth=3)`.

By default each takes (1, 24, 112, 112), where the published study writes (1, 112, 112, 24). All have stride 1 and as
many channels out as in, so that their shortcut is there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from workers.contract import ModelRequest
from workers.examples import Array
from workers.models.op_zoo import gaussian
from workers.models.operators import MOST_ELEMENTS
from workers.models.parameters import Number, read_name, write_name
from workers.models.source import BuiltModule, ModuleSource, Resolved, UnknownModelError
from workers.plugins import package_versions

if TYPE_CHECKING:
    from torch import nn

PREFIX = "block/"
_SHAPE = {"h": Number(default=112), "w": Number(default=112), "channels": Number(default=24)}
_EXPAND = {"expand": Number(default=6, high=64)}
_DEPTH = {"depth": Number(default=1, high=256)}
#: EfficientNet's block with squeeze and excitation and SiLU, MobileNetV2's, and ResNet's basic one.
BLOCKS: dict[str, Mapping[str, Number]] = {
    PREFIX + "mbconv": {**_SHAPE, **_EXPAND, **_DEPTH},
    PREFIX + "inverted_residual": {**_SHAPE, **_EXPAND, **_DEPTH},
    PREFIX + "residual": {**_SHAPE, **_DEPTH},
}


class BlockZoo(ModuleSource):
    """Blocks as torchvision builds them, with seeded weights."""

    packages: ClassVar[tuple[str, ...]] = ("torch", "torchvision")
    extra: ClassVar[str] = "torch"

    def names(self) -> list[str]:
        """Each block at its default sizes."""
        return list(BLOCKS)

    def resolve(self, request: ModelRequest) -> Resolved | None:
        """See `ModelSource.resolve`."""
        if not request.name.startswith(PREFIX):
            return None
        name, values = read_name(request.name, BLOCKS)
        if prod(_shape(request, values)) * values.get("expand", 1) > MOST_ELEMENTS:
            raise UnknownModelError(f"{request.name} has a tensor of more than 2^31 elements; make it smaller")
        known = write_name(name, values, BLOCKS[name])
        identity = {"versions": package_versions(self.packages)}
        return Resolved(known, "pt2", "fp32", identity, replace(request, name=known))

    def build(self, request: ModelRequest) -> BuiltModule:
        """Stack the block."""
        import torch
        from torch import nn

        torch.manual_seed(request.seed)
        name, values = read_name(request.name, BLOCKS)
        blocks = [_block(name, values) for _ in range(values["depth"])]
        shape = _shape(request, values)

        def make_inputs(generator: np.random.Generator, count: int) -> dict[str, Array]:
            return {"x": gaussian(generator, count, shape)}

        return BuiltModule(nn.Sequential(*blocks), make_inputs, {"task": "features"}, calibrate_norms=True)


def _shape(request: ModelRequest, values: Mapping[str, int]) -> tuple[int, int, int, int]:
    return (request.batch, values["channels"], values["h"], values["w"])


def _block(name: str, values: Mapping[str, int]) -> nn.Module:
    from torch import nn
    from torchvision.models.efficientnet import MBConv, MBConvConfig
    from torchvision.models.mobilenetv2 import InvertedResidual
    from torchvision.models.resnet import BasicBlock

    channels = values["channels"]
    if name == PREFIX + "mbconv":
        return MBConv(MBConvConfig(values["expand"], 3, 1, channels, channels, 1), 0.0, nn.BatchNorm2d)
    if name == PREFIX + "inverted_residual":
        return InvertedResidual(channels, channels, 1, values["expand"])
    return BasicBlock(channels, channels)
