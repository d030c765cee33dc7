"""ONNX Runtime on the CPU provider."""

from __future__ import annotations

import json
import math
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from workers.contract import MeasureTask, RuntimeFacts
from workers.examples import Array
from workers.runtimes.runtime import LoadedModel, Runtime

_INTEGERS = {"uint8", "int8", "uint4", "int4"}
_PRECISIONS = {
    "float": "fp32",
    "float16": "fp16",
    "bfloat16": "bf16",
    "double": "fp64",
    **dict.fromkeys(_INTEGERS, "int8"),
}
#: Kernels that multiply and accumulate in integers, whatever their first operand is; and all that multiply.
_MULTIPLY_INTEGERS = frozenset(
    (
        *("QLinearConv", "ConvInteger", "QGemm", "QLinearMatMul", "MatMulInteger", "QAttention"),
        *("DynamicQuantizeMatMul", "MatMulIntegerToFloat"),
    )
)
_MULTIPLY = _MULTIPLY_INTEGERS | {
    *("Conv", "FusedConv", "ConvTranspose", "Gemm", "FusedGemm", "MatMul", "FusedMatMul"),
    *("Attention", "MultiHeadAttention"),
}


class OnnxRuntime(Runtime):
    """All graph optimisations, sequential execution."""

    packages: ClassVar[tuple[str, ...]] = ("onnxruntime", "onnx")
    extra: ClassVar[str] = "onnx"
    formats: ClassVar[tuple[str, ...]] = ("onnx",)

    def import_library(self) -> None:
        """See `Runtime.import_library`."""
        import onnxruntime

        onnxruntime.disable_telemetry_events()

    def load(self, artifact: Path, task: MeasureTask) -> LoadedModel:
        """See `Runtime.load`."""
        return _Session(artifact, task)


class _Session(LoadedModel):
    def __init__(self, artifact: Path, task: MeasureTask) -> None:
        import onnxruntime

        self._artifact = artifact
        self._task = task
        self._session = onnxruntime.InferenceSession(str(artifact), self._options(), providers=["CPUExecutionProvider"])
        self._result: list[Array] = []

    def _options(self) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._task.options.threads
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.log_severity_level = 3
        return options

    def _feeds(self, inputs: dict[str, Array]) -> dict[str, Array]:
        wanted = self._session.get_inputs()
        return {
            item.name: np.ascontiguousarray(value, dtype=numpy_dtype(item.type))
            for item, value in zip(wanted, inputs.values(), strict=True)
        }

    def bind(self, inputs: dict[str, Array]) -> Callable[[], object]:
        feeds = self._feeds(inputs)
        session_run = self._session.run

        def run() -> None:
            self._result = session_run(None, feeds)

        return run

    def outputs(self) -> list[Array]:
        return [np.asarray(value) for value in self._result]

    def facts(self, inputs: dict[str, Array]) -> RuntimeFacts:
        import onnxruntime

        macs = self._macs_by_type(inputs)
        total = sum(macs.values())
        integers = sum(count for kind, count in macs.items() if kind in _INTEGERS)
        floats = Counter({kind: count for kind, count in macs.items() if kind not in _INTEGERS})
        main = (macs if integers * 2 >= total else floats).most_common(1)
        return RuntimeFacts(
            name="onnxruntime",
            version=onnxruntime.__version__,
            options={
                "provider": self._session.get_providers()[0],
                "graph_optimization": "all",
                "execution": "sequential",
            },
            precision=_PRECISIONS.get(main[0][0], main[0][0]) if main else "unknown",
            compute_unit="cpu",
            evidence="read back from its own profile of one run",
            quantised_flop_share=integers / total if total else None,
        )

    def _macs_by_type(self, inputs: dict[str, Array]) -> Counter[str]:
        """Multiply-accumulates of one profiled run by the type of the first operand of each kernel.

        The profile names every kernel that ran with its shapes; weights that a kernel packed for itself are missing
        there, so their shapes come from the optimised graph that the same session writes.
        """
        import onnx
        import onnxruntime

        with tempfile.TemporaryDirectory() as folder:
            options = self._options()
            options.enable_profiling = True
            options.profile_file_prefix = str(Path(folder, "profile"))
            options.optimized_model_filepath = str(Path(folder, "optimised.onnx"))
            session = onnxruntime.InferenceSession(str(self._artifact), options, providers=["CPUExecutionProvider"])
            session.run(None, self._feeds(inputs))
            events = json.loads(Path(session.end_profiling()).read_bytes())
            graph = onnx.load(options.optimized_model_filepath, load_external_data=False).graph
        shapes = {item.name: tuple(item.dims) for item in graph.initializer}
        kernels = {node.name: [shapes[name] for name in node.input if name in shapes] for node in graph.node}
        macs: Counter[str] = Counter()
        for event in events:
            details = event.get("args", {})
            operator = details.get("op_name")
            if event.get("cat") != "Node" or operator not in _MULTIPLY:
                continue
            kind, shape = next(iter(details["input_type_shape"][0].items()))
            out = math.prod(next(iter(details["output_type_shape"][0].values())))
            if "Conv" in operator:
                weights = [
                    dims for dims in kernels.get(event["name"].removesuffix("_kernel_time"), []) if len(dims) >= 3
                ]
                depth = math.prod(weights[0][1:]) if weights else 0
            else:
                depth = shape[-1] if shape else 0
            macs["uint8" if operator in _MULTIPLY_INTEGERS else kind] += out * depth
        return macs


def numpy_dtype(onnx_type: str) -> np.dtype[Any]:
    """The numpy type of an ONNX Runtime type string such as `tensor(float)`."""
    name = onnx_type.removeprefix("tensor(").removesuffix(")")
    return np.dtype({"float": "float32", "double": "float64"}.get(name, name))
