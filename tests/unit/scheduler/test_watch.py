"""From points to incidents, on both databases: a made-up lab is swept some nights, and the farm says what it saw."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, delete, update

from device_registry.database import reading, table_of, writing
from device_registry.errors import UsageError
from scheduler.ingest import results
from scheduler.queue import artifacts, sweep_runs
from scheduler.regressions.again import confirm_again, trials_of
from scheduler.regressions.incidents import change_state, incident_series, incidents
from scheduler.regressions.records import incident_record, list_incidents
from scheduler.regressions.series_history import screenings
from scheduler.regressions.watch import watch_step
from scheduler.schema import open_database
from scheduler.states import jobs
from scheduler.trials import step_trials, trials
from scheduler.watch_tables import Notification
from tests.nightly.farm import NightlyFarm
from tests.nightly.world import CodeChange, Missing, Noise, Unit, Update, World, Worn
from tests.unit.scheduler.databases import Databases, SqliteDatabases

notifications = table_of(Notification)
QUIET = Noise(sigma=0.006)


@dataclass
class Nights:
    """A lab whose nights are over, and its database."""

    engine: Engine
    farm: NightlyFarm

    def rows(self, table: Any, *where: Any) -> list[Any]:
        """Rows of a table by id."""
        return self.farm.rows(table, *where)

    def record(self, cause: str) -> dict[str, Any]:
        """The one incident of a cause."""
        with reading(self.engine) as connection:
            [found] = list_incidents(connection, cause=cause)
            return incident_record(connection, found["id"])


@pytest.fixture
def make_nights(tmp_path: Path, databases: Databases) -> Iterator[Any]:
    """Make labs on either database."""
    yield from _making(tmp_path, databases)


@pytest.fixture
def make_local_nights(tmp_path: Path, sqlite_databases: SqliteDatabases) -> Iterator[Any]:
    """Make labs on SQLite, for what no database does in its own way."""
    yield from _making(tmp_path, sqlite_databases)


def _making(folder: Path, databases: Databases) -> Iterator[Any]:
    made: list[tuple[Nights, str]] = []

    def make(events: list[Any], units: list[Unit], models: list[str], **options: Any) -> Nights:
        url = databases.fresh(folder)
        engine = open_database(url)
        # Three processes a night: they are what these tests cost.
        farm = NightlyFarm(engine, World(units, events, QUIET, seed=3), models, **{"repeats": 3, **options})
        made.append((Nights(engine, farm), url))
        return made[-1][0]

    yield make
    for nights, url in made:
        nights.farm.close()
        nights.engine.dispose()
        databases.drop(url)


def test_a_slower_revision_an_update_and_a_worn_unit_each_become_one_incident(make_nights: Any) -> None:
    units = [Unit(name="a", model="pixel"), Unit(name="b", model="pixel"), Unit(name="c", model="other")]
    changes = [
        CodeChange(since=5, until=7, models=frozenset(["net-0"]), change=0.08),
        Update(since=6, os="15", change=0.10, devices=frozenset(["c"])),
        Worn(since=8, change=0.12, devices=frozenset(["b"])),
    ]
    nights = make_nights(changes, units, ["net-0", "net-1"], repeats=5)
    for _ in range(11):
        nights.farm.pass_night()
    code = nights.record("code")
    assert (code["state"], code["resolved_by"]) == ("resolved", "farm")
    assert (code["revision_good"], code["revision_bad"]) == ("r4", "r5")
    assert "revision r7" in code["note"]
    assert sorted(row["device"] for row in code["series"]) == ["a (simulated)", "b (simulated)", "c (simulated)"]
    assert code["change"] == pytest.approx(0.08, abs=0.02)
    for row in code["series"]:
        low, high = row["change_interval"]
        assert low < row["change"] < high
        assert row["p"] < 0.01
        assert row["trial"]["processes"] == [10, 10]
        assert len(row["before_ms"]) == len(row["after_ms"]) == 10
        assert row["recovered"]["revision"] == "r7"
    environment = nights.record("environment")
    assert environment["environment"] == {"os": ["14", "15"]}
    assert {row["device"] for row in environment["series"]} == {"c (simulated)"}
    assert environment["state"] == "open"
    device = nights.record("device")
    assert {row["device"] for row in device["series"]} == {"b (simulated)"}
    assert device["canary"].startswith("its canary takes")
    assert device["change"] == pytest.approx(0.12, abs=0.03)
    assert (device["revision_good"], device["revision_bad"]) == ("r7", "r8")
    json.dumps(code, default=str)
    # Told once each; a digest of each night; nothing is left to do.
    told = [row.key for row in nights.rows(notifications)]
    assert (
        sorted(key.rpartition("/")[2] for key in told if key.startswith("incident") and "resolved" not in key)
        == ["opened"] * 3
    )
    assert sum("resolved" in key for key in told) == 1
    assert sum(key.startswith("digest") for key in told) == 11
    assert all(row.screened_at is not None for row in nights.rows(sweep_runs, sweep_runs.c.watched))
    for _ in range(2):  # of two schedulers, or one that begins anew, none does anything again
        with writing(nights.engine) as connection:
            assert watch_step(connection, nights.farm.now) == 0
    assert len(nights.rows(incidents)) == 3
    outcomes = {row.outcome for row in nights.rows(screenings)}
    assert {"few", "steady", "slower", "faster", "new_epoch"} <= outcomes
    assert all(row.conclusion for row in nights.rows(screenings, screenings.c.trial_id.is_not(None)))


def test_a_step_that_a_user_resolved_is_not_opened_again_and_a_new_one_is(make_local_nights: Any) -> None:
    changes = [
        CodeChange(since=5, models=frozenset(["net"]), change=0.08),
        CodeChange(since=9, models=frozenset(["net"]), change=0.08),
    ]
    nights = make_local_nights(changes, [Unit(name="a", model="pixel")], ["net"])
    for _ in range(7):
        nights.farm.pass_night()
    with writing(nights.engine) as connection:
        change_state(connection, 1, "acknowledged", who="ann", note="looking", now=nights.farm.now)
        with pytest.raises(UsageError, match="acknowledged, by ann already"):
            change_state(connection, 1, "acknowledged", who="ann", note=None, now=nights.farm.now)
        change_state(connection, 1, "resolved", who="ann", note="meant", now=nights.farm.now)
        with pytest.raises(UsageError, match="no incident 7"):
            change_state(connection, 7, "resolved", who="ann", note=None, now=nights.farm.now)
    for _ in range(2):
        nights.farm.pass_night()
    assert [row.state for row in nights.rows(incidents)] == ["resolved"]
    nights.farm.pass_night()
    assert [row.state for row in nights.rows(incidents)] == ["resolved", "open"]
    assert nights.rows(incidents)[1].revision_bad == "r9"
    with writing(nights.engine) as connection:
        change_state(connection, 1, "open", who="ann", note=None, now=nights.farm.now)
    with reading(nights.engine) as connection:
        record = incident_record(connection, 1)
    assert [event["after"] for event in record["events"]] == ["open", "acknowledged", "resolved", "open"]
    assert record["state"] == "open"


def test_a_deleted_baseline_ends_in_a_sentence_and_the_history_goes_on(make_local_nights: Any) -> None:
    nights = make_local_nights([CodeChange(since=8, change=0.08)], [Unit(name="a", model="pixel")], ["net"])
    for _ in range(8):
        nights.farm.pass_night()
    # What the old points came of is deleted: neither job nor artifact is known any more.
    with writing(nights.engine) as connection:
        connection.execute(delete(results))
        connection.execute(update(jobs).values(case_key="gone", makes_key=None))
        connection.execute(delete(artifacts))
    nights.farm.pass_night()
    [suspect] = nights.rows(screenings, screenings.c.conclusion == "void")
    assert "the job that measured the baseline is gone" in suspect.why
    assert nights.rows(incidents) == []
    for _ in range(4):
        nights.farm.pass_night()
    [incident] = nights.rows(incidents)
    [series] = nights.rows(incident_series)
    assert (incident.cause, series.found_by, series.trial_id) == ("unknown", "history", None)
    assert incident.change == pytest.approx(0.08, abs=0.02)
    assert "only the history shows it" in incident.cause_why


def test_what_fails_or_is_away_is_said_to_be_missing(make_local_nights: Any) -> None:
    nights = make_local_nights([Missing(since=2, until=3)], [Unit(name="a", model="pixel")], ["net"])
    for _ in range(2):
        nights.farm.pass_night()
    run_id = nights.farm.submit()
    with writing(nights.engine) as connection:
        mine = (jobs.c.sweep_run_id == run_id, jobs.c.kind == "measure")
        connection.execute(update(jobs).where(*mine).values(state="failed", failure_message="it broke"))
    nights.farm.settle()
    [missing] = nights.rows(screenings, screenings.c.outcome == "missing")
    assert (missing.point_id, missing.why) == (None, "it broke")


def test_runs_that_are_not_watched_or_rest_are_left_alone(make_local_nights: Any) -> None:
    nights = make_local_nights([], [Unit(name="a", model="pixel")], ["net"])
    nights.farm.pass_night(watched=False)
    assert nights.rows(screenings) == []
    run_id = nights.farm.pass_night()
    with writing(nights.engine) as connection:
        connection.execute(update(sweep_runs).values(screened_at=None, resting=True))
        assert watch_step(connection, nights.farm.now) == 0
        connection.execute(update(sweep_runs).values(resting=False))
        while watch_step(connection, nights.farm.now):
            pass
    assert {row.sweep_run_id for row in nights.rows(screenings)} == {run_id}


def test_an_incident_is_measured_again_when_a_user_asks(make_local_nights: Any) -> None:
    nights = make_local_nights([CodeChange(since=5, change=0.1)], [Unit(name="a", model="pixel")], ["net"])
    for _ in range(6):
        nights.farm.pass_night()
    with writing(nights.engine) as connection:
        run_id, lost = confirm_again(connection, 1, owner="ann", now=nights.farm.now)
        with pytest.raises(UsageError, match="no incident 9"):
            confirm_again(connection, 9, owner="ann", now=nights.farm.now)
    nights.farm.settle()
    with reading(nights.engine) as connection:
        [found] = trials_of(connection, run_id)
    assert (lost, found["state"], found["answer"]) == ([], "done", "slower")
    assert len(nights.rows(incidents)) == 1


def test_a_crash_between_any_two_steps_loses_and_doubles_nothing(make_nights: Any) -> None:
    """Each step is done twice, the first time rolled back: as if the process had died before its commit."""
    nights = make_nights([CodeChange(since=4, change=0.1)], [Unit(name="a", model="pixel")], ["net"], chores=())
    for _ in range(5):
        nights.farm.pass_night()
        nights.farm.now += timedelta(seconds=1)
        _work(nights)
    assert len(nights.rows(incidents)) == len(nights.rows(incident_series)) == 1
    [trial] = nights.rows(trials)
    assert (trial.state, trial.answer) == ("done", "slower")
    assert len(nights.rows(screenings)) == 5


def _work(nights: Nights) -> None:
    for _ in range(60):
        busy = 0
        for step in (step_trials, watch_step):
            with nights.engine.connect() as connection, connection.begin() as transaction:
                step(connection, nights.farm.now)
                transaction.rollback()
            with writing(nights.engine) as connection:
                done = step(connection, nights.farm.now)
                busy += len(done) if isinstance(done, list) else done
        nights.farm.settle()
        if not busy and not nights.rows(trials, trials.c.state == "running"):
            return
    raise AssertionError("never done")


def test_two_schedulers_at_once_open_one_incident(make_nights: Any) -> None:
    nights = make_nights([CodeChange(since=4, change=0.1)], [Unit(name="a", model="pixel")], ["net"], chores=())
    for _ in range(4):
        nights.farm.pass_night()
        _work(nights)
    nights.farm.pass_night()
    wrong: list[BaseException] = []

    def watch(quiet: int = 3) -> None:
        try:
            while quiet:
                with writing(nights.engine) as connection:
                    quiet -= not watch_step(connection, nights.farm.now)
        except BaseException as error:
            wrong.append(error)

    for _ in range(2):  # until the trial is begun, and when it is over
        threads = [threading.Thread(target=watch) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        nights.farm.settle()
        with writing(nights.engine) as connection:
            step_trials(connection, nights.farm.now)
    watch()
    assert wrong == []
    assert len(nights.rows(trials)) == len(nights.rows(incidents)) == len(nights.rows(incident_series)) == 1
