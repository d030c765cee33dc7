"""ONNX Runtime on the providers of a host without a GPU."""

from __future__ import annotations

import json
import math
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from workers.contract import MeasureTask, Op, RuntimeFacts
from workers.errors import UnsupportedError
from workers.examples import Array
from workers.onnx_layers import layers_of_optimised
from workers.runtimes.runtime import LINUX_CPU, LoadedModel, OpTimes, Runtime, median_times, option, time_runs

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


#: Runs of a fresh session that a profile leaves out.
_PROFILE_WARM_UP = 3
#: Providers of a host without a GPU, by the names people use.
_PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "xnnpack": "XnnpackExecutionProvider",
    "dnnl": "DnnlExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
}


class OnnxRuntime(Runtime):
    """By default all graph optimisations, sequential execution, and the runtime's own CPU provider."""

    packages: ClassVar[tuple[str, ...]] = ("onnxruntime", "onnx")
    extra: ClassVar[str] = "onnx"
    formats: ClassVar[tuple[str, ...]] = ("onnx",)
    options: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "graph_optimization": ("all", "extended", "basic", "none"),
        "execution": ("sequential", "parallel"),
        "provider": tuple(_PROVIDERS),
    }
    seen: ClassVar[Mapping[str, Mapping[str, str | None]]] = {
        LINUX_CPU: {
            "fp32": None,
            "fp16": "its CPU provider computes such graphs in fp32 on x86",
            "int8-dynamic": None,
            "int8-static": None,
        }
    }

    def import_library(self) -> None:
        """See `Runtime.import_library`."""
        import onnxruntime

        onnxruntime.disable_telemetry_events()

    def load(self, artifact: Path, task: MeasureTask) -> LoadedModel:
        """See `Runtime.load`."""
        import onnxruntime

        provider = option(self, task, "provider")
        offered = onnxruntime.get_available_providers()
        if _PROVIDERS[provider] not in offered:
            raise UnsupportedError(
                f"this build of onnxruntime has no provider {provider}; it has {', '.join(sorted(offered))}"
            )
        return _Session(artifact, task, {name: option(self, task, name) for name in self.options})


