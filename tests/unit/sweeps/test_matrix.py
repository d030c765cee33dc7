"""Several batches, modes and selectors become one plan; rules say which of its cases are measured."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from device_registry.errors import UsageError
from scheduler.sweeps.file import read_sweep
from scheduler.sweeps.matrix import Matrix, matrix_of
from scheduler.sweeps.submission import Submission
from tests.unit.builders import make_device

PHONES = [
    make_device(
        number,
        kind="sim",
        driver="sim",
        key=f"sim:{number}",
        name=f"phone-{number}",
        attributes={"simulated": True, "compute_unit": "sim", "model": model},
    )
    for number, model in enumerate(("Pixel 8", "Pixel 8", "Galaxy S24"), start=1)
]
CPU = make_device(9)
FILE = "name: x\nmodels: [sim/tiny, sim/mobilenet]\ndevices: [kind=sim]\n"


def matrix(text: str = FILE, devices: Any = PHONES) -> Matrix:
    """The matrix of a file."""
    sweep = read_sweep(text, Path("/lab"), source="s.yaml")
    return matrix_of(sweep, devices, [device.host_description for device in devices[:1]], Submission())


def cases(found: Matrix) -> set[tuple[str, str, int, int, str]]:
    """(model, recipe, threads, batch, device) of each case."""
    return {
        (item.task.model, item.task.recipe, item.task.options.threads, item.task.options.batch, item.where.split()[0])
        for item in found.plan.measurements
    }


def test_batches_modes_and_threads_are_cases_of_one_plan() -> None:
    found = matrix(FILE + "options: {batch: [1, 8], mode: [burst, sustained], threads: [1, 2]}\nrepeats: 2\n")
    assert len(found.cases) == 2 * 2 * 2 * 2 * 2 * 3
    assert len(found.plan.measurements) == 2 * len(found.cases)
    assert {item.task.options.mode for item in found.plan.measurements} == {"burst", "sustained"}
    found.plan.arrange()
    assert len({item.variant.key for item in found.plan.conversions}) == len(found.plan.conversions) == 2 * 2 * 2
    repeats = [item.repeat_no for item in found.plan.measurements]
    assert repeats == sorted(repeats)
    first = [item.task.model for item in found.plan.measurements if item.repeat_no == 0]
    assert first != sorted(first)
    assert first != sorted(first, reverse=True)


def test_the_order_and_the_digest_follow_from_what_is_asked_for() -> None:
    one, two = matrix(), matrix()
    for made in (one, two):
        made.plan.arrange()
    assert [item.case_key for item in one.plan.measurements] == [item.case_key for item in two.plan.measurements]
    assert one.plan.digest == two.plan.digest
    assert matrix(FILE + "exclude: [{recipe: fp32}]\n").plan.digest != one.plan.digest


def test_a_device_that_two_selectors_match_is_measured_once() -> None:
    found = matrix(FILE.replace("[kind=sim]", "[kind=sim, model=Pixel 8, phone-1]"))
    assert len(found.cases) == 2 * 2 * 3
    assert len(found.plan.measurements) == 5 * len(found.cases)


def test_with_spread_any_selectors_must_not_meet() -> None:
    text = FILE.replace("[kind=sim]", "[model=Pixel 8, model=Galaxy S24]") + "spread: any\n"
    assert len(matrix(text).cases) == 2 * 2 * 2
    assert len(matrix(text.replace("any", "per-model")).cases) == 2 * 2 * 2
    with pytest.raises(UsageError, match=r"s.yaml:3:21: phone-1 is matched by another selector"):
        matrix(FILE.replace("[kind=sim]", "[kind=sim, phone-1]") + "spread: any\n")


@pytest.mark.parametrize(
    ("rules", "left"),
    [
        ("exclude: [{recipe: int8*}]", 6),
        ("exclude: [{recipe: int8*, model: sim/tiny}]", 9),
        ("exclude: [{recipe: int8*}, {device: phone-1}]", 4),
        ("exclude: [{device: [phone-1, phone-3]}]", 4),
        ("exclude: [{device_model: Pixel*}]", 4),
        ("exclude: [{kind: sim}]\ninclude: [{model: sim/tiny, device: phone-2}]", 2),
        ("exclude: [{recipe: '*'}]\ninclude: [{recipe: fp32}]", 6),
        ("include: [{recipe: fp32}]", 12),
        ("exclude: [{threads: 1, batch: 1, mode: burst, runtime: sim, format: sim, host: '*', recipe: fp32}]", 6),
        ("exclude: [{threads: 2}]", 12),
    ],
)
def test_rules_leave_out_what_they_match_unless_it_is_included_again(rules: str, left: int) -> None:
    found = matrix(FILE + rules + "\n")
    assert len(found.cases) == left
    assert found.excluded == 12 - left


def test_conversions_that_only_excluded_cases_need_are_not_made() -> None:
    found = matrix(FILE + "exclude: [{recipe: int8*}]\n")
    assert {item.variant.recipe for item in found.plan.conversions} == {"fp32"}


def test_a_rule_that_matches_nothing_is_told() -> None:
    found = matrix(FILE + "exclude:\n  - {recipe: fp32}\n  - {runtime: onnxrntime}\n")
    assert [(what, rule.at.line, str(rule)) for what, rule in found.unused] == [("exclude", 6, "runtime: onnxrntime")]


def test_what_is_excluded_altogether_is_not_listed_as_unsupported() -> None:
    text = "name: x\nmodels: [torchvision/resnet18]\ndevices: [kind=cpu]\n"
    listed = matrix(text, [CPU]).plan.unsupported
    runtime = listed[0]["runtime"]
    without = matrix(text + f"exclude: [{{runtime: {runtime}}}]\n", [CPU])
    assert not any(entry["runtime"] == runtime for entry in without.plan.unsupported)
    assert without.plan.unsupported == [entry for entry in listed if entry["runtime"] != runtime]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (FILE + "exclude: [{kind: sim}]\n", r"s.yaml:2:9: nothing is left to measure: its rules exclude all 12 cases"),
        (FILE.replace("kind=sim", "kind=phone"), r"s.yaml:3:11: no device matches 'kind=phone'; devices are phone-1"),
        (FILE.replace("sim/tiny", "sim/tyni"), r"s.yaml:2:10: .*sim/tyni"),
        (FILE.replace("sim/tiny", "a.onnx"), r"s.yaml:2:10: no such file: /lab/a.onnx"),
        (FILE + "runtimes: [sim, torch]\n", r"s.yaml:4:17: runtime torch: no converter leads from sim"),
        (FILE + "recipes: [fp32, palettize-4]\n", r"s.yaml:4:17: recipe palettize-4: "),
    ],
)
def test_what_cannot_be_is_said_with_its_place(text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        matrix(text)


def test_every_unknown_model_is_told_at_once() -> None:
    with pytest.raises(UsageError) as refused:
        matrix(FILE.replace("sim/tiny, sim/mobilenet", "a.onnx, sim/tiny, b.onnx"))
    assert [line[:10] for line in str(refused.value).splitlines()] == ["s.yaml:2:1", "s.yaml:2:2"]


def test_what_a_runtime_lacks_is_no_mistake_while_its_devices_are_away() -> None:
    text = "name: x\nmodels: [sim/tiny]\nruntimes: [sim, torch]\ndevices: [kind=sim, kind=cpu]\n"
    away = replace(CPU, presence="offline")
    found = matrix(text, [*PHONES, away])
    assert [(one.device, one.why) for one in found.absent] == [(away.name, "offline")]
    with pytest.raises(UsageError, match="no device takes work now"):
        matrix(FILE, [replace(device, admin="draining") for device in PHONES])
