"""Core ML on a Mac, through coremltools. Not yet run on real hardware (docs/verified.md)."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from workers.contract import MeasureTask, RuntimeFacts
from workers.coremltools_alone import import_coremltools
from workers.examples import Array
from workers.runtimes.core_ml_image import read_interface
from workers.runtimes.runtime import LoadedModel, Runtime


class CoreMl(Runtime):
    """Compute units: cpu runs CPU_ONLY; all lets Core ML choose, and the plan says what it chose."""

    packages: ClassVar[tuple[str, ...]] = ("coremltools",)
    extra: ClassVar[str] = "coreml"
    formats: ClassVar[tuple[str, ...]] = ("mlpackage",)
    device_kinds: ClassVar[tuple[str, ...]] = ("cpu", "mac")

    def why_not(self, system: str) -> str | None:
        """Core ML is part of macOS."""
        return None if system == "Darwin" else f"Core ML runs on macOS only, this host is {system}"

    def import_library(self) -> None:
        """See `Runtime.import_library`."""
        import_coremltools()

    def load(self, artifact: Path, task: MeasureTask) -> LoadedModel:
        """See `Runtime.load`."""
        return _Package(artifact, task)


class _Package(LoadedModel):
    def __init__(self, artifact: Path, task: MeasureTask) -> None:
        coremltools = import_coremltools()
        self._units = coremltools.ComputeUnit.CPU_ONLY if task.compute_unit == "cpu" else coremltools.ComputeUnit.ALL
        self._model = coremltools.models.MLModel(str(artifact), compute_units=self._units)
        self._inputs = self._model.get_spec().description.input
        self._image = read_interface(self._model.user_defined_metadata)
        self._result: dict[str, Any] = {}

    def bind(self, inputs: dict[str, Array]) -> Callable[[], object]:
        feeds = {item.name: self._feed(value) for item, value in zip(self._inputs, inputs.values(), strict=True)}
        predict = self._model.predict

        def run() -> None:
            self._result = predict(feeds)

        return run

    def _feed(self, value: Array) -> Any:
        if self._image is None:
            return np.ascontiguousarray(value)
        from PIL import Image

        return Image.fromarray(self._image.to_pixels(value))

    def outputs(self) -> list[Array]:
        described = self._model.get_spec().description
        if self._image is not None and self._image.labels is not None:
            return [self._image.to_scores(self._result[described.predictedProbabilitiesName])]
        names = [item.name for item in described.output]
        return [np.asarray(self._result[name]) for name in names]

    def facts(self, inputs: dict[str, Array]) -> RuntimeFacts:
        import coremltools
        from coremltools.models.compute_plan import MLComputePlan

        plan = MLComputePlan.load_from_path(self._model.get_compiled_model_path(), compute_units=self._units)
        weights: Counter[str] = Counter()
        for operation in plan.model_structure.program.functions["main"].block.operations:
            usage = plan.get_compute_device_usage_for_mlprogram_operation(operation)
            cost = plan.get_estimated_cost_for_mlprogram_operation(operation)
            if usage is not None and cost is not None:
                weights[type(usage.preferred_compute_device).__name__] += cost.weight
        unit = {"MLCPUComputeDevice": "cpu", "MLGPUComputeDevice": "gpu", "MLNeuralEngineComputeDevice": "ane"}
        main = weights.most_common(1)
        return RuntimeFacts(
            name="coreml",
            version=f"{platform.mac_ver()[0]} (coremltools {coremltools.__version__})",
            options={"compute_units": self._units.name},
            precision=_program_precision(self._model.get_spec()),
            compute_unit=unit.get(main[0][0], main[0][0]) if main else "unknown",
            evidence="types in the ML program; Core ML's compute plan, which is a plan and no observation",
        )


def _program_precision(spec: Any) -> str:
    """The commonest type of the multiplying operations' outputs in the program (MIL: FLOAT16 = 10, FLOAT32 = 11)."""
    kinds: Counter[int] = Counter()
    for function in spec.mlProgram.functions.values():
        for block in function.block_specializations.values():
            for operation in block.operations:
                if operation.type in ("conv", "linear", "matmul"):
                    kinds[operation.outputs[0].type.tensorType.dataType] += 1
    main = kinds.most_common(1)
    return {10: "fp16", 11: "fp32"}.get(main[0][0], "other") if main else "unknown"
