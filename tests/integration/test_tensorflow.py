"""TensorFlow: a Keras model becomes a SavedModel, runs, is profiled, and becomes `.tflite` in every recipe.

All of it happens in one child (TensorFlow's numbers of threads are set once per process), and once more through the
runner, as the agent starts it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from workers.codec import read_document, write_document
from workers.contract import Limits, MeasureTask, Options, Order, Profile, Result

WORK = """
import dataclasses, json, os, resource, shutil, sys
os.environ["KERAS_BACKEND"] = "tensorflow"
resource.setrlimit(resource.RLIMIT_DATA, (16 * 2**30, 16 * 2**30))
from pathlib import Path
import keras, numpy as np, tensorflow as tf
tf.config.threading.set_intra_op_parallelism_threads(1)
tf.config.threading.set_inter_op_parallelism_threads(1)
from workers.contract import MeasureTask, ModelRequest, Options
from workers.converters.converter import ConversionInput
from workers.converters.litert_quantize import LiteRtQuantize
from workers.converters.tflite_export import TfLiteExport
from workers.errors import AttemptError
from workers.examples import load_examples
from workers.fidelity import compare_outputs
from workers.models.files import ModelFile
from workers.models.tf_export import export_canonical
from workers.runtimes.lite_rt import LiteRt
from workers.runtimes.tensor_flow import TensorFlow

root, out = Path(sys.argv[1]), {}
layers = keras.layers
keras.utils.set_random_seed(0)

def network(free=(32, 32)):
    image = keras.Input((*free, 3), name="image")
    x = layers.Rescaling(1 / 127.5, -1)(image)
    x = layers.BatchNormalization()(layers.Conv2D(16, 3, 2, use_bias=False, name="stem")(x))
    x = layers.ReLU(name="active")(x)
    x = layers.Add()([x, layers.DepthwiseConv2D(3, padding="same", name="depthwise")(x)])
    wide = layers.Conv2D(128, 1, name="wide")
    body = keras.Sequential([keras.Input((None, None, 16)), wide, layers.GlobalAveragePooling2D()], name="body")
    return keras.Model(image, layers.Dense(10, activation="softmax", name="head")(body(x)), name="net")

def request(name, **more):
    return ModelRequest(name=str(root / name), **more)

def take(name, **more):
    folder = root / ("made_" + name)
    folder.mkdir(exist_ok=True)
    return ModelFile().materialise(request(name, **more), folder)

def refused(act):
    try:
        act()
    except AttemptError as error:
        return f"{error.code} {error.message}"

# A fresh model as the zoo exports it, and the files that users have.
folder = root / "zoo"
folder.mkdir()
def make_inputs(generator, count):
    return {"image": generator.uniform(0, 255, size=(count, 2, 32, 32, 3)).astype(np.float32)}
model = network()
made = export_canonical(model, make_inputs, ModelRequest(name="keras/net", batch=2), folder, {}, fresh=True)
norm = next(layer for layer in model.layers if isinstance(layer, layers.BatchNormalization))
out["zoo"] = {"facts": made.facts, "norm_mean": float(np.abs(norm.moving_mean).max()), "momentum": norm.momentum}

model.save(root / "net.keras")
model.export(root / "net")
network((None, None)).save(root / "free.keras")
from_keras, from_folder = take("net.keras", batch=2), take("net", batch=2)
a, b = load_examples(from_keras.examples), load_examples(from_folder.examples)
out["files"] = {
    "inputs": from_keras.facts["inputs"], "folder_inputs": from_folder.facts["inputs"],
    "weights": from_keras.facts["weights"],
    "pixels": float(a.inputs["image"].max()), "free": refused(lambda: take("free.keras")),
}

# The runtime.
def task(recipe, format_="savedmodel", threads=1):
    return MeasureTask(runtime="r", entry="e", format=format_, recipe=recipe, model="m", weights="random",
                       compute_unit="cpu", options=Options(threads=threads))

def fidelity(loaded, examples):
    actual = []
    for example in examples.each():
        loaded.bind(example)()
        actual.append([value.copy() for value in loaded.outputs()])
    reference = [[stack[index] for stack in examples.outputs] for index in range(len(examples))]
    return dataclasses.asdict(compare_outputs(reference, actual, classification=True))

