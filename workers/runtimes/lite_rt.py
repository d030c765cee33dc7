"""LiteRT on the CPU (XNNPACK), through CompiledModel: the API that the wheel's own benchmark uses."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import ClassVar

import numpy as np

from workers.contract import MeasureTask, RuntimeFacts
from workers.errors import UnsupportedError
from workers.examples import Array
from workers.runtimes.lite_rt_graph import Operation, operations
from workers.runtimes.lite_rt_interface import Scale, scales
from workers.runtimes.lite_rt_profile import profile
from workers.runtimes.lite_rt_profiler import Tensors
from workers.runtimes.runtime import LINUX_CPU, LoadedModel, OpTimes, Runtime

#: TFLITE_XNNPACK_DELEGATE_FLAG_FORCE_FP16 of XNNPACK's delegate.
_FORCE_FP16 = 4


class LiteRt(Runtime):
    """Fp16 arithmetic is forced where the recipe names it; XNNPACK would run such weights in fp32."""

    packages: ClassVar[tuple[str, ...]] = ("ai-edge-litert",)
    extra: ClassVar[str] = "litert"
    formats: ClassVar[tuple[str, ...]] = ("tflite",)
    seen: ClassVar[Mapping[str, Mapping[str, str | None]]] = {
        LINUX_CPU: dict.fromkeys(("fp32", "fp16", "int8-dynamic", "int8-static", "int8-full"))
    }

    def import_library(self) -> None:
        """See `Runtime.import_library`."""
        import ai_edge_litert.compiled_model  # noqa: F401

    def load(self, artifact: Path, task: MeasureTask) -> LoadedModel:
        """See `Runtime.load`."""
        return _Compiled(artifact, task, force_fp16=task.arithmetic == "fp16")


class _Compiled(LoadedModel):
    def __init__(self, artifact: Path, task: MeasureTask, *, force_fp16: bool) -> None:
        from ai_edge_litert.compiled_model import CompiledModel
        from ai_edge_litert.hardware_accelerator import HardwareAccelerator
        from ai_edge_litert.options import CpuOptions, Options

        self._artifact = artifact
        self._task = task
        self._force_fp16 = force_fp16
        cpu = CpuOptions(num_threads=task.options.threads, xnnpack_flags=_FORCE_FP16 if force_fp16 else None)
        self._model = CompiledModel.from_file(
            str(artifact), options=Options(hardware_accelerators=HardwareAccelerator.CPU, cpu_options=cpu)
        )
        self._signature = next(iter(self._model.get_signature_list()))
        details = self._model.get_input_tensor_details(self._signature)
        self._inputs = details
        self._outputs = self._model.get_output_tensor_details(self._signature)
        # The interface of a user's own file is its maker's choice; recipes are compared on real numbers.
        converted = task.recipe != "original"
        self._scales: dict[str, Scale] = scales(artifact, details) if converted else {}
        self._out_scales: dict[str, Scale] = scales(artifact, self._outputs) if converted else {}
        # Buffers must be passed in the signature's own order, filled in the program's.
        self._buffers = {name: self._model.create_input_buffer_by_name(self._signature, name) for name in details}
        self._out = [self._model.create_output_buffer_by_name(self._signature, name) for name in self._outputs]

    def bind(self, inputs: dict[str, Array]) -> Callable[[], object]:
        for name, given in in_signature(list(self._inputs), inputs).items():
            real = name in self._scales and np.issubdtype(given.dtype, np.floating)
            value = self._scales[name].integers(given) if real else given
            self._buffers[name].write(np.ascontiguousarray(value, dtype=np.dtype(self._inputs[name]["dtype"])))
        index = self._model.get_signature_index(self._signature)
        run_by_index, ins, outs = self._model.run_by_index, list(self._buffers.values()), self._out

        def run() -> None:
            run_by_index(index, ins, outs)

        return run

    def outputs(self) -> list[Array]:
        read = [
            buffer.read(math.prod(details["shape"]), np.dtype(details["dtype"]).type).reshape(details["shape"])
            for buffer, details in zip(self._out, self._outputs.values(), strict=True)
        ]
        return [
            self._out_scales[name].reals(value) if name in self._out_scales else value
            for name, value in zip(self._outputs, read, strict=True)
        ]

    def facts(self, inputs: dict[str, Array]) -> RuntimeFacts:
        precision, share, evidence = self._read_back(inputs)
        return RuntimeFacts(
            name="litert",
            version=version("ai-edge-litert"),
            options={"delegate": "XNNPACK", "force_fp16": self._force_fp16},
            precision=precision,
            compute_unit="cpu",
            evidence=evidence,
            quantised_flop_share=share,
            # The API tells all or not all, no share.
            delegated_share=1.0 if self._model.is_fully_accelerated() else None,
        )

    def profile(self, inputs: dict[str, Array], runs: int) -> OpTimes:
        self.bind(inputs)()
        measured = self.outputs()
        tensors = Tensors(
            self._model.get_signature_index(self._signature), tuple(self._buffers.values()), tuple(self._out)
        )
        flags = _FORCE_FP16 if self._force_fp16 else None
        times = profile(self._artifact, self._task.options.threads, flags, tensors, runs)
        if not all(np.array_equal(a, b, equal_nan=True) for a, b in zip(measured, self.outputs(), strict=True)):
            raise UnsupportedError("LiteRT computes other values with its profiler on: it is not what is measured")
        return times

    def _read_back(self, inputs: dict[str, Array]) -> tuple[str, float | None, str]:
        """Precision, integer share and evidence; fp16 only where it shows in the outputs."""
        graph = [operation for operation in operations(self._artifact.read_bytes()) if not operation.at_load]
        uncounted = sorted({operation.type for operation in graph if operation.uncounted})
        # A kernel's name tells its types, but not whether XNNPACK took the flag on this CPU: fp32 gives other bits.
        rounded = "outputs differ from those without the fp16 flag; " if self._force_fp16 else ""
        if self._force_fp16 and not self._flag_shows(inputs):
            return "fp32", None, "outputs are bit for bit those without the fp16 flag"
        if uncounted:
            return (
                "unknown",
                None,
                f"{rounded}{', '.join(uncounted)}: how much is multiplied there, and how, is unknown",
            )
        try:
            precision, share, evidence = self._by_kernels(inputs, 2 * sum(operation.macs or 0 for operation in graph))
        except UnsupportedError as error:
            precision, share, evidence = by_weights(graph)
            if self._force_fp16 and precision == "fp32":
                precision = "fp16"
            evidence += f" ({error.message})"
        return precision, share, rounded + evidence

    def _by_kernels(self, inputs: dict[str, Array], flops: int) -> tuple[str, float | None, str]:
        """By the kernels that ran: their names tell their types.

        Args:
            inputs: inputs of one run.
            flops: what the kernels must add up to.
        """
        found: Counter[str] = Counter()
        for op in self.profile(inputs, 1).ops:
            found[op.precision or "unknown"] += op.flops or 0
        total = sum(found.values())
        if total != flops:
            return "unknown", None, "the kernels of one profiled run do not account for all multiplications of the file"
        if not total:
            return "unknown", None, "no kernel multiplied"
        precision, main = found.most_common(1)[0]
        evidence = f"kernels of {main / total:.0%} of the FLOPs of one profiled run, by the types in their names"
        return precision, found["int8"] / total, evidence

    def _flag_shows(self, inputs: dict[str, Array]) -> bool:
        """Whether the outputs are other bits than those without the fp16 flag."""
        self.bind(inputs)()
        forced = self.outputs()
        plain = _Compiled(self._artifact, self._task, force_fp16=False)
        plain.bind(inputs)()
        return not all(np.array_equal(a, b, equal_nan=True) for a, b in zip(forced, plain.outputs(), strict=True))


def in_signature(names: list[str], inputs: dict[str, Array]) -> dict[str, Array]:
    """Inputs under a signature's names: by name where they are the same, else in the order the program takes them.

    litert-torch calls them args_0, args_1, ... in that order, whatever the order they are listed in.
    """
    if set(names) == set(inputs):
        return inputs
    ordered = sorted(names, key=lambda name: (len(name), name)) if all(n.startswith("args_") for n in names) else names
    return dict(zip(ordered, inputs.values(), strict=True))


def by_weights(graph: Sequence[Operation]) -> tuple[str, float | None, str]:
    """Precision, integer share and evidence without a profiler: by whether weights are integer or float."""
    total = sum(operation.macs or 0 for operation in graph)
    if not total:
        return "unknown", None, "no multiplying operation in the flatbuffer"
    share = sum(operation.macs or 0 for operation in graph if operation.integer_weights) / total
    return "int8" if share >= 0.5 else "fp32", share, "weight types of the multiplying operations in the flatbuffer"
