"""Learning from a teacher: its answers, its features, or how examples relate in them. Imports torch: for children only.

Answers: Hinton et al. 2015, "Distilling the knowledge in a neural network". Features: Romero et al. 2015, "FitNets", at
the last layer's inputs. Relations: Park et al. 2019, "Relational knowledge distillation", with its weights.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch.nn import functional

from workers.training.batches import Batch, answer
from workers.training.checkpoints import digest_of
from workers.training.features import Features
from workers.training.losses import Loss

#: What a teacher said is kept, up to so many bytes, and not asked for in every epoch again.
_KEPT_BYTES = 512 * 2**20
#: Of distances and angles, in the paper.
_DISTANCE, _ANGLE = 25.0, 50.0
_TINY = 1e-12


class Distillation(Loss):
    """The teacher's part by its weight, and the cross-entropy of the labels by the rest."""

    def __init__(self, teacher: torch.nn.Module, examples: int, alpha: float) -> None:
        """Learn from a teacher.

        Args:
            teacher: takes the same inputs; is not changed.
            examples: how many there are in the data set.
            alpha: weight of the teacher's part, 0 to 1.
        """
        self._teacher = teacher.eval()
        self._examples, self._alpha = examples, alpha
        self._digest = digest_of(teacher)
        self._said: torch.Tensor | None = None
        self._known = np.zeros(examples, dtype=bool)

    @property
    def identity(self) -> str:
        """See `Loss.identity`."""
        return f"{type(self).__name__} {self._alpha:g} {self._digest}"

    def __call__(self, scores: torch.Tensor, batch: Batch) -> torch.Tensor:
        """See `Loss.__call__`."""
        labels = functional.cross_entropy(scores, batch.labels)
        return self._alpha * self._part(scores, self._from_teacher(batch)) + (1 - self._alpha) * labels

    @abstractmethod
    def _part(self, scores: torch.Tensor, said: torch.Tensor) -> torch.Tensor:
        """The teacher's part of the loss."""

    def _ask(self, batch: Batch) -> torch.Tensor:
        """What the teacher says to a batch, (examples, any)."""
        return answer(self._teacher, batch)

    def _from_teacher(self, batch: Batch) -> torch.Tensor:
        if self._said is not None and self._known[batch.indices].all():
            return self._said[torch.from_numpy(batch.indices)]
        with torch.no_grad():
            said = self._ask(batch)
        if self._said is None and self._examples * said.shape[1] * said.element_size() <= _KEPT_BYTES:
            self._said = torch.zeros(self._examples, said.shape[1], dtype=said.dtype)
        if self._said is not None:
            self._said[torch.from_numpy(batch.indices)] = said
            self._known[batch.indices] = True
        return said


class Response(Distillation):
    """The teacher's answers, softened by a temperature."""

    def __init__(self, teacher: torch.nn.Module, examples: int, alpha: float, temperature: float) -> None:
        """See `Distillation`; the higher the temperature, the more the order of unlikely classes counts."""
        super().__init__(teacher, examples, alpha)
        self._temperature = temperature

    @property
    def identity(self) -> str:
        """See `Loss.identity`."""
        return f"{super().identity} {self._temperature:g}"

    def _part(self, scores: torch.Tensor, said: torch.Tensor) -> torch.Tensor:
        wanted = functional.softmax(said / self._temperature, dim=1)
        given = functional.log_softmax(scores / self._temperature, dim=1)
        return functional.kl_div(given, wanted, reduction="batchmean") * self._temperature**2


class _OfFeatures(Distillation):
    """Watches the features of both."""

    _student: Features
    _teachers: Features

    @contextmanager
    def watching(self, module: torch.nn.Module, sample: Batch) -> Iterator[torch.nn.Module]:
        """See `Loss.watching`."""
        self._student, self._teachers = Features(module, sample), Features(self._teacher, sample)
        try:
            yield self._own()
        finally:
            self._student.close()
            self._teachers.close()

    def _own(self) -> torch.nn.Module:
        return torch.nn.Identity()

    def _ask(self, batch: Batch) -> torch.Tensor:
        super()._ask(batch)
        return self._teachers.latest


class Feature(_OfFeatures):
    """The teacher's features, from the student's by a linear map that is learnt beside it and dropped."""

    def _own(self) -> torch.nn.Module:
        self._map = torch.nn.Linear(self._student.latest.shape[1], self._teachers.latest.shape[1])
        return self._map

    def _part(self, scores: torch.Tensor, said: torch.Tensor) -> torch.Tensor:
        # Relative, so that the weight means the same for features of any size.
        error = functional.mse_loss(self._map(self._student.latest), said)
        return error / said.square().mean().clamp(min=_TINY)


class Relation(_OfFeatures):
    """Distances of pairs and angles of triples of examples, as they are in the teacher's features."""

    def _part(self, scores: torch.Tensor, said: torch.Tensor) -> torch.Tensor:
        own = self._student.latest
        distance = functional.smooth_l1_loss(_distances(own), _distances(said))
        angle = functional.smooth_l1_loss(_angles(own), _angles(said))
        return _DISTANCE * distance + _ANGLE * angle


def _distances(features: torch.Tensor) -> torch.Tensor:
    """(n, features) to (pairs,), in units of their mean."""
    found: torch.Tensor = functional.pdist(features)
    return found / found.mean().clamp(min=_TINY)


def _angles(features: torch.Tensor) -> torch.Tensor:
    """(n, features) to (n, n, n): cosine of the angle at each example between two others."""
    towards = functional.normalize(features.unsqueeze(0) - features.unsqueeze(1), dim=2, eps=_TINY)
    return torch.bmm(towards, towards.transpose(1, 2))
