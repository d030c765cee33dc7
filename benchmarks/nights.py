"""Whether a farm that is swept every night tells the truth: thousands of nights of series in virtual time.

A real database, dispatcher, ingest, screening, trials, incidents; the lab and its time are made up (`tests/nightly`).
Three worlds: `silence`, where nothing ever changes; `steps`, where each model becomes 5 % slower at some revision and
is mended later; `events`, where systems are updated, units wear, throttle, fail or are gone. Noise is 2 % between
processes and 2 % between points, for half of the units Gaussian, for half of them correlated and spiky.

    python benchmarks/nights.py [--quick] [--only silence|steps|events] [--nights N] [--seed N] [--postgres]
"""

from __future__ import annotations

import argparse
import math
import random
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common import Figure, Interval, at_least, at_most, counted, finish, say
from sqlalchemy import Engine, func, select

sys.path.insert(0, str(Path(__file__).parent.parent))

from device_registry.database import reading, table_of
from device_registry.registry import devices
from scheduler.points import points, series
from scheduler.schema import migrate, open_database
from scheduler.watch_tables import Incident, IncidentSeries, Screening, Trial
from tests.nightly.farm import NightlyFarm
from tests.nightly.lab import PROCESS_S
from tests.nightly.world import (
    Clock,
    CodeChange,
    Drift,
    Event,
    Missing,
    Noise,
    Throttled,
    Unit,
    Unwell,
    Update,
    World,
    Worn,
)

#: Bars of issue 8.
FALSE_BAR, RECALL_BAR, WITHIN_NIGHTS = 1.0, 0.95, 5
_STEP = 0.05
_GAUSSIAN, _SPIKY = Noise(kind="gaussian"), Noise(kind="spiky")
incidents, members = table_of(Incident), table_of(IncidentSeries)
screenings, trials = table_of(Screening), table_of(Trial)


@dataclass
class Log:
    """What the farm said, night by night."""

    #: Incident and series (device, model, recipe) to the night that it was first told.
    told: dict[tuple[int, tuple[str, str, str]], int] = field(default_factory=dict)
    #: Incident to its row, as it was on the night it came and as it is now.
    came: dict[int, Any] = field(default_factory=dict)
    rows: dict[int, Any] = field(default_factory=dict)
    #: Incident to the first night on which it was resolved.
    resolved: dict[int, int] = field(default_factory=dict)

    def look(self, engine: Engine, night: int) -> None:
        """Read what is told now."""
        named = (devices.c.name, series.c.model, series.c.recipe)
        with reading(engine) as connection:
            self.rows = {row.id: row for row in connection.execute(select(incidents))}
            query = select(members.c.incident_id, *named).join(series, series.c.id == members.c.series_id)
            for incident, *what in connection.execute(query.join(devices, devices.c.id == series.c.device_id)):
                self.told.setdefault((incident, tuple(what)), night)
        for number, row in self.rows.items():
            self.came.setdefault(number, row)
            if row.state == "resolved":
                self.resolved.setdefault(number, night)
            else:
                self.resolved.pop(number, None)


def play(engine: Engine, world: World, models: Sequence[str], nights: int, **options: Any) -> tuple[NightlyFarm, Log]:
    """Pass all nights."""
    farm, log, began = NightlyFarm(engine, world, models, **options), Log(), time.monotonic()
    try:
        for night in range(nights):
            farm.pass_night()
            log.look(engine, night)
            if night % 10 == 9 or night == nights - 1:
                spent = ", ".join(f"{what} {seconds:.0f} s" for what, seconds in farm.spent_s.items())
                told = f"{len(log.came)} incidents so far"
                say(f"night {night + 1} of {nights}, {time.monotonic() - began:.0f} s ({spent}): {told}")
    finally:
        farm.close()
    return farm, log


def silence(engine: Engine, nights: int, seed: int, size: tuple[int, int]) -> tuple[list[Figure], dict[str, Any]]:
    """Nothing changes but artifacts, each night, of half of the models."""
    units, models = size
    world = World([_unit(number) for number in range(units)], seed=seed)
    names = [f"net-{number}" for number in range(models)]
    rebuilt = frozenset(names[::2])
    farm, log = play(engine, world, names, nights, recipes=("fp32", "int8-static"), rebuilt=rebuilt.__contains__)
    kind_of = {unit.name: (unit.noise or world.noise).kind for unit in world.units}
    figures = []
    nights_of_series = units * models * 2 * nights
    false = len(log.came)
    figures.append(_false(f"{units * models * 2} series that never change, {nights} nights", false, nights_of_series))
    told = Counter(kind_of[what[0]] for _, what in log.told)
    costs = _costs(engine, farm, nights_of_series)
    causes = Counter(row.cause for row in log.rows.values())
    left = [row for row in log.rows.values() if row.state != "resolved"]
    more = {"series_told_by_noise": dict(told), "causes": dict(causes), "open_at_the_end": len(left), **costs}
    return figures, more


