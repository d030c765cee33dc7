"""OpenVINO: a label is a promise, whatever its plug-in would do by itself; and profiles that name layers."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from tests.warm import WarmTorch
from workers.contract import MeasureTask, Options, RuntimeFacts
from workers.converters.converter import ConversionInput
from workers.converters.openvino_export import OpenVinoExport
from workers.errors import AttemptError, UnsupportedError
from workers.examples import Examples, load_examples
from workers.fidelity import compare_outputs
from workers.runner import keep_promise
from workers.runtimes.open_vino import OpenVino
from workers.runtimes.open_vino_graph import layers_of, read_layers, read_nodes
from workers.runtimes.runtime import LoadedModel

#: A convolution, a depthwise one, attention and a classifier. In a child: torch and NNCF would stay in this process.
MAKE = """
import sys
from pathlib import Path
import numpy as np, torch
from torch import nn
from torch.nn import functional as F
from workers.contract import ModelRequest
from workers.converters.converter import ConversionInput
from workers.converters.onnx_export import OnnxExport
from workers.converters.openvino_export import OpenVinoExport
from workers.converters.openvino_quantize import OpenVinoQuantize
from workers.models.source import BuiltModule
from workers.models.torch_export import export_canonical

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU())
        self.deep = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.norm = nn.LayerNorm(16)
        self.query, self.key, self.value = nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 16)
        self.head = nn.Linear(16, 10)

    def forward(self, image):
        tokens = self.norm(self.deep(self.stem(image)).flatten(2).transpose(1, 2)).unsqueeze(1)
        seen = F.scaled_dot_product_attention(self.query(tokens), self.key(tokens), self.value(tokens))
        return self.head((tokens + seen).mean(dim=(1, 2)))

torch.manual_seed(0)
folder = Path(sys.argv[1])
make = lambda generator, count: {"image": generator.normal(size=(count, 1, 3, 16, 16)).astype(np.float32)}
made = export_canonical(BuiltModule(Net(), make, calibrate_norms=True), ModelRequest(name="net"), folder)
def convert(converter, artifact, source_format, recipe):
    out = folder / f"{source_format}-{recipe}"
    out.mkdir()
    return converter.convert(ConversionInput(
        artifact=artifact, format="openvino", recipe=recipe, examples=made.examples, calibration=made.calibration,
        folder=out,
    )).artifact
onnx = convert(OnnxExport(), made.artifact, "pt2", "fp32")
for recipe in ("fp32", "fp16", "bf16"):
    model = convert(OpenVinoExport(), onnx, "onnx", recipe)
    model.rename(folder / recipe)
for recipe in ("int8-static", "int8-weight"):
    convert(OpenVinoQuantize(), folder / "fp32", "openvino", recipe).rename(folder / recipe)
"""

#: An LSTM and a classifier; NNCF quantises the weights of both, the plug-in computes the first in fp32 all the same.
RECURRENT = """
import sys
from pathlib import Path
import numpy as np
from openvino import Model, opset13 as op
from workers.converters.converter import ConversionInput
from workers.converters.openvino_export import save
from workers.converters.openvino_quantize import OpenVinoQuantize
from workers.examples import Examples

folder, values = Path(sys.argv[1]), np.random.default_rng(0)
weights = lambda *shape: op.constant(values.normal(size=shape).astype(np.float32) / 8)
tokens, none = op.parameter((1, 16, 64), np.float32, name="tokens"), op.constant(np.zeros((1, 1, 64), np.float32))
steps = op.constant(np.array([16], np.int32))
lstm = op.lstm_sequence(
    tokens, none, none, steps, weights(1, 256, 64), weights(1, 256, 64), weights(1, 256), 64, "forward"
)
last = op.reshape(lstm.output(1), op.constant(np.array([1, 64])), False)
model = Model([op.matmul(last, weights(64, 32), False, False)], [tokens])
model.inputs[0].set_names({"tokens"})
fp32 = save(model, folder)
Examples({"tokens": values.normal(size=(8, 1, 16, 64)).astype(np.float32)}).save(folder / "examples.npz")
(folder / "out").mkdir()
examples, recipe = folder / "examples.npz", "int8-static"
quantiser = OpenVinoQuantize()
quantiser.import_libraries()
quantiser.convert(ConversionInput(
    artifact=fp32, format="openvino", recipe=recipe, examples=examples, calibration=examples, folder=folder / "out",
)).artifact.rename(folder / recipe)
fp32.rename(folder / "fp32")
(folder / "bf16").symlink_to(folder / "fp32")
"""

#: Multiply-accumulates of the network, by hand.
TOKENS = 16 * 16
ATTENTION = 2 * TOKENS * TOKENS * 16
MACS = TOKENS * 16 * 27 + TOKENS * 16 * 9 + 3 * TOKENS * 16 * 16 + ATTENTION + 16 * 10

#: More than ten outputs, whose names do not sort as numbers do, and inputs that a front end may swap.
SAVE = """
import sys
import tensorflow as tf
module = tf.Module()
module.kernel = tf.Variable(tf.ones((2, 3)))
def serve(zeros, ones):
    return {f"output_{index}": (zeros + 2 * ones) @ module.kernel * float(index) for index in range(12)}
