"""OpenVINO on the CPU."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from workers.contract import MeasureTask, Op, RuntimeFacts
from workers.errors import UnsupportedError
from workers.examples import Array
from workers.runtimes.open_vino_graph import (
    PRECISIONS,
    Node,
    layers_of,
    macs_by_type,
    read_layers,
    read_nodes,
    source_macs,
)
from workers.runtimes.runtime import LINUX_CPU, LoadedModel, OpTimes, Runtime, median_times, option, time_runs

#: The arithmetic that is forced for what a recipe does not quantise: the plug-in would take bf16 where it can.
_HINTS = {"fp16": "f16", "bf16": "bf16"}
_NEEDS = {
    "f16": "that takes AVX512-FP16, AVX-NE-CONVERT or an Arm CPU; use bf16 or fp32",
    "bf16": "that takes AVX-512 or AVX-NE-CONVERT; use fp32",
}
#: What is read back into the facts.
_PROPERTIES = (
    *("INFERENCE_PRECISION_HINT", "INFERENCE_NUM_THREADS", "NUM_STREAMS", "PERFORMANCE_HINT", "EXECUTION_MODE_HINT"),
    *("ENABLE_CPU_PINNING", "DYNAMIC_QUANTIZATION_GROUP_SIZE"),
)
#: A profile compiles so many times, and drops the first runs of each: counters only ever grow.
_PROFILED_COPIES = 5
_COLD_RUNS = 3


class OpenVino(Runtime):
    """One stream with the latency hint; precision and threads are forced and read back, nothing is cached."""

    packages: ClassVar[tuple[str, ...]] = ("openvino",)
    extra: ClassVar[str] = "openvino"
    formats: ClassVar[tuple[str, ...]] = ("openvino",)
    #: OpenVINO pins its threads by default, always from the first CPU on: beside other processes that is a lottery.
    options: ClassVar[Mapping[str, tuple[str, ...]]] = {"pinning": ("off", "on")}
    seen: ClassVar[Mapping[str, Mapping[str, str | None]]] = {
        LINUX_CPU: {
            **dict.fromkeys(("fp32", "bf16", "int8-static", "int8-weight")),
            "fp16": "takes AVX512-FP16 or AVX-NE-CONVERT, which no CPU had that it was tried on",
        }
    }

    def import_library(self) -> None:
        """See `Runtime.import_library`."""
        import openvino  # noqa: F401

    def load(self, artifact: Path, task: MeasureTask) -> LoadedModel:
        """See `Runtime.load`."""
        return _Compiled(artifact, task, pinned=option(self, task, "pinning") == "on")


class _Compiled(LoadedModel):
    def __init__(self, artifact: Path, task: MeasureTask, *, pinned: bool) -> None:
        self._artifact = artifact
        self._hint = _HINTS.get(task.arithmetic, "f32")
        self._settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": "1",
            "INFERENCE_NUM_THREADS": task.options.threads,
            "ENABLE_CPU_PINNING": pinned,
            "INFERENCE_PRECISION_HINT": self._hint,
            # Above 0, matrix products with int8 weights would round activations to int8, and say f32 all the same.
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": "0",
        }
        self._compiled = self._compile()
        self._check()
        self._request = self._compiled.create_infer_request()

    def _compile(self, **settings: Any) -> Any:
        import openvino

        return openvino.Core().compile_model(self._source(), "CPU", self._settings | settings)

    def _check(self) -> None:
        """Refuse where the plug-in did not take a setting; it says nothing by itself."""
        took = self._properties()
        if took["inference_precision_hint"] != self._hint:
            got = PRECISIONS.get(took["inference_precision_hint"])
            needs = _NEEDS.get(self._hint, "its plug-in does not take the hint")
            raise UnsupportedError(f"OpenVINO computes in {got} on this CPU, not in {PRECISIONS[self._hint]}: {needs}")
        threads = self._settings["INFERENCE_NUM_THREADS"]
        if took["inference_num_threads"] != threads:
            raise UnsupportedError(
                f"OpenVINO takes {took['inference_num_threads']} threads on the CPUs that this process may use, "
                f"not {threads}: ask for no more threads than cores"
            )
        if took["enable_cpu_pinning"] != self._settings["ENABLE_CPU_PINNING"]:
            raise UnsupportedError("OpenVINO cannot pin threads to CPUs on this system: use pinning=off")

    def _properties(self) -> dict[str, Any]:
        """What it runs with, read back."""
        return {name.casefold(): _plain(self._compiled.get_property(name)) for name in _PROPERTIES}

    def bind(self, inputs: dict[str, Array]) -> Callable[[], object]:
        return _bind(self._compiled, self._request, inputs)

    def outputs(self) -> list[Array]:
        return [self._request.get_output_tensor(index).data.copy() for index in range(len(self._compiled.outputs))]

    def facts(self, inputs: dict[str, Array]) -> RuntimeFacts:
        import openvino

        nodes = read_nodes(self._compiled)
        counted = self._macs(nodes)
        uncounted = sorted({node.type for node in nodes if counted[node.name] is None})
        macs = sum((by_type for by_type in counted.values() if by_type is not None), Counter[str]())
        if uncounted:
            macs.clear()  # no share of what is known in part
        total = sum(macs.values())
        floats = Counter({kind: count for kind, count in macs.items() if kind != "int8"})
        main = (macs if macs["int8"] * 2 >= total else floats).most_common(1)
        if uncounted:
            evidence = f"{', '.join(uncounted)}: how much is multiplied there, and how, is unknown"
        elif main:
            evidence = (
                f"kernels of {main[0][1] / total:.0%} of the FLOPs in the compiled graph, and the precision hint "
            )
            evidence += "read back"
        else:
            evidence = "no multiplying kernel in the compiled graph"
        return RuntimeFacts(
            name="openvino",
            version=openvino.__version__.partition("-")[0],
            options=self._properties(),
            precision=main[0][0] if main else "unknown",
            compute_unit="cpu",
            evidence=evidence,
            quantised_flop_share=macs["int8"] / total if total else None,
        )

    def _macs(self, nodes: Sequence[Node]) -> dict[str, Counter[str] | None]:
        source = source_macs(self._source())
        return {node.name: macs_by_type(node, source, PRECISIONS[self._hint]) for node in nodes}

    def _source(self) -> Any:
        import openvino

        return openvino.Core().read_model(self._artifact / "model.xml")

    def profile(self, inputs: dict[str, Array], runs: int) -> OpTimes:
        run_ms: list[float] = []
        means_us: list[list[float]] = []
        copies = min(_PROFILED_COPIES, runs)
        for copy in range(copies):
            compiled = self._compile(PERF_COUNT=True)
            request = compiled.create_infer_request()
            run = _bind(compiled, request, inputs)
            time_runs(run, _COLD_RUNS)
            cold = _counted_us(request, _COLD_RUNS)
            taken = time_runs(run, runs // copies + (copy < runs % copies))
            total = _counted_us(request, _COLD_RUNS + len(taken))
            means_us.append([max(after - before, 0) / len(taken) for after, before in zip(total, cold, strict=True)])
            run_ms += taken
        nodes = {node.name: node for node in read_nodes(compiled)}
        macs = self._macs(list(nodes.values()))
        # By position: some names are numbers that go on counting from copy to copy. What takes under a microsecond
        # has a time of 0, like what was folded away; what multiplies ran in any case.
        items = request.get_profiling_info()
        medians = median_times(means_us)
        ran = [
            (item, medians[index])
            for index, item in enumerate(items)
            if any(means[index] for means in means_us) or macs.get(item.node_name, Counter()) != Counter()
        ]
        layers = read_layers(self._source())
        return OpTimes(
            method=f"performance counters of the CPU plug-in in whole microseconds; median over {copies} compiled "
            f"copies of the mean over their runs, without the first {_COLD_RUNS} of each",
            ops=tuple(_op(item, time_us, nodes[item.node_name], macs, layers) for item, time_us in ran),
            run_ms=tuple(run_ms),
        )


def _op(
    item: Any,
    time_us: float,
    node: Node,
    macs: Mapping[str, Counter[str] | None],
    layers: Mapping[str, list[str]],
) -> Op:
    by_type = macs[node.name]
    counted = by_type or Counter[str]()
    return Op(
        name=node.name,
        type=item.node_type,
        time_us=time_us,
        layers=layers_of(node, layers),
        compute_unit="cpu",
        precision=None if by_type is None else "+".join(sorted(counted)) or node.precision,
        flops=2 * sum(counted.values()) or None,
        bytes=node.bytes,
    )


def _bind(compiled: Any, request: Any, inputs: dict[str, Array]) -> Callable[[], object]:
    ports = in_ports([port.get_names() for port in compiled.inputs], inputs)
    for index, value in enumerate(ports):
        tensor = request.get_input_tensor(index)
        if tuple(tensor.shape) != value.shape:  # a model whose shapes are open until now
            tensor.shape = value.shape
        np.copyto(tensor.data, value, casting="unsafe")
    infer = request.infer

    def run() -> None:
        infer(share_outputs=True)

    return run


def _counted_us(request: Any, runs: int) -> list[int]:
    """Microseconds of each node over all runs since it was compiled; the counters give the average."""
    return [round(item.real_time.total_seconds() * 1e6) * runs for item in request.get_profiling_info()]


def in_ports(ports: Sequence[Collection[str]], inputs: Mapping[str, Array]) -> list[Array]:
    """Inputs in the order of a model's ports: by name where each port has one, else in the program's order.

    Args:
        ports: the names of each port of the model; a port may have several, or none.
        inputs: the program's inputs.
    """
    named = [[name for name in inputs if name in names] for names in ports]
    if all(len(names) == 1 for names in named):
        return [inputs[name] for (name,) in named]
    return list(inputs.values())


def _plain(value: Any) -> Any:
    """A property as JSON can hold it."""
    if isinstance(value, bool | int | float | str):
        return value
    return value.get_type_name() if hasattr(value, "get_type_name") else getattr(value, "name", str(value))
