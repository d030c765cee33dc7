"""Rounding to 8 bits, simulated while a module is trained. Imports torch: for children only.

Weights per output channel and symmetric, activations per tensor: what the quantisers of all formats do. A batch norm
that they fold into the layer before it scales whole output channels, which rounding per channel does not notice; so
nothing is folded here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch.nn.utils import parametrize

#: Layers whose products are computed in integers, and the axis of their weight's output channels.
_LAYERS: dict[type[torch.nn.Module], int] = {
    torch.nn.Linear: 0,
    torch.nn.Conv1d: 0,
    torch.nn.Conv2d: 0,
    torch.nn.Conv3d: 0,
}
#: Name of the part that a layer gets for a while.
_PART = "benchfarm_rounding"
#: Weight of a batch in the range of activations.
_MOMENTUM = 0.1
_SMALLEST_SCALE = 1e-8


@contextmanager
def rounding_simulated(module: torch.nn.Module) -> Iterator[int]:
    """Round weights and inputs of convolutions and linear layers as int8 does; yields how many layers that is.

    Gradients pass through the rounding. At the end the module is as it was, with the weights it has learnt.
    """
    found = [(layer, _LAYERS[kind]) for layer in module.modules() if (kind := type(layer)) in _LAYERS]
    hooks = []
    for layer, axis in found:
        part = _Activations()
        layer.add_module(_PART, part)
        hooks.append(layer.register_forward_pre_hook(partial(_round_inputs, part)))
        parametrize.register_parametrization(layer, "weight", _Weights(axis))
    try:
        yield len(found)
    finally:
        for hook in hooks:
            hook.remove()
        for layer, _ in found:
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=False)
            delattr(layer, _PART)


def _round_inputs(part: torch.nn.Module, _layer: torch.nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return (part(inputs[0]), *inputs[1:])


class _Weights(torch.nn.Module):  # type: ignore[misc]
    """A weight as int8 holds it."""

    def __init__(self, axis: int) -> None:
        super().__init__()
        self._axis = axis

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """Rounded, in floating point."""
        others = [axis for axis in range(weight.ndim) if axis != self._axis]
        scale = (weight.detach().abs().amax(dim=others) / 127).clamp(min=_SMALLEST_SCALE)
        zeros = torch.zeros_like(scale, dtype=torch.int32)
        return torch.fake_quantize_per_channel_affine(weight, scale, zeros, self._axis, -127, 127)


class _Activations(torch.nn.Module):  # type: ignore[misc]
    """Activations as uint8 holds them, in the range that was seen lately while training."""

    low: torch.Tensor
    high: torch.Tensor
    seen: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("low", torch.zeros(()))
        self.register_buffer("high", torch.zeros(()))
        self.register_buffer("seen", torch.zeros((), dtype=torch.bool))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Rounded, in floating point; as they are before any were seen."""
        if self.training:
            low, high = torch.aminmax(values.detach())
            weight = _MOMENTUM if self.seen else 1.0
            self.low.lerp_(low.clamp(max=0), weight)
            self.high.lerp_(high.clamp(min=0), weight)
            self.seen.fill_(True)
        if not self.seen:
            return values
        scale = ((self.high - self.low) / 255).clamp(min=_SMALLEST_SCALE)
        zero = (-self.low / scale).round().clamp(0, 255).to(torch.int32)
        return torch.fake_quantize_per_tensor_affine(values, scale, zero, 0, 255)
