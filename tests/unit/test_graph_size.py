"""Nodes are counted in the file itself, and a file that cannot be read says so."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import onnx
from onnx import TensorProto, helper

from workers.graph_size import count_nodes


def test_calls_of_an_exported_program(tmp_path: Path) -> None:
    path = tmp_path / "model.pt2"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/models/model.json", json.dumps({"graph_module": {"graph": {"nodes": [{}, {}, {}]}}}))
    assert count_nodes("pt2", path) == {"nodes": 3}


def test_operations_of_onnx_without_constants_with_those_of_branches(tmp_path: Path) -> None:
    branch = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "then",
        [],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])],
    )
    nodes = [
        helper.make_node("Constant", [], ["yes"], value=helper.make_tensor("c", TensorProto.BOOL, [], [True])),
        helper.make_node("If", ["yes"], ["out"], then_branch=branch, else_branch=branch),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in ("x", "out")]
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(helper.make_graph(nodes, "graph", ends[:1], ends[1:])), path)
    assert count_nodes("onnx", path) == {"nodes": 3}


def test_layers_of_openvino_without_values(tmp_path: Path) -> None:
    kinds = ("Parameter", "Const", "Convolution", "ReLU", "Result")
    layers = "".join(f'<layer id="{number}" type="{kind}"/>' for number, kind in enumerate(kinds))
    (tmp_path / "model.xml").write_text(f"<net><layers>{layers}</layers></net>")
    assert count_nodes("openvino", tmp_path) == {"nodes": 2}


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "model.pt2").write_bytes(b"no archive")
    told = count_nodes("pt2", tmp_path / "model.pt2")
    assert told == {"nodes": None, "nodes_unknown": "BadZipFile: File is not a zip file"}


def test_a_format_without_a_graph_says_nothing(tmp_path: Path) -> None:
    assert count_nodes("sim", tmp_path) == {}
