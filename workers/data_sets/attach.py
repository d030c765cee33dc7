"""The user's data set beside the canonical program: known when a run is planned, prepared when the program is made."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from workers.contract import ModelRequest
from workers.data_sets.data_set import Split, Wanted, identify, load
from workers.data_sets.labelled import Labelled
from workers.errors import AttemptError, Cause, UnsupportedError
from workers.examples import Examples, load_examples
from workers.models.source import CALIBRATION_EXAMPLES, Made, Resolved
from workers.progress import tell

#: So many names are shown in a sentence, and so many of what was skipped are kept.
_SHOWN = 5
_NAMED = 20
#: A class of ImageNet as its folders are called; in their order they are the outputs of its models.
_SYNSET = re.compile(r"n\d{8}")


def with_data(resolved: Resolved) -> Resolved:
    """A model with the data set that was asked for, which becomes part of what its canonical program is.

    Raises:
        UsageError: there is no such data set.
    """
    request = resolved.request
    if request.data is None:
        return resolved
    found = identify(request.data, request.data_limit)
    return replace(
        resolved,
        identity={**resolved.identity, "data": found.digest, "data_limit": request.data_limit},
        request=replace(request, data=found.spec),
        data=found.name,
    )


def attach_data(made: Made, request: ModelRequest, folder: Path) -> Made:
    """Write the data set that was asked for beside a canonical program: train, test, and inputs to calibrate with.

    The user's own calibration file wins over the data set's examples.

    Args:
        made: the program, with its examples and facts.
        request: what was asked for.
        folder: where the files go.

    Raises:
        AttemptError: the data set does not fit the model; nothing was trained yet.
    """
    if request.data is None:
        return made
    assert made.examples is not None
    examples = load_examples(made.examples)
    wanted = Wanted.by(examples, made.facts, request.data_limit)
    if wanted.outputs is None and examples.outputs:
        shape = examples.outputs[0].shape[1:]
        raise UnsupportedError(
            f"labelled data is for classifiers, and the first output of {request.name} has the shape {shape}"
        )
    split = _named_alike(load(request.data, wanted), wanted, class_names(made.facts.get("classes")))
    paths = {}
    for role, data in (("train", split.train), ("test", split.test)):
        if data is not None:
            paths[role] = folder / f"{role}.npz"
            data.save(paths[role])
    calibration = made.calibration
    if request.calibration is None and split.train is not None:
        calibration = folder / "calibration.npz"
        _calibration(split.train, examples).save(calibration)
    if split.skipped:
        tell(f"left out of {split.test.name}: {_listed(split.skipped)}")
    facts = {**made.facts, "data": data_facts(split)}
    return replace(made, **paths, calibration=calibration, facts=facts)


def data_facts(split: Split) -> dict[str, Any]:
    """What an artifact's facts say of its data."""
    return {
        "name": split.test.name,
        "train": 0 if split.train is None else len(split.train),
        "test": len(split.test),
        "classes": len(split.test.classes),
        "skipped": len(split.skipped),
        "skipped_files": list(split.skipped[:_NAMED]),
    }


def class_names(said: Any) -> tuple[str, ...] | None:
    """Names of a model's classes, of what its facts say; None where they do not."""
    if said == "imagenet-1k":
        from torchvision.models._meta import _IMAGENET_CATEGORIES

        said = _IMAGENET_CATEGORIES
    if not isinstance(said, list):
        return None
    # ImageNet has two cranes, a bird and a machine: the second is told apart by its number.
    first = {name: index for index, name in reversed(list(enumerate(said)))}
    return tuple(name if first[name] == index else f"{name} ({index})" for index, name in enumerate(said))


def _named_alike(split: Split, wanted: Wanted, names: tuple[str, ...] | None) -> Split:
    """Labels as indices of the model's own outputs: by the names of the classes, or by their number."""
    classes, outputs, data = split.test.classes, wanted.outputs, split.test.name
    if outputs is None:
        return split
    known = names is not None and len(names) == outputs
    if names is not None and known:
        places = {_plain(name): index for index, name in enumerate(names)}
        if all(_plain(name) in places for name in classes):
            return _moved(split, [places[_plain(name)] for name in classes], names)
    numbered = all(name.isdecimal() and int(name) < outputs for name in classes)
    if numbered and (known or len(classes) != outputs):
        return _moved(split, [int(name) for name in classes], names or tuple(str(index) for index in range(outputs)))
    if len(classes) != outputs:
        raise _other_classes(
            f"{data} has {len(classes)} classes ({_listed(classes)}), and the model answers with {outputs}: there must "
            "be as many, or they must be named as the model's classes, or by the numbers of its outputs"
        )
    if names is not None and known and not all(_SYNSET.fullmatch(name) for name in classes):
        stranger = next(name for name in classes if _plain(name) not in places)
        raise _other_classes(f"{data} has the class {stranger}, which is none of the model's ({_listed(names)})")
    return split


def _plain(name: str) -> str:
    return name.casefold().replace("_", " ").strip()


def _other_classes(message: str) -> AttemptError:
    return AttemptError(Cause.USER, "other_classes", message)


def _moved(split: Split, places: list[int], names: tuple[str, ...]) -> Split:
    to = np.array(places)

    def moved(data: Labelled) -> Labelled:
        return replace(data, labels=to[data.labels], classes=names)

    return replace(split, train=None if split.train is None else moved(split.train), test=moved(split.test))


def _calibration(train: Labelled, like: Examples) -> Examples:
    """Training examples in the model's batches, from the beginning again where there are too few."""
    inputs = {}
    for name, stack in like.inputs.items():
        batch = stack.shape[1] if stack.ndim > 1 else 1
        rows = np.arange(CALIBRATION_EXAMPLES * batch) % len(train)
        inputs[name] = train.inputs[name][rows].reshape(CALIBRATION_EXAMPLES, *stack.shape[1:])
    return Examples(inputs)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
