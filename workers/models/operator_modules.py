"""Single operators as torch modules with seeded weights. Imports torch: for the child that builds them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

from workers.models.operators import PREFIX, Layer, Values

#: A constant whose product no runtime can leave out.
_SCALE = 1.25


class Scale(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """A product with a constant."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Any shape, the same shape."""
        return x * _SCALE


class Upsample(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """Larger images."""

    def __init__(self, scale: int, mode: str) -> None:
        super().__init__()
        self.scale, self.mode = scale, mode

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, channels, height, width) to the same, times `scale`."""
        align = False if self.mode == "bilinear" else None
        return functional.interpolate(x, scale_factor=self.scale, mode=self.mode, align_corners=align)


class Transpose(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """Channels from last to first, the bytes really moved.

    Transpositions in a row would be made one, or none, by every optimiser. What is written is therefore read again as
    what it is not, (batch, height, width, channels): no one permutation equals two such layers.
    """

    def __init__(self, last: bool) -> None:
        super().__init__()
        self.last = last

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, height, width, channels) to (batch, channels, height, width); so named at the end of a stack only."""
        moved = x.permute(0, 3, 1, 2).contiguous()
        return moved if self.last else moved.reshape(x.shape)


class Column(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """All elements in one column."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Any shape to (elements, 1)."""
        return (x * _SCALE).reshape(-1, 1)


class MatMul(nn.Module):  # type: ignore[misc]  # torch is untyped here
    """Products with a second input."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.depth = depth

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """(batch, m, k) and (batch, k, n) to (batch, m, n)."""
        for _ in range(self.depth):
            x = torch.matmul(x, y)
        return x


def stack(name: str, values: Values, layers: list[Layer]) -> nn.Module:
    """The module of an operator's stack, in eval mode, with weights that keep the size of what passes through."""
    if name == PREFIX + "matmul":
        return MatMul(len(layers))
    modules = [_MODULES[name](values, layer, layer is layers[-1]) for layer in layers]
    return nn.Sequential(*modules).eval()


def _weigh(module: nn.Conv2d | nn.Linear) -> nn.Module:
    """Torch's own weights would shrink what passes through to a third of its variance in each layer."""
    nn.init.normal_(module.weight, std=module.weight[0].numel() ** -0.5)
    return module


def _conv2d(values: Values, layer: Layer, last: bool) -> nn.Module:
    channels = layer.inputs[0][1]
    options = {name: values[name] for name in ("stride", "padding", "groups")}
    return _weigh(nn.Conv2d(channels, values["out"], values["kernel"], **options))


def _linear(values: Values, layer: Layer, last: bool) -> nn.Module:
    return _weigh(nn.Linear(layer.inputs[0][1], values["n"]))


def _batchnorm(values: Values, layer: Layer, last: bool) -> nn.Module:
    norm = nn.BatchNorm2d(values["channels"])
    for tensor in (norm.weight.data, norm.running_var):
        assert tensor is not None
        tensor.uniform_(0.8, 1.25)
    for tensor in (norm.bias.data, norm.running_mean):
        assert tensor is not None
        tensor.normal_(std=0.1)
    return norm


def _layernorm(values: Values, layer: Layer, last: bool) -> nn.Module:
    norm = nn.LayerNorm(values["channels"])
    norm.weight.data.uniform_(0.8, 1.25)
    norm.bias.data.normal_(std=0.1)
    return norm


_MODULES: dict[str, Callable[[Values, Layer, bool], nn.Module]] = {
    PREFIX + "conv2d": _conv2d,
    PREFIX + "linear": _linear,
    PREFIX + "relu": lambda values, layer, last: nn.ReLU(),
    PREFIX + "batchnorm": _batchnorm,
    PREFIX + "layernorm": _layernorm,
    PREFIX + "upsample-bilinear": lambda values, layer, last: Upsample(values["scale"], "bilinear"),
    PREFIX + "upsample-nearest": lambda values, layer, last: Upsample(values["scale"], "nearest"),
    PREFIX + "maxpool": lambda values, layer, last: nn.MaxPool2d(values["kernel"], values["stride"]),
    PREFIX + "transpose": lambda values, layer, last: Transpose(last),
    PREFIX + "reshape": lambda values, layer, last: Column(),
    PREFIX + "pixelshuffle": lambda values, layer, last: nn.PixelShuffle(values["factor"]),
    PREFIX + "copy": lambda values, layer, last: Scale(),
}
