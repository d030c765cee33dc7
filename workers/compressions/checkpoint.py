"""A changed module in one file: its weights and, for its shape, which channels were cut. Safetensors: no pickle."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from workers.compressions.work import Cut
from workers.errors import AttemptError, Cause, first_line

if TYPE_CHECKING:
    import torch

_VERSION = "1"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """What a chain of compressions left."""

    #: By the name that the module gives them.
    weights: dict[str, torch.Tensor]
    cuts: tuple[Cut, ...]
    #: The steps done, as text.
    steps: tuple[str, ...]

    def save(self, path: Path) -> None:
        """Write it."""
        from safetensors.torch import save_file

        # Copies, for the format refuses tensors that share memory; they are shared again once they are loaded.
        weights = {name: tensor.detach().clone().contiguous() for name, tensor in self.weights.items()}
        about = {"version": _VERSION, "cuts": json.dumps(self.cuts), "steps": json.dumps(self.steps)}
        save_file(weights, path, metadata=about)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read what `Checkpoint.save` wrote, and believe none of it: names and shapes are checked where they are used.

    Raises:
        AttemptError: it is no checkpoint.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a mapping
        if about.get("version") != _VERSION:
            raise ValueError(f"version {about.get('version')}, not {_VERSION}")
        cuts = tuple(_cut(value) for value in _list(json.loads(about["cuts"])))
        steps = tuple(str(value) for value in _list(json.loads(about["steps"])))
    except (SafetensorError, OSError, ValueError, KeyError, RecursionError) as error:
        raise bad_checkpoint(first_line(error)) from error
    return Checkpoint(weights=weights, cuts=cuts, steps=steps)


def restore(module: torch.nn.Module, weights: dict[str, torch.Tensor]) -> None:
    """Give a module weights that were read from a file.

    Raises:
        AttemptError: they are not this module's.
    """
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:  # lists all names that differ, over many lines
        raise bad_checkpoint(" ".join(str(error).split())[:200]) from error


def bad_checkpoint(why: str) -> AttemptError:
    """What cannot be read back or does not belong to the module."""
    return AttemptError(Cause.MODEL, "bad_checkpoint", f"the module cannot be brought back: {why}")


def _list(value: object) -> list[object]:
    if not isinstance(value, list):
        raise ValueError("a list is expected")
    return value


def _cut(value: object) -> Cut:
    cut: Cut = []
    for item in _list(value):
        name, outputs, indices = _list(item)
        channels = [index for index in _list(indices) if type(index) is int]
        if not isinstance(name, str) or not isinstance(outputs, bool) or len(channels) != len(_list(indices)):
            raise ValueError("a cut is a layer's name, whether of its outputs, and channels")
        cut.append((name, outputs, channels))
    return cut
