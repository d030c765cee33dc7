"""Weights set to zero: those of convolutions and linear layers, the smallest in size first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workers.errors import UnsupportedError

if TYPE_CHECKING:
    import torch


def zero_weights(module: torch.nn.Module, share: float, name: str) -> int:
    """Set a share of the weights that are not zero yet to zero, the smallest of all layers together.

    Args:
        module: changed in place; biases, norms and embeddings stay.
        share: above 0 and below 1.
        name: of the model, for messages.

    Returns:
        How many weights became zero.

    Raises:
        UnsupportedError: no layer has such weights.
    """
    import torch

    weights = weights_of(module)
    if not weights:
        raise UnsupportedError(f"{name} has no convolution or linear layer whose weights could become zero")
    sizes = torch.cat([weight.detach().abs().flatten().float() for weight in weights])
    zero = int((sizes == 0).sum())
    more = round(share * (len(sizes) - zero))
    if more == 0:
        raise UnsupportedError(
            f"{name} has {len(sizes) - zero} weights that are not zero: a share of {share:g} is none"
        )
    kept = torch.ones_like(sizes, dtype=torch.bool)
    kept[sizes.topk(zero + more, largest=False, sorted=False).indices] = False
    with torch.no_grad():
        for weight, mask in zip(weights, kept.split([weight.numel() for weight in weights]), strict=True):
            weight.mul_(mask.view_as(weight))
    return more


def weights_of(module: torch.nn.Module) -> list[torch.nn.Parameter]:
    """Weights of convolutions, linear layers and projections of attention; what layers share, once."""
    import torch

    found: dict[int, torch.nn.Parameter] = {}
    for layer in module.modules():
        if isinstance(layer, torch.nn.Linear | torch.nn.modules.conv._ConvNd):
            found[id(layer.weight)] = layer.weight
        elif isinstance(layer, torch.nn.MultiheadAttention) and layer.in_proj_weight is not None:
            found[id(layer.in_proj_weight)] = layer.in_proj_weight
    return list(found.values())
