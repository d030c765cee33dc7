"""ONNX Runtime on the providers of a host without a GPU."""

from __future__ import annotations

import json
import statistics
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from workers.contract import MeasureTask, Op, RuntimeFacts
from workers.errors import UnsupportedError
from workers.examples import Array
from workers.onnx_layers import covered_by_optimised, first_output, layers_by_output
from workers.onnx_macs import graphs, name_nodes
from workers.runtimes.onnx_profile import (
    CPU_PROVIDER,
    INTEGERS,
    Kernel,
    OptimisedGraph,
    read_kernels,
    read_macs,
    share_out,
    split_runs,
)
from workers.runtimes.runtime import LINUX_CPU, LoadedModel, OpTimes, Runtime, option, time_runs

#: Element types as a profile names them, by what people call them.
_PRECISIONS = {
    "float": "fp32",
    "float16": "fp16",
    "bfloat16": "bf16",
    "double": "fp64",
    **dict.fromkeys(INTEGERS, "int8"),
}
#: Runs of a fresh session that a profile leaves out.
_PROFILE_WARM_UP = 3
#: Providers of a host without a GPU, by the names people use.
_PROVIDERS = {
    "cpu": CPU_PROVIDER,
    "xnnpack": "XnnpackExecutionProvider",
    "dnnl": "DnnlExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
}
#: Those that compute on the CPU and nowhere else.
_CPU_PROVIDERS = frozenset(_PROVIDERS[name] for name in ("cpu", "xnnpack", "dnnl"))
#: Those that compile parts of a graph; a session that did refuses to write its graph.
_COMPILE = frozenset(("dnnl", "openvino", "coreml"))


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
        self._session = _open(artifact, self._session_options(), chosen["provider"])
        self._result: list[Array] = []

    def _session_options(self) -> Any:
        import onnxruntime

        parallel = self._chosen["execution"] == "parallel"
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._task.options.threads
        options.inter_op_num_threads = self._task.options.threads if parallel else 1
        modes = onnxruntime.ExecutionMode
        options.execution_mode = modes.ORT_PARALLEL if parallel else modes.ORT_SEQUENTIAL
        options.graph_optimization_level = _levels()[self._chosen["graph_optimization"]]
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

        kernels, total, _ = self._profiled_runs(inputs, 1)
        chosen = self._chosen["provider"]
        shares = share_out(kernels, total, _PROVIDERS[chosen])
        if shares.delegated == 0:
            raise UnsupportedError(f"the provider {chosen} took no multiplication of this model")
        return RuntimeFacts(
            name="onnxruntime",
            version=onnxruntime.__version__,
            options={**self._chosen, "providers": self._session.get_providers()},
            precision=_PRECISIONS.get(shares.arithmetic, shares.arithmetic),
            compute_unit=_unit(_PROVIDERS[chosen]) if chosen == "cpu" or shares.delegated else "unknown",
            evidence="read back from its own profile of one run",
            quantised_flop_share=shares.integers,
            delegated_share=shares.delegated,
        )

    def profile(self, inputs: dict[str, Array], runs: int) -> OpTimes:
        kernels, _, run_ms = self._profiled_runs(inputs, runs + _PROFILE_WARM_UP)
        times_us = [statistics.median(kernel.times_us[_PROFILE_WARM_UP:]) for kernel in kernels]
        ops = tuple(
            Op(
                name=kernel.name,
                type=kernel.type,
                time_us=time_us,
                layers=kernel.layers,
                compute_unit=_unit(kernel.provider),
                precision=_PRECISIONS.get(kernel.arithmetic, kernel.arithmetic),
                flops=2 * kernel.macs if kernel.macs else None,
                bytes=kernel.bytes,
            )
            for kernel, time_us in zip(kernels, times_us, strict=True)
        )
        method = "onnxruntime's profiler: each kernel, in whole microseconds"
        return OpTimes(method, ops, run_ms[_PROFILE_WARM_UP:])

    def _profiled_runs(self, inputs: dict[str, Array], runs: int) -> tuple[list[Kernel], int | None, tuple[float, ...]]:
        """The kernels of so many runs of a session with the profiler on, the MACs of one, and each run's wall time.

        The profile names every kernel that ran with its shapes, blocked and padded. So the MACs are counted on the
        graph as it was before it was optimised, of which one run tells the shapes.
        """
        import onnx

        model = onnx.load(self._artifact)
        if model.functions:
            from onnx.inliner import inline_local_functions

            model = inline_local_functions(model)
        layers = [layers_by_output(graph) for graph in graphs(model).values()]
        provider = self._chosen["provider"]
        with tempfile.TemporaryDirectory() as folder:
            artifact = self._artifact
            if name_nodes(model):
                artifact = Path(folder, "named.onnx")
                onnx.save(model, artifact)
            options = self._session_options()
            if provider not in _COMPILE:
                options.optimized_model_filepath = str(Path(folder, "optimised.onnx"))
            events, run_ms = self._events(inputs, runs, options, provider, artifact)
            optimised = model
            if provider not in _COMPILE:
                optimised = onnx.load(options.optimized_model_filepath, load_external_data=False)

            options = self._session_options()
            options.graph_optimization_level = _levels()["none"]
            options.add_session_config_entry("session.disable_prepacking", "1")  # packed weights have no shapes
            plain, _ = self._events(inputs, 1, options, "cpu", artifact)
        nodes = {node.name: node for graph in graphs(model).values() for node in graph.node}
        macs = read_macs(split_runs(plain)[0], nodes, {})
        counts = [count for count in macs.values() if count is not None]
        total = sum(counts) if len(counts) == len(macs) else None
        return read_kernels(split_runs(events), _describe(model, layers, optimised), macs), total, run_ms

    def _events(
        self, inputs: dict[str, Array], runs: int, options: Any, provider: str, artifact: Path
    ) -> tuple[list[dict[str, Any]], tuple[float, ...]]:
        """What the profiler of a session tells of so many runs, and each run's wall time."""
        options.enable_profiling = True
        with tempfile.TemporaryDirectory() as folder:
            options.profile_file_prefix = str(Path(folder, "profile"))
            session = _open(artifact, options, provider)
            feeds = self._feeds(inputs)
            run_ms = time_runs(lambda: session.run(None, feeds), runs)
            return json.loads(Path(session.end_profiling()).read_bytes()), run_ms


