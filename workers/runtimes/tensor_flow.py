"""TensorFlow on the CPU: the serving signature of a SavedModel, as `tf.saved_model.load` gives it."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from workers.contract import MeasureTask, Op, RuntimeFacts
from workers.errors import UnsupportedError
from workers.examples import Array
from workers.runtimes.runtime import LINUX_CPU, LoadedModel, OpTimes, Runtime
from workers.runtimes.tf_graph import Node, macs_by_precision, nodes_of
from workers.runtimes.tf_trace import executor_time, kernel_times, traced

_METHOD = (
    "TensorFlow's own trace; nodes that it holds for cheap by that of a fresh copy, and taken off its executor's row; "
    "'not traced' is the remainder of the run, so that the rows sum to it by construction"
)
#: Runs of the fresh copy: the first optimises the graph.
_FRESH_RUNS, _FRESH_WARM_UPS = 10, 3


class TensorFlow(Runtime):
    """Variables stay variables, as TensorFlow serves them: what is measured is no frozen graph."""

    packages: ClassVar[tuple[str, ...]] = ("tensorflow",)
    extra: ClassVar[str] = "tensorflow"
    formats: ClassVar[tuple[str, ...]] = ("savedmodel",)
    seen: ClassVar[Mapping[str, Mapping[str, str | None]]] = {LINUX_CPU: {"fp32": None}}

    def import_library(self) -> None:
        """See `Runtime.import_library`."""
        import tensorflow as tf  # noqa: F401

    def load(self, artifact: Path, task: MeasureTask) -> LoadedModel:
        """See `Runtime.load`."""
        import tensorflow as tf

        threading = tf.config.threading
        wanted = (task.options.threads, 1)
        # They cannot be set once anything ran: at a second load of the process they stand.
        if (threading.get_intra_op_parallelism_threads(), threading.get_inter_op_parallelism_threads()) != wanted:
            try:
                threading.set_intra_op_parallelism_threads(wanted[0])
                threading.set_inter_op_parallelism_threads(wanted[1])
            except RuntimeError as error:
                raise UnsupportedError(
                    f"TensorFlow already runs with another number of threads than {wanted[0]} in this process"
                ) from error
        return _Function(artifact)


class _Function(LoadedModel):
    def __init__(self, artifact: Path) -> None:
        self._artifact = artifact
        self._program, self._function = _load(artifact)
        self._result: dict[str, Any] = {}
        self._nodes: dict[str, Node] | None = None

    def bind(self, inputs: dict[str, Array]) -> Callable[[], object]:
        tensors = _tensors(self._function, inputs)
        function = self._function

        # Eager execution on the CPU is synchronous: the call returns with the results.
        def run() -> None:
            self._result = function(**tensors)

        return run

    def outputs(self) -> list[Array]:
        from workers.models.tf_export import in_order

        return [np.asarray(value.numpy()) for value in in_order(self._result)]

    def facts(self, inputs: dict[str, Array]) -> RuntimeFacts:
        import tensorflow as tf

        nodes = self._ran(inputs)
        macs = macs_by_precision(nodes.values())
        total = sum(node.macs or 0 for node in nodes.values())
        main = macs.most_common(1)
        precision = main[0][0] if main else "unknown"
        evidence = "operand types of the graph that TensorFlow optimised and ran"
        if main:
            evidence = f"operand types of {main[0][1] / total:.0%} of the FLOPs in the graph that TensorFlow ran"
        if precision == "fp32" and _multiplies_in_fp32():
            evidence += "; its convolutions keep the bits of fp32"
        elif precision == "fp32":
            precision = "bf16"
            evidence += "; its convolutions round them, as oneDNN is told by the environment"
        hidden = any(node.compiled and node.multiplies for node in nodes.values())
        if hidden:
            precision = "unknown"
            evidence += "; XLA compiled other multiplications, and what it multiplies in cannot be read back"
        return RuntimeFacts(
            name="tensorflow",
            version=tf.__version__,
            options={
                "threads": tf.config.threading.get_intra_op_parallelism_threads(),
                "kernels": "oneDNN" if any(node.type.startswith("_Mkl") for node in nodes.values()) else "Eigen",
            },
            precision=precision,
            compute_unit=_unit({node.device for node in nodes.values() if node.multiplies}),
            evidence=evidence,
            quantised_flop_share=macs["int8"] / total if total and not hidden else None,
        )

    def profile(self, inputs: dict[str, Array], runs: int) -> OpTimes:
        seen = traced(self.bind(inputs), runs)
        program, function = _load(self._artifact)
        tensors = _tensors(function, inputs)
        whole = traced(lambda: function(**tensors), _FRESH_RUNS, warm_ups=_FRESH_WARM_UPS)
        del program
        kernels = kernel_times(seen, whole)
        nodes = self._ran(inputs)
        ops = []
        for (name, kind), took in kernels.items():
            times = next(run.times[name, kind] for run in (*seen, *whole) if (name, kind) in run.times)
            node = nodes.get(name)
            ops.append(
                Op(
                    name=name,
                    type="XLA" if node and node.compiled else kind,
                    time_us=took,
                    layers=node.layers if node else (),
                    compute_unit=_unit({node.device}) if node else None,
                    precision=node.precision if node else None,
                    flops=2 * node.macs * times if node and node.macs is not None else None,
                    bytes=node.bytes if node else None,
                )
            )
        ops.append(Op(name="graph executor", type="Executor", time_us=executor_time(seen, kernels)))
        ops.append(Op(name="not traced", type="Remainder", time_us=statistics.median(run.rest_us for run in seen)))
        return OpTimes(_METHOD, tuple(ops), tuple(run.run_ms for run in seen))

    def _ran(self, inputs: dict[str, Array]) -> dict[str, Node]:
        """The graph that runs, as optimised and placed: TensorFlow tells it of a function's first run only."""
        from tensorflow.python.eager import context

        from workers.models.tf_export import LAYERS_FILE

        if self._nodes is None:
            _program, function = _load(self._artifact)
            context.enable_run_metadata()
            try:
                function(**_tensors(function, inputs))
                metadata = context.export_run_metadata()
            finally:
                context.disable_run_metadata()
            layers = self._artifact / LAYERS_FILE
            known = json.loads(layers.read_text(encoding="utf-8")) if layers.exists() else []
            self._nodes = {}
            for graphs in metadata.function_graphs:
                for partition in graphs.partition_graphs:
                    # Operators that ran by themselves have graphs too, with names that no graph of a model may have.
                    if not any(node.name.startswith("_") for node in partition.node):
                        self._nodes |= nodes_of(partition, known)
        return self._nodes


