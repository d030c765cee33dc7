"""Whether a module whose channels were cut computes what it should."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

import numpy as np

from workers.errors import AttemptError, Cause, first_line
from workers.examples import Array, Examples
from workers.models.torch_export import flatten_outputs, tensors

if TYPE_CHECKING:
    import torch


class CutCheck:
    """Holds a cut module to the whole one whose removed channels nobody reads: both must answer the same."""

    def __init__(self, module: torch.nn.Module, examples: Examples) -> None:
        self._names = {layer: name for name, layer in module.named_modules()}
        self._whole = deepcopy(module)
        self._layers = dict(self._whole.named_modules())
        self._shapes = [output.shape for output in self._answer(module, examples)]
        #: Layer to the channels of the whole module that its inputs still are.
        self._left: dict[str, list[int]] = {}
        self._comparable = True

    def silence(self, graph: Any, group: Any) -> None:
        """Let nobody read the channels that are about to be cut."""
        import torch

        for dep, indices in group:
            layer = dep.target.module
            if isinstance(layer, torch.nn.LayerNorm | torch.nn.GroupNorm):
                self._comparable = False  # it divides by the size of what is removed, too
            reads = graph.is_in_channel_pruning_fn(dep.handler) and not graph.is_out_channel_pruning_fn(dep.handler)
            if not reads or not isinstance(layer, torch.nn.Linear | torch.nn.modules.conv._ConvNd):
                continue
            name = self._names[layer]
            whole: Any = self._layers[name]
            axis = 0 if getattr(whole, "transposed", False) else 1
            left = self._left.setdefault(name, list(range(whole.weight.shape[axis])))
            gone = {index % len(left) for index in indices}  # each group of a convolution loses the same ones
            with torch.no_grad():
                whole.weight.index_fill_(axis, torch.tensor([left[index] for index in sorted(gone)]), 0.0)
            self._left[name] = [channel for index, channel in enumerate(left) if index not in gone]

    def compare(self, module: torch.nn.Module, examples: Examples, name: str) -> None:
        """Compare the answers.

        Raises:
            AttemptError: they differ, or the cut module does not run.
        """
        try:
            answers = self._answer(module, examples)
        except Exception as error:
            message = f"{name} does not run with fewer channels: {first_line(error)}"
            raise AttemptError(Cause.MODEL, "does_not_prune", message) from error
        same = [answer.shape for answer in answers] == self._shapes
        if same and self._comparable:
            wholes = self._answer(self._whole, examples)
            same = all(
                np.allclose(answer, whole, rtol=1e-3, atol=1e-3 * float(np.abs(whole).max(initial=0.0)))
                for answer, whole in zip(answers, wholes, strict=True)
            )
        if not same:
            message = f"torch-pruning cut channels of {name} that do not belong together"
            raise AttemptError(Cause.MODEL, "does_not_prune", message)

    def _answer(self, module: torch.nn.Module, examples: Examples) -> list[Array]:
        import torch

        with torch.no_grad():
            return flatten_outputs(module(*tensors(examples.input_at(0))))