def _open(artifact: Path, options: Any, provider: str) -> Any:
    import onnxruntime

    providers = dict.fromkeys((_PROVIDERS[provider], _PROVIDERS["cpu"]))
    return onnxruntime.InferenceSession(str(artifact), options, providers=list(providers))


def _levels() -> dict[str, Any]:
    import onnxruntime

    levels = onnxruntime.GraphOptimizationLevel
    return {
        "all": levels.ORT_ENABLE_ALL,
        "extended": levels.ORT_ENABLE_EXTENDED,
        "basic": levels.ORT_ENABLE_BASIC,
        "none": levels.ORT_DISABLE_ALL,
    }


def _describe(model: Any, layers: list[dict[str, tuple[str, ...]]], optimised: Any) -> OptimisedGraph:
    """What is known of an optimised model's nodes.

    Args:
        model: what was optimised, its nodes named.
        layers: of each of its graphs, by the first output of a node.
        optimised: what onnxruntime made of it.
    """
    originals = {path: (graph, known) for (path, graph), known in zip(graphs(model).items(), layers, strict=True)}
    found = OptimisedGraph({}, {}, {}, {}, {})
    for path, graph in graphs(optimised).items():
        found.weights.update({item.name: tuple(item.dims) for item in graph.initializer})
        found.nodes.update({node.name: node for node in graph.node})
        if path:
            found.owners.update({node.name: path[-1][0] for node in graph.node})
        if path not in originals:  # a branch that was moved: nothing is known but the shapes
            continue
        original, known = originals[path]
        names = {first_output(node): node.name for node in original.node}
        for node, covered in zip(graph.node, covered_by_optimised(original, graph), strict=True):
            found.covered[node.name] = [names[tensor] for tensor in covered]
            found.layers[node.name] = tuple(dict.fromkeys(layer for tensor in covered for layer in known[tensor]))
    return found


def _unit(provider: str) -> str:
    """What a provider computes on, as far as its name tells."""
    if provider in _CPU_PROVIDERS:
        return "cpu"
    return next((name for name, known in _PROVIDERS.items() if known == provider), provider)


def numpy_dtype(onnx_type: str) -> np.dtype[Any]:
    """The numpy type of an ONNX Runtime type string such as `tensor(float)`."""
    name = onnx_type.removeprefix("tensor(").removesuffix(")")
    return np.dtype({"float": "float32", "double": "float64"}.get(name, name))