def _load(artifact: Path) -> tuple[Any, Any]:
    """The program, which owns the variables, and the function it serves."""
    from workers.models.tf_export import load_program, signature_of

    program = load_program(artifact)
    return program, signature_of(program, artifact.name)


def _tensors(function: Any, inputs: dict[str, Array]) -> dict[str, Any]:
    import tensorflow as tf

    wanted = function.structured_input_signature[1]
    named = inputs if set(wanted) == set(inputs) else dict(zip(wanted, inputs.values(), strict=True))
    return {name: tf.constant(named[name], dtype=spec.dtype) for name, spec in wanted.items()}


def _multiplies_in_fp32() -> bool:
    """Whether convolutions keep what bf16 and tf32 drop: oneDNN may be told to round operands, by the environment."""
    import tensorflow as tf

    value = 1 + 2.0**-13
    images, weights = tf.fill((1, 32, 32, 64), value), tf.reshape(tf.eye(64), (1, 1, 64, 64))
    return bool(tf.reduce_all(tf.nn.conv2d(images, weights, 1, "SAME") == value))


def _unit(devices: set[str]) -> str:
    """Devices such as "/job:localhost/replica:0/task:0/device:CPU:0" as results name them."""
    kinds = {device.rpartition("device:")[2].partition(":")[0].lower() for device in devices}
    return ", ".join(sorted(kinds)) or "unknown"