def steps(engine: Engine, nights: int, seed: int, size: tuple[int, int]) -> tuple[list[Figure], dict[str, Any]]:
    """Each model becomes 5 % slower at some revision, and is mended ten nights later."""
    units, models = size
    luck = random.Random(seed)
    names = [f"net-{number}" for number in range(models)]
    lasts = max(6, nights // 4)
    starts = {name: luck.randrange(nights // 3, nights - lasts - max(5, nights // 6)) for name in names}
    changes: list[Event] = [
        CodeChange(since=start, until=start + lasts, models=frozenset([name]), change=_STEP)
        for name, start in starts.items()
    ]
    # One unit of each model of device: every series stands for itself.
    world = World([_unit(number, group=number) for number in range(units)], changes, seed=seed)
    farm, log = play(engine, world, names, nights)
    return _judge_steps(engine, farm, log, starts, lasts, nights)


def _judge_steps(
    engine: Engine, farm: NightlyFarm, log: Log, starts: dict[str, int], lasts: int, nights: int
) -> tuple[list[Figure], dict[str, Any]]:
    kinds = {unit.name: (unit.noise or farm.world.noise).kind for unit in farm.world.units}
    first: dict[tuple[str, str], int] = {}
    slower = {number for number, row in log.came.items() if row.change > 0}
    for (incident, (device, model, _)), night in log.told.items():
        if incident in slower and starts[model] <= night < starts[model] + lasts:
            first[device, model] = min(night, first.get((device, model), night))
    wanted = [(device, model) for device in kinds for model in starts]
    figures = []
    for kind in ("gaussian", "spiky"):
        mine = [one for one in wanted if kinds[one[0]] == kind]
        seen = sum(one in first and first[one] - starts[one[1]] < WITHIN_NIGHTS for one in mine)
        what = f"5 % steps at 2 % noise ({kind}) told of their series within {WITHIN_NIGHTS} nights"
        figures.append(at_least(what, seen / len(mine), _share(seen, len(mine)), RECALL_BAR, "share", of=len(mine)))
    models_seen = [
        model
        for model in starts
        if any(first.get((device, model), nights) - starts[model] < WITHIN_NIGHTS for device in kinds)
    ]
    figures.append(_told_share("models whose step was told within 5 nights", len(models_seen), len(starts)))
    ours: defaultdict[str, list[Any]] = defaultdict(list)
    for (incident, (_, model, _)), night in log.told.items():
        if incident in slower and starts[model] <= night < starts[model] + lasts:
            ours[model].append(log.rows[incident])
    rows = {row.id: (model, row) for model, found in ours.items() for row in found}
    right = sum(row.cause == "code" for _, row in rows.values())
    figures.append(_told_share("incidents of steps that name the code", right, len(rows)))
    inside = sum(_inside(row, starts[model]) for model, row in rows.values())
    figures.append(_told_share("revision ranges that hold the revision", inside, len(rows)))
    exact = sum(row.revision_bad == f"r{starts[model]}" for model, row in rows.values())
    closed = sum(
        log.resolved.get(number, nights) >= starts[model] + lasts and row.state == "resolved"
        for number, (model, row) in rows.items()
    )
    figures.append(_told_share("incidents closed after the fix, by the farm", closed, len(rows)))
    others = [row for number, row in log.came.items() if number not in rows and row.change > 0]
    still = len(kinds) * len(starts) * (nights - lasts)
    figures.append(_false("incidents that no step accounts for", len(others), still))
    waits = sorted(first[one] - starts[one[1]] for one in first)
    more = {
        "nights_until_told": {str(wait): waits.count(wait) for wait in sorted(set(waits))},
        "first_bad_revision_exact": exact / len(rows) if rows else None,
        "incidents": len(rows),
        "incidents_per_step": len(rows) / len(starts),
        **_costs(engine, farm, len(kinds) * len(starts) * nights),
    }
    return figures, more


@dataclass(frozen=True)
class Expected:
    """What should be said of an event: an incident of one of these causes, or none."""

    what: str
    event: Event
    causes: frozenset[str]
    #: Nights within which.
    within: int = 8


def a_year(groups: Sequence[Sequence[Unit]], nights: int) -> list[Expected]:
    """Events, each on units of its own group."""

    def all_of(number: int) -> frozenset[str]:
        return frozenset(unit.name for unit in groups[number])

    def one_of(number: int) -> frozenset[str]:
        return frozenset([groups[number][0].name])

    start = nights // 2
    until = start + nights // 4
    nothing = frozenset[str]()
    return [
        Expected("an update of the system, 8 % slower", Update(since=start, devices=all_of(0), os="15", change=0.08),
                 frozenset({"environment"})),
        Expected("an update of the system, as fast", Update(since=start, devices=all_of(1), os="15"), nothing),
        Expected("an update as fast, in the night of a slower revision",
                 Update(since=start, devices=all_of(2), os="15"), nothing),
        Expected("one unit 10 % slower for no reason", Worn(since=start, until=until, devices=one_of(3), change=0.10),
                 frozenset({"device"})),
        Expected("one unit's clock held at 90 %", Clock(since=start, until=until, devices=one_of(4), share=0.9),
                 frozenset({"clock", "device"})),
        Expected("one unit throttles", Throttled(since=start, until=until, devices=one_of(5)), nothing),
        Expected("one unit fails", Unwell(since=start, until=until, devices=one_of(6)), nothing),
        Expected("one unit is gone", Missing(since=start, until=until, devices=one_of(7)), nothing),
        Expected("one unit drifts by 0.8 % a night", Drift(since=start, devices=one_of(8), per_night=0.008),
                 frozenset({"device", "unknown"}), within=nights // 2),
    ]  # fmt: skip


def events(engine: Engine, nights: int, seed: int, size: tuple[int, int]) -> tuple[list[Figure], dict[str, Any]]:
    """What happens to devices, each event on a group of its own; and one slower revision of one model."""
    in_group, models = size
    groups = [[_unit(10 * group + number, group=group) for number in range(in_group)] for group in range(10)]
    for unit in groups[4]:
        unit.clock_mhz = 2000.0
    expected = a_year(groups, nights)
    names = [f"net-{number}" for number in range(models)]
    slower = CodeChange(since=nights // 2, models=frozenset(["net-0"]), change=0.08)
    world = World([unit for group in groups for unit in group], [one.event for one in expected], seed=seed)
    world.events.append(slower)
    _, log = play(engine, world, names, nights)
    found = [_judge_event(one, log, "net-0") for one in expected]
    right = sum(answer["right"] for answer in found)
    figures = [counted("events that were not attributed right", len(found) - right, 0, "events")]
    code = [
        log.rows[number]
        for (number, (_, model, _)), night in log.told.items()
        if model == "net-0" and night >= slower.since and log.came[number].change > 0
    ]
    named = {row.id for row in code if row.cause == "code" and _inside(row, slower.since)}
    figures.append(counted("a slower revision: incidents of code beside one", abs(len(named) - 1), 0, "incidents"))
    with reading(engine) as connection:
        admin = connection.execute(select(devices.c.name).where(devices.c.admin == "quarantined")).scalars().all()
    return figures, {"events": found, "in_quarantine_at_the_end": sorted(admin), "incidents": _incident_list(log)}


def _judge_event(one: Expected, log: Log, spared: str) -> dict[str, Any]:
    """What was said of the event's devices in its time; the model that is slower everywhere is left out."""
    told: dict[int, int] = {}
    for (number, (device, model, _)), night in log.told.items():
        mine = one.event.devices is not None and device in one.event.devices and model != spared
        if mine and night >= one.event.since and log.came[number].change > 0:
            told[number] = min(night, told.get(number, night))
    soon = [number for number, night in told.items() if night - one.event.since < one.within]
    causes = sorted({log.rows[number].cause for number in told})
    named = {log.rows[number].cause for number in soon}
    right = bool(soon) and named <= one.causes if one.causes else not told
    answer = {"event": one.what, "expected": sorted(one.causes), "told": causes, "incidents": len(told)}
    answer["after_nights"] = min(told.values()) - one.event.since if told else None
    say(f"{one.what}: {', '.join(causes) or 'silence'} ({'right' if right else 'WRONG'})")
    return {**answer, "right": right}


def _unit(number: int, group: int | None = None) -> Unit:
    group = number // 10 if group is None else group
    return Unit(name=f"unit-{number:03}", model=f"model-{group}", noise=_SPIKY if number % 2 else _GAUSSIAN)


def _inside(row: Any, night: int) -> bool:
    """Whether the revision of a night is after the last good one and not after the first bad one."""
    if row.revision_bad is None:
        return False
    good = -1 if row.revision_good is None else int(row.revision_good[1:])
    return good < night <= int(row.revision_bad[1:])


def _false(what: str, count: int, nights_of_series: int) -> Figure:
    interval = _share(count, nights_of_series)
    rate, scaled = 1000 * count / nights_of_series, (1000 * interval[0], 1000 * interval[1])
    return at_most(
        f"false incidents per 1,000 series-nights: {what}",
        rate,
        scaled,
        FALSE_BAR,
        "incidents",
        count=count,
        series_nights=nights_of_series,
    )


def _told_share(what: str, count: int, of: int) -> Figure:
    share = count / of if of else 0.0
    return at_least(what, share, _share(count, of) if of else None, RECALL_BAR, "share", count=count, of=of)


def _share(count: int, of: int) -> Interval:
    """Wilson's 95 % interval of a share."""
    z = 1.96
    centre, half = (
        (count + z * z / 2) / (of + z * z),
        z * math.sqrt(count * (of - count) / of + z * z / 4) / (of + z * z),
    )
    return max(0.0, centre - half), min(1.0, centre + half)


def _costs(engine: Engine, farm: NightlyFarm, nights_of_series: int) -> dict[str, Any]:
    """What looking cost: suspects, trials by what came of them, device time."""
    with reading(engine) as connection:
        said = connection.execute(select(screenings.c.outcome, func.count()).group_by(screenings.c.outcome))
        outcomes = {row[0]: row[1] for row in said}
        named = (trials.c.purpose, trials.c.state, trials.c.answer)
        made = connection.execute(select(*named, func.count(), func.sum(trials.c.device_s)).group_by(*named)).all()
        count = connection.execute(select(func.count()).select_from(points)).scalar_one()
    spent_s = sum(row[4] or 0.0 for row in made)
    sweeps_s = farm.lab.processes * PROCESS_S - spent_s
    return {
        "screenings": outcomes,
        "trials": {" ".join(str(part) for part in row[:3]): row[3] for row in made},
        "trials_device_minutes": spent_s / 60,
        "trials_device_minutes_per_1000_series_nights": spent_s / 60 / nights_of_series * 1000,
        "trials_share_of_sweeps_device_time": spent_s / sweeps_s,
        "points": count,
        "processes": farm.lab.processes,
        "machine_s": {what: round(seconds, 1) for what, seconds in farm.spent_s.items()},
    }


def _incident_list(log: Log) -> list[dict[str, Any]]:
    sizes = Counter(number for number, _ in log.told)
    names = ("title", "cause", "cause_why", "state", "change", "revision_good", "revision_bad")
    return [
        {**{name: getattr(row, name) for name in names}, "series": sizes[number]} for number, row in log.rows.items()
    ]


@contextmanager
def a_database(postgres: bool) -> Iterator[Engine]:
    """An empty one: a file, or one of a server of our own."""
    if not postgres:
        with tempfile.TemporaryDirectory(prefix="benchfarm-nights-") as name:
            engine = open_database(f"sqlite:///{Path(name) / 'farm.db'}")
            yield engine
            engine.dispose()
        return
    from tests.postgres import PostgresServer

    server = PostgresServer()
    try:
        server.execute("CREATE DATABASE nights")
        migrate(server.url("nights"))
        engine = open_database(server.url("nights"))
        yield engine
        engine.dispose()
    finally:
        server.remove()


#: Worlds with their sizes: full and quick.
WORLDS = {
    "silence": (silence, (100, 5), (6, 2)),
    "steps": (steps, (10, 40), (4, 4)),
    "events": (events, (4, 4), (3, 3)),
}


def main() -> int:
    """Pass the nights; returns the exit code of docs/measurement.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few series: shows that it works, no more")
    parser.add_argument("--only", choices=sorted(WORLDS), default=None)
    parser.add_argument("--nights", type=int, default=None, help="default 60; 30 with --quick")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--postgres", action="store_true", help="on a PostgreSQL server of its own, not on SQLite")
    given = parser.parse_args()
    nights = given.nights or (30 if given.quick else 60)
    figures: list[Figure] = []
    more: dict[str, Any] = {}
    for name, (world, full, quick) in WORLDS.items():
        if given.only in (None, name):
            say(f"{name}:")
            with a_database(given.postgres) as engine:
                found, more[name] = world(engine, nights, given.seed, quick if given.quick else full)
            figures += found
    return finish("nights", given.quick, figures, nights=nights, seed=given.seed, **more)


if __name__ == "__main__":
    sys.exit(main())
