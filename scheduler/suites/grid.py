"""Grids: `op/linear(n={n})` with n from 248 to 256 is nine models. Pure."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Value = int | str
#: A mapping of words to axes, or a list of points.
Grid = Mapping[str, Any] | Sequence[Mapping[str, Value]]
#: Models of one template; more is no experiment.
MOST_POINTS = 500
_WORD = re.compile(r"\{([^{}]*)\}")


class GridError(ValueError):
    """A grid or a template makes no sense; the message is a sentence."""


def points_of(template: str, grid: Grid) -> Iterator[tuple[str, dict[str, Value]]]:
    """The models that a template stands for, each with the values of the template's words.

    Args:
        template: a model's name with words in braces; without any it stands for itself.
        grid: a mapping makes every combination of the words that the template has, the last changing first; a list
            makes each of its points.

    Raises:
        GridError: a word has no values, or there are too many points.
    """
    words = list(dict.fromkeys(_WORD.findall(template)))
    if not words:
        yield template, {}
        return
    if isinstance(grid, Mapping):
        if unknown := [word for word in words if word not in grid]:
            raise GridError(f"{template}: the grid has no {unknown[0] or 'word between empty braces'}")
        axes = {word: values_of(word, axis) for word, axis in grid.items() if word in words}
        chosen = (dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values()))
    else:
        for number, point in enumerate(grid, start=1):
            if unknown := [word for word in words if word not in point]:
                raise GridError(f"{template}: point {number} of the grid has no {unknown[0]}")
        chosen = ({word: value for word, value in point.items() if word in words} for point in grid)
    for count, values in enumerate(chosen, start=1):
        if count > MOST_POINTS:
            raise GridError(f"{template}: the grid makes more than {MOST_POINTS} models of it")
        yield _filled(template, values), values


def _filled(template: str, values: Mapping[str, Value]) -> str:
    def value(found: re.Match[str]) -> str:
        return str(values[found[1]])

    return _WORD.sub(value, template)


def values_of(word: str, axis: Any) -> list[Value]:
    """The values of an axis: a list of them, or from, to, and a step to add or a factor to take it times.

    Raises:
        GridError: it leads nowhere, or to too many values.
    """
    if not isinstance(axis, Mapping):
        return list(dict.fromkeys(axis))
    first, last, times = axis["from"], axis["to"], axis.get("times")
    if first > last:
        raise GridError(f"{word}: from {first} to {last}: from is the smaller one")
    if times is not None and first < 1:
        raise GridError(f"{word}: from {first}, times {times}: from is 1 or more")
    values: list[Value] = []
    at = first
    while at <= last:
        if len(values) == MOST_POINTS:
            raise GridError(f"{word}: more than {MOST_POINTS} values")
        values.append(at)
        at = at * times if times is not None else at + axis.get("step", 1)
    return values


def words_of(grid: Grid) -> set[str]:
    """The words that a grid gives values."""
    return set(grid) if isinstance(grid, Mapping) else {word for point in grid for word in point}


def words_in(template: str) -> set[str]:
    """The words that a template has."""
    return set(_WORD.findall(template))
