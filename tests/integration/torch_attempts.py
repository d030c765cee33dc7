"""Attempts on small torch models, each in a child as an agent would have it: no setting of torch outlives its test."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.warm import WarmTorch
from workers.child import child_environment
from workers.codec import read_document, write_document
from workers.contract import ConvertTask, Limits, MeasureTask, ModelRequest, Options, Order, Result

_RUNNER = """
import sys
from pathlib import Path
from workers.runner import main
sys.exit(main(Path(sys.argv[1])))
"""
_MODELS = '''
import torch
from torch import nn

class Residual(nn.Module):
    """Convolutions with everything that is fused into them: batch norm, activation, addition."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(16)
        self.relu = nn.ReLU()
        self.body = nn.Conv2d(16, 16, 3, padding=1)
        self.head = nn.Linear(16, 10)

    def forward(self, image):
        x = self.relu(self.norm(self.stem(image)))
        x = self.relu(self.body(x) + x)
        return self.head(x.mean((2, 3)))

def residual():
    torch.manual_seed(0)
    return Residual(), {"image": torch.randn(1, 3, 32, 32)}

def perceptron():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 16)), {"data": torch.randn(4, 64)}

def convolution():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()), {"image": torch.randn(1, 3, 8, 8)}
'''


@dataclass
class Attempts:
    """Runs orders one after the other, in a folder of its own; compiled code is kept between them."""

    folder: Path
    warm: WarmTorch
    count: int = 0

    def make(self, name: str) -> dict[str, str]:
        """The canonical program of one of the models above, as paths by role."""
        (self.folder / "small_models.py").write_text(_MODELS)
        request = ModelRequest(name=f"small_models:{name}", allow_code=True, search_path=(str(self.folder),))
        task = ConvertTask(entry="workers.models.factory:Factory", format="pt2", recipe="fp32", model=request)
        return self._paths(self.run(convert=task))

    def convert(self, source: dict[str, str], entry: str, recipe: str) -> Result:
        """One conversion of a canonical program."""
        return self.run(source, convert=ConvertTask(entry=entry, format="pt2", recipe=recipe, input_format="pt2"))

    def converted(self, source: dict[str, str], entry: str, recipe: str) -> dict[str, str]:
        """One conversion that succeeds, as paths by role."""
        return {**source, **self._paths(self.convert(source, entry, recipe))}

    def measure(self, paths: dict[str, str], entry: str, recipe: str = "fp32", **options: str) -> Result:
        """The shortest measurement."""
        return self.run(paths, measure=_task(entry, recipe, options))

    def profile(self, paths: dict[str, str], entry: str, recipe: str = "fp32", **options: str) -> Result:
        """One profile."""
        return self.run(paths, profile=_task(entry, recipe, options))

    def run(self, paths: dict[str, str] | None = None, **task: Any) -> Result:
        """One attempt by the runner in a child, with the environment and the limits that an agent gives it."""
        self.count += 1
        attempt = self.folder / f"attempt-{self.count}"
        (attempt / "tmp").mkdir(parents=True)
        limits = Limits(deadline_s=500.0, memory_bytes=8 * 2**30)
        order = Order(attempt_id=self.count, token="t" * 32, place="here", limits=limits, paths=paths or {}, **task)
        write_document(order, attempt / "order.json")
        environment = child_environment(order, attempt, self.warm.cache)
        self.warm.run(_RUNNER, str(attempt), folder=attempt, environment=environment)
        return read_document(Result, attempt / "result.json")

    def _paths(self, result: Result) -> dict[str, str]:
        assert result.conversion is not None, result.failure
        files = {"artifact": result.conversion.artifact, **result.conversion.companions}
        return {
            role: str(self.folder / f"attempt-{self.count}" / "out" / Path(str(file.path)).name)
            for role, file in files.items()
        }


def _task(entry: str, recipe: str, options: dict[str, str]) -> MeasureTask:
    return MeasureTask(
        runtime="under-test",
        entry=entry,
        format="pt2",
        recipe=recipe,
        model="small",
        weights="random",
        compute_unit="cpu",
        options=Options(threads=1, min_seconds=0.1, max_seconds=0.5, runtime_options=options),
    )
