"""Suites on simulated phones of a scripted host: what has a fresh point is not run again, whoever asks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import select

from device_registry.database import reading
from device_registry.errors import UsageError
from scheduler.executors.scripted import Succeed
from scheduler.queue import sweep_runs
from scheduler.states import jobs
from scheduler.status import RunStatus
from scheduler.suites.file import read_suite
from scheduler.suites.planning import PlannedBlock, Wishes, plan_block
from scheduler.suites.running import insert_conversions, outcome, submit_suite
from scheduler.suites.showing import plan_document
from scheduler.suites.suite import Suite
from scheduler.sweeps.file import read_sweep
from tests.unit.scheduler.builders import CRASHED
from tests.unit.scheduler.conftest import sqlite_databases
from tests.unit.scheduler.databases import SqliteDatabases
from tests.unit.sweeps.lab import Lab

__all__ = ["sqlite_databases"]

SUITE = """\
suite: lab
title: In the lab
sweep: {recipes: [fp32], repeats: 1}
blocks:
  - {name: tiny, title: Tiny, sweep: {models: [sim/tiny]}}
  - {name: mobile, title: Mobile, sweep: {models: [sim/mobilenet], recipes: [fp32, int8-static, fp16]}}
  - {name: real, title: Real, sweep: {models: [sim/tiny], runtimes: [litert]}}
