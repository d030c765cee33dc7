"""A suite as its file has it, held to the schema: blocks become sweeps, their grids models."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from device_registry.errors import UsageError
from scheduler.plan import recipe_text
from scheduler.suites.grid import Grid, GridError, points_of, words_in, words_of
from scheduler.suites.overlay import overlay, part_of
from scheduler.suites.suite import FIGURES, Block, Plot, Point, Published, Suite, sweep_name
from scheduler.sweeps import schema
from scheduler.sweeps.complaints import Complaint, SweepFileError
from scheduler.sweeps.document import Document, read_document
from scheduler.sweeps.document import Path as DataPath
from scheduler.sweeps.file import sweep_of, text_of

#: The schema's file, in this package.
FILE = "suite.schema.json"
#: Models of a block, as the schema of sweeps has it; and cases of a suite, before anything is planned.
_MOST_MODELS = 1000
_MOST_CASES = 20_000


def load_suite(path: Path, *, quick: bool = False) -> Suite:
    """Read a suite from a file.

    Raises:
        SweepFileError: with everything that is wrong with it, by line and column.
        UsageError: there is no such file.
    """
    return read_suite(text_of(path), path.absolute().parent, source=str(path), quick=quick)


def read_suite(text: str, folder: Path, *, source: str, quick: bool = False) -> Suite:
    """Read a suite.

    Args:
        text: YAML.
        folder: that its relative paths start from.
        source: what complaints call it.
        quick: the bounded size instead of the full one.

    Raises:
        SweepFileError: with everything that is wrong with it, by line and column.
    """
    document = read_document(text, source)
    if found := list(schema.complaints(document, _validator(), what="a suite")):
        raise SweepFileError(source, found)
    data: dict[str, Any] = document.data
    if found := list(_twice(document)):
        raise SweepFileError(source, found)
    blocks: list[Block] = []
    complaints: list[Complaint] = []
    for number in range(len(data["blocks"])):
        try:
            blocks.append(_block(document, number, folder, source, quick=quick))
        except SweepFileError as error:
            complaints += error.complaints
    complaints += _immense(document, blocks)
    if complaints:
        raise SweepFileError(source, complaints)
    if not quick and (found := list(_strangers(document, blocks))):
        raise SweepFileError(source, found)
    return Suite(
        name=data["suite"],
        title=data["title"],
        description=data.get("description"),
        source=data.get("source"),
        blocks=tuple(blocks),
        published=tuple(_published(row) for row in data.get("published", ())),
        quick=quick,
    )


@cache
def _validator() -> Any:
    return schema.validator_of(json.loads(files(__package__).joinpath(FILE).read_text(encoding="utf-8")))


def _block(document: Document, number: int, folder: Path, source: str, *, quick: bool) -> Block:
    data, at = document.data["blocks"][number], ("blocks", number)
    parts: list[DataPath] = [("sweep",), (*at, "sweep")]
    parts += [("quick", "sweep"), (*at, "quick", "sweep")] if quick else []
    made = overlay(document, parts)
    made.places[()] = document.at((*at, "sweep"))
    suite = document.data["suite"]
    made.data["name"] = f"{suite}.{data['name']}"
    points = _expand(document, made, at, source, quick=quick)
    # Written as JSON, which is YAML in which every text is quoted: read again it is the same.
    text = json.dumps(made.data, indent=1, ensure_ascii=False)
    sweep = sweep_of(made, text, folder, source=source)
    return Block(
        name=data["name"],
        title=data["title"],
        about=data.get("about"),
        sweep=replace(sweep, name=sweep_name(suite, data["name"], quick=quick)),
        points=points,
        plots=tuple(_plot(plot) for plot in data.get("plots", ())),
    )


def _expand(document: Document, made: Document, at: DataPath, source: str, *, quick: bool) -> tuple[Point, ...]:
    """Put the models of the grid in the place of their templates."""
    templates = made.data.get("models")
    if not isinstance(templates, list) or not all(isinstance(template, str) for template in templates):
        return ()  # the schema of sweeps says it better
    grid, grid_at = _grid(document, at, quick=quick)
    found = Document(None, dict(made.places), dict(made.keys))
    points: dict[str, Point] = {}
    complaints: list[Complaint] = []
    for number, template in enumerate(templates):
        try:
            for model, values in points_of(template, grid):
                if model not in points:
                    path: DataPath = ("models", len(points))
                    found.places[path] = found.keys[path] = made.at(("models", number))
                    points[model] = Point(model=model, values=values)
        except GridError as error:
            complaints.append(Complaint(made.at(("models", number)), str(error)))
    used = {word for template in templates for word in words_in(template)}
    if not quick:  # which may well name models without words
        complaints += [
            Complaint(document.at((*grid_at, word), key=True), f"grid: no model has {{{word}}}")
            for word in sorted(words_of(grid) - used)
        ]
    if len(points) > _MOST_MODELS:
        sentence = f"models: with the grid they are {len(points)}; a block has {_MOST_MODELS} at most"
        complaints.append(Complaint(made.at(("models",)), sentence))
    if complaints:
        raise SweepFileError(source, complaints)
    made.data["models"] = list(points)
    made.places, made.keys = found.places, found.keys
    return tuple(points.values())


def _grid(document: Document, at: DataPath, *, quick: bool) -> tuple[Grid, DataPath]:
    """The grid of a block and where it stands: that of quick replaces the full one word by word, a list as a whole."""
    grid_at, quick_at = (*at, "grid"), (*at, "quick", "grid")
    full: Grid = part_of(document.data, grid_at) or {}
    bounded = part_of(document.data, quick_at) if quick else None
    if bounded is None:
        return full, grid_at
    if isinstance(full, Mapping) and isinstance(bounded, Mapping):
        return {**full, **bounded}, quick_at
    return bounded, quick_at


def _plot(data: Mapping[str, Any]) -> Plot:
    lists = {name: tuple(data[name]) for name in ("series", "log") if name in data}
    return Plot(**{**data, **lists})


def _published(data: Mapping[str, Any]) -> Published:
    figures = {name: data[name] for name in FIGURES if name in data}
    recipe = data.get("recipe")
    return Published(
        block=data["block"],
        hardware=data["hardware"],
        model=data.get("model"),
        recipe=recipe_text(recipe) if recipe is not None else None,
        note=data.get("note"),
        figures={
            name: (float(value[0]), float(value[1])) if isinstance(value, list) else float(value)
            for name, value in figures.items()
        },
    )


def _twice(document: Document) -> Iterator[Complaint]:
    """Blocks of one name."""
    seen: dict[str, int] = {}
    for number, block in enumerate(document.data["blocks"]):
        if (first := seen.setdefault(block["name"], number)) != number:
            line = document.at(("blocks", first, "name")).line
            sentence = f"two blocks are called {block['name']}, the first in line {line}"
            yield Complaint(document.at(("blocks", number, "name")), sentence)


def _immense(document: Document, blocks: Sequence[Block]) -> Iterator[Complaint]:
    """The first block with which there are more cases than anybody would wait for: planning them alone takes long."""
    cases = 0
    for number, block in enumerate(blocks):
        sweep = block.sweep
        lists = (sweep.recipes or (), sweep.runtimes or (), sweep.threads, sweep.batches, sweep.modes)
        cases += math.prod((len(sweep.models), *(max(1, len(found)) for found in lists)))
        if cases > _MOST_CASES:
            sentence = f"with block {block.name} there are {cases} cases or more; a suite has {_MOST_CASES} at most"
            yield Complaint(document.at(("blocks", number)), sentence)
            return


def _strangers(document: Document, blocks: list[Block]) -> Iterator[Complaint]:
    """Published rows of blocks, models or recipes that the suite does not have, or without any figure."""
    models = {block.name: {point.model for point in block.points} for block in blocks}
    for number, row in enumerate(document.data.get("published", ())):
        at = ("published", number)
        if row["block"] not in models:
            yield Complaint(document.at((*at, "block")), f"no block is called {row['block']}")
        elif "model" in row and row["model"] not in models[row["block"]]:
            yield Complaint(document.at((*at, "model")), f"block {row['block']} lists no {row['model']}")
        if not set(FIGURES) & set(row):
            yield Complaint(document.at(at), f"a published row has figures: {', '.join(FIGURES)}")
        if "recipe" in row:
            try:
                recipe_text(row["recipe"])
            except UsageError as error:
                yield Complaint(document.at((*at, "recipe")), str(error))
