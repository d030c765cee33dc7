"""workers.onnx_layers: operations of ONNX runtimes are named by the layers of the model, however they are fused."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from workers.onnx_layers import layers_by_node, layers_of_optimised, note_layers

_SCOPES = "pkg.torch.onnx.name_scopes"


class _Properties(list[Any]):
    """As protobuf's repeated field: `add` appends an empty one and returns it."""

    def add(self) -> Any:
        self.append(SimpleNamespace(key="", value=""))
        return self[-1]


def node(
    op_type: str,
    inputs: str,
    outputs: str,
    *,
    name: str | None = None,
    layer: str | None = None,
    activation: str | None = None,
) -> Any:
    """A node as ONNX describes it; named after its first output unless told otherwise."""
    properties = _Properties()
    if layer is not None:
        scopes = ["", *layer.split("/"), "op"]
        properties.append(SimpleNamespace(key=_SCOPES, value=str(scopes)))
    attributes = [SimpleNamespace(name="activation", s=activation.encode())] if activation else []
    return SimpleNamespace(
        op_type=op_type,
        name=f"node_{outputs.split()[0]}" if name is None else name,
        input=inputs.split(),
        output=outputs.split(),
        attribute=attributes,
        metadata_props=properties,
    )


def model(*nodes: Any, weights: str = "") -> Any:
    """A model of some nodes and weights."""
    initializers = [SimpleNamespace(name=name) for name in weights.split()]
    return SimpleNamespace(graph=SimpleNamespace(node=list(nodes), initializer=initializers))


def exported() -> Any:
    """A convolution, its activation, and a linear layer, as torch's exporter notes them."""
    return model(
        node("Conv", "x features.0.weight", "conv", layer="features/features.1"),  # fused with its batch norm
        node("Relu", "conv", "relu", layer="features/features.2"),
        node("MatMul", "relu classifier.weight", "product", layer="classifier"),
        node("Add", "product classifier.bias", "out", layer="classifier"),
        weights="features.0.weight classifier.weight classifier.bias",
    )


def test_a_node_computes_the_layer_noted_and_those_whose_weights_it_holds() -> None:
    layers = layers_by_node(exported())
    assert layers["node_conv"] == ("features.1", "features.0")
    assert layers["node_relu"] == ("features.2",)
    assert layers["node_out"] == ("classifier",)


def test_a_constant_that_several_nodes_share_names_no_layer() -> None:
    # Equal constants (zero biases) are stored once, under the name of one of them.
    shared = model(
        node("Add", "a norm.bias", "b", layer="first"),
        node("Add", "b norm.bias", "c", layer="second"),
        weights="norm.bias",
    )
    assert layers_by_node(shared) == {"node_b": ("first",), "node_c": ("second",)}


def test_a_graph_of_another_exporter_is_known_by_its_nodes_names() -> None:
    foreign = model(node("Conv", "x w", "y", name="/features/0/Conv"), node("Relu", "y", "z", name="/features/1/Relu"))
    assert layers_by_node(foreign)["/features/0/Conv"] == ("/features/0/Conv",)


def test_what_was_inserted_between_noted_nodes_has_no_layer() -> None:
    quantised = model(
        node("Conv", "x w", "y", layer="features.0"), node("QuantizeLinear", "y features.0.scale", "q"), weights="w"
    )
    assert layers_by_node(quantised)["node_q"] == ()


def test_a_fused_node_computes_all_between_its_inputs_and_its_outputs() -> None:
    optimised = model(
        node("FusedConv", "x features.0.weight", "relu", name="fused"),
        node("Gemm", "relu w b", "out", name="gemm"),
    )
    conv, gemm = layers_of_optimised(exported(), optimised)
    assert set(conv) == {"features.0", "features.1", "features.2"}
    assert set(gemm) == {"classifier"}


def test_blocked_convolutions_and_reorders_are_told_apart() -> None:
    # onnxruntime names the convolution by the tensor it stands for, and renames the tensor.
    optimised = model(
        node("Conv", "x reorder", "reorder_token_1", name="conv_nchwc", activation="Relu"),
        node("ReorderOutput", "reorder_token_1", "relu", name="ReorderOutput"),
        node("MatMul", "relu w", "product"),
        node("Add", "product b", "out"),
    )
    conv, reorder, product, bias = layers_of_optimised(exported(), optimised)
    assert set(conv) == {"features.0", "features.1", "features.2"}
    assert reorder == ()
    assert (product, bias) == (("classifier",), ("classifier",))


