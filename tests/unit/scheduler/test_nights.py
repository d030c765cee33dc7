"""A farm in small, swept nightly: what happens in its world is what its incidents say, and nothing else is."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Row, select

from device_registry.database import reading, table_of
from device_registry.registry import devices
from scheduler.points import points, series
from scheduler.schema import open_database
from scheduler.watch_tables import Incident, IncidentSeries, Trial
from tests.nightly.farm import NightlyFarm
from tests.nightly.world import CodeChange, Event, Missing, Noise, Throttled, Unit, Unwell, Update, World, Worn
from tests.unit.scheduler.databases import Databases, SqliteDatabases

incidents, members, trials = table_of(Incident), table_of(IncidentSeries), table_of(Trial)

QUIET = Noise(sigma=0.008)
#: Processes of each case and night: fewer tell too little of what an artifact took before on its unit.
REPEATS = 5
#: When devices are struck, when they are well again, when a revision is slower, and when it is mended.
STRUCK, WELL, SLOWER, MENDED, NIGHTS = 4, 6, 8, 9, 11


def _units(model: str, count: int) -> list[Unit]:
    return [Unit(name=f"{model}-{number}", model=model) for number in range(count)]


def _named(*names: str) -> frozenset[str]:
    return frozenset(names)


EVENTS: list[Event] = [
    Update(since=STRUCK, devices=_named("alpha-0", "alpha-1"), os="15", change=0.12),
    Update(since=STRUCK, devices=_named("beta-0"), os="15"),
    Worn(since=STRUCK, devices=_named("gamma-0"), change=0.15),
    Throttled(since=STRUCK, until=WELL, devices=_named("delta-0")),
    Unwell(since=STRUCK, until=WELL, devices=_named("epsilon-0")),
    Missing(since=STRUCK, until=WELL, devices=_named("zeta-0")),
    CodeChange(since=SLOWER, until=MENDED, models=_named("net-1"), change=0.10),
]


@dataclass
class Said:
    """What the farm said of its nights."""

    incidents: list[Row[Any]]
    #: Devices and models of each incident.
    about: dict[int, set[tuple[str, str]]]
    #: Incident to the nights on which it was first there, and first resolved.
    came: dict[int, int]
    closed: dict[int, int]
    #: How a device's points were judged, by night.
    verdicts: dict[tuple[str, str], list[str]]
    quarantined: dict[int, list[str]]

    def of(self, *names: str, model: str | None = None) -> list[Row[Any]]:
        """Slower incidents that are about these devices alone."""
        return [
            row
            for row in self.incidents
            if row.change > 0
            and {device for device, _ in self.about[row.id]} <= set(names)
            and (model is None or {told for _, told in self.about[row.id]} == {model})
        ]


def _about(farm: NightlyFarm) -> dict[int, set[tuple[str, str]]]:
    query = select(members.c.incident_id, devices.c.name, series.c.model)
    query = query.join(series, series.c.id == members.c.series_id).join(devices, devices.c.id == series.c.device_id)
    found: dict[int, set[tuple[str, str]]] = {}
    with reading(farm.engine) as connection:
        for incident, device, model in connection.execute(query):
            found.setdefault(incident, set()).add((device, model))
    return found


@pytest.fixture(scope="module")
def said(sqlite_databases: SqliteDatabases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Said]:
    """All nights, once: what differs on a server, test_watch asks of both."""
    url = sqlite_databases.fresh(tmp_path_factory.mktemp("nights"))
    engine = open_database(url)
    groups = (("alpha", 2), ("beta", 1), ("gamma", 2), ("delta", 1), ("epsilon", 1), ("zeta", 1))
    units = [unit for model, count in groups for unit in _units(model, count)]
    farm = NightlyFarm(engine, World(units, EVENTS, noise=QUIET, seed=1), ["net-0", "net-1"], repeats=REPEATS)
    came: dict[int, int] = {}
    closed: dict[int, int] = {}
    quarantined = {}
    for night in range(NIGHTS):
        farm.pass_night()
        for row in farm.rows(incidents):
            came.setdefault(row.id, night)
            if row.state == "resolved":
                closed.setdefault(row.id, night)
        quarantined[night] = [row.name for row in farm.rows(devices, devices.c.admin == "quarantined")]
    verdicts: dict[tuple[str, str], list[str]] = {}
    query = select(devices.c.name, series.c.model, points.c.verdict).order_by(points.c.id)
    query = query.join(series, series.c.id == points.c.series_id).join(devices, devices.c.id == series.c.device_id)
    with reading(engine) as connection:
        for device, model, verdict in connection.execute(query):
            verdicts.setdefault((device, model), []).append(verdict)
    yield Said(farm.rows(incidents), _about(farm), came, closed, verdicts, quarantined)
    farm.close()
    engine.dispose()
    sqlite_databases.drop(url)


def test_nothing_is_said_before_anything_happened(said: Said) -> None:
    assert [row for row in said.incidents if said.came[row.id] < STRUCK] == []


def test_an_update_that_slows_its_devices_is_one_incident_of_the_environment(said: Said) -> None:
    [incident] = said.of("alpha-0", "alpha-1")
    assert incident.cause == "environment"
    assert {device for device, _ in said.about[incident.id]} == {"alpha-0", "alpha-1"}
    assert incident.environment["os"] == ["14", "15"]
    assert incident.change == pytest.approx(0.12, abs=0.03)
    assert said.came[incident.id] - STRUCK <= 1


def test_an_update_that_slows_nothing_is_no_incident(said: Said) -> None:
    assert said.of("beta-0") == []


def test_one_unit_that_is_slower_alone_is_under_suspicion_itself(said: Said) -> None:
    [incident] = said.of("gamma-0")
    assert incident.cause == "device"
    assert incident.change == pytest.approx(0.15, abs=0.03)


def test_a_unit_that_throttles_is_judged_so_and_is_no_regression(said: Said) -> None:
    assert said.of("delta-0") == []
    assert said.verdicts["delta-0", "net-0"][STRUCK:WELL] == ["throttled"] * (WELL - STRUCK)


def test_a_unit_that_fails_is_put_aside_and_is_no_regression(said: Said) -> None:
    assert said.of("epsilon-0") == []
    assert said.quarantined[STRUCK] == ["epsilon-0"]
    assert said.quarantined[NIGHTS - 1] == []


def test_a_unit_that_is_gone_is_no_regression(said: Said) -> None:
    assert said.of("zeta-0") == []
    assert len(said.verdicts["zeta-0", "net-0"]) == NIGHTS - (WELL - STRUCK)


def test_a_slower_revision_is_one_incident_that_names_it_and_is_closed_after_the_fix(said: Said) -> None:
    of_code = [row for row in said.incidents if row.change > 0 and row.cause == "code"]
    [incident] = of_code
    assert {model for _, model in said.about[incident.id]} == {"net-1"}
    assert incident.revision_bad == f"r{SLOWER}"
    assert incident.revision_good in {f"r{SLOWER - 1}", f"r{SLOWER - 2}"}
    assert incident.change == pytest.approx(0.10, abs=0.02)
    assert said.came[incident.id] - SLOWER <= 1
    assert (incident.state, incident.resolved_by) == ("resolved", "farm")
    assert MENDED <= said.closed[incident.id] < NIGHTS


def test_nothing_else_is_said(said: Said) -> None:
    assert sorted(row.cause for row in said.incidents if row.change > 0) == ["code", "device", "environment"]


class _TwoSchedulers(NightlyFarm):
    """Every look at what is due is done twice at the same time."""

    def _keep_chores(self) -> bool:
        done: list[bool] = []
        errors: list[BaseException] = []

        def keep() -> None:
            try:
                done.append(super(_TwoSchedulers, self)._keep_chores())
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=keep) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        return any(done)


def test_two_schedulers_confirm_once_and_tell_once(databases: Databases, tmp_path: Path) -> None:
    url = databases.fresh(tmp_path)
    engine = open_database(url)
    change = CodeChange(since=4, change=0.15)
    farm = _TwoSchedulers(engine, World(_units("alpha", 2), [change], noise=QUIET), ["net-0"], repeats=REPEATS)
    for _ in range(6):
        farm.pass_night()
    [incident] = farm.rows(incidents)
    assert (incident.cause, incident.revision_bad) == ("code", "r4")
    of_point = [row.candidate_point_id for row in farm.rows(trials) if row.purpose == "confirmation"]
    assert len(of_point) == len(set(of_point))
    farm.close()
    engine.dispose()
    databases.drop(url)
