"""How good placement is: the same `match` as the dispatcher's, driven in virtual time, beside plain first-come.

Two questions. A sweep on a large fleet of unlike devices: how long until its last job ends, beside the least time that
any placement needs (the longest job, or the linear program over which class of devices does how much of what)? A week
of jobs from several owners on a smaller one: how long do they wait, does a lane starve, how busy are the devices?

    python benchmarks/policy.py [--quick] [--plot FILE.png]
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from common import Figure, counted, finish, say
from virtual_farm import (
    WEEK_S,
    Outcome,
    Policy,
    a_fleet,
    a_sweep,
    a_week,
    by_match,
    first_come,
    requirements_of,
    simulate,
)

from scheduler.placement import Fleet, Requirement, Wanted

#: Makespan over the lower bound.
MAKESPAN_BAR = 1.05


def lower_bound_s(fleet: Fleet, requirements: dict[int, Requirement], jobs: Sequence[Wanted]) -> float:
    """No placement ends sooner: the longest job, and the linear program over classes of devices."""
    from scipy.optimize import linprog
    from scipy.sparse import coo_array

    work_s: defaultdict[int, float] = defaultdict(float)
    for job in jobs:
        work_s[job.requirement_id] += job.expected_s
    fits: defaultdict[str, list[int]] = defaultdict(list)
    for number in sorted(work_s):
        for key in fleet.fitting(requirements[number]):
            fits[key].append(number)
    classes = Counter(tuple(numbers) for numbers in fits.values())
    rows, columns, values, variables = [], [], [], 0
    row_of = {number: index for index, number in enumerate(sorted(work_s))}
    limits = []
    for index, numbers in enumerate(classes):
        for number in numbers:  # column: seconds of this work that this class does
            limits.append((index, variables, 1.0))
            rows.append(row_of[number])
            columns.append(variables)
            values.append(1.0)
            variables += 1
    spans = [(index, variables, -float(devices)) for index, devices in enumerate(classes.values())]
    upper = coo_array(
        ([v for *_, v in limits + spans], ([r for r, *_ in limits + spans], [c for _, c, _ in limits + spans])),
        shape=(len(classes), variables + 1),
    )
    equal = coo_array((values, (rows, columns)), shape=(len(row_of), variables + 1))
    cost = np.zeros(variables + 1)
    cost[-1] = 1.0
    solved = linprog(
        cost,
        A_ub=upper.tocsr(),
        b_ub=np.zeros(len(classes)),
        A_eq=equal.tocsr(),
        b_eq=[work_s[number] for number in row_of],
        method="highs",
    )
    if not solved.success:
        raise RuntimeError(f"the linear program was not solved: {solved.message}")
    return max(float(solved.fun), max(job.expected_s for job in jobs))


def waits_s(jobs: Sequence[Wanted], outcome: Outcome) -> dict[str, np.ndarray]:
    """How long the jobs of each owner waited; engineers are one, and `all` is everybody."""
    found: defaultdict[str, list[float]] = defaultdict(list)
    for job in jobs:
        waited_s = outcome.starts_s[job.job_id] - job.created_at
        for name in (job.owner.split()[0], "all"):
            found[name].append(waited_s)
    return {name: np.array(values) for name, values in sorted(found.items())}


def plot(path: Path, sweeps: dict[str, Outcome], bound_s: float, weeks: dict[str, dict[str, np.ndarray]]) -> None:
    """Devices at work during the sweep, and waits of the week, ours beside first-come."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(13, 5), constrained_layout=True)
    for name, outcome in sweeps.items():
        ends = np.array([0.0, *sorted(outcome.ends_s.values())])
        moments = np.linspace(0, outcome.makespan_s, 500)
        starts = np.sort(list(outcome.starts_s.values()))
        at_work = np.searchsorted(starts, moments, side="right") - np.searchsorted(ends[1:], moments, side="right")
        left.plot(moments, at_work, label=f"{name}: {outcome.makespan_s / bound_s:.3f} x the bound")
    left.axvline(bound_s, color="black", linestyle=":", label="lower bound")
    left.set(xlabel="seconds since the sweep was released", ylabel="devices at work", title="One sweep")
    left.legend(loc="lower left")
    for name, style in zip(weeks, ("-", "--"), strict=True):
        for number, (owner, waited) in enumerate(weeks[name].items()):
            ordered = np.sort(waited) + 1.0
            shares = np.arange(1, len(ordered) + 1) / len(ordered)
            right.plot(ordered, shares, style, color=f"C{number}", label=f"{owner}, {name}")
    right.axhline(0.95, color="black", linestyle=":")
    right.set(xscale="log", xlabel="waited s (+1)", ylabel="share of jobs", title="A week of several owners")
    right.legend(loc="upper left", fontsize="small")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def compare_sweeps(quick: bool) -> tuple[list[Figure], dict[str, Outcome], float]:
    """Makespans of one sweep."""
    random = np.random.default_rng(1)
    fleet = a_fleet(1_000 if quick else 10_000, random)
    requirements = requirements_of(fleet)
    jobs = a_sweep(fleet, requirements, 10 * len(fleet.places), random)
    say(f"a sweep of {len(jobs)} jobs on {len(fleet.places)} devices: its lower bound")
    bound_s = lower_bound_s(fleet, requirements, jobs)
    outcomes = {}
    for name, policy in POLICIES.items():
        outcomes[name] = simulate(fleet, requirements, jobs, policy, tick_s=0.5)
        say(f"{name}: {outcomes[name].makespan_s:.0f} s, bound {bound_s:.0f} s")
        check(fleet, requirements, jobs, outcomes[name])
    ours, plain = outcomes["match"], outcomes["first come"]
    figure = counted(
        "makespan of a sweep over the lower bound",
        ours.makespan_s / bound_s,
        MAKESPAN_BAR,
        "ratio",
        first_come=plain.makespan_s / bound_s,
        devices=len(fleet.places),
        jobs=len(jobs),
        lower_bound_s=bound_s,
        longest_call_s=ours.longest_call_s,
    )
    return [figure], outcomes, bound_s