runtime = TensorFlow()
runtime.import_library()
examples = load_examples(made.examples)
first = examples.input_at(0)
loaded = runtime.load(made.artifact, task("fp32"))
run = loaded.bind(first)
for _ in range(3):
    run()
profile = loaded.profile(first, 7)
out["runtime"] = {
    "facts": dataclasses.asdict(loaded.facts(first)), "fidelity": fidelity(loaded, examples),
    "ops": [dataclasses.asdict(op) for op in profile.ops], "run_ms": profile.run_ms, "method": profile.method,
    "shape": [value.shape for value in loaded.outputs()],
    "again": runtime.load(made.artifact, task("fp32")) is not None,
    "other_threads": refused(lambda: runtime.load(made.artifact, task("fp32", threads=2))),
    "of_file": fidelity(runtime.load(from_keras.artifact, task("original")), a),
    "of_folder": fidelity(runtime.load(from_folder.artifact, task("original")), b),
}

# What cheap nodes and XLA's code cost: TensorFlow stops tracing the ones and names no kernel of the other.
mixed = keras.Sequential([
    keras.Input((32, 32, 16), name="image"), layers.Conv2D(32, 3, groups=4, use_bias=False, name="grouped"),
    layers.ReLU(name="cut"), layers.GlobalAveragePooling2D(name="mean"), layers.Dense(4, name="head"),
])
folder = root / "mixed"
folder.mkdir()
def make_mixed(generator, count):
    return {"image": generator.normal(size=(count, 1, 32, 32, 16)).astype(np.float32)}
grouped = export_canonical(mixed, make_mixed, ModelRequest(name="keras/mixed"), folder, {})
given = load_examples(grouped.examples).input_at(0)
loaded = runtime.load(grouped.artifact, task("fp32"))
run = loaded.bind(given)
for _ in range(200):
    run()
out["mixed"] = {
    "ops": [dataclasses.asdict(op) for op in loaded.profile(given, 5).ops],
    "facts": dataclasses.asdict(loaded.facts(given)),
}

# Names of folders.
shutil.copytree(root / "net", root / "model.savedmodel")
same = take("model.savedmodel", batch=2)
dotted = ModelFile().resolve(request("net/variables/.."))
out["folders"] = {
    "same": fidelity(runtime.load(same.artifact, task("original")), load_examples(same.examples)),
    "left": sorted(item.name for item in same.artifact.parent.iterdir() if item.is_dir()),
    "dotted": [dotted.name, dotted.request.name],
}

# The converters, and LiteRT on what they made.
def convert(converter, artifact, recipe):
    folder = root / (recipe + type(converter).__name__)
    folder.mkdir()
    return converter.convert(ConversionInput(artifact=artifact, format="tflite", recipe=recipe, examples=made.examples,
                                             calibration=made.calibration, folder=folder)).artifact

recipes = [route.recipe for route in TfLiteExport.routes]
tflite = {recipe: convert(TfLiteExport(), made.artifact, recipe) for recipe in recipes}
tflite["int8-static"] = convert(LiteRtQuantize(), tflite["fp32"], "int8-static")
lite = LiteRt()
lite.import_library()
out["litert"] = {}
for recipe, artifact in tflite.items():
    loaded = lite.load(artifact, task(recipe, "tflite"))
    loaded.bind(first)()
    out["litert"][recipe] = {
        "fidelity": fidelity(loaded, examples), "facts": dataclasses.asdict(loaded.facts(first)),
        "types": [str(value.dtype) for value in loaded.outputs()], "bytes": artifact.stat().st_size,
    }
raw = lite.load(tflite["int8-full"], task("original", "tflite"))
raw.bind({"image": np.zeros((2, 32, 32, 3), dtype=np.int8)})()
out["own_interface"] = [str(value.dtype) for value in raw.outputs()]
(root / "result.json").write_text(json.dumps(out))
"""


def run(*command: str, cwd: Path | None = None) -> None:
    """Run a child to its end."""
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"}
    finished = subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, env=environment, cwd=cwd, check=False
    )
    assert finished.returncode == 0, finished.stderr[-3000:]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the child left its files."""
    path = tmp_path_factory.mktemp("tensorflow")
    run("-c", WORK, str(path))
    return path


