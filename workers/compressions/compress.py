"""One step that changes a module, in the child: from the model's source and what earlier steps left to a `.pt2`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from workers.artifact_files import load_entry, unpacked
from workers.compressions.channels import repeat_cut
from workers.compressions.checkpoint import Checkpoint, bad_checkpoint, load_checkpoint, restore
from workers.compressions.compression import Compression
from workers.compressions.work import Cut, Work
from workers.contract import ConvertTask, ModelRequest, Order, Teacher
from workers.examples import Examples, load_examples
from workers.models.source import BuiltModule, Made, ModelSource
from workers.models.torch_export import export_module, finished, load_program
from workers.progress import tell
from workers.recipes import parse_step

if TYPE_CHECKING:
    import torch

    from workers.data_sets.labelled import Labelled

#: Training examples that batch norms are given statistics of.
_REPRESENTATIVE = 256


def compress(compression: Compression, task: ConvertTask, order: Order, out: Path) -> Made:
    """Build the module again, bring it to where earlier steps left it, change it, and export it.

    Its examples stay those of the canonical program: what it answers is held to the answers of the original.

    Args:
        compression: what to do.
        task: of a structure step: `source`, `model` and `step` are set.
        order: its paths hold the parent's program, examples and calibration, and its checkpoint where there is one.
        out: where the files go.

    Raises:
        UnsupportedError: the module has nothing that the step could change.
        AttemptError: it cannot be changed or exported.
    """
    assert task.source is not None
    assert task.model is not None
    assert task.step is not None
    source: ModelSource = load_entry(task.source)
    built = source.build(task.model)
    module = built.module.eval()
    whole = sum(parameter.numel() for parameter in module.parameters())
    examples = load_examples(Path(order.paths["examples"]))
    calibration = load_examples(Path(order.paths["calibration"]))
    train = _labelled(order, "train")
    work = Work(
        module=module,
        step=parse_step(task.step),
        name=task.model.name,
        seed=task.model.seed,
        examples=examples,
        calibration=calibration,
        representative=_representative(built, task.model, calibration, train),
        train=train,
        test=_labelled(order, "test"),
        teacher=None if task.teacher is None else partial(_teacher, task.teacher),
        folder=out.parent,
        progress=tell,
        cuts=_bring_back(module, task, order, examples, out.parent),
    )
    compression.apply(work)
    exported = export_module(work.module.eval(), examples, work.name, out)
    checkpoint = out / "checkpoint.safetensors"
    steps = (*task.before, work.step.text)
    Checkpoint(weights=work.module.state_dict(), cuts=tuple(work.cuts), steps=steps).save(checkpoint)
    left = sum(parameter.numel() for parameter in work.module.parameters())
    facts = {**exported.facts, "parameters": left, "removed_share": 1 - left / whole, **work.facts}
    return Made(exported.artifact, sources=exported.sources, checkpoint=checkpoint, facts=facts)


def _bring_back(
    module: torch.nn.Module, task: ConvertTask, order: Order, examples: Examples, folder: Path
) -> list[Cut]:
    """Give a module the shape and weights of the parent; returns how it was cut.

    Of the canonical program it takes the weights, too: whatever building them took (training, a factory that is not
    seeded), it is the same model then.
    """
    if not task.before:
        restore(module, dict(load_program(unpacked(order, folder, "pt2")).state_dict))
        return []
    checkpoint = load_checkpoint(Path(order.paths["checkpoint"]))
    if checkpoint.steps != task.before:
        raise bad_checkpoint(f"it holds {'+'.join(checkpoint.steps)}, not {'+'.join(task.before)}")
    for cut in checkpoint.cuts:
        repeat_cut(module, examples, cut)
    restore(module, checkpoint.weights)
    return list(checkpoint.cuts)


def _labelled(order: Order, role: str) -> Labelled | None:
    if role not in order.paths:
        return None
    from workers.data_sets.labelled import load_labelled

    return load_labelled(Path(order.paths[role]))


def _representative(
    built: BuiltModule, request: ModelRequest, calibration: Examples, train: Labelled | None
) -> Examples | None:
    if train is not None:
        return Examples({name: stack[np.newaxis, :_REPRESENTATIVE] for name, stack in train.inputs.items()})
    # Where the source made the calibration inputs up, weights that learnt anything learnt it from others.
    return calibration if built.calibrate_norms or request.calibration is not None else None


def _teacher(teacher: Teacher) -> torch.nn.Module:
    source: ModelSource = load_entry(teacher.entry)
    source.import_libraries()
    return finished(source.build(teacher.model), teacher.model)[0]
