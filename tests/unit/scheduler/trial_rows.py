"""A farm with trials: artifacts measured once, and a script that says how long each process takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import Row

from device_registry.database import reading, writing
from scheduler.executors.scripted import Outcome, Succeed
from scheduler.states import jobs
from scheduler.trials import Wanted, start_trial, step_trials, template_job, trials
from tests.unit.scheduler.builders import INT8, ONNX, Farm, plan_of
from workers.contract import Failure, Order


def measured(farm: Farm) -> tuple[int, int]:
    """Measure two variants of a model once; returns the jobs that did, of the fp32 and of the int8 artifact."""
    farm.run(plan_of(farm.devices(), ONNX, INT8))
    with reading(farm.engine) as connection:
        by_recipe = {row.recipe: row.latest_valid_point_id for row in farm.series()}
        return template_job(connection, by_recipe["fp32"]), template_job(connection, by_recipe["int8-static"])


def begin(farm: Farm, baseline: int, candidate: int, **changes: Any) -> int:
    """A trial of what two jobs ran, on the first device."""
    asked: dict[str, Any] = {"purpose": "confirmation", "device_id": farm.devices()[0].id, "title": "net, d0"}
    run_id = changes.pop("run_id", None)
    wanted = Wanted(baseline=baseline, candidate=candidate, **{**asked, **changes})
    with writing(farm.engine) as connection:
        return start_trial(connection, wanted, run_id, now=farm.clock())


def step(farm: Farm) -> list[int]:
    """One step of the trials."""
    with writing(farm.engine) as connection:
        return step_trials(connection, farm.clock())


def work(farm: Farm, rounds: int = 400, *, seconds: float = 5.0) -> list[int]:
    """Work and step until no trial runs; returns those that ended, in that order."""
    ended: list[int] = []
    for _ in range(rounds):
        if not farm.rows(trials, trials.c.state == "running"):
            return ended
        farm.tick(seconds)
        ended += step(farm)
    raise AssertionError(f"not done after {rounds} rounds: {farm.rows(trials)}")


def trial(farm: Farm, trial_id: int) -> Row[Any]:
    """The row of a trial."""
    return farm.rows(trials, trials.c.id == trial_id)[0]


def started(farm: Farm, trial_id: int) -> str:
    """Sides of its processes in the order in which they began: "ABBA"."""
    sides = {row.id: row.side for row in farm.jobs(jobs.c.trial_id == trial_id)}
    return "".join("A" if sides[row.job_id] == "baseline" else "B" for row in farm.attempts() if row.job_id in sides)


def by_recipe(fp32: Callable[[int], Outcome], int8: Callable[[int], Outcome]) -> Callable[[Order], Outcome]:
    """A script of measurements, by the recipe of what is measured and how many of it ran before."""
    seen = {"fp32": 0, "int8-static": 0}

    def play(order: Order) -> Outcome:
        if order.measure is None:
            return Succeed()
        seen[order.measure.recipe] += 1
        return (fp32 if order.measure.recipe == "fp32" else int8)(seen[order.measure.recipe])

    return play


def steady(p50_ms: float, spread: float = 0.002) -> Callable[[int], Outcome]:
    """Processes that scatter a little, the same way in every run, about a median."""
    return lambda number: Succeed(p50_ms=p50_ms * (1 + spread * ((number * 7) % 11 - 5) / 5))


#: A process that the gate's second look finds disturbed.
CONTAMINATED = Succeed(p50_ms=9.0, verdict="contaminated")
CRASHED = Failure(cause="model", code="crashed", message="the runtime crashed the process (SIGSEGV)")
