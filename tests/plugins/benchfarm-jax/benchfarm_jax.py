"""JAX for benchfarm: a source of one model, and the runtime for the format it is exported to."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from workers.contract import MeasureTask, ModelRequest, RuntimeFacts
from workers.examples import Array, Examples
from workers.models.source import FIDELITY_EXAMPLES, Made, ModelSource, Resolved, write_examples
from workers.plugins import package_versions
from workers.runtimes.runtime import LoadedModel, Runtime

_NAME = "jax/mlp"
_WIDTHS = (64, 128, 10)


class JaxZoo(ModelSource):
    """One perceptron, exported as StableHLO by `jax.export`; JAX itself is its reference."""

    packages: ClassVar[tuple[str, ...]] = ("jax",)
    formats: ClassVar[tuple[str, ...]] = ("stablehlo",)

    def names(self) -> list[str]:
        """See `ModelSource.names`."""
        return [_NAME]

    def resolve(self, request: ModelRequest) -> Resolved | None:
        """See `ModelSource.resolve`."""
        if request.name != _NAME:
            return None
        return Resolved(_NAME, "stablehlo", "fp32", {"versions": package_versions(self.packages)}, request)

    def materialise(self, request: ModelRequest, folder: Path) -> Made:
        """See `ModelSource.materialise`."""
        import jax
        from jax import export, numpy

        generator = np.random.default_rng(request.seed)
        weights = [
            generator.normal(0, rows**-0.5, (rows, columns)).astype(np.float32)
            for rows, columns in itertools.pairwise(_WIDTHS)
        ]

        def perceptron(x: Any) -> Any:
            for weight in weights[:-1]:
                x = jax.nn.relu(numpy.dot(x, weight))
            return numpy.dot(x, weights[-1])

        inputs = generator.normal(0, 1, (FIDELITY_EXAMPLES, request.batch, _WIDTHS[0])).astype(np.float32)
        exported = export.export(jax.jit(perceptron))(jax.ShapeDtypeStruct(inputs.shape[1:], np.float32))
        artifact = folder / "model.stablehlo"
        artifact.write_bytes(exported.serialize())
        outputs = np.stack([np.asarray(perceptron(x)) for x in inputs])
        examples, calibration = write_examples(folder, request, Examples({"x": inputs}, (outputs,)), None)
        return Made(artifact, examples, calibration, facts={"parameters": sum(weight.size for weight in weights)})


class Jax(Runtime):
    """Compiles for the CPU by XLA; compilation is apart from loading."""

    packages: ClassVar[tuple[str, ...]] = ("jax",)
    formats: ClassVar[tuple[str, ...]] = ("stablehlo",)

    def import_library(self) -> None:
        """See `Runtime.import_library`."""
        import jax
        from jax import export  # noqa: F401

        jax.config.update("jax_platforms", "cpu")

    def load(self, artifact: Path, task: MeasureTask) -> LoadedModel:
        """See `Runtime.load`."""
        from jax import export

        return _Program(export.deserialize(bytearray(artifact.read_bytes())))


class _Program(LoadedModel):
    def __init__(self, exported: Any) -> None:
        import jax

        self._call = jax.jit(exported.call)
        self._result: Any = None

    def compile(self, inputs: dict[str, Array]) -> bool:
        self._call = self._call.lower(*inputs.values()).compile()
        return True

    def bind(self, inputs: dict[str, Array]) -> Callable[[], object]:
        import jax

        placed = [jax.device_put(value) for value in inputs.values()]
        call = self._call

        def run() -> None:
            self._result = call(*placed).block_until_ready()

        return run

    def outputs(self) -> list[Array]:
        return [np.asarray(self._result)]

    def facts(self, inputs: dict[str, Array]) -> RuntimeFacts:
        import jax

        text = self._call.as_text()
        return RuntimeFacts(
            name="jax",
            version=jax.__version__,
            options={"backend": jax.default_backend()},
            precision="fp32" if "f32" in text and "bf16" not in text else "unknown",
            compute_unit=self._result.device.platform,
            evidence="types in the program that XLA compiled",
        )