specs = [tf.TensorSpec((None, 2), tf.float32, name=name) for name in ("zeros", "ones")]
function = tf.function(serve).get_concrete_function(*specs)
tf.saved_model.save(module, sys.argv[1], signatures={"serving_default": function})
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, warm_torch: WarmTorch) -> Path:
    """A folder with every variant of the network by its recipe, and examples."""
    folder = tmp_path_factory.mktemp("made")
    warm_torch.run(MAKE, str(folder), folder=folder)
    return folder


def task(recipe: str, threads: int = 1, **runtime_options: str) -> MeasureTask:
    return MeasureTask(
        runtime="openvino",
        entry="workers.runtimes.open_vino:OpenVino",
        format="openvino",
        recipe=recipe,
        model="net",
        weights="random",
        compute_unit="cpu",
        options=Options(threads=threads, runtime_options=runtime_options),
    )


def load(made: Path, recipe: str, threads: int = 1, **runtime_options: str) -> LoadedModel:
    return OpenVino().load(made / recipe, task(recipe, threads, **runtime_options))


def snr_db(model: LoadedModel, examples: Examples) -> float:
    got = []
    for example in examples.each():
        model.bind(example)()
        got.append(model.outputs())
    reference = [[stack[index] for stack in examples.outputs] for index in range(len(examples))]
    found = compare_outputs(reference, got, classification=False).snr_db
    assert found is not None
    return found


def seen(made: Path, recipe: str) -> tuple[RuntimeFacts, float]:
    """Facts and fidelity of a variant."""
    examples = load_examples(made / "examples.npz")
    model = load(made, recipe)
    fidelity = snr_db(model, examples)
    facts = model.facts(examples.input_at(0))
    keep_promise(recipe, facts)
    return facts, fidelity


def test_fp32_is_fp32_on_a_cpu_that_would_rather_compute_in_bf16(made: Path) -> None:
    facts, fidelity = seen(made, "fp32")
    assert fidelity > 100
    assert (facts.precision, facts.quantised_flop_share) == ("fp32", 0.0)
    assert facts.options["inference_precision_hint"] == "f32"
    assert (facts.options["inference_num_threads"], facts.options["num_streams"]) == (1, 1)
    assert "100% of the FLOPs" in facts.evidence


def computes(made: Path, recipe: str) -> bool:
    """Whether this CPU has such arithmetic; where it has not, the refusal must say what it takes."""
    try:
        load(made, recipe)
    except UnsupportedError as error:
        refused = error.message
    else:
        return True
    assert re.fullmatch(
        rf"OpenVINO computes in b?fp?\d+ on this CPU, not in {recipe}: that takes AVX.*; use .*", refused
    )
    return False


def test_bf16_is_bf16_or_refused(made: Path) -> None:
    if computes(made, "bf16"):
        facts, fidelity = seen(made, "bf16")
        assert facts.precision == "bf16"
        assert 20 < fidelity < 70


def test_fp16_is_fp16_or_refused(made: Path) -> None:
    if computes(made, "fp16"):
        facts, fidelity = seen(made, "fp16")
        assert facts.precision == "fp16"
        assert fidelity > 40


def test_static_int8_multiplies_in_integers_but_for_the_product_of_attention_that_stays_float(made: Path) -> None:
    facts, fidelity = seen(made, "int8-static")
    assert facts.precision == "int8"
    assert facts.quantised_flop_share == pytest.approx(1 - ATTENTION / 2 / MACS)
    assert fidelity > 15


def test_int8_weights_are_small_and_leave_the_arithmetic_alone(made: Path) -> None:
    facts, fidelity = seen(made, "int8-weight")
    assert (facts.precision, facts.quantised_flop_share) == ("fp32", 0.0)
    assert facts.options["dynamic_quantization_group_size"] == 0
    assert fidelity > 30
    sizes = {recipe: (made / recipe / "model.bin").stat().st_size for recipe in ("fp32", "fp16", "int8-weight")}
    assert sizes["int8-weight"] < sizes["fp16"] < sizes["fp32"]


