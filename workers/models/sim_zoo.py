"""`sim/<name>`: models that only simulated devices run. Nothing is ever computed; each stands for a time.

`sim/<name>@1.05` is another build of the model, one that takes 1.05 times as long: the same series, another artifact.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import ClassVar

import numpy as np

from workers.contract import ModelRequest
from workers.examples import Examples
from workers.models.source import (
    CALIBRATION_EXAMPLES,
    FIDELITY_EXAMPLES,
    Made,
    ModelSource,
    Resolved,
    UnknownModelError,
    write_examples,
)

PREFIX = "sim/"
FORMAT = "sim"
#: Every simulated model has one input, of so many numbers.
INPUT_WIDTH = 16
#: How much faster than in fp32 a recipe runs.
SPEED_UPS = {"fp32": 1.0, "int8-static": 2.2}
#: Builds are told apart by hundredths, from half to twice the time.
_LEAST_BUILD, _MOST_BUILD = 50, 200


@dataclass(frozen=True, kw_only=True)
class SimLayer:
    """One operation of a simulated model."""

    name: str
    type: str
    #: Share of an inference.
    share: float
    #: Two per multiply-accumulate; None for what multiplies nothing.
    flops: int | None
    bytes: int


@dataclass(frozen=True, kw_only=True)
class SimModel:
    """What a simulated model stands for."""

    #: One inference in fp32 on a device of speed 1.
    nominal_ms: float
    layers: tuple[SimLayer, ...]


def _network(nominal_ms: float, blocks: int, kind: str) -> SimModel:
    """Blocks of one heavy and one light operation, and a head; the middle blocks weigh most."""
    weights = [1.0 + min(index, blocks - 1 - index) for index in range(blocks)]
    layers = []
    for index, weight in enumerate(weights):
        share = 0.95 * weight / sum(weights)
        work = int(share * nominal_ms * 2e7)
        name = f"blocks.{index}"
        layers.append(SimLayer(name=f"{name}.mix", type=kind, share=0.85 * share, flops=work, bytes=work // 20))
        layers.append(SimLayer(name=f"{name}.act", type="Relu", share=0.15 * share, flops=None, bytes=work // 40))
    head = int(0.05 * nominal_ms * 2e7)
    layers.append(SimLayer(name="head", type="MatMul", share=0.05, flops=head, bytes=head // 10))
    return SimModel(nominal_ms=nominal_ms, layers=tuple(layers))


MODELS = {
    "sim/tiny": _network(0.5, 2, "Conv"),
    "sim/mobilenet": _network(8.0, 8, "Conv"),
    "sim/detector": _network(40.0, 16, "Conv"),
    "sim/transformer": _network(120.0, 12, "MatMul"),
}


class SimZoo(ModelSource):
    """Needs no package: a farm can be tried where no framework is installed."""

    formats: ClassVar[tuple[str, ...]] = (FORMAT,)
    simulated: ClassVar[bool] = True

    def names(self) -> list[str]:
        """See `ModelSource.names`."""
        return sorted(MODELS)

    def resolve(self, request: ModelRequest) -> Resolved | None:
        """See `ModelSource.resolve`."""
        if not request.name.startswith(PREFIX):
            return None
        name, build = _build(request.name)
        if name not in MODELS:
            close = get_close_matches(name, MODELS, n=3) or sorted(MODELS)
            raise UnknownModelError(f"unknown model {request.name}; did you mean {', '.join(close)}?")
        identity = {"simulated": True, **({"build": build} if build is not None else {})}
        return Resolved(name, FORMAT, "fp32", identity, request)

    def materialise(self, request: ModelRequest, folder: Path) -> Made:
        """Write down which model it is; nobody computes with the examples."""
        artifact = folder / "model.sim"
        name, build = _build(request.name)
        artifact.write_text(program(name, "fp32", request.seed, build), encoding="ascii")
        shape = (request.batch, INPUT_WIDTH)
        given, calibration = (
            Examples({"input": np.zeros((count, *shape), np.float32)})
            for count in (FIDELITY_EXAMPLES, CALIBRATION_EXAMPLES)
        )
        examples_path, calibration_path = write_examples(folder, request, given, calibration)
        return Made(artifact, examples_path, calibration_path, facts={"simulated": True, "task": "none"})


def program(model: str, recipe: str, seed: int, build: int | None = None) -> str:
    """The bytes of a simulated program; of another build, hundredths of the model's time say which."""
    if build is not None:
        return json.dumps({"simulated": True, "model": model, "recipe": recipe, "build": build}, sort_keys=True)
    return json.dumps({"simulated": True, "model": model, "recipe": recipe, "seed": seed}, sort_keys=True)


def slow_down_of(artifact_sha256: str | None) -> float:
    """How many times as long a program takes as its model does: a device is told its digest alone."""
    return _slow_downs().get(artifact_sha256 or "", 1.0)


@cache
def _slow_downs() -> dict[str, float]:
    return {
        hashlib.sha256(program(model, recipe, 0, build).encode("ascii")).hexdigest(): build / 100
        for model in MODELS
        for recipe in SPEED_UPS
        for build in range(_LEAST_BUILD, _MOST_BUILD + 1)
    }


def _build(name: str) -> tuple[str, int | None]:
    """The model of a name, and hundredths of its time that the build takes; None: it names none.

    Raises:
        UnknownModelError: it names one that there is not.
    """
    model, at, told = name.partition("@")
    if not at:
        return model, None
    try:
        build = round(float(told) * 100)
    except (ValueError, OverflowError):
        build = 0
    if not _LEAST_BUILD <= build <= _MOST_BUILD:
        raise UnknownModelError(f"{name}: a build takes 0.50 to 2.00 times as long, such as {model}@1.05")
    return model, build
