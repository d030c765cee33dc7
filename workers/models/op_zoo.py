"""`op/<operator>(...)`: one operator, or a stack of it, with seeded weights: `op/conv2d(hw=64,in=90,out=180,depth=3)`.

What each takes and counts stands in `workers.models.operators`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np

from workers.contract import ModelRequest
from workers.examples import Array
from workers.models.operators import OPERATORS, PREFIX, Layer, Shape, flops_of, layers_of
from workers.models.parameters import read_name, write_name
from workers.models.source import BuiltModule, ModuleSource, Resolved
from workers.plugins import package_versions

#: Elements of all examples together; of large inputs fewer examples are made than of small ones, but two at least.
_MOST_EXAMPLE_ELEMENTS = 1 << 23


class OpZoo(ModuleSource):
    """One name has many spellings and one artifact: it is known by its canonical one."""

    packages: ClassVar[tuple[str, ...]] = ("torch",)
    extra: ClassVar[str] = "torch"

    def names(self) -> list[str]:
        """Each operator at its default sizes."""
        return list(OPERATORS)

    def resolve(self, request: ModelRequest) -> Resolved | None:
        """See `ModelSource.resolve`."""
        if not request.name.startswith(PREFIX):
            return None
        name, values = parameters_of(request.name)
        stack_of(request)
        known = write_name(name, values, OPERATORS[name].numbers)
        identity = {"versions": package_versions(self.packages)}
        return Resolved(known, "pt2", "fp32", identity, replace(request, name=known))

    def build(self, request: ModelRequest) -> BuiltModule:
        """Stack the operator."""
        import torch

        from workers.models.operator_modules import stack

        torch.manual_seed(request.seed)
        name, values = parameters_of(request.name)
        layers = stack_of(request)
        shapes = dict(zip(("x", "y"), layers[0].inputs, strict=False))

        def make_inputs(generator: np.random.Generator, count: int) -> dict[str, Array]:
            inputs = {key: gaussian(generator, count, shape) for key, shape in shapes.items()}
            if "y" in inputs:
                inputs["y"] *= np.float32(shapes["y"][-2] ** -0.5)  # so that a product is as large as x
            return inputs

        facts = {"task": "operator", "operator_flops": flops_of(layers)}
        return BuiltModule(stack(name, values, layers), make_inputs, facts)


def parameters_of(name: str) -> tuple[str, dict[str, int]]:
    """An operator's name and the values of all its parameters, defaults included.

    Raises:
        UnknownModelError: no such operator or parameter.
    """
    return read_name(name, {key: operator.numbers for key, operator in OPERATORS.items()})


def stack_of(request: ModelRequest) -> list[Layer]:
    """The layers that a request means.

    Raises:
        UnknownModelError: they cannot be.
    """
    name, values = parameters_of(request.name)
    return layers_of(request.name, OPERATORS[name], values, request.batch)


def gaussian(generator: np.random.Generator, count: int, shape: Shape) -> Array:
    """Seeded activations of mean 0 and variance 1: (examples, *shape), float32.

    Returns:
        As many examples as asked for, or fewer where they are large.
    """
    room = _MOST_EXAMPLE_ELEMENTS // int(np.prod(shape))
    return generator.standard_normal((min(count, max(2, room)), *shape), dtype=np.float32)
