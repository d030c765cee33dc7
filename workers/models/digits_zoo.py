"""`digits/<name>`: small classifiers of scikit-learn's digits, trained here in seconds: every recipe has an accuracy.

`mlp` and `cnn` are students; `wide_cnn`, ten times larger, is their teacher.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from workers.contract import ModelRequest
from workers.data_sets.digits import CLASSES, NAME, digest, digits
from workers.examples import Array
from workers.models.source import BuiltModule, MissingPackagesError, ModuleSource, Resolved, UnknownModelError
from workers.plugins import capability, package_versions

if TYPE_CHECKING:
    import torch

_PREFIX = "digits/"
#: Outputs of the layers of each model; the last is followed by the classes.
_WIDTHS = {"mlp": (128, 64), "cnn": (32, 64, 64), "wide_cnn": (96, 192, 256)}
#: Passes over the training examples, and the rate at their beginning: seconds of one core, a dozen of the teacher.
_EPOCHS = {"mlp": 15, "cnn": 15, "wide_cnn": 8}
_RATE = 3e-3


class DigitsZoo(ModuleSource):
    """Weights are learnt by the seed when the canonical program is made; data for training and tests comes along."""

    packages: ClassVar[tuple[str, ...]] = ("torch", "scikit-learn")
    extra: ClassVar[str] = "torch"

    def names(self) -> list[str]:
        """All three."""
        return [_PREFIX + name for name in _WIDTHS]

    def resolve(self, request: ModelRequest) -> Resolved | None:
        """See `ModelSource.resolve`."""
        if not request.name.startswith(_PREFIX):
            return None
        name = request.name.removeprefix(_PREFIX)
        if name not in _WIDTHS:
            close = get_close_matches(name, _WIDTHS, n=1)
            hint = f"did you mean {_PREFIX}{close[0]}?" if close else f"there are {', '.join(self.names())}"
            raise UnknownModelError(f"unknown model {request.name}; {hint}")
        able = capability("digits", self.packages, self.extra)
        if able.why_not is not None:
            raise MissingPackagesError(f"{request.name}: {able.why_not}; {able.fix}")
        identity = {"versions": package_versions(self.packages), "digits": digest()}
        return Resolved(request.name, "pt2", "fp32", identity, request, weights="trained", data=NAME)

    def build(self, request: ModelRequest) -> BuiltModule:
        """Build the layers; `learn` gives them their weights."""
        import torch

        split = digits()
        assert split.train is not None
        train, test = split.train, split.test
        torch.manual_seed(request.seed)
        name = request.name.removeprefix(_PREFIX)
        module = _mlp(_WIDTHS[name]) if name == "mlp" else _cnn(_WIDTHS[name])

        def make_inputs(generator: np.random.Generator, count: int) -> dict[str, Array]:
            rows = generator.integers(len(train), size=(count, request.batch))
            return {"image": train.inputs["image"][rows]}

        def learn() -> dict[str, Any]:
            from workers.training.budget import Budget
            from workers.training.trainer import Trainer

            # Kept on the host: a teacher is read back, not trained for each of its students.
            trainer = Trainer(
                train,
                budget=Budget(epochs=_EPOCHS[name]),
                test=test,
                rate=_RATE,
                seed=request.seed,
                title=request.name,
            )
            threads = torch.get_num_threads()
            torch.set_num_threads(1)  # layers this small gain nothing by more, and one adds up the same everywhere
            try:
                fitted = trainer.fit(module)
            finally:
                torch.set_num_threads(threads)
            return {"training": fitted.facts()}

        facts = {
            "task": "classification",
            "classes": list(CLASSES),
            "image": {"mean": [0.0], "std": [1.0]},
            "data": {"name": NAME, "train": len(train), "test": len(test), "classes": len(CLASSES), "skipped": []},
        }
        return BuiltModule(module, make_inputs, facts, learn=learn, train=train, test=test)


def _mlp(widths: tuple[int, ...]) -> torch.nn.Module:
    from torch import nn

    layers: list[nn.Module] = [nn.Flatten()]
    before = 64
    for width in widths:
        layers += [nn.Linear(before, width), nn.ReLU()]
        before = width
    return nn.Sequential(*layers, nn.Linear(before, len(CLASSES)))


def _cnn(widths: tuple[int, ...]) -> torch.nn.Module:
    """Convolutions of 3 x 3, each with a batch norm; the last but one halves the image."""
    from torch import nn

    layers: list[nn.Module] = []
    before = 1
    for width in widths:
        stride = 2 if before == widths[-3] else 1
        layers += [nn.Conv2d(before, width, 3, stride=stride, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        before = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, len(CLASSES)))
