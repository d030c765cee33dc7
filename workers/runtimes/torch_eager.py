"""Eager PyTorch: the baseline of every comparison. The same code on CPU, CUDA and MPS."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from workers.contract import MeasureTask, RuntimeFacts
from workers.errors import UnsupportedError
from workers.examples import Array
from workers.runtimes.runtime import LoadedModel, Runtime

_NAMES = {"torch.float32": "fp32", "torch.bfloat16": "bf16", "torch.float16": "fp16", "torch.float64": "fp64"}


class TorchEager(Runtime):
    """Runs the canonical program node by node."""

    packages: ClassVar[tuple[str, ...]] = ("torch",)
    extra: ClassVar[str] = "torch"
    formats: ClassVar[tuple[str, ...]] = ("pt2",)
    device_kinds: ClassVar[tuple[str, ...]] = ("cpu", "gpu", "mac")

    def import_library(self) -> None:
        """See `Runtime.import_library`."""
        import torch
        import torch.export  # noqa: F401  # so that the first load does not pay for it

    def load(self, artifact: Path, task: MeasureTask) -> LoadedModel:
        """See `Runtime.load`."""
        import torch

        from workers.models.torch_export import load_program

        torch.set_num_threads(task.options.threads)
        torch.set_num_interop_threads(1) if torch.get_num_interop_threads() != 1 else None
        torch.backends.fp32_precision = "ieee"  # fp32 means fp32: no tf32, no bf16 under the hood
        unit = task.compute_unit.partition(":")[0]
        if unit == "cuda" and not torch.cuda.is_available():
            raise UnsupportedError("torch sees no CUDA device in this process")
        return _Program(load_program(artifact).module().to(unit), unit, task)


class _Program(LoadedModel):
    def __init__(self, module: Any, unit: str, task: MeasureTask) -> None:
        self._module = module
        self._unit = unit
        self._task = task
        self._result: Any = None

    def bind(self, inputs: dict[str, Array]) -> Callable[[], object]:
        import torch

        tensors = self._tensors(inputs)
        module = self._module
        synchronise = {"cuda": torch.cuda.synchronize, "mps": torch.mps.synchronize}.get(self._unit)

        def run() -> None:
            with torch.inference_mode():
                self._result = module(*tensors)
            if synchronise is not None:
                synchronise()

        return run

    def outputs(self) -> list[Array]:
        from workers.models.torch_export import flatten_outputs

        return flatten_outputs(self._result)

    def facts(self, inputs: dict[str, Array]) -> RuntimeFacts:
        import torch

        macs = self._macs_by_type(inputs)
        precision = _NAMES.get(macs.most_common(1)[0][0], "other") if macs else "unknown"
        share = macs.most_common(1)[0][1] / sum(macs.values()) if macs else 0.0
        return RuntimeFacts(
            name="torch",
            version=torch.__version__,
            options={"threads": torch.get_num_threads(), "fp32_precision": torch.backends.fp32_precision},
            precision=precision,
            compute_unit=self._unit,
            evidence=f"operand types of {share:.0%} of the FLOPs, seen at dispatch",
        )

    def _macs_by_type(self, inputs: dict[str, Array]) -> Counter[str]:
        """FLOPs of one run by the type of the operands that the dispatcher saw."""
        import torch
        from torch.utils._python_dispatch import TorchDispatchMode
        from torch.utils.flop_counter import flop_registry

        flops: Counter[str] = Counter()

        class Watch(TorchDispatchMode):  # type: ignore[misc]  # torch is untyped here
            def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
                out = function(*args, **(kwargs or {}))
                count = flop_registry.get(function._overloadpacket)
                tensors = [value for value in args if isinstance(value, torch.Tensor)]
                if count is not None and tensors:
                    flops[str(tensors[-1].dtype)] += int(count(*args, **(kwargs or {}), out_val=out))
                return out

        with torch.no_grad(), Watch():
            self._module(*self._tensors(inputs))
        return flops

    def _tensors(self, inputs: dict[str, Array]) -> list[Any]:
        import torch

        tensors = [torch.from_numpy(value).to(self._unit) for value in inputs.values()]
        if self._task.recipe == "bf16":
            tensors = [value.to(torch.bfloat16) if value.is_floating_point() else value for value in tensors]
        return tensors