@pytest.fixture(scope="module")
def seen(folder: Path) -> dict[str, Any]:
    """What the child saw."""
    result: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return result


def test_a_fresh_model_is_exported_with_a_fixed_batch_and_calibrated_norms(seen: dict[str, Any]) -> None:
    assert seen["zoo"]["facts"]["inputs"] == {"image": ["float32", 2, 32, 32, 3]}
    assert seen["zoo"]["facts"]["parameters"] > 1000
    assert seen["zoo"]["norm_mean"] > 1e-3
    assert seen["zoo"]["momentum"] == 0.99


def test_a_keras_file_and_a_saved_model_take_the_batch_asked_for(seen: dict[str, Any]) -> None:
    assert seen["files"]["inputs"] == {"image": ["float32", 2, 32, 32, 3]}
    assert list(seen["files"]["folder_inputs"].values()) == [["float32", 2, 32, 32, 3]]
    assert seen["files"]["weights"] == "of the file"


def test_a_model_that_scales_pixels_itself_is_given_pixels(seen: dict[str, Any]) -> None:
    assert 100 < seen["files"]["pixels"] <= 255


def test_a_free_size_is_refused_and_not_made_up(seen: dict[str, Any]) -> None:
    assert seen["files"]["free"].startswith("free_dimensions")
    assert "fix all but the first" in seen["files"]["free"]


@pytest.mark.parametrize("which", ["fidelity", "of_file", "of_folder"])
def test_the_runtime_computes_what_tensorflow_computes_eagerly(seen: dict[str, Any], which: str) -> None:
    fidelity = seen["runtime"][which]
    assert fidelity["identical"] or fidelity["snr_db"] > 100
    assert fidelity["top1_agreement"] == 1.0


def test_precision_and_unit_are_read_back_from_the_graph_that_ran(seen: dict[str, Any]) -> None:
    facts = seen["runtime"]["facts"]
    assert (facts["precision"], facts["compute_unit"], facts["quantised_flop_share"]) == ("fp32", "cpu", 0.0)
    assert "100% of the FLOPs" in facts["evidence"]
    assert facts["options"]["threads"] == 1


def test_a_second_load_is_fine_and_other_threads_are_not(seen: dict[str, Any]) -> None:
    assert seen["runtime"]["again"]
    assert seen["runtime"]["other_threads"].startswith("unsupported")


def test_the_profile_names_the_layers_of_the_keras_model(seen: dict[str, Any]) -> None:
    flops = {op["layers"][0]: op["flops"] for op in seen["runtime"]["ops"] if op["flops"]}
    assert flops == {
        "stem": 2 * 2 * 15 * 15 * 16 * 27,
        "depthwise": 2 * 2 * 15 * 15 * 16 * 9,
        "body.wide": 2 * 2 * 15 * 15 * 16 * 128,
        "head": 2 * 2 * 128 * 10,
    }
    stem = next(op for op in seen["runtime"]["ops"] if op["layers"][:1] == ["stem"] and op["flops"])
    assert "Conv2D" in stem["type"]
    assert (stem["compute_unit"], stem["precision"]) == ("cpu", "fp32")
    assert stem["bytes"] == 4 * (2 * 32 * 32 * 3 + 27 * 16 + 2 * 15 * 15 * 16)


def test_the_profile_accounts_for_the_whole_run(seen: dict[str, Any]) -> None:
    ops, run_ms = seen["runtime"]["ops"], seen["runtime"]["run_ms"]
    assert len(run_ms) == 7
    assert all(op["time_us"] >= 0 for op in ops)
    assert [op["name"] for op in ops[-2:]] == ["graph executor", "not traced"]
    assert 0 < sum(op["time_us"] for op in ops) <= 1.5e3 * max(run_ms)
    assert "TensorFlow's own trace" in seen["runtime"]["method"]
    assert "remainder" in seen["runtime"]["method"]