def compare_weeks(quick: bool) -> tuple[list[Figure], dict[str, dict[str, np.ndarray]], dict[str, Any]]:
    """Waits of a week."""
    random = np.random.default_rng(2)
    fleet = a_fleet(20 if quick else 40, random)
    requirements = requirements_of(fleet)
    jobs = a_week(fleet, requirements, 0.85, random)
    waits, told = {}, {}
    for name, policy in POLICIES.items():
        say(f"a week of {len(jobs)} jobs on {len(fleet.places)} devices: {name}")
        outcome = simulate(fleet, requirements, jobs, policy, tick_s=1.0)
        check(fleet, requirements, jobs, outcome)
        waits[name] = waits_s(jobs, outcome)
        work_s = sum(min(end, WEEK_S) - min(outcome.starts_s[job], WEEK_S) for job, end in outcome.ends_s.items())
        told[name] = {
            "wait_p50_s": {owner: float(np.percentile(values, 50)) for owner, values in waits[name].items()},
            "wait_p95_s": {owner: float(np.percentile(values, 95)) for owner, values in waits[name].items()},
            "utilisation": work_s / (len(fleet.places) * WEEK_S),
            "longest_passed_over_s": outcome.longest_passed_over_s,
            "starved_lanes": len(outcome.starved),
            "seconds_per_call": outcome.placing_s / outcome.calls,
        }
    ours, plain = told["match"], told["first come"]
    figures = [
        counted("lanes that starved in a week", ours["starved_lanes"], 0, "lanes", first_come=plain["starved_lanes"]),
        counted(
            "p95 wait of engineers over first-come's",
            ours["wait_p95_s"]["engineer"] / max(1.0, plain["wait_p95_s"]["engineer"]),
            1.0,
            "ratio",
        ),
    ]
    return figures, waits, told


def check(fleet: Fleet, requirements: dict[int, Requirement], jobs: Sequence[Wanted], outcome: Outcome) -> None:
    """What any schedule must be: every job once, where it fits, one at a time."""
    assert len(outcome.ends_s) == len(jobs)
    at: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
    for job in jobs:
        assert outcome.places[job.job_id] in fleet.fitting(requirements[job.requirement_id])
        assert outcome.starts_s[job.job_id] >= job.created_at
        at[outcome.places[job.job_id]].append((outcome.starts_s[job.job_id], outcome.ends_s[job.job_id]))
    for spans in at.values():
        assert all(one[1] <= other[0] for one, other in itertools.pairwise(sorted(spans)))


POLICIES: dict[str, Policy] = {"match": by_match, "first come": first_come}


def main() -> int:
    """Simulate both; prints one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small farms: shows that it works, no more")
    parser.add_argument("--plot", type=Path, help="where to write a picture (PNG)")
    asked = parser.parse_args()
    sweep_figures, sweeps, bound_s = compare_sweeps(asked.quick)
    week_figures, waits, told = compare_weeks(asked.quick)
    if asked.plot is not None:
        plot(asked.plot, sweeps, bound_s, waits)
    return finish("policy", asked.quick, sweep_figures + week_figures, week=told)


if __name__ == "__main__":
    sys.exit(main())
