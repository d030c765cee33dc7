"""Whole channels of a module removed by torch-pruning: it finds which layers hang together and cuts them together."""

from __future__ import annotations

import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from workers.compressions.checkpoint import bad_checkpoint
from workers.compressions.cut_check import CutCheck
from workers.compressions.work import Cut
from workers.errors import AttemptError, Cause, UnsupportedError, first_line
from workers.examples import Examples
from workers.models.torch_export import tensors

if TYPE_CHECKING:
    import torch

#: Following the layers takes seconds; of a module that it cannot follow (windows that are shifted) it finds no end.
_SECONDS = 300
#: Names under which modules of the field say how many heads they have.
_HEADS = ("num_heads", "n_heads", "num_attention_heads", "n_head", "heads")


def remove_channels(
    module: torch.nn.Module, examples: Examples, share: float, name: str, begun: dict[str, int] | None = None
) -> Cut:
    """Remove a share of the channels of every layer that can lose some: those of the smallest L2 norm.

    Outputs of the module keep their shape. Layers that attend keep their heads, and layers that share weights keep
    them. At least one channel of each layer is left.

    Args:
        module: changed in place.
        examples: what its layers are followed with.
        share: of the channels of each layer, above 0 and below 1.
        name: of the model, for messages.
        begun: how many channels layers had when the first of several removals began, which the share is of; filled by
            the first. None: what they have now.

    Returns:
        What was removed; nothing where the share of no layer comes to a channel.

    Raises:
        UnsupportedError: no layer has channels that can be removed.
        AttemptError: torch-pruning cannot follow the layers, or what it leaves does not compute what it should.
    """
    import torch
    import torch_pruning

    with _following(name):
        graph = _graph(module, examples)
        importance = torch_pruning.importance.GroupMagnitudeImportance(p=2)
        roots, shared = (torch.nn.modules.conv._ConvNd, torch.nn.Linear), _sharing(module)
        names = {layer: layer_name for layer_name, layer in module.named_modules()}
        begun = {} if begun is None else begun
        # All are chosen before any is cut, for what is cut changes the norms of its neighbours.
        chosen = []
        for group in graph.get_all_groups(_whole(module), roots):
            if _can_shrink(graph, group, shared) and (norms := _norms(graph, group, importance)) is not None:
                layer = group[0].dep.target.module
                before = begun.setdefault(names[layer], norms.shape[1])
                chosen.append((layer, group[0].dep.handler, _least(norms, before, share)))
        if all(count < 2 for count in begun.values()):
            raise UnsupportedError(f"{name} has no channels between its layers that could be removed")
        check = CutCheck(module, examples)
        for layer, handler, indices in chosen:
            if not indices:
                continue
            group = graph.get_pruning_group(layer, handler, indices)
            check.silence(graph, group)
            group.prune()
        check.compare(module, examples, name)
    return [(layer, outputs, list(indices)) for layer, outputs, indices in graph.pruning_history()]


def repeat_cut(module: torch.nn.Module, examples: Examples, cut: Cut) -> None:
    """Remove what an earlier step removed from the same module.

    Raises:
        AttemptError: the module has no such layers or channels.
    """
    layers = dict(module.named_modules())
    with _following("a module that was cut before"):
        graph = _graph(module, examples)
        for name, outputs, indices in cut:
            layer = layers.get(name)
            if layer is None or layer not in graph.module2node:
                raise bad_checkpoint(f"it has no layer {name} to cut")
            pruner = graph.get_pruner_of_module(layer)
            channels = pruner.get_out_channels(layer) if outputs else pruner.get_in_channels(layer)
            if not indices or min(indices) < 0 or max(indices) >= channels or len(set(indices)) >= channels:
                raise bad_checkpoint(f"layer {name} has no such channels")
            handler = pruner.prune_out_channels if outputs else pruner.prune_in_channels
            graph.get_pruning_group(layer, handler, indices).prune()


@contextmanager
def _following(name: str) -> Iterator[None]:
    def stop(*_: Any) -> None:
        raise TimeoutError(f"no end after {_SECONDS} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(_SECONDS)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch-pruning tells how it treats parameters outside layers
            yield
    except AttemptError:
        raise
    except Exception as error:
        message = f"torch-pruning cannot follow the layers of {name}: {type(error).__name__}: {first_line(error)}"
        raise AttemptError(Cause.MODEL, "does_not_prune", message) from error
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _graph(module: torch.nn.Module, examples: Examples) -> Any:
    import torch
    import torch_pruning

    module.requires_grad_(True)  # it follows gradients
    with torch.enable_grad():
        return torch_pruning.DependencyGraph().build_dependency(module, tuple(tensors(examples.input_at(0))))


def _whole(module: torch.nn.Module) -> list[torch.nn.Module]:
    """Layers whose outputs stay: the projections of attention, whose channels are heads."""
    import torch

    found: list[torch.nn.Module] = []
    for layer in module.modules():
        if isinstance(layer, torch.nn.MultiheadAttention):
            found.append(layer)
        elif any(isinstance(getattr(layer, name, None), int) for name in _HEADS):
            found += [child for child in layer.children() if isinstance(child, torch.nn.Linear)]
    return found


def _sharing(module: torch.nn.Module) -> set[torch.nn.Module]:
    """Layers one of whose parameters is another's, too: cut in one, it would be a parameter of its own."""
    owners: dict[int, set[torch.nn.Module]] = {}
    for layer in module.modules():
        for parameter in layer.parameters(recurse=False):
            owners.setdefault(id(parameter), set()).add(layer)
    return {layer for layers in owners.values() if len(layers) > 1 for layer in layers}


def _can_shrink(graph: Any, group: Any, untouchable: set[torch.nn.Module]) -> bool:
    """Whether a group's channels are no output of the whole module, which is what nothing follows, and no shared."""
    return not any(
        dep.target.module in untouchable or (not dep.target.outputs and graph.is_out_channel_pruning_fn(dep.handler))
        for dep, _ in group
    )


def _norms(graph: Any, group: Any, importance: Any) -> torch.Tensor | None:
    """How much each channel of a group matters, (blocks, channels of a block); None: nothing says so.

    Where a layer works in blocks, each must lose the same channels.
    """
    norms = importance(group)
    if norms is None:
        return None
    found: torch.Tensor = norms.view(max(_blocks(graph, dep) for dep, _ in group), -1)
    return found


def _least(norms: torch.Tensor, before: int, share: float) -> list[int]:
    """The channels that matter least, so many that of those before a share is gone; one at least stays."""
    blocks, channels = norms.shape
    count = min(int(share * before + 0.5), before - 1) - (before - channels)
    least = norms.mean(dim=0).argsort()[: max(count, 0)].tolist()
    return sorted(block * channels + index for block in range(blocks) for index in least)


def _blocks(graph: Any, dep: Any) -> int:
    """Into how many blocks a layer divides its channels: groups of a convolution or of a norm."""
    layer = dep.target.module
    if getattr(layer, "groups", 1) == getattr(layer, "out_channels", None):
        return 1  # depthwise: each channel stands alone
    pruner = graph.get_pruner_of_module(layer)
    outputs = graph.is_out_channel_pruning_fn(dep.handler)
    return int(pruner.get_out_channel_groups(layer) if outputs else pruner.get_in_channel_groups(layer))