def test_a_recurrent_layer_that_stays_float_is_in_the_denominator(tmp_path: Path, warm_torch: WarmTorch) -> None:
    warm_torch.run(RECURRENT, str(tmp_path), folder=tmp_path)
    inputs = load_examples(tmp_path / "examples.npz").input_at(0)
    lstm, head = 16 * 256 * (64 + 64), 64 * 32
    facts = load(tmp_path, "int8-static").facts(inputs)
    assert (facts.precision, facts.quantised_flop_share) == ("fp32", pytest.approx(head / (lstm + head)))
    times = load(tmp_path, "fp32").profile(inputs, runs=1)
    assert sum(op.flops or 0 for op in times.ops) == 2 * (lstm + head)
    if computes(tmp_path, "bf16"):
        assert load(tmp_path, "bf16").facts(inputs).precision == "bf16"


@pytest.mark.parametrize("multiplies", [True, False], ids=["a product inside", "none inside"])
def test_a_loop_is_counted_as_nothing_only_where_nothing_is_multiplied_inside(tmp_path: Path, multiplies: bool) -> None:
    import openvino
    from openvino import opset13 as op

    # More rounds than the plug-in unrolls, how many nobody knows: the condition is computed.
    state, image = (op.parameter((1, 4), np.float32) for _ in range(2))
    kernel = op.constant(np.eye(4, dtype=np.float32) / 2)
    changed = op.matmul(state, kernel, False, False) if multiplies else op.multiply(state, op.constant(np.float32(0.5)))
    goes_on = op.greater(op.reduce_sum(changed, op.constant(np.array([0, 1])), False), op.constant(np.float32(1e-6)))
    loop = op.loop(op.constant(np.int32(50)), op.constant(True))
    loop.set_function(openvino.Model([changed, goes_on], [state]))
    loop.set_special_body_ports([-1, 1])
    body = loop.get_function()
    loop.set_merged_input(state, image.output(0), body.results[0].output(0))
    after = op.matmul(loop.get_iter_value(body.results[0].output(0), -1), kernel, False, False)
    (tmp_path / "fp32").mkdir()
    openvino.save_model(openvino.Model([after], [image]), tmp_path / "fp32" / "model.xml", compress_to_fp16=False)
    inputs = {"image": np.ones((1, 4), np.float32)}
    model = load(tmp_path, "fp32")
    facts = model.facts(inputs)
    assert (facts.precision, facts.quantised_flop_share) == (("unknown", None) if multiplies else ("fp32", 0.0))
    assert ("TensorIterator" in facts.evidence) == multiplies
    if multiplies:
        assert [op.precision for op in model.profile(inputs, runs=1).ops if op.type == "Loop"] == [None]


def test_more_threads_than_there_are_cpus_are_refused_not_cut(made: Path) -> None:
    too_many = (os.cpu_count() or 1) + 1
    with pytest.raises(UnsupportedError, match=f"not {too_many}: ask for no more threads than cores"):
        load(made, "fp32", threads=too_many)


def test_threads_are_pinned_only_on_request(made: Path) -> None:
    inputs = load_examples(made / "examples.npz").input_at(0)
    assert load(made, "fp32").facts(inputs).options["enable_cpu_pinning"] is False
    before = os.sched_getaffinity(0)
    model = load(made, "fp32", pinning="on")
    model.bind(inputs)()
    assert model.facts(inputs).options["enable_cpu_pinning"] is True
    assert os.sched_getaffinity(0) == before  # the caller's thread is given back as it was


def test_a_profile_accounts_for_every_multiplication_and_names_layers(made: Path) -> None:
    inputs = load_examples(made / "examples.npz").input_at(0)
    model = load(made, "fp32")
    times = model.profile(inputs, runs=12)
    assert len(times.run_ms) == 12
    assert all(taken > 0 for taken in times.run_ms)
    assert sum(op.flops or 0 for op in times.ops) == 2 * MACS
    assert {op.precision for op in times.ops if op.flops} == {"fp32"}
    stem = next(op for op in times.ops if "stem.0" in op.layers)
    assert stem.type == "Convolution"
    assert stem.bytes == 4 * (3 * TOKENS + 16 * 27 + 16 + 16 * TOKENS)
    named = {layer for op in times.ops for layer in op.layers}
    # Not the query: the scale of attention is folded into its weights, and only the scaling's own name is kept.
    assert {"deep", "norm", "key", "value", "head"} <= named
    assert all(not op.layers for op in times.ops if op.type == "Reorder")


