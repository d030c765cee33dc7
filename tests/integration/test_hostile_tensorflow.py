"""`.keras` files and SavedModels that would run code or touch other files are refused before anything loads them.

The files are real: Keras and TensorFlow made them, or their own files were edited. One child makes all of them, another
is handed each; both import TensorFlow, which takes seconds.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

MAKE = '''
import io, json, os, shutil, sys, warnings, zipfile
os.environ["KERAS_BACKEND"] = "tensorflow"
from pathlib import Path
import h5py, keras, numpy as np, tensorflow as tf
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

root = Path(sys.argv[1])
mark, made, secret = str(root / "ran"), str(root / "written"), root / "secret.txt"
secret.write_text("s 1")
os.chdir(root)

# ---- .keras ----
good = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Rescaling(1 / 255), keras.layers.Conv2D(4, 3),
                         keras.layers.Flatten(), keras.layers.Dense(3, activation="softmax")])
good.compile("adam", "mse")
good.save("good.keras")
bomb = keras.Sequential([keras.Input((4,)), keras.layers.Lambda(
    eval(f"lambda x: (__import__('pathlib').Path({mark!r}).touch(), x)[1]"), output_shape=(4,))])
bomb.save("lambda.keras")

def rewritten(name, edit=lambda config: None, weights=None, extra=(), source="good.keras"):
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(name, "w") as new:
        for item in old.namelist():
            data = old.read(item)
            if item == "config.json":
                config = json.loads(data)
                edit(config)
                data = json.dumps(config).encode()
            new.writestr(item, weights if weights and item == "model.weights.h5" else data)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for member, data in extra:
                new.writestr(member, data)

def activation(value):
    def edit(config):
        config["config"]["layers"][-1]["config"]["activation"] = value
    return edit

def layer(module, kind, config):
    def edit(whole):
        whole["config"]["layers"][1] = {"module": module, "class_name": kind, "config": config, "registered_name": None}
    return edit

call = {"module": "os", "class_name": "function", "config": "system", "registered_name": "system"}
rewritten("system.keras", activation(call))
rewritten("get_file.keras", activation({**call, "module": "keras.utils", "config": "get_file"}))
rewritten("registered.keras", activation({"module": "keras.layers", "class_name": "ReLU", "config": {},
                                          "registered_name": "os>system"}))
rewritten("marshalled.keras", activation({"class_name": "__lambda__", "config": {"value": ["AAAA", None, None]}}))
rewritten("typespec.keras", activation({"class_name": "__typespec__", "spec_name": "TensorSpec", "module": "tensorflow",
                                        "registered_name": None, "config": [[1], "float32", "x"]}))
rewritten("without_module.keras", activation({"class_name": "Lambda2", "config": {}}))
rewritten("vocabulary.keras", layer("keras.layers", "StringLookup", {"name": "s", "vocabulary": str(secret)}))
rewritten("savedmodel_layer.keras", layer("keras.layers", "TFSMLayer", {"name": "s", "filepath": "write_file"}))
rewritten("torch_module.keras", layer("keras.layers", "TorchModuleWrapper", {"name": "s", "module": "gASV"}))
rewritten("internal.keras", layer("keras.src.layers.core.lambda_layer", "Lambda", {"name": "s"}))
rewritten("second_member.keras", extra=[("config.json", b"{}")])
rewritten("outside.keras", extra=[("../../evil.py", b"print()")])
rewritten("assets.keras", extra=[("assets/layers/vocabulary.txt", b"a")])
rewritten("bomb.keras", weights=b"")
with zipfile.ZipFile("expands.keras", "w", zipfile.ZIP_DEFLATED) as archive:
    archive.writestr("config.json", "{}")
    archive.writestr("model.weights.h5", bytes(50_000_000))

def damaged_weights(name, act):
    buffer = io.BytesIO(zipfile.ZipFile("good.keras").read("model.weights.h5"))
    with h5py.File(buffer, "r+") as file:
        kernel = file["layers/dense/vars"]
        del kernel["1"]
        act(kernel)
    rewritten(name, weights=buffer.getvalue())

with h5py.File("other.h5", "w") as other:
    other["x"] = np.zeros(3, dtype=np.float32)
Path("raw.bin").write_bytes(bytes(12))
layout = h5py.VirtualLayout(shape=(3,), dtype="f4")
layout[:] = h5py.VirtualSource("other.h5", "x", shape=(3,))
damaged_weights("external_link.keras", lambda g: g.__setitem__("1", h5py.ExternalLink("other.h5", "x")))
damaged_weights("soft_link.keras", lambda g: g.__setitem__("1", h5py.SoftLink("/layers/dense/vars/0")))
damaged_weights("virtual.keras", lambda g: g.create_virtual_dataset("1", layout))
damaged_weights("external.keras", lambda g: g.create_dataset("1", (3,), "f4", external=[("raw.bin", 0, 12)]))

def compiled_by(config):
    config["config"]["layers"][3]["compile_config"] = {"optimizer": call}
    config["compile_config"] = {"optimizer": call}
rewritten("compiled.keras", compiled_by)

# ---- SavedModel ----
four = [tf.TensorSpec((None, 4), tf.float32, name="x")]

def save(name, function, more=None):
    module = tf.Module()
    module.v = tf.Variable(2.0)
    module.more = more
    module.f = tf.function(lambda x: function(x * module.v), input_signature=four)
    tf.saved_model.save(module, name, signatures=module.f)

def touch(x):
    Path(mark).touch()
    return x

def side(x, operation):
    with tf.control_dependencies([operation]):
        return tf.identity(x)

def read(x):
    return x + tf.cast(tf.strings.length(tf.io.read_file(str(secret))), tf.float32)

def printed(x):
    return side(x, tf.raw_ops.PrintV2(input="x", output_stream="file://" + made))

def table():
    initialiser = tf.lookup.TextFileInitializer(str(secret), tf.string, 0, tf.int64, 1, delimiter=" ")
    return tf.lookup.StaticHashTable(initialiser, -1)

def hidden():
    module = tf.Module()
    module.g = tf.function(read, input_signature=four)
    return module

save("good", lambda x: tf.nn.relu(x))
save("py_function", lambda x: tf.ensure_shape(tf.py_function(touch, [x], tf.float32), (None, 4)))
save("numpy_function", lambda x: tf.ensure_shape(tf.numpy_function(touch, [x], tf.float32), (None, 4)))
save("write_file", lambda x: side(x, tf.io.write_file(made, "x")))
save("read_file", read)
save("hidden_read_file", lambda x: x, hidden())
save("print_to_file", printed)
save("abort", lambda x: side(x, tf.raw_ops.Abort(error_msg="x")))
save("dataset", lambda x: x + tf.data.Dataset.range(3).reduce(0.0, lambda a, b: a + tf.cast(b, tf.float32)))
save("restore", lambda x: x + tf.raw_ops.RestoreV2(
    prefix=str(root / "v"), tensor_names=["a"], shape_and_slices=[""], dtypes=[tf.float32])[0])
save("save", lambda x: side(x, tf.raw_ops.SaveV2(
    prefix=made, tensor_names=["a"], shape_and_slices=[""], tensors=[tf.reduce_sum(x)])))
lookup = table()
save("table", lambda x: x + tf.cast(lookup.lookup(tf.constant("s")), tf.float32), lookup)

def edited(name, edit, source="good"):
    shutil.copytree(source, name)
    path = Path(name, "saved_model.pb")
    document = SavedModel.FromString(path.read_bytes())
    edit(document.meta_graphs[0])
    path.write_bytes(document.SerializeToString())

def custom(graph):
    next(n for f in graph.graph_def.library.function for n in f.node_def if n.op == "Relu").op = "MyCustomOp"

def swapped(graph):
    saver = graph.saver_def
    saver.restore_op_name = saver.save_tensor_name.partition(":")[0]

def shadowing(graph):
    graph.graph_def.library.function[0].signature.name = "WriteFile"

def own_path(graph):
    for function in graph.graph_def.library.function:
        for node in function.node_def:
            if node.op == "RestoreV2":
                constant = function.node_def.add(name="where", op="Const")
                constant.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(str(root / "v")))
                constant.attr["dtype"].type = tf.string.as_datatype_enum
                node.input[0] = "where:output:0"

def served_saver(graph):
    """The signature calls the function that saves, which writes where it is told."""
    save = next(n for n in graph.graph_def.node if n.name == graph.saver_def.save_tensor_name.partition(":")[0])
    function = next(f for f in graph.graph_def.library.function if any(n.op == "Relu" for n in f.node_def))
    node = function.node_def.add(name="evil", op="StatefulPartitionedCall", input=["x"])
    node.attr["f"].func.name = save.attr["f"].func.name

edited("custom_operator", custom)
edited("swapped_saver", swapped)
edited("shadowing_function", shadowing)
edited("restores_from_elsewhere", own_path)
edited("served_saver", served_saver)

def exchanged(name, payload, attributes):
    """A function that nothing calls, which the optimiser takes for the one that is called."""
    spec = tf.TensorSpec((1, 4), tf.float32, name="x")

    def made_for(unit, function):
        # Named by the file: of all that this process knows under a name, the optimiser takes any.
        marked = {"api_implements": name, "api_preferred_device": unit} if attributes else {}
        return tf.function(function, autograph=False, experimental_attributes=marked)

    called, other = made_for("GPU", lambda x: x * 2.0), made_for("CPU", lambda x: side(x, payload(x)))
    hidden = other.get_concrete_function(spec)

    def serve(x):
        with tf.device("/CPU:0"):
            hidden.add_to_graph()
            return {"output_0": called(x)}

    tf.saved_model.save(tf.Module(), name, signatures=tf.function(serve, autograph=False).get_concrete_function(spec))
    document = SavedModel.FromString(Path(name, "saved_model.pb").read_bytes())
    library = document.meta_graphs[0].graph_def.library.function
    if not any(function.signature.name == hidden.function_def.signature.name for function in library):
        library.add().CopyFrom(hidden.function_def)
    Path(name, "saved_model.pb").write_bytes(document.SerializeToString())

def saved(x):
    return tf.raw_ops.SaveV2(prefix=made, tensor_names=["a"], shape_and_slices=[""], tensors=[x])

def merged(x):
    return tf.raw_ops.MergeV2Checkpoints(
        checkpoint_prefixes=[str(root / "victim" / "ck")], destination_prefix=made, delete_old_dirs=True)

exchanged("exchanged_by_one_that_saves", saved, True)
exchanged("exchanged_by_one_that_merges", merged, True)
exchanged("uncalled_save", saved, False)
exchanged("exchanged_by_one_that_computes", lambda x: tf.exp(x), True)

def fetched(graph):
    for output in graph.signature_def["serving_default"].outputs.values():
        output.name = graph.saver_def.save_tensor_name

def calls(graph):
    return [node for node in graph.graph_def.node if "PartitionedCall" in node.op]

def marked(graph):
    calls(graph)[0].attr["_tells"].b = True

def rewritten_by(graph):
    config = tf.compat.v1.ConfigProto()
    config.graph_options.rewrite_options.custom_optimizers.add(name="x")
    calls(graph)[0].attr["config_proto"].s = config.SerializeToString()

def gradient(graph):
    function = graph.graph_def.library.function[0].signature.name
    graph.graph_def.library.gradient.add(function_name=function, gradient_func=function)

edited("fetched_saver", fetched)
edited("marked_node", marked)
edited("told_optimiser", rewritten_by)
edited("gradient", gradient)
shutil.rmtree("table/assets")
edited("asset", lambda graph: None, "table")
edited("resource", lambda graph: graph.ClearField("asset_file_def"), "table")
Path("table/assets").mkdir()
Path("table/assets/secret.txt").write_text("s 1")
edited("tensorflow_1", lambda graph: graph.ClearField("object_graph_def"))
edited("registered_saver", lambda graph: setattr(graph.object_graph_def.nodes[0], "registered_saver", "x>y"))
for name in ("link", "other_notation", "cut", "asset_file"):
    shutil.copytree("good", name)
Path("link/variables/variables.index").unlink()
Path("link/variables/variables.index").symlink_to(secret)
Path("other_notation/saved_model.cpb").write_bytes(b"x")
Path("asset_file/assets").mkdir(exist_ok=True)
Path("asset_file/assets/vocabulary.txt").write_text("x")
whole = Path("cut/saved_model.pb").read_bytes()
Path("cut/saved_model.pb").write_bytes(whole[: len(whole) // 3])

# What the bombs do when nothing stands in the way.
ran = {}
keras.saving.load_model("lambda.keras", safe_mode=False)(np.zeros((1, 4), dtype=np.float32))
ran["lambda.keras"] = Path(mark).exists()
Path(mark).unlink()
live = tf.saved_model.load("write_file")
live.f(tf.zeros((1, 4)))
ran["write_file"] = Path(made).exists()
Path(made).unlink()
live = tf.saved_model.load("exchanged_by_one_that_saves")
live.signatures["serving_default"](x=tf.zeros((1, 4)))
ran["exchanged_by_one_that_saves"] = Path(made + ".index").exists()
for path in root.glob("written*"):
    path.unlink()
print(json.dumps(ran))
'''
TAKE = """
import json, sys, tempfile
from pathlib import Path
from workers.contract import ModelRequest
from workers.errors import AttemptError
from workers.models.files import ModelFile
said = {}
for name in sys.argv[2:]:
    with tempfile.TemporaryDirectory() as folder:
        try:
            made = ModelFile().materialise(ModelRequest(name=str(Path(sys.argv[1], name)), batch=2), Path(folder))
            said[name] = "LOADED " + json.dumps(made.facts["inputs"])
        except AttemptError as error:
            said[name] = f"{error.cause} {error.code} {error.message}"
