"""LiteRT on the CPU (XNNPACK), through CompiledModel: the API that the wheel's own benchmark uses."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import ClassVar

import numpy as np

from workers.contract import MeasureTask, RuntimeFacts
from workers.errors import UnsupportedError
from workers.examples import Array
from workers.runtimes.lite_rt_graph import operations
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
        return _Compiled(artifact, task, force_fp16=task.recipe == "fp16")


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
        try:
            precision, share, evidence = self._read_back_kernels(inputs)
        except UnsupportedError as error:
            precision, share, evidence = self._read_back_file(inputs)
            evidence += f" ({error.message})"
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

    def _read_back_kernels(self, inputs: dict[str, Array]) -> tuple[str, float | None, str]:
        """Precision, integer share and evidence by the kernels that ran: their names tell their types."""
        flops: Counter[str] = Counter()
        for op in self.profile(inputs, 1).ops:
            flops[op.precision or "unknown"] += op.flops or 0
        total = sum(flops.values())
        if not total:
            return "unknown", None, "no kernel multiplied"
        precision = flops.most_common(1)[0][0]
        return precision, flops["int8"] / total, "kernels of one profiled run, by the types in their names"

    def _read_back_file(self, inputs: dict[str, Array]) -> tuple[str, float | None, str]:
        """The same without a profiler: by the types of the weights, and for fp16 by what it does to the outputs."""
        macs = macs_by_weight_type(self._artifact.read_bytes())
        total = sum(macs.values())
        share = macs["integer"] / total if total else None
        if self._force_fp16:
            precision, evidence = self._read_back_fp16(inputs)
            return precision, share, evidence
        precision = "int8" if share is not None and share >= 0.5 else "fp32"
        return precision, share, "weight types of the multiplying operations in the flatbuffer"

    def _read_back_fp16(self, inputs: dict[str, Array]) -> tuple[str, str]:
        """XNNPACK's rounding tells whether it took the flag: fp32 arithmetic gives other bits."""
        self.bind(inputs)()
        forced = self.outputs()
        plain = _Compiled(self._artifact, self._task, force_fp16=False)
        plain.bind(inputs)()
        same = all(np.array_equal(a, b) for a, b in zip(forced, plain.outputs(), strict=True))
        if same:
            return "fp32", "outputs are bit for bit those without the fp16 flag"
        return "fp16", "XNNPACK forced to fp16; outputs differ from those of fp32 arithmetic on the same weights"


def in_signature(names: list[str], inputs: dict[str, Array]) -> dict[str, Array]:
    """Inputs under a signature's names: by name where they are the same, else in the order the program takes them.

    litert-torch calls them args_0, args_1, ... in that order, whatever the order they are listed in.
    """
    if set(names) == set(inputs):
        return inputs
    ordered = sorted(names, key=lambda name: (len(name), name)) if all(n.startswith("args_") for n in names) else names
    return dict(zip(ordered, inputs.values(), strict=True))


def macs_by_weight_type(flatbuffer: bytes) -> Counter[str]:
    """Multiply-accumulates of the first subgraph, by whether the weights (second operand) are integer or float."""
    macs: Counter[str] = Counter()
    for operation in operations(flatbuffer):
        if operation.macs is not None:
            macs["integer" if operation.integer_weights else "float"] += operation.macs
    return macs
