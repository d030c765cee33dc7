"""Cases in columns: what was asked for, whatever the device, in the words that tables, views and labels share."""

from __future__ import annotations

from dataclasses import asdict
from functools import lru_cache
from typing import Any, NamedTuple

from scheduler.conversions import digest
from scheduler.payloads import read_payload
from workers.codec import from_dict
from workers.contract import MeasureTask, Options

#: Options that have columns of their own.
_OWN = {"threads", "batch", "mode", "runtime_options"}
_DEFAULTS = asdict(Options())


class Case(NamedTuple):
    """What is measured, on whichever device."""

    model: str
    weights: str
    format: str
    recipe: str
    runtime: str
    threads: int
    batch: int
    mode: str
    #: All options that differ from their defaults and have no column: "rate_hz=10 delegate=gpu"; "": none does.
    options_text: str

    @property
    def key(self) -> str:
        """The same on every device and in every run: what tells which devices lack a case."""
        return digest(list(self))


def case_of(task: MeasureTask) -> Case:
    """The case of a task."""
    return case_of_parts(task.model, task.weights, task.format, task.recipe, task.runtime, task.options)


def case_of_parts(model: str, weights: str, format_: str, recipe: str, runtime: str, options: Options) -> Case:
    """The case that a task of these would be."""
    shared = shared_options_text(options)
    own = (f"{name}={value}" for name, value in sorted(options.runtime_options.items()))
    return Case(
        model=model,
        weights=weights,
        format=format_,
        recipe=recipe,
        runtime=runtime,
        threads=options.threads,
        batch=options.batch,
        mode=options.mode,
        options_text=" ".join([*([shared] if shared else []), *own]),
    )


def shared_options_text(options: Options) -> str:
    """The part of `options_text` that every runtime understands: cases that are alike but for it are not compared."""
    differing = {name: value for name, value in asdict(options).items() if name not in _OWN}
    return " ".join(f"{name}={_text(value)}" for name, value in differing.items() if value != _DEFAULTS[name])


@lru_cache(maxsize=4096)
def task_of(payload: str) -> MeasureTask:
    """The task in a payload's text; kept, for a sweep has few tasks and many jobs."""
    return from_dict(MeasureTask, read_payload(payload)["measure"])


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
