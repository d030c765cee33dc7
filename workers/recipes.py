"""Recipes: what is done to a model before it runs, as text. Steps joined by `+`, each a name with parameters.

Three kinds of steps, in this order: of *structure* (they change the module and leave its arithmetic fp32), of the
*graph* (within one format, arithmetic as it was), and at most one of *arithmetic*, the last.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from typing import Literal

from workers.calls import Call, CallError, parse_call, split_outside

Role = Literal["structure", "graph", "arithmetic"]
Value = int | float | str
#: What a column of the database holds.
LONGEST = 200
_ORDER: dict[Role, int] = {"structure": 0, "graph": 1, "arithmetic": 2}


class RecipeError(ValueError):
    """A recipe makes no sense; the message names the step."""


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """One parameter of a step."""

    kind: type[int] | type[float] | type[str]
    #: None: must be given.
    default: Value | None = None
    #: Whether it may be left out although it has no default.
    optional: bool = False
    low: float = -math.inf
    high: float = math.inf
    #: Whether `low` and `high` themselves are refused.
    low_open: bool = False
    high_open: bool = False
    choices: tuple[str, ...] = ()
    help: str = ""


@dataclass(frozen=True, kw_only=True)
class StepKind:
    """What a step's name means."""

    role: Role
    summary: str
    #: The first may be given without its name.
    parameters: Mapping[str, Parameter]
    #: Needs labelled data and a budget: epochs or seconds.
    trains: bool = False
    #: Converted only when it is asked for by name.
    on_request: bool = True


@dataclass(frozen=True)
class Step:
    """A step with its parameters."""

    name: str
    #: Every parameter that has a value, defaults included.
    values: tuple[tuple[str, Value], ...] = ()

    @property
    def kind(self) -> StepKind | None:
        """None: a converter's own, which has no parameters."""
        return STEPS.get(self.name)

    @property
    def role(self) -> Role:
        """Which part of a recipe it belongs to."""
        return "arithmetic" if self.kind is None else self.kind.role

    @property
    def text(self) -> str:
        """Canonical: the first parameter without its name, defaults left out."""
        if self.kind is None:
            return self.name
        first = next(iter(self.kind.parameters), None)
        arguments = [
            _written(value) if name == first else f"{name}={_written(value)}"
            for name, value in self.values
            if value != self.kind.parameters[name].default
        ]
        return f"{self.name}({','.join(arguments)})" if arguments else self.name

    def __getitem__(self, name: str) -> Value:
        return dict(self.values)[name]

    def get(self, name: str) -> Value | None:
        """A parameter's value; None where it was left out and has no default."""
        return dict(self.values).get(name)


@dataclass(frozen=True)
class Recipe:
    """Steps in order; none at all: fp32."""

    steps: tuple[Step, ...] = ()

    @property
    def text(self) -> str:
        """Canonical: equal recipes have equal texts."""
        return "+".join(step.text for step in self.steps) or "fp32"

    @property
    def structure(self) -> tuple[Step, ...]:
        """Steps that change the module."""
        return tuple(step for step in self.steps if step.role == "structure")

    @property
    def graph(self) -> tuple[Step, ...]:
        """Steps within one format."""
        return tuple(step for step in self.steps if step.role == "graph")

    @property
    def arithmetic(self) -> str:
        """The step that changes the arithmetic, as text; fp32 where there is none."""
        return next((step.text for step in self.steps if step.role == "arithmetic"), "fp32")


_SPARSITY = Parameter(
    kind=float, low=0.0, high=1.0, low_open=True, high_open=True, help="share of the weights that is taken away"
)
_EPOCHS = Parameter(kind=float, optional=True, low=0.0, low_open=True, high=10_000, help="passes over the data set")
_SECONDS = Parameter(kind=float, optional=True, low=0.0, low_open=True, high=1e6, help="instead of epochs")
_RATE = Parameter(kind=float, optional=True, low=0.0, low_open=True, high=10.0, help="learning rate")
_NAMED = ("fp16", "bf16", "int8-dynamic", "int8-static", "int8-weight", "int8-full")


