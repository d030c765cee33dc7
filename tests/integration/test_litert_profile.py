"""The profile of LiteRT: what ran, in which arithmetic, for which layer of the model."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from workers.contract import MeasureTask
from workers.errors import UnsupportedError
from workers.examples import load_examples
from workers.runtimes import lite_rt_profiler
from workers.runtimes.lite_rt import LiteRt
from workers.runtimes.runtime import OpTimes

# litert-torch changes global state of torch and jax: it stays in a process of its own.
CONVERT = """
import sys
from pathlib import Path
import numpy as np, torch
from torch import nn
from workers.contract import ModelRequest
from workers.converters.converter import ConversionInput
from workers.converters.litert_export import LiteRtExport
from workers.converters.litert_quantize import LiteRtQuantize
from workers.models.torch_export import export_canonical

class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.act = nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16), nn.Hardswish()
    def forward(self, x):
        return x + self.act(self.norm(self.conv(x)))

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, stride=2, padding=1), nn.ReLU())
        self.block, self.head = Block(), nn.Linear(16, 10)
    def forward(self, x):
        return self.head(self.block(self.stem(x)).mean((2, 3)))

folder = Path(sys.argv[1])
torch.manual_seed(0)
make = lambda generator, count: {"image": generator.normal(size=(count, 1, 3, 32, 32)).astype(np.float32)}
export_canonical(Net(), make, ModelRequest(name="m"), folder, {})
artifact = folder / "model.pt2"
for recipe in ("fp32", "fp16", "int8-dynamic", "int8-static"):
    (folder / recipe).mkdir()
    converter = LiteRtExport() if recipe == "fp32" else LiteRtQuantize()
    examples, calibration = folder / "examples.npz", folder / "calibration.npz"
    source = ConversionInput(artifact, "tflite", recipe, examples, calibration, folder / recipe)
    made = converter.convert(source)
    artifact = made.artifact if recipe == "fp32" else artifact
"""
#: Multiply-accumulates of stem, block and head.
MACS = 16 * 16 * 16 * 27 + 16 * 16 * 16 * 144 + 16 * 10
MULTIPLYING = {"CONV_2D", "FULLY_CONNECTED"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tflite")
    subprocess.run([sys.executable, "-W", "ignore", "-c", CONVERT, str(folder)], capture_output=True, check=True)
    return folder


def profiled(folder: Path, recipe: str, runs: int = 3) -> OpTimes:
    task = MeasureTask(
        runtime="litert", entry="", format="tflite", recipe=recipe, model="m", weights="random", compute_unit="cpu"
    )
    runtime = LiteRt()
    runtime.import_library()
    model = runtime.load(folder / recipe / "model.tflite", task)
    inputs = load_examples(folder / "examples.npz").input_at(0)
    model.bind(inputs)()
    before = model.outputs()
    times = model.profile(inputs, runs)
    assert all(np.array_equal(a, b) for a, b in zip(before, model.outputs(), strict=True))
    return times


def test_each_kernel_names_the_layers_that_it_computes(folder: Path) -> None:
    times = profiled(folder, "fp32")
    multiplying = {op.layers[0]: op for op in times.ops if op.type in MULTIPLYING}
    assert set(multiplying) == {"stem.0", "block.conv", "head"}
    assert multiplying["stem.0"].layers == ("stem.0", "stem.1")
    assert multiplying["block.conv"].layers == ("block.conv", "block.norm")
    assert next(op for op in times.ops if op.type == "HARD_SWISH").layers == ("block.act",)
    assert next(op for op in times.ops if op.type == "ADD").layers == ("block",)
    assert sum(op.flops or 0 for op in times.ops) == 2 * MACS
    head = multiplying["head"]
    assert head.bytes == 4 * (16 + 16 * 10 + 10 + 10)
    assert len(times.run_ms) == 3
    assert all(op.time_us >= 0 for op in times.ops)
    # What surrounds the operations is listed too, and belongs to no layer.
    assert [op.layers for op in times.ops if op.name.startswith(("LiteRT::", "Invoke"))] == [()] * 3


@pytest.mark.parametrize(
    ("recipe", "precision"), [("fp32", "fp32"), ("fp16", "fp16"), ("int8-dynamic", "int8"), ("int8-static", "int8")]
)
def test_the_arithmetic_is_that_of_the_kernels_which_ran(folder: Path, recipe: str, precision: str) -> None:
    times = profiled(folder, recipe)
    assert {op.precision for op in times.ops if op.type in MULTIPLYING} == {precision}
    assert sum(op.flops or 0 for op in times.ops) == 2 * MACS


def test_what_a_quantiser_inserted_computes_no_layer(folder: Path) -> None:
    times = profiled(folder, "int8-static")
    assert [op.layers for op in times.ops if op.type in {"QUANTIZE", "DEQUANTIZE"}] == [(), ()]


def test_operations_that_xnnpack_leaves_to_the_interpreter_are_seen(folder: Path) -> None:
    assert "HARD_SWISH" in {op.name for op in profiled(folder, "int8-static").ops}
    assert "HARD_SWISH" not in {op.name for op in profiled(folder, "fp32").ops}


def test_another_version_than_the_tried_one_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lite_rt_profiler, "version", lambda _: "2.4.0")
    with pytest.raises(UnsupportedError, match=r"tried with ai-edge-litert 2\.3; this is 2\.4\.0"):
        profiled(folder, "fp32")
