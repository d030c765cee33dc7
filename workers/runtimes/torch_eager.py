"""Eager PyTorch: the baseline of every comparison. The same code on CPU, CUDA and MPS."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from workers.contract import MeasureTask, Op, RuntimeFacts
from workers.errors import UnsupportedError
from workers.examples import Array
from workers.runtimes.runtime import LINUX_CPU, LoadedModel, OpTimes, Runtime, median_times
from workers.runtimes.torch_events import (
    Event,
    flops_by_precision,
    integer_flops,
    main_precision,
    record,
)

#: What reads only a part of its first input: how much depends on values.
_GATHERS = frozenset({"aten::embedding", "aten::gather", "aten::index", "aten::index_select"})
#: torchao's kernel for it is real, and its artifact is not one that a farm could share.
INT4_IS_PACKED = "torchao packs 4-bit weights for the CPU that converts, so another would compute nonsense from them"


class TorchEager(Runtime):
    """Runs the canonical program node by node."""

    packages: ClassVar[tuple[str, ...]] = ("torch",)
    extra: ClassVar[str] = "torch"
    formats: ClassVar[tuple[str, ...]] = ("pt2",)
    device_kinds: ClassVar[tuple[str, ...]] = ("cpu", "gpu", "mac")
    refuses: ClassVar[Mapping[str, str]] = {
        "int8-static": "eager torch dequantises before it multiplies, so it would compute in fp32; torch-compile fuses",
        "int4-weight": INT4_IS_PACKED,
    }
    seen: ClassVar[Mapping[str, Mapping[str, str | None]]] = {
        LINUX_CPU: dict.fromkeys(("fp32", "bf16", "int8-dynamic", "int8-weight"))
    }

    def import_library(self) -> None:
        """See `Runtime.import_library`."""
        import torch
        import torch.export  # noqa: F401  # so that the first load does not pay for it

    def load(self, artifact: Path, task: MeasureTask) -> LoadedModel:
        """See `Runtime.load`."""
        return TorchProgram(artifact, task)


class TorchProgram(LoadedModel):
    """A program on its device, run as it is."""

    name: ClassVar[str] = "torch"

    def __init__(self, artifact: Path, task: MeasureTask) -> None:
        import torch

        from workers.models.torch_export import load_program

        torch.set_num_threads(task.options.threads)
        torch.set_num_interop_threads(1) if torch.get_num_interop_threads() != 1 else None
        torch.backends.fp32_precision = "ieee"  # fp32 means fp32: no tf32, no bf16 under the hood
        self.unit = task.compute_unit.partition(":")[0]
        if self.unit == "cuda" and not torch.cuda.is_available():
            raise UnsupportedError("torch sees no CUDA device in this process")
        self.task = task
        #: The program node by node, whatever runs it.
        self.module: Any = load_program(artifact).module().to(self.unit)
        #: What is timed.
        self.callable: Callable[..., Any] = self.module
        self._result: Any = None

    def bind(self, inputs: dict[str, Array]) -> Callable[[], object]:
        """See `LoadedModel.bind`."""
        return self.runner_of(self.callable, inputs)

    def runner_of(self, function: Callable[..., Any], inputs: dict[str, Array]) -> Callable[[], object]:
        """The function that runs the module, or what was made of it, once on such inputs."""
        import torch

        tensors = self.tensors(inputs)
        synchronise = {"cuda": torch.cuda.synchronize, "mps": torch.mps.synchronize}.get(self.unit)

        def run() -> None:
            with torch.inference_mode():
                self._result = function(*tensors)
            if synchronise is not None:
                synchronise()

        return run

    def outputs(self) -> list[Array]:
        """See `LoadedModel.outputs`."""
        from workers.models.torch_export import flatten_outputs

        return flatten_outputs(self._result)

    def facts(self, inputs: dict[str, Array]) -> RuntimeFacts:
        """See `LoadedModel.facts`."""
        seen = self.seen_flops(self.callable, inputs)
        return self.facts_of(seen, seen.total(), {})

    def facts_of(self, seen: Counter[str], flops: int, options: dict[str, Any]) -> RuntimeFacts:
        """Facts from what the profiler saw.

        Args:
            seen: FLOPs of one run by the type of their operands.
            flops: all of the program; the rest ran where the profiler does not look.
            options: beside those of every torch runtime.
        """
        import torch

        precision = main_precision(seen) if seen.total() * 2 >= flops else "unknown"
        told = integer_flops(seen) if precision.startswith("int") else seen[precision]
        return RuntimeFacts(
            name=self.name,
            version=torch.__version__,
            options={"threads": torch.get_num_threads(), "fp32_precision": torch.backends.fp32_precision, **options},
            precision=precision,
            compute_unit=self.unit,
            evidence=f"operand types of {told / flops if flops else 0:.0%} of the FLOPs, seen by torch's profiler",
            quantised_flop_share=integer_flops(seen) / flops if flops else None,
        )

    def seen_flops(self, function: Callable[..., Any], inputs: dict[str, Array]) -> Counter[str]:
        """FLOPs of one run by the type of the operands that torch's profiler recorded."""
        run = self.runner_of(function, inputs)
        run()  # what compiles at its first call multiplies meanwhile
        return flops_by_precision(record(run, 1, shapes=True)[0])

    def profile(self, inputs: dict[str, Array], runs: int) -> OpTimes:
        """See `LoadedModel.profile`."""
        self.refuse_device_profile()
        nodes = _operator_nodes(self.module)
        run = self.bind(inputs)
        (shaped,), _ = record(run, 1, shapes=True)
        timed, run_ms = record(run, runs, shapes=False)
        expected = [node.target._schema.name for node in nodes]
        for each in (shaped, *timed):
            if [event.name for event in each.children] != expected:
                raise UnsupportedError("torch's profiler saw other operations than the nodes of the program")
        times_us = median_times([[event.duration_ns / 1e3 for event in each.children] for each in timed])
        ops = [_op(*row) for row in zip(nodes, shaped.children, times_us, strict=True)]
        return OpTimes(
            "torch.profiler, one event per node",
            (*ops, between_ops("the program's own Python", timed)),
            run_ms,
        )

    def refuse_device_profile(self) -> None:
        """Raise `UnsupportedError` where events on the host say nothing of time on the device."""
        if self.unit != "cpu":
            raise UnsupportedError(f"torch is profiled on CPUs only so far, not on {self.unit}")

    def tensors(self, inputs: dict[str, Array]) -> list[Any]:
        """Inputs on the device, of the type that the program takes."""
        import torch

        tensors = [torch.from_numpy(value).to(self.unit) for value in inputs.values()]
        if self.task.arithmetic == "bf16":
            tensors = [value.to(torch.bfloat16) if value.is_floating_point() else value for value in tensors]
        return tensors