def _plain(summary: str, *, role: Role = "arithmetic", on_request: bool = True) -> StepKind:
    return StepKind(role=role, summary=summary, parameters={}, on_request=on_request)


STEPS: dict[str, StepKind] = {
    "prune-unstructured": StepKind(
        role="structure",
        summary="the weights smallest in size, over all layers, become zero; shapes stay",
        parameters={"sparsity": _SPARSITY},
    ),
    "prune-structured": StepKind(
        role="structure",
        summary="whole channels are removed, those of the smallest L2 norm, so that the model is smaller and faster",
        parameters={"sparsity": _SPARSITY},
    ),
    "prune-iterative": StepKind(
        role="structure",
        summary="pruned in steps to a sparsity, fine-tuned after each",
        parameters={
            "sparsity": _SPARSITY,
            "steps": Parameter(kind=int, default=3, low=1, high=100),
            "kind": Parameter(kind=str, default="structured", choices=("structured", "unstructured")),
            "epochs": _EPOCHS,
            "seconds": _SECONDS,
            "lr": _RATE,
        },
        trains=True,
    ),
    "qat": StepKind(
        role="structure",
        summary="fine-tuned with int8 rounding simulated; followed by int8-static",
        parameters={"epochs": _EPOCHS, "seconds": _SECONDS, "lr": _RATE},
        trains=True,
    ),
    "distill": StepKind(
        role="structure",
        summary="trained to answer as a larger model does",
        parameters={
            "teacher": Parameter(kind=str, help="name of a model"),
            "temperature": Parameter(kind=float, default=4.0, low=0.0, low_open=True, high=1000.0),
            "alpha": Parameter(kind=float, default=0.7, low=0.0, high=1.0, help="weight of the teacher's answer"),
            "kind": Parameter(kind=str, default="response", choices=("response", "feature", "relation")),
            "epochs": _EPOCHS,
            "seconds": _SECONDS,
            "lr": _RATE,
        },
        trains=True,
    ),
    "onnx-optimize": _plain("operations fused by onnxruntime's graph and transformer optimisers", role="graph"),
    **{name: _plain("", on_request=False) for name in _NAMED},
    "int4-weight": _plain("weights of matrix products in 4 bits, arithmetic in floating point"),
    "image-input": _plain("Core ML with an image as input, scaled and shifted inside, and class labels"),
    **{
        f"palettize-{bits}": _plain(
            f"weights as indices of {bits} bits into tables found by k-means", on_request=bits != 4
        )
        for bits in (1, 2, 3, 4, 6, 8)
    },
    "palettize": StepKind(
        role="arithmetic",
        summary="palettised with bits chosen layer by layer to an average",
        parameters={"bits": Parameter(kind=float, low=1.0, high=8.0)},
    ),
}


@lru_cache(maxsize=4096)
def parse_recipe(text: str) -> Recipe:
    """Read a recipe; a step of an unknown name is taken for a converter's own, without parameters.

    `int8-qat(...)` is `qat(...)+int8-static`; `fp32` and `original` are no steps.

    Raises:
        RecipeError: a step is not understood or comes in the wrong place.
    """
    if text.strip() in ("fp32", "original"):
        return Recipe()
    try:
        parts = split_outside(text, "+")
    except CallError as error:
        raise RecipeError(str(error)) from error
    steps: list[Step] = []
    for number, part in enumerate(parts, start=1):
        try:
            call = parse_call(part)
            names = ("qat", "int8-static") if call.name == "int8-qat" else (call.name,)
            steps.append(_step(Call(names[0], call.positional, call.named)))
            steps += [Step(name) for name in names[1:]]
            _check_order(steps)
        except (CallError, RecipeError) as error:
            where = f"step {number} of {text}: " if len(parts) > 1 else ""
            raise RecipeError(f"{where}{error}") from error
    if steps[-1].name == "qat":
        raise RecipeError(f"{text}: qat prepares for int8-static and must be followed by it (or write int8-qat)")
    recipe = Recipe(tuple(steps))
    if len(recipe.text) > LONGEST:
        raise RecipeError(f"a recipe of {len(recipe.text)} characters: {LONGEST} is the most")
    return recipe


