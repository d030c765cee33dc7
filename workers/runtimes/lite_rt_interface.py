"""Integer inputs and outputs of a `.tflite`: by which scale and zero point they stand for real numbers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from workers.examples import Array

_INTEGERS = frozenset(("int8", "uint8", "int16"))


@dataclass(frozen=True)
class Scale:
    """A tensor's integers q stand for step * (q - zero)."""

    dtype: np.dtype[Any]
    step: float
    zero: int

    def integers(self, values: Array) -> Array:
        """The integers nearest to real numbers; what lies outside the range becomes its end."""
        limits = np.iinfo(self.dtype)
        return np.clip(np.round(values / self.step) + self.zero, limits.min, limits.max).astype(self.dtype)

    def reals(self, values: Array) -> Array:
        """The real numbers that integers stand for."""
        return ((values.astype(np.float32) - self.zero) * self.step).astype(np.float32)


def scales(artifact: Path, details: dict[str, Any]) -> dict[str, Scale]:
    """Name to scale of the tensors of a signature that hold integers for real numbers.

    Args:
        artifact: the flatbuffer.
        details: name to the tensor's details, as CompiledModel gives them.
    """
    names = [name for name, item in details.items() if str(np.dtype(item["dtype"])) in _INTEGERS]
    if not names:
        return {}
    from ai_edge_litert import schema_py_generated as schema

    graph = schema.Model.GetRootAs(artifact.read_bytes(), 0).Subgraphs(0)
    found = {}
    for name in names:
        quantisation = graph.Tensors(details[name]["index"]).Quantization()
        if quantisation is not None and quantisation.ScaleLength() == 1:  # none where they are integers in themselves
            dtype = np.dtype(details[name]["dtype"])
            found[name] = Scale(dtype, float(quantisation.Scale(0)), int(quantisation.ZeroPoint(0)))
    return found