def test_a_matrix_product_fused_with_its_bias_keeps_its_layer_among_reshapes() -> None:
    optimised = model(
        node("FusedConv", "x w", "relu", name="fused"),
        node("Reshape", "relu s", "r1", name="gemm_input_reshape_token_1"),
        node("Gemm", "r1 w b", "r2", name="node_product/MatMulAddFusion"),
        node("Reshape", "r2 s", "out", name="gemm_output_reshape_token_2"),
    )
    layers = layers_of_optimised(exported(), optimised)
    assert layers[1:] == [(), ("classifier",), ()]


def test_a_quantised_model_keeps_the_layers_that_its_preparation_dropped() -> None:
    prepared = model(
        node("Conv", "x w", "relu", name="node_relu_conv"),
        node("MatMul", "relu w2", "product"),
        node("Add", "product b", "out"),
    )
    quantised = model(
        node("QuantizeLinear", "x s z", "x_q"),
        node("Conv", "x_q w_q", "relu_out", name="node_relu_conv"),
        node("ConvInteger", "x_q w_q", "sum", name="node_product_quant"),
        node("Mul", "sum scale", "out", name=""),
    )
    note_layers(exported(), prepared, quantised)
    layers = layers_by_node(quantised)
    assert set(layers["node_relu_conv"]) == {"features.0", "features.1", "features.2"}
    assert layers["node_product_quant"] == ("classifier",)
    assert layers["node_x_q"] == ()
    assert all(item.name for item in quantised.graph.node), "onnxruntime would lose track of a node without a name"


def test_a_function_that_was_inlined_belongs_to_its_layer_whole() -> None:
    original = model(node("HardSwish", "x", "y", layer="act"))
    prepared = model(node("HardSigmoid", "x", "inner", name=""), node("Mul", "x inner", "y", name=""))
    quantised = model(node("HardSigmoid", "x", "inner", name=""), node("Mul", "x inner", "y", name=""))
    note_layers(original, prepared, quantised)
    assert set(layers_by_node(quantised).values()) == {("act",)}


def test_what_belongs_to_no_layer_does_not_inherit_that_of_what_follows() -> None:
    # Attention's products stand in the forward of the model itself; the classifier follows them.
    nodes = [
        node("MatMul", "q k", "scores", layer=""),
        node("Softmax", "scores", "seen", layer=""),
        node("MatMul", "seen v", "mixed", layer=""),
        node("Gemm", "mixed w b", "out", layer="classifier"),
    ]
    original = model(*nodes)
    prepared = model(*(node(n.op_type, " ".join(n.input), " ".join(n.output)) for n in nodes))
    quantised = model(*(node(n.op_type, " ".join(n.input), " ".join(n.output)) for n in nodes))
    note_layers(original, prepared, quantised)
    layers = layers_by_node(quantised)
    assert layers == {"node_scores": (), "node_seen": (), "node_mixed": (), "node_out": ("classifier",)}


def test_float16_tensors_that_are_computed_in_float32_are_known_by_their_own_names() -> None:
    widened = "InsertedPrecisionFreeCast_"
    optimised = model(
        node("Conv", "x w", "reorder", name=f"{widened}relu_nchwc", activation="Relu"),
        node("ReorderOutput", "reorder", f"{widened}relu", name="ReorderOutput"),
        node("Gemm", f"{widened}relu w b", f"{widened}out"),
    )
    conv, reorder, gemm = layers_of_optimised(exported(), optimised)
    assert (set(conv), reorder, gemm) == ({"features.0", "features.1", "features.2"}, (), ("classifier",))


def test_nodes_whose_first_output_is_left_out_are_told_apart() -> None:
    def recurrent(name: str, before: str, after: str) -> Any:
        made = node("LSTM", before, after, name=name)
        made.output = ["", after]
        return made

    graph = model(recurrent("first", "x", "h"), recurrent("second", "h", "y"))
    assert layers_of_optimised(graph, graph) == [("first",), ("second",)]


@given(st.lists(st.text("abc.", min_size=1, max_size=5), min_size=1, max_size=6))
def test_notes_survive_whatever_a_layer_is_called(names: list[str]) -> None:
    nodes = [node("Relu", f"t{i}", f"t{i + 1}") for i in range(len(names))]
    for item, name in zip(nodes, names, strict=True):
        note = item.metadata_props.add()
        note.key, note.value = "benchfarm.layers", json.dumps([name])
    graph = model(*nodes)
    assert layers_by_node(graph) == {f"node_t{i + 1}": (name,) for i, name in enumerate(names)}
    assert layers_of_optimised(graph, graph) == [(name,) for name in names]