class _Session(LoadedModel):
    def __init__(self, artifact: Path, task: MeasureTask, chosen: dict[str, str]) -> None:
        self._artifact = artifact
        self._task = task
        self._chosen = chosen
        self._session = self._open(self._session_options())
        self._result: list[Array] = []

    def _open(self, options: Any) -> Any:
        import onnxruntime

        providers = dict.fromkeys((_PROVIDERS[self._chosen["provider"]], _PROVIDERS["cpu"]))
        return onnxruntime.InferenceSession(str(self._artifact), options, providers=list(providers))

    def _session_options(self) -> Any:
        import onnxruntime

        parallel = self._chosen["execution"] == "parallel"
        levels = onnxruntime.GraphOptimizationLevel
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._task.options.threads
        options.inter_op_num_threads = self._task.options.threads if parallel else 1
        modes = onnxruntime.ExecutionMode
        options.execution_mode = modes.ORT_PARALLEL if parallel else modes.ORT_SEQUENTIAL
        options.graph_optimization_level = {
            "all": levels.ORT_ENABLE_ALL,
            "extended": levels.ORT_ENABLE_EXTENDED,
            "basic": levels.ORT_ENABLE_BASIC,
            "none": levels.ORT_DISABLE_ALL,
        }[self._chosen["graph_optimization"]]
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

        (kernels,), _ = self._profiled_runs(inputs, 1)
        macs: Counter[str] = Counter()
        provider_macs: Counter[str] = Counter()
        for kernel in kernels:
            macs[kernel.arithmetic] += kernel.macs
            provider_macs[kernel.provider] += kernel.macs
        total = sum(macs.values())
        integers = sum(count for kind, count in macs.items() if kind in _INTEGERS)
        floats = Counter({kind: count for kind, count in macs.items() if kind not in _INTEGERS})
        main = (macs if integers * 2 >= total else floats).most_common(1)
        wanted = _PROVIDERS[self._chosen["provider"]]
        delegated = provider_macs[wanted] / total if total and wanted != _PROVIDERS["cpu"] else None
        if delegated == 0:
            raise UnsupportedError(f"the provider {self._chosen['provider']} took no operation of this model")
        return RuntimeFacts(
            name="onnxruntime",
            version=onnxruntime.__version__,
            options={**self._chosen, "providers": self._session.get_providers()},
            precision=_PRECISIONS.get(main[0][0], main[0][0]) if total else "unknown",
            compute_unit="cpu",
            evidence="read back from its own profile of one run",
            quantised_flop_share=integers / total if total else None,
            delegated_share=delegated,
        )

    def profile(self, inputs: dict[str, Array], runs: int) -> OpTimes:
        kernels, run_ms = self._profiled_runs(inputs, runs + _PROFILE_WARM_UP)
        kernels, run_ms = kernels[_PROFILE_WARM_UP:], run_ms[_PROFILE_WARM_UP:]
        times_us = median_times([[kernel.time_us for kernel in run] for run in kernels])
        ops = tuple(
            Op(
                name=kernel.name,
                type=kernel.type,
                time_us=time_us,
                layers=kernel.layers,
                compute_unit="cpu" if kernel.provider == _PROVIDERS["cpu"] else kernel.provider,
                precision=_PRECISIONS.get(kernel.arithmetic, kernel.arithmetic),
                flops=2 * kernel.macs or None,
                bytes=kernel.bytes,
            )
            for kernel, time_us in zip(kernels[0], times_us, strict=True)
        )
        return OpTimes("onnxruntime's profiler: each kernel, in whole microseconds", ops, run_ms)

    def _profiled_runs(self, inputs: dict[str, Array], runs: int) -> tuple[list[list[_Kernel]], tuple[float, ...]]:
        """The kernels of each of so many runs of a session with the profiler on, and each run's wall time.

        The profile names every kernel that ran with its shapes; weights that a kernel packed for itself are missing
        there, so their shapes come from the optimised graph that the same session writes.
        """
        import onnx

        with tempfile.TemporaryDirectory() as folder:
            options = self._session_options()
            options.enable_profiling = True
            options.profile_file_prefix = str(Path(folder, "profile"))
            options.optimized_model_filepath = str(Path(folder, "optimised.onnx"))
            session = self._open(options)
            feeds = self._feeds(inputs)
            run_ms = time_runs(lambda: session.run(None, feeds), runs)
            events = json.loads(Path(session.end_profiling()).read_bytes())
            optimised = onnx.load(options.optimized_model_filepath, load_external_data=False)
        original = onnx.load(self._artifact, load_external_data=False)
        names = [node.name for node in optimised.graph.node]
        layers = dict(zip(names, layers_of_optimised(original, optimised), strict=True))
        shapes = {item.name: tuple(item.dims) for item in optimised.graph.initializer}
        weights = {node.name: [shapes[name] for name in node.input if name in shapes] for node in optimised.graph.node}
        by_node: dict[str, list[_Kernel]] = {}
        for event in sorted(events, key=lambda event: event["ts"]):
            if event.get("cat") == "Node" and "op_name" in event.get("args", {}):
                kernel = _kernel(event, weights, layers)
                by_node.setdefault(kernel.name, []).append(kernel)
        # Nodes of one run in the order of the first; in parallel execution later runs may differ.
        return [[kernels[index] for kernels in by_node.values()] for index in range(runs)], run_ms


@dataclass(frozen=True)
class _Kernel:
    """One kernel of one profiled run."""

    name: str
    type: str
    provider: str
    time_us: float
    layers: tuple[str, ...]
    #: Type of what is multiplied, for kernels that multiply; else of the first input.
    arithmetic: str
    macs: int
    bytes: int


def _kernel(
    event: dict[str, Any], weights: Mapping[str, list[tuple[int, ...]]], layers: Mapping[str, tuple[str, ...]]
) -> _Kernel:
    details = event["args"]
    name, operator = event["name"].removesuffix("_kernel_time"), details["op_name"]
    kind, shape = next(iter(details["input_type_shape"][0].items())) if details["input_type_shape"] else ("none", [])
    macs = 0
    if operator in _MULTIPLY:
        out = math.prod(next(iter(details["output_type_shape"][0].values())))
        if "Conv" in operator:
            kernels = [dims for dims in weights.get(name, []) if len(dims) >= 3]
            depth = math.prod(kernels[0][1:]) if kernels else 0
        else:
            depth = shape[-1] if shape else 0
        macs = out * depth
    return _Kernel(
        name=name,
        type=operator,
        provider=details["provider"],
        time_us=float(event["dur"]),
        layers=layers.get(name, ()),
        arithmetic="uint8" if operator in _MULTIPLY_INTEGERS else kind,
        macs=macs,
        bytes=sum(int(details[size]) for size in ("activation_size", "parameter_size", "output_size")),
    )


def numpy_dtype(onnx_type: str) -> np.dtype[Any]:
    """The numpy type of an ONNX Runtime type string such as `tensor(float)`."""
    name = onnx_type.removeprefix("tensor(").removesuffix(")")
    return np.dtype({"float": "float32", "double": "float64"}.get(name, name))
