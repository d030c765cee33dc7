"""pt2 fp32 -> pt2 with int8 weights of linear layers, activations quantised as they come or left alone, by torchao."""

from __future__ import annotations

from typing import Any, ClassVar

from workers.converters.converter import ConversionInput, Converter, Route
from workers.converters.torch_quantize import drop_unused_tensors
from workers.errors import AttemptError, Cause, UnsupportedError, first_line
from workers.examples import load_examples
from workers.models.source import Made


class TorchAoQuantize(Converter):
    """Symmetric, per token and per output channel. All other layers stay as they are."""

    packages: ClassVar[tuple[str, ...]] = ("torch", "torchao")
    extra: ClassVar[str] = "torch"
    routes: ClassVar[tuple[Route, ...]] = (
        Route("pt2", "fp32", "pt2", "int8-dynamic"),
        Route("pt2", "fp32", "pt2", "int8-weight"),
    )

    def convert(self, source: ConversionInput) -> Made:
        """See `Converter.convert`."""
        import torch

        from workers.models.torch_export import load_program

        module = load_program(source.artifact).module()
        if not _insert_linear_modules(module):
            raise UnsupportedError("torchao quantises linear layers, and this program has none")
        example = tuple(torch.from_numpy(value) for value in load_examples(source.examples).input_at(0).values())
        try:
            program = _quantise(module, example, source.recipe)
        except Exception as error:
            raise AttemptError(
                Cause.MODEL, "does_not_convert", f"torchao cannot quantise it: {first_line(error)}"
            ) from error
        artifact = source.folder / "model.pt2"
        torch.export.save(program, artifact)
        return Made(artifact, facts=_facts(program))


def _insert_linear_modules(module: Any) -> int:
    """Make modules of the calls to linear with weights of the program, which is what torchao looks for; how many."""
    import torch

    known = dict(module.named_parameters(remove_duplicate=False))
    count = 0
    for node in list(module.graph.nodes):
        weights = [argument for argument in node.args[1:] if argument is not None]
        if node.target is not torch.ops.aten.linear.default or any(item.target not in known for item in weights):
            continue
        parameters = [known[item.target] for item in weights]
        outputs, inputs = parameters[0].shape
        linear = torch.nn.Linear(inputs, outputs, bias=len(parameters) > 1, device="meta")
        linear.weight = parameters[0]
        if len(parameters) > 1:
            linear.bias = parameters[1]
        name = f"linear_{count}"
        module.add_submodule(name, linear)
        with module.graph.inserting_before(node):
            call = module.graph.call_module(name, (node.args[0],))
        call.meta = dict(node.meta)
        node.replace_all_uses_with(call)
        module.graph.erase_node(node)
        count += 1
    drop_unused_tensors(module)
    return count


def _quantise(module: Any, example: tuple[Any, ...], recipe: str) -> Any:
    import torch
    from torchao.quantization import Int8DynamicActivationInt8WeightConfig, Int8WeightOnlyConfig, quantize_
    from torchao.utils import unwrap_tensor_subclass

    kind = Int8DynamicActivationInt8WeightConfig if recipe == "int8-dynamic" else Int8WeightOnlyConfig
    quantize_(module, kind(set_inductor_config=False))
    unwrap_tensor_subclass(module)
    with torch.no_grad():
        program = torch.export.export(module, example)
    # Of plain operators only, the program loads where torchao is not installed.
    table = torch.export.default_decompositions()
    program = program.run_decompositions({op: table[op] for op in list(table) if op.namespace == "torchao"})
    for node in list(program.graph.nodes):
        if node.target is torch.ops.aten._assert_tensor_metadata.default:  # hundreds of checks of what is static
            program.graph.erase_node(node)
    program.graph_module.recompile()
    return program


def _facts(program: Any) -> dict[str, Any]:
    """Which operands the integer products take: torchao goes by the CPU it runs on (unsigned where it has VNNI)."""
    import torch

    products = [node for node in program.graph.nodes if node.target is torch.ops.aten._int_mm.default]
    kinds = sorted({str(node.args[0].meta["val"].dtype).removeprefix("torch.") for node in products})
    return {"integer_products": len(products), "activations": kinds} if products else {}
