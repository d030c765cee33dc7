"""What a compression works on, in the child."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workers.examples import Examples
from workers.progress import tell
from workers.recipes import Step

if TYPE_CHECKING:
    import torch

    from workers.data_sets.labelled import Labelled

#: Channels that one step removed, as torch-pruning's history has them: the layer that gave the channels, whether its
#: outputs (else its inputs) were cut, and which. Layers that hang together are cut together, so one of them is named.
Cut = list[tuple[str, bool, list[int]]]


@dataclass(kw_only=True)
class Work:
    """A module, what is to be done to it, and what there is to do it with."""

    #: In eval mode, fp32, on the CPU. Changed in place or replaced; its layers keep their names.
    module: torch.nn.Module
    step: Step
    #: Of the model, for messages.
    name: str
    seed: int
    #: Inputs, and what the original module answers to them.
    examples: Examples
    calibration: Examples
    #: Inputs like those that the weights were learnt on; None where only made-up ones are at hand.
    representative: Examples | None = None
    #: Labelled data, where the model or the user brings any.
    train: Labelled | None = None
    test: Labelled | None = None
    #: Builds the teacher, in eval mode.
    teacher: Callable[[], torch.nn.Module] | None = None
    #: The attempt's own folder.
    folder: Path
    #: Says how far it is.
    progress: Callable[[str], None] = tell
    #: Cuts of this and of earlier steps, in order: what rebuilding the module's shape takes.
    cuts: list[Cut] = field(default_factory=list)
    #: Named facts of the outcome.
    facts: dict[str, Any] = field(default_factory=dict)