def between_ops(name: str, runs: list[Event]) -> Op:
    """What a run takes beside its operations, as a last operation: small ones are not the whole of a run in torch."""
    (time_us,) = median_times([[run.own_ns / 1e3] for run in runs])
    return Op(name=name, type="overhead", time_us=time_us, compute_unit="cpu")


def multiplied(event: Event) -> tuple[int | None, str | None]:
    """FLOPs and precision of one event, from its recorded arguments; None for what multiplies nothing."""
    found = flops_by_precision([event])
    return (found.total(), main_precision(found)) if found else (None, None)


def _operator_nodes(module: Any) -> list[Any]:
    """Nodes that torch's dispatcher sees: not those that pick an item of a tuple or read a size."""
    from torch._ops import OpOverload

    return [node for node in module.graph.nodes if isinstance(node.target, OpOverload)]


def _op(node: Any, event: Event, time_us: float) -> Op:
    from workers.models.torch_export import layer_of

    layer = layer_of(node)
    flops, precision = multiplied(event)
    return Op(
        name=node.name,
        type=event.name,
        time_us=time_us,
        layers=(layer,) if layer else (),
        compute_unit="cpu",
        precision=precision,
        flops=flops,
        bytes=_bytes(node),
    )


def _bytes(node: Any) -> int | None:
    """Tensors that a node reads and writes, each once; None where it reads a part only or may just view its input."""
    schema = node.target._schema
    returns = schema.returns
    if schema.name in _GATHERS or any(
        value.alias_info is not None and not value.alias_info.is_write for value in returns
    ):
        return None
    values = [*(item.meta.get("val") for item in node.all_input_nodes), node.meta.get("val")]
    flat = [value for item in values for value in (item if isinstance(item, list | tuple) else (item,))]
    if any(value is None or not hasattr(value, "nbytes") for value in flat):
        return None
    return sum(int(value.nbytes) for value in flat)
