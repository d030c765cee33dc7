"""The suites that come with the package: what they name is there, and what was published is in them."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

import scheduler.suites
from scheduler.plan import resolve_model
from scheduler.request import Request
from scheduler.suites.file import read_suite
from scheduler.suites.shipped import load_named, shipped_names
from scheduler.suites.suite import Suite
from workers.recipes import parse_recipe

NAMES = ("backbones", "blocks", "ladder", "mobile", "operators")


def test_there_are_five() -> None:
    assert shipped_names() == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_model_and_teacher_is_one_that_a_source_knows(name: str) -> None:
    for suite in (load_named(name), load_named(name, quick=True)):
        for block in suite.blocks:
            teachers = [step.get("teacher") for text in block.sweep.recipes or () for step in parse_recipe(text).steps]
            for model in {*block.sweep.models, *(str(teacher) for teacher in teachers if teacher is not None)}:
                resolve_model(Request(models=(model,)), model)


@pytest.mark.parametrize("name", NAMES)
def test_the_quick_size_is_a_part_of_the_full_one(name: str) -> None:
    full, quick = load_named(name), load_named(name, quick=True)
    assert [block.name for block in quick.blocks] == [block.name for block in full.blocks]
    for small, large in zip(quick.blocks, full.blocks, strict=True):
        assert set(small.sweep.models) <= set(large.sweep.models)
        assert small.sweep.repeats == 1
        assert small.sweep.max_seconds is not None
        assert small.sweep.max_seconds <= 10


def _rows(suite: Suite, block: str) -> list[dict[str, object]]:
    return [{"model": row.model, **row.figures} for row in suite.published if row.block == block]


def test_published_figures_stand_beside_the_models_they_are_of() -> None:
    operators = _rows(load_named("operators"), "operators")
    assert len(operators) == 24  # eight operators on three devices
    assert {"model": "op/layernorm(depth=3)", "mean_ms": 7.28187} in operators
    backbones = _rows(load_named("backbones"), "backbones")
    assert len(backbones) == 30
    assert {"model": "torchvision/efficientnet_b3", "mean_ms": 60.753, "nodes": 517.0, "gmacs": 1.9} in backbones
    resnet = _rows(load_named("ladder"), "resnet50")
    assert {"model": None, "smaller_percent": 75.0, "speed_up": (2.0, 4.0)} in resnet
    pruning = _rows(load_named("mobile"), "pruning")
    assert [row["parameters_m"] for row in pruning] == [3.4, 2.4, 1.7, 1.0]


def test_the_files_lie_in_a_package_that_the_wheel_takes_whole() -> None:
    root = Path(scheduler.suites.__file__).parents[2]
    build = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    assert "scheduler" in build["targets"]["wheel"]["packages"]
    assert not {"exclude", "include", "only-include"} & {*build, *build["targets"]["wheel"]}


def test_the_example_of_the_documentation_is_a_suite() -> None:
    page = (Path(scheduler.suites.__file__).parents[2] / "docs" / "suites.md").read_text()
    example = page.partition("```yaml\n")[2].partition("```")[0]
    for quick in (False, True):
        [block] = read_suite(example, Path("/lab"), source="docs", quick=quick).blocks
        assert len(block.points) == (2 if quick else 4)