def test_the_profile_of_a_model_that_ran_often_still_has_its_cheap_nodes(seen: dict[str, Any]) -> None:
    kinds = {layer: op["type"] for op in seen["mixed"]["ops"] for layer in op["layers"] if "Read" not in op["type"]}
    assert kinds["cut"] == "Relu"
    assert kinds["mean"] == "Mean"


def test_code_that_xla_compiled_has_a_row_of_its_own(seen: dict[str, Any]) -> None:
    (op,) = [op for op in seen["mixed"]["ops"] if op["type"] == "XLA"]
    assert op["layers"] == ["grouped"]
    assert op["flops"] == 2 * 30 * 30 * 32 * 9 * 4
    assert op["precision"] is None
    assert op["time_us"] > 0


def test_what_xla_multiplies_in_is_unknown_and_not_taken_from_the_rest(seen: dict[str, Any]) -> None:
    facts = seen["mixed"]["facts"]
    assert (facts["precision"], facts["quantised_flop_share"]) == ("unknown", None)
    assert "XLA compiled" in facts["evidence"]
    assert "100%" not in facts["evidence"]


def test_a_folder_may_be_called_what_the_artifact_is_called(seen: dict[str, Any]) -> None:
    assert seen["folders"]["same"]["identical"] or seen["folders"]["same"]["snr_db"] > 100
    assert seen["folders"]["left"] == ["model.savedmodel"]


def test_a_folder_has_its_own_name_however_its_path_is_written(seen: dict[str, Any], folder: Path) -> None:
    assert seen["folders"]["dotted"] == ["net", str((folder / "net").resolve())]


@pytest.mark.parametrize(
    ("recipe", "precision", "least_db", "least_share"),
    [
        ("fp32", "fp32", 60, 0),
        ("int8-dynamic", "int8", 15, 0.5),
        ("int8-full", "int8", 10, 1),
        ("int8-static", None, 10, 0.5),
    ],
)
def test_litert_runs_every_recipe_on_the_same_interface(
    seen: dict[str, Any], recipe: str, precision: str | None, least_db: float, least_share: float
) -> None:
    got = seen["litert"][recipe]
    assert got["types"] == ["float32"]
    assert got["fidelity"]["snr_db"] >= least_db
    assert precision in (None, got["facts"]["precision"])
    assert got["facts"]["quantised_flop_share"] >= least_share


def test_fp16_holds_half_the_bytes_of_weights(seen: dict[str, Any]) -> None:
    assert seen["litert"]["fp16"]["bytes"] < seen["litert"]["fp32"]["bytes"]
    assert seen["litert"]["fp16"]["fidelity"]["snr_db"] > 30


def test_a_users_own_integer_interface_is_left_as_it_is(seen: dict[str, Any]) -> None:
    assert seen["own_interface"] == ["int8"]


@pytest.mark.parametrize("what", ["measure", "profile"])
def test_the_runner_measures_and_profiles_it_within_limits(folder: Path, tmp_path: Path, what: str) -> None:
    from workers.bundle import pack

    pack(folder / "zoo" / "model.savedmodel", tmp_path / "artifact.tar")
    task = MeasureTask(
        runtime="tensorflow",
        entry="workers.runtimes.tensor_flow:TensorFlow",
        format="savedmodel",
        recipe="fp32",
        model="keras/net",
        weights="random",
        compute_unit="cpu",
        options=Options(min_seconds=0.1, max_seconds=0.2),
    )
    attempt = tmp_path / "attempt"
    (attempt / "tmp").mkdir(parents=True)
    paths = {"artifact": str(tmp_path / "artifact.tar"), "examples": str(folder / "zoo" / "examples.npz")}
    order = Order(
        attempt_id=1,
        token="t",
        place="cpu",
        limits=Limits(deadline_s=100, memory_bytes=16 * 2**30),
        measure=task if what == "measure" else None,
        profile=task if what == "profile" else None,
        paths=paths,
    )
    write_document(order, attempt / "order.json")
    run("-m", "workers.runner", str(attempt))
    result = read_document(Result, attempt / "result.json")
    assert result.failure is None
    done = result.measurement or result.profile
    assert done is not None
    assert done.runtime.precision == "fp32"
    assert done.inputs == {"image": ("float32", 2, 32, 32, 3)}
    assert isinstance(done, Profile) is (what == "profile")
