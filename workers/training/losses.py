"""What a training makes small. Imports torch: for children only."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from workers.training.batches import Batch


class Loss(ABC):
    """A loss of a batch's scores."""

    @property
    @abstractmethod
    def identity(self) -> str:
        """What it depends on, as text: trainings of other losses are others."""

    @contextmanager
    def watching(self, module: torch.nn.Module, sample: Batch) -> Iterator[torch.nn.Module]:
        """Prepare for the training of a module; yields what of the loss itself learns, nothing by default."""
        yield torch.nn.Identity()

    @abstractmethod
    def __call__(self, scores: torch.Tensor, batch: Batch) -> torch.Tensor:
        """The loss of scores (examples, classes), as one number."""


class CrossEntropy(Loss):
    """Of the labels."""

    @property
    def identity(self) -> str:
        """See `Loss.identity`."""
        return "cross-entropy"

    def __call__(self, scores: torch.Tensor, batch: Batch) -> torch.Tensor:
        """See `Loss.__call__`."""
        return torch.nn.functional.cross_entropy(scores, batch.labels)
