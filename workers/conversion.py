"""One conversion, in the child: the artifact, what comes with it, and what can be said of it."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workers.artifact_files import load_entry, stored, unpacked
from workers.contract import Conversion, ConvertTask, Order
from workers.data_sets.attach import attach_data
from workers.errors import AttemptError, Cause, is_out_of_memory
from workers.graph_size import count_nodes
from workers.memory import beyond_memory, peak_bytes
from workers.plugins import package_versions
from workers.progress import tell_in

if TYPE_CHECKING:
    from workers.converters.converter import Converter
    from workers.models.source import Made, ModelSource

#: Files that come with an artifact, as `Made` and the store know them.
COMPANIONS = ("examples", "calibration", "sources", "train", "test", "checkpoint")


def convert(order: Order, task: ConvertTask, folder: Path) -> Conversion:
    """Make one artifact with its companions.

    Raises:
        AttemptError: it cannot be made, or not within its memory; anything else that a backend raises.
    """
    try:
        return _convert(order, task, folder)
    except Exception as error:
        # A converter that says what it cannot convert says so of want of memory, too.
        reason = error.__cause__ if isinstance(error, AttemptError) and error.__cause__ is not None else error
        if is_out_of_memory(reason):
            raise AttemptError(Cause.MODEL, "out_of_memory", beyond_memory(task, order.limits)) from error
        raise


def _convert(order: Order, task: ConvertTask, folder: Path) -> Conversion:
    tell_in(folder)
    out = folder / "out"
    out.mkdir()
    began = time.perf_counter()
    backend = load_entry(task.entry)
    backend.import_libraries()
    imports_ms = (time.perf_counter() - began) * 1e3
    began = time.perf_counter()
    made = _make(backend, task, order, out)
    seconds = time.perf_counter() - began
    facts = {**made.facts, **count_nodes(task.format, made.artifact)}
    companions = {role: path for role in COMPANIONS if (path := getattr(made, role)) is not None}
    return Conversion(
        artifact=stored(_one_file(made.artifact), folder),
        companions={role: stored(path, folder) for role, path in companions.items()},
        format=task.format,
        recipe=task.recipe,
        seconds=seconds,
        imports_ms=imports_ms,
        versions=package_versions(backend.packages),
        facts=facts,
        peak_rss_bytes=peak_bytes(),
    )


def _make(backend: Any, task: ConvertTask, order: Order, out: Path) -> Made:
    from workers.converters.converter import ConversionInput

    if task.source is not None:
        from workers.compressions.compress import compress

        return compress(backend, task, order, out)
    if task.model is not None:
        source: ModelSource = backend
        return attach_data(source.materialise(task.model, out), task.model, out)
    converter: Converter = backend
    return converter.convert(
        ConversionInput(
            artifact=unpacked(order, out.parent, str(task.input_format)),
            format=task.format,
            recipe=task.step or task.recipe,
            examples=Path(order.paths["examples"]),
            calibration=Path(order.paths["calibration"]),
            folder=out,
            facts=order.facts,
        )
    )


def _one_file(artifact: Path) -> Path:
    """The artifact as the store keeps it: a folder as a tar."""
    if not artifact.is_dir():
        return artifact
    from workers.bundle import pack

    packed = artifact.with_name(artifact.name + ".tar")
    pack(artifact, packed)
    shutil.rmtree(artifact)
    return packed