with tempfile.TemporaryDirectory() as folder:
    from workers.models.savedmodel_safety import write_without_saver
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel
    write_without_saver(Path(sys.argv[1], "good"), Path(folder))
    document = SavedModel.FromString(Path(folder, "saved_model.pb").read_bytes())
    content = document.meta_graphs[0].graph_def.SerializeToString()
    said["loaded"] = [word for word in ("Relu", "SaveV2", "RestoreV2", "MergeV2") if word.encode() in content]
print(json.dumps(said))
"""
#: File to words of the sentence that it is refused with.
REFUSED = {
    "lambda.keras": "Lambda layer, which is Python code",
    "system.keras": "'os.system'",
    "get_file.keras": "keras.utils.get_file",
    "registered.keras": "registered as 'os>system'",
    "marshalled.keras": "Lambda layer, which is Python code",
    "typespec.keras": "__typespec__",
    "without_module.keras": "'None.Lambda2'",
    "vocabulary.keras": "'keras.layers.StringLookup'",
    "savedmodel_layer.keras": "'keras.layers.TFSMLayer'",
    "torch_module.keras": "'keras.layers.TorchModuleWrapper'",
    "internal.keras": "Lambda layer",
    "second_member.keras": "two members of one name",
    "outside.keras": "'../../evil.py'",
    "assets.keras": "'assets/layers/vocabulary.txt'",
    "expands.keras": "would unpack to 50000000 bytes",
    "external_link.keras": "by a link ('1')",
    "soft_link.keras": "by a link ('1')",
    "virtual.keras": "lie in another file",
    "external.keras": "lie in another file",
    "py_function": "'EagerPyFunc'",
    "numpy_function": "PyFunc",
    "write_file": "'WriteFile'",
    "read_file": "'ReadFile'",
    "hidden_read_file": "'ReadFile'",
    "print_to_file": "'PrintV2'",
    "abort": "'Abort'",
    "dataset": "Dataset'",
    "restore": "'RestoreV2' outside its saver",
    "save": "'SaveV2' outside its saver",
    "table": "'assets/secret.txt'",
    "asset": "asset files",
    "resource": "an object of the kind",
    "custom_operator": "'MyCustomOp', an operator that this TensorFlow does not have",
    "swapped_saver": "outside its saver",
    "shadowing_function": "calls itself 'WriteFile'",
    "restores_from_elsewhere": "restores from a file that it names itself",
    "served_saver": "outside its saver",
    "exchanged_by_one_that_saves": "'api_",
    "exchanged_by_one_that_merges": "'api_",
    "exchanged_by_one_that_computes": "'api_",
    "uncalled_save": "'SaveV2' outside its saver",
    "fetched_saver": "outside its saver",
    "marked_node": "marks a node with '_tells'",
    "told_optimiser": "tells TensorFlow's optimiser what to do",
    "gradient": "names gradients",
    "tensorflow_1": "TensorFlow 1",
    "registered_saver": "is restored by",
    "link": "symbolic links",
    "other_notation": "'saved_model.cpb'",
    "cut": "not a readable SavedModel",
    "asset_file": "'assets/vocabulary.txt'",
}
LOADED = ("good.keras", "compiled.keras", "good")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bool]]:
    """All the files, and what their payloads did when they were loaded without a check."""
    folder = tmp_path_factory.mktemp("hostile")
    return folder, json.loads(run(MAKE, str(folder)))


@pytest.fixture(scope="module")
def said(made: tuple[Path, dict[str, bool]]) -> dict[str, Any]:
    """What is said of each file."""
    verdicts: dict[str, Any] = json.loads(run(TAKE, str(made[0]), *REFUSED, *LOADED))
    return verdicts


def run(script: str, *arguments: str) -> str:
    """The last line of a script in a child."""
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-c", script, *arguments]
    finished = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert finished.returncode == 0, finished.stderr[-3000:]
    return finished.stdout.strip().splitlines()[-1]


def test_the_payloads_are_live(made: tuple[Path, dict[str, bool]]) -> None:
    assert made[1] == {"lambda.keras": True, "write_file": True, "exchanged_by_one_that_saves": True}


@pytest.mark.parametrize("name", REFUSED)
def test_a_hostile_file_is_refused(said: dict[str, Any], name: str) -> None:
    assert said[name].startswith("user bad_model")
    assert REFUSED[name] in said[name]


@pytest.mark.parametrize("name", LOADED)
def test_an_honest_file_is_taken_with_the_batch_asked_for(said: dict[str, Any], name: str) -> None:
    shape = [2, 4] if name == "good" else [2, 8, 8, 3]
    assert said[name].startswith("LOADED")
    assert list(json.loads(said[name].removeprefix("LOADED ")).values()) == [["float32", *shape]]


def test_what_is_loaded_holds_no_saver(said: dict[str, Any]) -> None:
    assert said["loaded"] == ["Relu"]


def test_no_payload_ran_and_nothing_was_written(made: tuple[Path, dict[str, bool]], said: dict[str, Any]) -> None:
    assert said.keys() == {*REFUSED, *LOADED, "loaded"}
    assert not (made[0] / "ran").exists()
    assert not list(made[0].glob("written*"))
    assert not (made[0].parent / "evil.py").exists()
