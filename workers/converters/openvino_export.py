"""onnx or SavedModel fp32 -> OpenVINO IR for fp32, fp16 or bf16 arithmetic, by OpenVINO's own front ends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

from workers.converters.converter import ConversionInput, Converter, Route
from workers.errors import AttemptError, Cause, first_line
from workers.examples import load_examples
from workers.models.source import Made
from workers.runtimes.open_vino import in_ports
from workers.runtimes.open_vino_graph import LAYERS_KEY

#: Where the ONNX front end puts a bias or an activation behind an operation, it names the operation itself so.
_BEFORE_BIAS = "/WithoutBiases"
#: Lines of its messages that name its own source or nothing, before the one that names what is wrong.
_EMPTY_LINES = ("Exception from ", "Check '", "FrontEnd API failed", "Model wasn't fully converted", "Summary:")


class OpenVinoExport(Converter):
    """Fp16 halves the weights in the file; bf16 is a matter of arithmetic, so its file is that of fp32."""

    packages: ClassVar[tuple[str, ...]] = ("openvino", "onnx")
    extra: ClassVar[str] = "openvino"
    routes: ClassVar[tuple[Route, ...]] = tuple(
        Route(source, "fp32", "openvino", recipe)
        for source in ("onnx", "savedmodel")
        for recipe in ("fp32", "fp16", "bf16")
    )

    def convert(self, source: ConversionInput) -> Made:
        """See `Converter.convert`."""
        import openvino
        from openvino.passes import ConstantFolding, Manager

        try:
            # Not convert_model: that one reports what it does to its makers.
            model = openvino.Core().read_model(source.artifact)
            if source.artifact.is_dir():
                model = _outputs_in_order(model)
            _fix_shapes(model, load_examples(source.examples).input_at(0))
            # Shape arithmetic and lookups in constants stay otherwise, and NNCF stumbles over them.
            passes = Manager()
            passes.register_pass(ConstantFolding())
            passes.run_passes(model)
        except Exception as error:
            raise AttemptError(
                Cause.MODEL, "does_not_convert", f"OpenVINO cannot convert it: {_reason(error)}"
            ) from error
        if source.artifact.is_file():  # of a SavedModel, the front end forgets which node made a convolution
            model.set_rt_info(json.dumps(_layers_by_operation(model, source.artifact)), list(LAYERS_KEY))
        return Made(save(model, source.folder, half=source.recipe == "fp16"))


def save(model: Any, folder: Path, *, half: bool = False) -> Path:
    """Write a model as the folder that is the format `openvino`."""
    import openvino

    artifact = folder / "model"
    artifact.mkdir()
    openvino.save_model(model, artifact / "model.xml", compress_to_fp16=half)
    return artifact


def _reason(error: Exception) -> str:
    lines = [line.lstrip("- ") for line in str(error).splitlines() if not line.startswith(_EMPTY_LINES)]
    return first_line(RuntimeError("\n".join(lines)))


def _outputs_in_order(model: Any) -> Any:
    """The outputs of a SavedModel as the program numbers them; the front end lists them as they come."""
    import openvino

    results = sorted(model.get_results(), key=lambda result: (len(result.friendly_name), result.friendly_name))
    return openvino.Model(results, model.get_parameters(), model.get_name())


def _fix_shapes(model: Any, example: dict[str, Any]) -> None:
    """Give a model that was saved for any batch the shapes that are measured: kernels are chosen by shape."""
    if not model.is_dynamic():
        return
    names = [port.get_names() for port in model.inputs]
    model.reshape({index: list(value.shape) for index, value in enumerate(in_ports(names, example))})


def _layers_by_operation(model: Any, onnx_file: Path) -> dict[str, tuple[str, ...]]:
    """Name of each operation of an imported ONNX graph to the layers it computes.

    An operation keeps the name of its node or at least of the value that the node yields. A node that became several
    operations gave its name to the last: those before it have no name of the graph's and one user.
    """
    import onnx

    from workers.onnx_layers import layers_by_node

    graph = onnx.load(onnx_file, load_external_data=False)
    noted = layers_by_node(graph)
    made_by = {value: node.name for node in graph.graph.node for value in node.output}
    found: dict[str, tuple[str, ...]] = {}
    for operation in reversed(model.get_ordered_ops()):
        if operation.get_type_name() in ("Parameter", "Constant", "Result"):
            continue
        name = operation.friendly_name
        values = [value for output in operation.outputs() for value in sorted(output.get_names())]
        nodes = [name.removesuffix(_BEFORE_BIAS), *(made_by.get(value, "") for value in values)]
        users = {user.get_node().friendly_name for output in operation.outputs() for user in output.get_target_inputs()}
        if any(node in noted for node in nodes):
            found[name] = tuple(dict.fromkeys(layer for node in nodes for layer in noted.get(node, ())))
        elif len(users) == 1:
            found[name] = found.get(users.pop(), ())
    return {name: layers for name, layers in found.items() if layers}