def test_layers_survive_quantisation_and_what_it_inserts_has_none(made: Path) -> None:
    import openvino

    inputs = load_examples(made / "examples.npz").input_at(0)
    times = load(made, "int8-static").profile(inputs, runs=5)
    assert sum(op.flops or 0 for op in times.ops) == 2 * MACS
    deep = next(op for op in times.ops if "deep" in op.layers)
    assert (deep.precision, deep.flops) == ("int8", 2 * TOKENS * 16 * 9)
    attention = [op for op in times.ops if op.flops == 2 * ATTENTION]
    assert [op.precision for op in attention] in ([], ["fp32+int8"])
    # Of the graph: the profile leaves out what takes under a microsecond, and quantising so small an image may.
    source = openvino.Core().read_model(made / "int8-static" / "model.xml")
    nodes = read_nodes(openvino.Core().compile_model(source, "CPU", {"INFERENCE_PRECISION_HINT": "f32"}))
    layers = {node.name: layers_of(node, read_layers(source)) for node in nodes}
    inserted = {node.name for node in nodes if any("/fq_" in name for name in node.originals)}
    first = next(node for node in nodes if "stem.0" in layers[node.name])
    before = nodes[: nodes.index(first)]
    assert inserted & {node.name for node in before}  # the image is quantised first
    assert [layers[node.name] for node in before] == [()] * len(before)
    assert {op.name: op.layers for op in times.ops if op.name in inserted}.items() <= layers.items()


def test_a_saved_model_keeps_the_order_of_its_outputs_and_the_names_of_its_inputs(tmp_path: Path) -> None:
    saved, examples = tmp_path / "input.savedmodel", tmp_path / "examples.npz"
    subprocess.run([sys.executable, "-c", SAVE, str(saved)], check=True, capture_output=True, timeout=120)
    values = {"zeros": np.zeros((1, 1, 2), np.float32), "ones": np.ones((1, 1, 2), np.float32)}
    Examples(values).save(examples)
    out = tmp_path / "out"
    out.mkdir()
    artifact = (
        OpenVinoExport()
        .convert(
            ConversionInput(
                artifact=saved, format="openvino", recipe="fp32", examples=examples, calibration=examples, folder=out
            )
        )
        .artifact
    )
    model = OpenVino().load(artifact, task("fp32"))
    inputs = load_examples(examples).input_at(0)
    model.bind(inputs)()
    assert [float(output[0, 0]) for output in model.outputs()] == [4.0 * index for index in range(12)]
    assert model.facts(inputs).precision == "fp32"
    assert sum(op.flops or 0 for op in model.profile(inputs, runs=1).ops) == 2 * 2 * 3


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"not a model", "Unable to read the model"), (None, "No conversion rule found for operations: mine.Frob")],
    ids=["damaged", "unknown operator"],
)
def test_what_cannot_be_converted_says_why(tmp_path: Path, content: bytes | None, reason: str) -> None:
    path, examples = tmp_path / "input.onnx", tmp_path / "examples.npz"
    path.write_bytes(unknown_operator() if content is None else content)
    Examples({"x": np.zeros((1, 4), np.float32)}).save(examples)
    with pytest.raises(AttemptError, match=f"OpenVINO cannot convert it: {reason}") as failure:
        OpenVinoExport().convert(
            ConversionInput(
                artifact=path,
                format="openvino",
                recipe="fp32",
                examples=examples,
                calibration=examples,
                folder=tmp_path,
            )
        )
    assert failure.value.code == "does_not_convert"


def unknown_operator() -> bytes:
    """An ONNX file with an operator of nobody's."""
    import onnx
    from onnx import helper

    ends = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [4]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Frob", ["x"], ["y"], domain="mine")], "graph", ends[:1], ends[1:])
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("mine", 1)]
    return bytes(helper.make_model(graph, opset_imports=opsets).SerializeToString())


def test_nncf_reports_nothing_to_its_makers() -> None:
    code = (
        "from workers.converters.openvino_quantize import OpenVinoQuantize\n"
        "OpenVinoQuantize().import_libraries()\n"
        "from nncf.telemetry.wrapper import NNCFTelemetry, telemetry\n"
        "assert not isinstance(telemetry, NNCFTelemetry)\n"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("NNCF")}
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=120, env=environment)


def test_examples_do_not_influence_each_other(made: Path) -> None:
    model = load(made, "fp32")
    outputs = []
    for example in load_examples(made / "examples.npz").each():
        model.bind(example)()
        outputs.append(model.outputs()[0])
    assert all((first != second).any() for first, second in pairwise(outputs))
