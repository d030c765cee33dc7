"""The profile of LiteRT: what ran, in which arithmetic, for which layer of the model."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.warm import WarmTorch
from workers.contract import MeasureTask, RuntimeFacts
from workers.errors import UnsupportedError
from workers.examples import load_examples
from workers.runner import keep_promise
from workers.runtimes import lite_rt, lite_rt_profiler
from workers.runtimes.lite_rt import LiteRt
from workers.runtimes.lite_rt_graph import operations
from workers.runtimes.runtime import LoadedModel, OpTimes

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
from workers.models.source import BuiltModule
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
export_canonical(BuiltModule(Net(), make), ModelRequest(name="m"), folder)
artifact = folder / "model.pt2"
for recipe in ("fp32", "fp16", "int8-dynamic", "int8-static"):
    (folder / recipe).mkdir()
    converter = LiteRtExport() if recipe == "fp32" else LiteRtQuantize()
    examples, calibration = folder / "examples.npz", folder / "calibration.npz"
    source = ConversionInput(artifact, "tflite", recipe, examples, calibration, folder / recipe)
    made = converter.convert(source)
    artifact = made.artifact if recipe == "fp32" else artifact
"""
# TensorFlow stays in a process of its own, too.
OF_TENSORFLOW = """
import sys
from pathlib import Path
import tensorflow as tf

values = tf.random.Generator.from_seed(0)

class Volumes(tf.Module):
    def __init__(self):
        self.kernel, self.head = tf.Variable(values.normal((3, 3, 3, 4, 16))), tf.Variable(values.normal((3456, 256)))
    @tf.function(input_signature=[tf.TensorSpec((1, 8, 8, 8, 4), tf.float32)])
    def __call__(self, image):
        return tf.reshape(tf.nn.relu(tf.nn.conv3d(image, self.kernel, [1] * 5, "VALID")), (1, -1)) @ self.head

class Loop(tf.Module):
    def __init__(self):
        self.kernel = tf.Variable(values.normal((64, 64)) / 8)
    @tf.function(input_signature=[tf.TensorSpec((1, 64), tf.float32)])
    def __call__(self, image):
        step = lambda count, state: (count + 1, tf.nn.tanh(state @ self.kernel))
        return tf.while_loop(lambda count, state: count < 5, step, (0, image))[1]

for name, module in {"volumes": Volumes(), "loop": Loop()}.items():
    converter = tf.lite.TFLiteConverter.from_concrete_functions([module.__call__.get_concrete_function()], module)
    if name == "volumes":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    Path(sys.argv[1], f"{name}.tflite").write_bytes(converter.convert())
"""
#: Multiply-accumulates of stem, block and head.
MACS = 16 * 16 * 16 * 27 + 16 * 16 * 16 * 144 + 16 * 10
MULTIPLYING = {"CONV_2D", "FULLY_CONNECTED"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, warm_torch: WarmTorch) -> Path:
    folder = tmp_path_factory.mktemp("tflite")
    warm_torch.run(CONVERT, str(folder), folder=folder)
    return folder


@pytest.fixture(scope="module")
def of_tensorflow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tensorflow")
    subprocess.run([sys.executable, "-W", "ignore", "-c", OF_TENSORFLOW, str(folder)], capture_output=True, check=True)
    return folder


def load(artifact: Path, recipe: str) -> LoadedModel:
    task = MeasureTask(
        runtime="litert", entry="", format="tflite", recipe=recipe, model="m", weights="random", compute_unit="cpu"
    )
    runtime = LiteRt()
    runtime.import_library()
    return runtime.load(artifact, task)


def facts_of(artifact: Path, recipe: str, *shape: int) -> RuntimeFacts:
    """What is read back with one input of random numbers."""
    image = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    return load(artifact, recipe).facts({"image": image})


def profiled(folder: Path, recipe: str, runs: int = 3) -> OpTimes:
    model = load(folder / recipe / "model.tflite", recipe)
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


def test_what_stays_float_is_in_the_denominator_of_the_integer_share(of_tensorflow: Path) -> None:
    volumes, head = 6**3 * 16 * 27 * 4, 3456 * 256
    facts = facts_of(of_tensorflow / "volumes.tflite", "int8-dynamic", 1, 8, 8, 8, 4)
    assert facts.quantised_flop_share == pytest.approx(head / (volumes + head))
    assert facts.precision == "int8"


@pytest.mark.parametrize("installed", ["2.3", "2.4.0"], ids=["profiler", "no profiler"])
@pytest.mark.parametrize("recipe", ["fp32", "fp16", "int8-dynamic"])
def test_products_inside_a_loop_are_unknown_not_fp32(
    of_tensorflow: Path, recipe: str, installed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if installed == "2.4.0":
        monkeypatch.setattr(lite_rt_profiler, "version", lambda _: installed)
    facts = facts_of(of_tensorflow / "loop.tflite", recipe, 1, 64)
    assert (facts.precision, facts.quantised_flop_share) == ("unknown", None)
    assert "WHILE" in facts.evidence


def test_an_operation_that_multiplies_without_a_formula_is_not_counted_as_nothing(of_tensorflow: Path) -> None:
    from ai_edge_litert import schema_py_generated as schema
    from flatbuffers import Builder

    model = schema.ModelT.InitFromPackedBuf((of_tensorflow / "volumes.tflite").read_bytes(), 0)
    for code in model.operatorCodes:
        if code.builtinCode == schema.BuiltinOperator.CONV_3D:
            code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.UNIDIRECTIONAL_SEQUENCE_LSTM
    builder = Builder(0)
    builder.Finish(model.Pack(builder), b"TFL3")
    graph = operations(bytes(builder.Output()))
    assert [(op.type, op.macs, op.precision) for op in graph if op.uncounted] == [
        ("UNIDIRECTIONAL_SEQUENCE_LSTM", None, None)
    ]


def test_a_flag_that_changes_no_bit_of_the_outputs_gave_no_fp16(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = load_examples(folder / "examples.npz").input_at(0)
    taken = load(folder / "fp16" / "model.tflite", "fp16").facts(inputs)
    assert taken.precision == "fp16"
    assert "outputs differ" in taken.evidence
    monkeypatch.setattr(lite_rt, "_FORCE_FP16", 1)  # a flag that fp32 arithmetic does not mind
    ignored = load(folder / "fp16" / "model.tflite", "fp16").facts(inputs)
    assert ignored.precision == "fp32"
    with pytest.raises(UnsupportedError, match="bit for bit"):
        keep_promise("fp16", ignored)


@pytest.mark.parametrize("recipe", ["fp32", "fp16", "int8-dynamic", "int8-static"])
def test_kernels_and_weights_tell_the_same(folder: Path, recipe: str, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = load_examples(folder / "examples.npz").input_at(0)
    by_kernels = load(folder / recipe / "model.tflite", recipe).facts(inputs)
    monkeypatch.setattr(lite_rt_profiler, "version", lambda _: "2.4.0")
    by_weights = load(folder / recipe / "model.tflite", recipe).facts(inputs)
    assert by_kernels.precision == by_weights.precision == recipe.partition("-")[0]
    assert by_kernels.quantised_flop_share == by_weights.quantised_flop_share == float("int8" in recipe)