def parse_step(text: str) -> Step:
    """Read one step, whatever must come before or after it in a recipe.

    Raises:
        RecipeError: it is not understood.
    """
    try:
        return _step(parse_call(text))
    except CallError as error:
        raise RecipeError(str(error)) from error


def canonical(text: str) -> str:
    """A recipe's canonical text; `original` stays.

    Raises:
        RecipeError: as `parse_recipe`.
    """
    return text if text == "original" else parse_recipe(text).text


def arithmetic_of(text: str) -> str:
    """The arithmetic that a recipe promises: fp32, int8-static, ...; `original` promises none and stays."""
    return text if text == "original" else parse_recipe(text).arithmetic


def _check_order(steps: list[Step]) -> None:
    if len(steps) < 2:
        return
    before, step = steps[-2], steps[-1]
    if before.role == "arithmetic":
        wanted = "nothing can follow it" if step.role == "arithmetic" else f"{step.name} goes before it"
        raise RecipeError(f"{step.name} after {before.name}: {before.name} ends a recipe, {wanted}")
    if _ORDER[step.role] < _ORDER[before.role]:
        raise RecipeError(
            f"{step.name} after {before.name}: {step.name} works on the model's module and goes before it"
        )
    if before.name == "qat" and step.name != "int8-static":
        raise RecipeError(f"{step.name} after qat: qat prepares for int8-static and must be followed by it")


def _step(call: Call) -> Step:
    kind = STEPS.get(call.name)
    if kind is None:
        if call.positional or call.named:
            close = get_close_matches(call.name, STEPS, n=1)
            raise RecipeError(f"unknown step {call.name}" + (f"; did you mean {close[0]}?" if close else ""))
        return Step(call.name)
    if len(call.positional) > 1 or (call.positional and not kind.parameters):
        raise RecipeError(f"{call.name} takes no such argument: {call.positional[-1]}")
    given = dict(call.named)
    if call.positional:
        first = next(iter(kind.parameters))
        if first in given:
            raise RecipeError(f"{call.name}: {first} is given twice")
        given[first] = call.positional[0]
    if unknown := [name for name in given if name not in kind.parameters]:
        known = ", ".join(kind.parameters) or "none"
        raise RecipeError(f"{call.name} has no parameter {unknown[0]}; it has {known}")
    values = []
    for name, parameter in kind.parameters.items():
        if name in given:
            values.append((name, _value(call.name, name, parameter, given[name])))
        elif parameter.default is not None:
            values.append((name, parameter.default))
        elif not parameter.optional:
            raise RecipeError(f"{call.name} needs its {name}: {call.name}({name}=...)")
    if kind.trains and "epochs" in given and "seconds" in given:
        raise RecipeError(f"{call.name}: give epochs or seconds, not both")
    return Step(call.name, tuple(values))


def _value(step: str, name: str, parameter: Parameter, text: str) -> Value:
    if parameter.kind is str:
        if parameter.choices and text not in parameter.choices:
            raise RecipeError(f"{step}: {name} is {' or '.join(parameter.choices)}, not {text}")
        return text
    try:
        value = int(text) if parameter.kind is int else float(text)
    except ValueError:
        raise RecipeError(f"{step}: {name} is a number, not {text}") from None
    low_bad = value < parameter.low or (parameter.low_open and value == parameter.low)
    high_bad = value > parameter.high or (parameter.high_open and value == parameter.high)
    if low_bad or high_bad or not math.isfinite(value):
        raise RecipeError(f"{step}: {name} {text} is not {_range(parameter)}")
    return value


def _range(parameter: Parameter) -> str:
    low = f"{'above' if parameter.low_open else 'at least'} {parameter.low:g}" if parameter.low > -math.inf else ""
    high = f"{'below' if parameter.high_open else 'at most'} {parameter.high:g}" if parameter.high < math.inf else ""
    return " and ".join(part for part in (low, high) if part) or "a finite number"


def _written(value: Value) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
