"""A SavedModel is hostile until proven otherwise: what runs code or touches other files is refused before it is loaded.

1. Operators read and write files, call Python, talk to the network or end the process; some of them count as pure.
   Only operators that compute pass, each by name (`workers.models.tf_operators`), in every function of the graph.
2. Saving and restoring are operators too: they pass in the saver's own part only, where nothing else can reach them.
   What is loaded is a copy without that part, and without every function that no function served calls: TensorFlow's
   optimiser exchanges functions by their attributes, so that what is not called may run none the less.
3. Attributes that tell the optimiser or the runtime what to exchange pass by name only, as operators do.
4. Assets and lookup tables are files that initialisers read; registered savers are code of the loading process.
5. Files by link, and graphs in another notation that would be read instead of the one that was checked.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from workers.errors import BadModelError, first_line
from workers.models.tf_operators import COMPUTE, RESTORE, SAVE

_CODE = "it could run code when loaded; benchfarm does not load it"
#: What TensorFlow writes. `keras_metadata.pb` is of Keras 2: TensorFlow does not read it, nor does benchfarm.
_FILES = re.compile(
    r"saved_model\.pb|fingerprint\.pb|keras_metadata\.pb|debug/saved_model_debug_info\.pb"
    r"|variables/variables\.(index|data-\d{5}-of-\d{5})|assets\.extra/layers\.json"
)
#: Objects that hold no file and run nothing when they are made.
_SAFE_KINDS = frozenset(
    ("user_object", "function", "variable", "bare_concrete_function", "constant", "captured_tensor")
)
#: What TensorFlow and Keras write on functions. Not `api_implements`, by which the optimiser takes one for another.
_FUNCTION_ATTRIBUTES = frozenset(
    (
        "_input_shapes",
        "_construction_context",
        "_XlaMustCompile",
        "_noinline",
        "_disable_acd",
        "_original_func_name",
        "forward_function_name",
        "backward_function_name",
    )
)
#: What they write on nodes beside the attributes that an operator's definition has.
_NODE_ATTRIBUTES = frozenset(
    (
        "_output_shapes",
        "_class",
        "_collective_manager_ids",
        "_read_only_resource_inputs",
        "_has_manual_control_dependencies",
        "_XlaMustCompile",
        "_noinline",
        "_num_original_outputs",
        "_lower_using_switch_merge",
        "_gradient_op_type",
        "_stateful_parallelism",
        "_parallel_iterations",
        "_user_specified_name",
    )
)


def refuse_code(folder: Path) -> None:
    """Check a SavedModel, all of it.

    Raises:
        BadModelError: it is damaged, of TensorFlow 1, or holds something that could run code or touch other files.
    """
    _checked(folder)


def write_without_saver(folder: Path, target: Path) -> None:
    """Check a SavedModel and write what TensorFlow may load of it: the functions it serves, its objects and variables.

    Args:
        folder: a SavedModel.
        target: an empty folder; the variables in it are a link to those of `folder`.

    Raises:
        BadModelError: as `refuse_code`.
    """
    document = _checked(folder)
    graph = document.meta_graphs[0]
    for field in ("saver_def", "signature_def", "collection_def"):
        graph.ClearField(field)
    library = graph.graph_def.library
    called = _reached(graph.object_graph_def.concrete_functions, _functions(graph.graph_def))
    served = [function for function in library.function if function.signature.name in called]
    constants = [node for node in graph.graph_def.node if node.op == "Const"]
    for field, kept in ((library.function, served), (graph.graph_def.node, constants)):
        copies = [type(item).FromString(item.SerializeToString()) for item in kept]
        del field[:]
        field.extend(copies)
    library.ClearField("registered_gradients")
    for node in _all_nodes(graph.graph_def):
        node.attr.pop("_gradient_op_type", None)
        if node.op not in called and node.op not in COMPUTE:
            raise BadModelError(f"{folder.name} uses {node.op!r} outside its saver: {_CODE}")
    (target / "saved_model.pb").write_bytes(document.SerializeToString())
    variables = folder.absolute() / "variables"
    if variables.exists():
        (target / "variables").symlink_to(variables)


def _checked(folder: Path) -> Any:
    name = folder.name
    _refuse_files(folder, name)
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    document = SavedModel()
    try:
        document.ParseFromString((folder / "saved_model.pb").read_bytes())
    except (DecodeError, OSError) as error:
        raise BadModelError(f"{name} is not a readable SavedModel: {first_line(error)}") from error
    if len(document.meta_graphs) != 1 or not document.meta_graphs[0].HasField("object_graph_def"):
        raise BadModelError(f"{name} was saved by TensorFlow 1; save it again with tf.saved_model.save of TensorFlow 2")
    graph = document.meta_graphs[0]
    if graph.asset_file_def:
        raise BadModelError(f"{name} holds asset files, which an initialiser would read: {_CODE}")
    _refuse_objects(graph.object_graph_def, name)
    _refuse_operators(graph.graph_def, name)
    _refuse_attributes(graph.graph_def, name)
    _refuse_saving(graph, name)
    return document


def _refuse_files(folder: Path, name: str) -> None:
    if not (folder / "saved_model.pb").exists():
        raise BadModelError(f"{name} holds no saved_model.pb")
    for item in folder.rglob("*"):
        inside = item.relative_to(folder).as_posix()
        if item.is_symlink():
            raise BadModelError(f"{name} holds symbolic links, which could name any file of this machine")
        if not item.is_dir() and not (item.is_file() and _FILES.fullmatch(inside)):
            raise BadModelError(f"{name} holds {inside!r}, which no program of numbers needs: {_CODE}")


def _refuse_objects(objects: Any, name: str) -> None:
    for item in objects.nodes:
        kind = item.WhichOneof("kind")
        if kind is not None and kind not in _SAFE_KINDS:
            raise BadModelError(f"{name} holds an object of the kind {kind!r}, which is made by code: {_CODE}")
        if item.registered_saver:
            raise BadModelError(f"{name} is restored by {item.registered_saver!r}: {_CODE}")


def _refuse_operators(graph: Any, name: str) -> None:
    from tensorflow.python.framework import op_def_registry

    functions = {function.signature.name for function in graph.library.function}
    for function in functions:
        if op_def_registry.get(function) is not None:
            raise BadModelError(f"{name} holds a function that calls itself {function!r} like an operator: {_CODE}")
    for node in _all_nodes(graph):
        if node.op in functions or node.op in COMPUTE or node.op in SAVE or node.op in RESTORE:
            continue
        if op_def_registry.get(node.op) is None:
            raise BadModelError(f"{name} uses {node.op!r}, an operator that this TensorFlow does not have")
        raise BadModelError(f"{name} uses {node.op!r}, which does more than compute: {_CODE}")


def _refuse_attributes(graph: Any, name: str) -> None:
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf.config_pb2 import ConfigProto
    from tensorflow.python.framework import op_def_registry

    if graph.library.gradient:
        raise BadModelError(f"{name} names gradients for its functions, which inference has no use for: {_CODE}")
    for function in graph.library.function:
        for attribute in function.attr:
            if attribute not in _FUNCTION_ATTRIBUTES:
                raise BadModelError(f"{name} marks a function with {attribute!r}, unknown to benchfarm: {_CODE}")
    for node in _all_nodes(graph):
        definition = op_def_registry.get(node.op)
        defined = {item.name for item in definition.attr} if definition is not None else set()
        for attribute in node.attr:
            if attribute not in defined and attribute not in _NODE_ATTRIBUTES:
                raise BadModelError(f"{name} marks a node with {attribute!r}, unknown to benchfarm: {_CODE}")
        try:
            config = ConfigProto.FromString(node.attr["config_proto"].s if "config_proto" in node.attr else b"")
        except DecodeError as error:
            raise BadModelError(f"{name} is not a readable SavedModel: {first_line(error)}") from error
        if config.HasField("graph_options"):
            raise BadModelError(f"{name} tells TensorFlow's optimiser what to do: {_CODE}")


def _refuse_saving(meta_graph: Any, name: str) -> None:
    """Refuse operators of the saver in reach of anything else, and in functions that the saver does not call.

    TensorFlow writes a saver into every SavedModel, with operators that write and read files of any name; its own
    loader never runs it. Converters run the part that restores, with the name of the variables beside the graph.
    """
    graph = meta_graph.graph_def
    functions = _functions(graph)
    arguments = {
        function.signature.name: {item.name for item in function.signature.input_arg}
        for function in graph.library.function
    }
    saver = meta_graph.saver_def
    saving = _ancestors(graph.node, [saver.save_tensor_name])
    restoring = _ancestors(graph.node, [saver.restore_op_name])
    outputs = [item.name for signature in meta_graph.signature_def.values() for item in signature.outputs.values()]
    started = [item for collection in meta_graph.collection_def.values() for item in collection.node_list.value]
    rest = [node.name for node in graph.node if node.name not in saving | restoring]
    served = _ancestors(graph.node, [*rest, *outputs, *started])
    of_saver = _reached(_called(node for node in graph.node if node.name in saving | restoring), functions)
    for names, others, allowed in (
        (served, set(meta_graph.object_graph_def.concrete_functions) | (functions.keys() - of_saver), frozenset[str]()),
        (saving, set[str](), SAVE),
        (restoring, set[str](), RESTORE),
    ):
        nodes = [node for node in graph.node if node.name in names]
        reached = _reached(_called(nodes) | others, functions)
        for node in [*nodes, *(node for function in reached for node in functions[function])]:
            if node.op in SAVE | RESTORE and node.op not in allowed:
                raise BadModelError(f"{name} uses {node.op!r} outside its saver: {_CODE}")
    for function, body in [("", list(graph.node)), *functions.items()]:
        placeholders = {node.name for node in body if node.op in ("Placeholder", "PlaceholderWithDefault")}
        for node in body:
            if node.op in RESTORE and _origin(node.input[0], body) not in placeholders | arguments.get(function, set()):
                raise BadModelError(f"{name} restores from a file that it names itself: {_CODE}")


def _functions(graph: Any) -> dict[str, list[Any]]:
    """Name to nodes."""
    return {function.signature.name: list(function.node_def) for function in graph.library.function}


def _all_nodes(graph: Any) -> Iterator[Any]:
    yield from graph.node
    for function in graph.library.function:
        yield from function.node_def


def _ancestors(nodes: Iterable[Any], targets: Iterable[str]) -> set[str]:
    """Names of all nodes that some need, themselves included."""
    inputs = {node.name: [_node_of(item) for item in node.input] for node in nodes}
    found: set[str] = set()
    waiting = [_node_of(target) for target in targets]
    while waiting:
        current = waiting.pop()
        if current in inputs and current not in found:
            found.add(current)
            waiting += inputs[current]
    return found


def _called(nodes: Iterable[Any]) -> set[str]:
    """Names of functions that nodes may call: as their operator or as an attribute."""
    found = set()
    for node in nodes:
        found.add(node.op)
        for value in node.attr.values():
            found |= {value.func.name, *(item.name for item in value.list.func)}
    return found


def _reached(names: Iterable[str], functions: dict[str, list[Any]]) -> set[str]:
    """Functions of these names and all that they call."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        current = waiting.pop()
        if current in functions and current not in found:
            found.add(current)
            waiting += _called(functions[current])
    return found


def _origin(name: str, nodes: list[Any]) -> str:
    """The node or argument that a value comes from, through identities."""
    inputs = defaultdict(list, {node.name: list(node.input) for node in nodes if node.op == "Identity"})
    current = _node_of(name)
    for _ in range(len(nodes)):
        if not inputs[current]:
            break
        current = _node_of(inputs[current][0])
    return current


def _node_of(name: str) -> str:
    return name.removeprefix("^").partition(":")[0]
