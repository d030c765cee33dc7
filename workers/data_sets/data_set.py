"""The seam of labelled data sets: what accuracy is measured on, and what training learns from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, ClassVar

from device_registry.errors import UsageError
from workers.data_sets.labelled import Labelled
from workers.examples import Examples
from workers.plugins import capability, plugins

#: No more bytes of inputs are taken of either part: they are held in memory, stored, and sent to devices.
MOST_BYTES = 4 * 2**30


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Which data set it is, down to its content."""

    #: As results name it, without folders of this machine.
    name: str
    #: Changes with whatever of its content would be used.
    digest: str
    #: What loads just this: paths absolute, revisions pinned.
    spec: str


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a model asks of its data."""

    #: Each input's type and shape without the batch, in order.
    inputs: dict[str, tuple[str, tuple[int, ...]]]
    #: How images are prepared, where the model says it: mean, std, resize.
    image: Mapping[str, Any] | None = None
    #: How many classes it tells apart; None where it does not say.
    outputs: int | None = None
    #: At most so many training and so many test examples.
    limit: int | None = None

    @classmethod
    def by(cls, examples: Examples, facts: Mapping[str, Any], limit: int | None = None) -> Wanted:
        """What a canonical program asks, by its examples and its facts."""
        inputs = {name: (str(stack.dtype), stack.shape[2:]) for name, stack in examples.inputs.items()}
        return cls(inputs=inputs, image=facts.get("image"), outputs=_classes_of(examples), limit=limit)


@dataclass(frozen=True, kw_only=True)
class Split:
    """A data set as it is used: no example is in both parts."""

    #: None where a data set is for tests only.
    train: Labelled | None
    test: Labelled
    #: What could not be read, each with the reason.
    skipped: tuple[str, ...] = ()


class DataSet(ABC):
    """Knows a kind of data set, by what follows its name and a colon. Constructing one imports nothing heavy."""

    packages: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[str] = "data"

    @abstractmethod
    def identify(self, rest: str, limit: int | None) -> Identity:
        """Look at what there is, before anything is planned.

        Args:
            rest: of the name, after the colon; empty where there is none.
            limit: as for `Wanted`.

        Raises:
            UsageError: there is no such data set, or nothing in it to use.
        """

    @abstractmethod
    def load(self, rest: str, wanted: Wanted) -> Split:
        """Read it for a model. Runs in a child; may import anything.

        Args:
            rest: as `identify` pinned it.
            wanted: what the model takes.

        Raises:
            AttemptError: it does not fit the model, or cannot be read at all.
        """


def find(spec: str) -> tuple[DataSet, str]:
    """The kind of a data set, and what follows its name.

    Raises:
        UsageError: there is no such kind, or what it needs is not installed.
    """
    kind, _, rest = spec.partition(":")
    known = plugins("data_sets")
    if kind not in known:
        close = get_close_matches(kind, known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"kinds are {', '.join(sorted(known))}"
        raise UsageError(f"unknown data set {spec!r}: {hint}")
    data_set: DataSet = known[kind].load()
    able = capability(kind, data_set.packages, data_set.extra)
    if able.why_not is not None:
        raise UsageError(f"data set {spec}: {able.why_not}; {able.fix}")
    return data_set, rest


def identify(spec: str, limit: int | None) -> Identity:
    """See `DataSet.identify`, of a whole name."""
    data_set, rest = find(spec)
    return data_set.identify(rest, limit)


def load(spec: str, wanted: Wanted) -> Split:
    """See `DataSet.load`, of a whole name."""
    data_set, rest = find(spec)
    return data_set.load(rest, wanted)


def _classes_of(examples: Examples) -> int | None:
    """How many classes a program's first output tells apart, (examples, batch, classes) but for axes of one."""
    if not examples.outputs:
        return None
    batched = examples.outputs[0].shape[1:]
    shape = [length for length in batched[1:] if length != 1]
    return shape[0] if batched and len(shape) == 1 else None
