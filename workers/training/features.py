"""What a module thinks before it answers: the inputs of its last layer. Imports torch: for children only."""

from __future__ import annotations

import torch

from workers.errors import UnsupportedError
from workers.training.batches import Batch

_LAYERS = (torch.nn.Linear, torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d)


class Features:
    """Keeps the features of the latest answer, (examples, features): positions and tokens are averaged."""

    def __init__(self, module: torch.nn.Module, sample: Batch) -> None:
        """Find the last convolution or linear layer that an answer passes, and watch it until `close`.

        Raises:
            UnsupportedError: there is none, or it does not keep examples apart.
        """
        self._latest: torch.Tensor | None = None
        called: list[torch.nn.Module] = []
        hooks = [
            layer.register_forward_pre_hook(lambda layer, _: called.append(layer))
            for layer in module.modules()
            if isinstance(layer, _LAYERS)
        ]
        training = module.training
        module.eval()
        try:
            with torch.no_grad():
                module(*sample.inputs)
        finally:
            module.train(training)
            for hook in hooks:
                hook.remove()
        if not called:
            raise UnsupportedError("no convolution or linear layer whose inputs could be features")
        self._hook = called[-1].register_forward_pre_hook(self._keep)
        with torch.no_grad():
            module.eval()(*sample.inputs)
        module.train(training)
        if len(self.latest) != len(sample.labels):
            self.close()
            raise UnsupportedError("its last layer does not keep examples apart: it has no features of each")

    @property
    def latest(self) -> torch.Tensor:
        """Of the latest answer."""
        assert self._latest is not None
        return self._latest

    def close(self) -> None:
        """Watch no more."""
        self._hook.remove()

    def _keep(self, layer: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        values = inputs[0]
        if isinstance(layer, torch.nn.Linear):
            self._latest = values.flatten(1, -2).mean(dim=1) if values.ndim > 2 else values
        else:
            self._latest = values.flatten(2).mean(dim=2)
