"""LiteRT on the CPU (XNNPACK), through CompiledModel: the API that the wheel's own benchmark uses."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import ClassVar

import numpy as np

from workers.contract import MeasureTask, RuntimeFacts
from workers.examples import Array
from workers.runtimes.runtime import LoadedModel, Runtime

#: TFLITE_XNNPACK_DELEGATE_FLAG_FORCE_FP16 of XNNPACK's delegate.
_FORCE_FP16 = 4


class LiteRt(Runtime):
    """Fp16 arithmetic is forced where the recipe names it; XNNPACK would run such weights in fp32."""

    packages: ClassVar[tuple[str, ...]] = ("ai-edge-litert",)
    extra: ClassVar[str] = "litert"
    formats: ClassVar[tuple[str, ...]] = ("tflite",)

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
        # Buffers must be passed in the signature's own order, filled in the program's.
        self._buffers = {name: self._model.create_input_buffer_by_name(self._signature, name) for name in details}
        self._out = [self._model.create_output_buffer_by_name(self._signature, name) for name in self._outputs]

    def bind(self, inputs: dict[str, Array]) -> Callable[[], object]:
        for name, value in in_signature(list(self._inputs), inputs).items():
            self._buffers[name].write(np.ascontiguousarray(value, dtype=np.dtype(self._inputs[name]["dtype"])))
        index = self._model.get_signature_index(self._signature)
        run_by_index, ins, outs = self._model.run_by_index, list(self._buffers.values()), self._out

        def run() -> None:
            run_by_index(index, ins, outs)

        return run

    def outputs(self) -> list[Array]:
        return [
            buffer.read(math.prod(details["shape"]), np.dtype(details["dtype"]).type).reshape(details["shape"])
            for buffer, details in zip(self._out, self._outputs.values(), strict=True)
        ]

    def facts(self, inputs: dict[str, Array]) -> RuntimeFacts:
        macs = macs_by_weight_type(self._artifact.read_bytes())
        total = sum(macs.values())
        share = macs["integer"] / total if total else None
        if self._force_fp16:
            precision, evidence = self._read_back_fp16(inputs)
        else:
            precision = "int8" if share is not None and share >= 0.5 else "fp32"
            evidence = "weight types of the multiplying operations in the flatbuffer; XNNPACK's fp16 not asked for"
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

    def _read_back_fp16(self, inputs: dict[str, Array]) -> tuple[str, str]:
        """XNNPACK does not say whether it took the flag; its rounding does: fp32 arithmetic gives other bits."""
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
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(flatbuffer, 0)
    graph = model.subgraphs[0]
    operators = schema.BuiltinOperator
    integer_types = {schema.TensorType.INT8, schema.TensorType.UINT8, schema.TensorType.INT4, schema.TensorType.INT16}
    macs: Counter[str] = Counter()
    for operation in graph.operators:
        code = model.operatorCodes[operation.opcodeIndex]
        kind = max(code.builtinCode, code.deprecatedBuiltinCode)
        if len(operation.inputs) < 2 or operation.inputs[1] < 0:
            continue
        first, second = graph.tensors[operation.inputs[0]], graph.tensors[operation.inputs[1]]
        weights = [int(size) for size in second.shape]
        depths = {
            operators.CONV_2D: math.prod(weights[1:]),
            operators.DEPTHWISE_CONV_2D: math.prod(weights[1:3]),
            operators.FULLY_CONNECTED: weights[-1] if weights else 0,
            operators.BATCH_MATMUL: int(first.shape[-1]) if len(first.shape) else 0,
        }
        if kind in depths:
            out = math.prod(int(size) for size in graph.tensors[operation.outputs[0]].shape)
            macs["integer" if second.type in integer_types else "float"] += out * depths[kind]
    return macs
