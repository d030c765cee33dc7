"""From a torch module to the canonical `.pt2`: shared by every source of torch models. Runs in a child only."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from workers.contract import ModelRequest
from workers.errors import AttemptError, Cause, first_line
from workers.examples import Array, Examples
from workers.flops import count_flops, program_facts
from workers.models.source import CALIBRATION_EXAMPLES, FIDELITY_EXAMPLES, BuiltModule, Made, write_examples

if TYPE_CHECKING:
    import torch

#: A frame of a stack trace: file and line.
_FRAME = re.compile(r'File "([^"]+)", line (\d+)')


@dataclass(frozen=True)
class Exported:
    """A program as a file, with what its code and its cost are."""

    artifact: Path
    #: Layer to the line of code that calls it (JSON).
    sources: Path
    #: Named facts: FLOPs, weights, bytes moved (`workers.flops`).
    facts: dict[str, Any]


def export_canonical(built: BuiltModule, request: ModelRequest, folder: Path) -> Made:
    """Export a module once, with example inputs and the fp32 outputs of eager torch as the fidelity reference.

    Args:
        built: what to export; its own weights are left alone.
        request: seed, batch, the user's calibration file.
        folder: where the files go.

    Raises:
        AttemptError: the module cannot be exported.
    """
    import torch

    module, learnt = finished(built, request)
    inputs = built.make_inputs(np.random.default_rng(request.seed), FIDELITY_EXAMPLES)
    calibration = Examples(built.make_inputs(np.random.default_rng(request.seed + 1), CALIBRATION_EXAMPLES))
    examples = Examples(inputs)
    exported = export_module(module, examples, request.name, folder)
    with _exporting(request.name), torch.no_grad():
        references = [flatten_outputs(module(*tensors(example))) for example in examples.each()]
    examples = Examples(inputs, tuple(np.stack(stack) for stack in zip(*references, strict=True)))
    examples_path, calibration_path = write_examples(folder, request, examples, calibration)
    facts = {**exported.facts, "inputs": examples.shapes(), **built.facts, **learnt}
    labelled = {}
    for role, data in (("train", built.train), ("test", built.test)):
        if data is not None:
            labelled[role] = folder / f"{role}.npz"
            data.save(labelled[role])
    return Made(exported.artifact, examples_path, calibration_path, exported.sources, **labelled, facts=facts)


def finished(built: BuiltModule, request: ModelRequest) -> tuple[torch.nn.Module, dict[str, Any]]:
    """The module as it is exported, with all it learns or is given after it was built; and facts of that."""
    learnt = {} if built.learn is None else built.learn()
    module = built.module.eval()
    if built.calibrate_norms:
        generator = np.random.default_rng(request.seed + 1)
        calibrate_batch_norms(module, Examples(built.make_inputs(generator, CALIBRATION_EXAMPLES)))
    return module, learnt


def export_module(module: torch.nn.Module, examples: Examples, name: str, folder: Path) -> Exported:
    """Export a module for the shapes of its examples.

    Raises:
        AttemptError: torch cannot export it.
    """
    import torch

    inputs = tuple(tensors(examples.input_at(0)))
    with _exporting(name), torch.no_grad():
        program = torch.export.export(module, inputs)
        flops = count_flops(lambda: module(*inputs))
    artifact = folder / "model.pt2"
    torch.export.save(program, artifact)
    facts = {"flops": flops, **program_facts(program)}
    return Exported(artifact, write_sources(program, folder), facts)


@contextmanager
def _exporting(name: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        raise AttemptError(
            Cause.MODEL, "does_not_export", f"torch cannot export {name}: {first_line(error)}"
        ) from error


def layer_of(node: torch.fx.Node) -> str | None:
    """The innermost module that a node of an exported program belongs to, as a dotted path; None for the outermost."""
    stack = node.meta.get("nn_module_stack")
    return (list(stack.values())[-1][0] or None) if stack else None


def write_sources(program: torch.export.ExportedProgram, folder: Path) -> Path:
    """Write where the model's code calls each of its layers."""
    path = folder / "sources.json"
    path.write_text(json.dumps(sources_of(program)), encoding="utf-8")
    return path


def sources_of(program: torch.export.ExportedProgram) -> dict[str, str]:
    """Each layer of a program to the line of the model's code that calls it: `package/file.py:12`.

    That is the innermost frame outside torch, whose own modules only pass calls on.
    """
    found: dict[str, str] = {}
    for node in program.graph.nodes:
        layer = layer_of(node)
        frames = _FRAME.findall(node.meta.get("stack_trace") or "")
        own = [frame for frame in frames if "/torch/" not in frame[0]]
        if layer is not None and own:
            file, line = own[-1]
            found.setdefault(layer, f"{_short(file)}:{line}")
    return found


def _short(file: str) -> str:
    """A path below site-packages, else the file and its folder: what people recognise, whichever machine exported."""
    _, below, rest = file.partition("/site-packages/")
    return rest if below else "/".join(Path(file).parts[-2:])


def load_program(path: Path) -> torch.export.ExportedProgram:
    """Load a `.pt2` after every part of it that could run code was refused (see `workers.models.pt2_safety`)."""
    import torch

    from workers.models.pt2_safety import refuse_code

    refuse_code(path)
    return torch.export.load(path)


def calibrate_batch_norms(module: torch.nn.Module, calibration: Examples) -> None:
    """Give batch norms the statistics of seeded inputs.

    A fresh network's batch norms divide by 1 whatever the activations' size, so that after fifty layers the outputs
    are near 1e-13 and fidelity would compare noise with noise.
    """
    import torch

    norms = [layer for layer in module.modules() if isinstance(layer, torch.nn.modules.batchnorm._BatchNorm)]
    if not norms:
        return
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # cumulative average over the passes below
        norm.train()
    with torch.no_grad():
        module(*tensors({name: stack[:16].reshape(-1, *stack.shape[2:]) for name, stack in calibration.inputs.items()}))
    for norm in norms:
        norm.eval()


def tensors(example: dict[str, Array]) -> list[torch.Tensor]:
    """The inputs of one example, in order.

    Copied, for axes of one may have any stride in numpy, and coremltools takes an odd one for another order of axes.
    """
    import torch

    arrays = [np.ascontiguousarray(value) for value in example.values()]
    return [torch.from_numpy(array).clone(memory_format=torch.contiguous_format) for array in arrays]


def flatten_outputs(result: Any) -> list[Array]:
    """Flatten a module's result to arrays in order."""
    import torch

    if isinstance(result, torch.Tensor):
        return [result.detach().float().cpu().numpy() if result.is_floating_point() else result.cpu().numpy()]
    values: Sequence[Any] = list(result.values()) if isinstance(result, dict) else list(result)
    return [array for value in values for array in flatten_outputs(value)]