"""


class Audience:
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.began: list[str] = []

    def begins(self, planned: PlannedBlock, number: int, count: int) -> None:
        assert count == 3
        self.began.append(f"{number} {planned.block.name}")

    def observe(self, status: RunStatus) -> None:
        """Not needed."""

    def say(self, text: str) -> None:
        """Not needed."""


@pytest.fixture
def lab(tmp_path: Path, sqlite_databases: SqliteDatabases) -> Iterator[Lab]:
    """Three simulated phones, and a dispatcher."""
    made = Lab(tmp_path / "lab", sqlite_databases)
    yield made
    made.close()


def suite(text: str = SUITE) -> Suite:
    return read_suite(text, Path("/lab"), source="lab.yaml")


def submit(lab: Lab, wishes: Wishes = Wishes()) -> dict[str, int | None]:  # noqa: B008  # frozen
    made = submit_suite(lab, suite(), wishes, Audience(), now=lab.clock())  # type: ignore[arg-type]
    return {planned.block.name: run_id for planned, run_id in made}


def measured(lab: Lab, run_id: int | None) -> int:
    with reading(lab.engine) as connection:
        found = connection.execute(select(jobs.c.id).where(jobs.c.sweep_run_id == run_id, jobs.c.kind == "measure"))
        return len(found.all())


def test_a_run_of_less_is_taken_up_as_what_it_was(lab: Lab) -> None:
    one_block = suite("suite: lab\ntitle: t\nblocks: [{name: a, title: a, sweep: {models: [sim/tiny]}}]\n")
    wishes = Wishes(selector="name=d0", runtimes=("sim",), data="digits")
    prepared = plan_block(lab, one_block.blocks[0], wishes, lab.ground(), lab.clock()).prepared  # type: ignore[arg-type]
    assert prepared is not None
    sweep = prepared.sweep
    again = replace(read_sweep(sweep.text, Path("/lab"), source="lab.yaml"), name=sweep.name)
    assert again == sweep
    assert (again.selectors, again.runtimes, again.data) == (("name=d0",), ("sim",), "digits")


def test_one_sweep_run_for_each_block_and_none_for_what_nothing_here_can_run(lab: Lab) -> None:
    audience = Audience()
    made = submit_suite(lab, suite(), Wishes(), audience)  # type: ignore[arg-type]
    assert audience.began == ["1 tiny", "2 mobile", "3 real"]
    (_, tiny), (mobile, mobile_run), (real, none) = made
    assert none is None
    assert real.why_not is not None
    assert "litert" in real.why_not or "sim" in real.why_not
    with reading(lab.engine) as connection:
        rows = connection.execute(select(sweep_runs).order_by(sweep_runs.c.id)).all()
    assert [(row.id, row.sweep, row.watched) for row in rows] == [
        (tiny, "suite/lab/tiny", False),
        (mobile_run, "suite/lab/mobile", False),
    ]
    assert (measured(lab, tiny), measured(lab, mobile_run)) == (3, 6)
    # A recipe that is named and that nothing has is no reason to refuse a suite.
    assert {entry["recipe"] for entry in mobile.unsupported} == {"fp16"}


def test_the_same_command_goes_on_with_what_has_no_fresh_point(lab: Lab) -> None:
    first = submit(lab)
    assert submit(lab) == first  # its runs are open still: nothing is queued twice
    lab.play(lambda order: CRASHED if order.measure and order.measure.recipe == "int8-static" else Succeed())
    lab.work()
    lab.play(Succeed())
    second = submit(lab)
    assert second["tiny"] is None
    assert measured(lab, second["mobile"]) == 3  # what failed, and no fp32
    lab.work()
    assert submit(lab) == {"tiny": None, "mobile": None, "real": None}
    again = submit(lab, Wishes(again=True))
    assert (measured(lab, again["tiny"]), measured(lab, again["mobile"])) == (3, 6)


def test_what_another_sweep_measured_is_not_fresh_for_a_suite(lab: Lab) -> None:
    lab.sweep("name: night\nmodels: [sim/tiny]\nrecipes: fp32\nrepeats: 2\n")
    assert measured(lab, submit(lab)["tiny"]) == 3


def test_what_became_of_each_block_is_told(lab: Lab) -> None:
    made = submit_suite(lab, suite(), Wishes(), Audience())  # type: ignore[arg-type]
    lab.play(lambda order: CRASHED if order.measure and order.measure.model == "sim/tiny" else Succeed())
    lab.work()
    tiny, mobile, real = (outcome(lab, planned, run_id) for planned, run_id in made)  # type: ignore[arg-type]
    assert (tiny.cases, tiny.failed_jobs, len(tiny.failed)) == (3, 3, 3)
    assert (mobile.cases, mobile.failed_jobs) == (6, 0)
    assert (real.sweep_run_id, real.failed_jobs) == (None, 0)
    assert real.why_not is not None


def test_conversions_of_all_blocks_go_first_and_start_from_what_stands(lab: Lab) -> None:
    lab.sweep("name: night\nmodels: [sim/mobilenet]\nrecipes: fp32\nrepeats: 1\n")
    planned = [plan_block(lab, block, Wishes(), lab.ground(), lab.clock()) for block in suite().blocks]  # type: ignore[arg-type]
    run_id = insert_conversions(lab, suite(), planned)  # type: ignore[arg-type]
    assert run_id is not None
    with reading(lab.engine) as connection:
        found = connection.execute(select(jobs.c.title, jobs.c.state).where(jobs.c.sweep_run_id == run_id)).all()
    assert sorted(map(tuple, found)) == [
        ("sim fp32 of sim/tiny", "queued"),
        ("sim int8-static of sim/mobilenet", "queued"),
    ]
    lab.work()
    planned = [plan_block(lab, block, Wishes(), lab.ground(), lab.clock()) for block in suite().blocks]  # type: ignore[arg-type]
    assert insert_conversions(lab, suite(), planned) is None  # type: ignore[arg-type]


def test_wishes_narrow_a_suite(lab: Lab) -> None:
    only = Wishes(selector="name=d0", blocks=("tiny",))
    document = plan_document(lab, suite(), only)  # type: ignore[arg-type]
    [block] = document["blocks"]
    assert (block["block"], block["cases"], block["devices"], document["to_measure"]) == (
        "tiny",
        1,
        ["d0 (simulated)"],
        1,
    )
    assert document["conversions_to_make"] == 1
    assert document["expected_s"] > 0
    other = plan_block(lab, suite().blocks[2], Wishes(runtimes=("sim",)), lab.ground())  # type: ignore[arg-type]
    assert other.why_not == "it is about litert, not sim"


@pytest.mark.parametrize(
    ("wishes", "says"),
    [
        (Wishes(blocks=("tinny",)), "suite lab has no block tinny: did you mean tiny?"),
        (Wishes(runtimes=("litter",)), "unknown runtime litter: did you mean litert?"),
        (Wishes(selector="kind=android"), "no device matches kind=android; devices are d0, d1, d2"),
        (Wishes(blocks=("real",)), "nothing of suite lab can be measured here: "),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(lab: Lab, wishes: Wishes, says: str) -> None:
    with pytest.raises(UsageError) as refused:
        submit(lab, wishes)
    assert str(refused.value).startswith(says)
    assert len(str(refused.value).splitlines()) == 1
