"""`benchfarm regressions` and the report's part of it, on a lab whose nights are over."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from benchfarm.cli.app import app
from device_registry.database import reading
from device_registry.errors import UsageError
from exporters.regression_tables import change_text, histogram, revisions_text
from exporters.report.content import content_of
from scheduler.cells import Wanted
from scheduler.schema import open_database
from tests.nightly.farm import NightlyFarm
from tests.nightly.world import CodeChange, Noise, Unit, World
from tests.unit.scheduler.databases import SqliteDatabases


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, sqlite_databases: SqliteDatabases) -> Iterator[NightlyFarm]:
    """A farm with one incident: since the fifth night one model is slower on both units."""
    engine = open_database(sqlite_databases.fresh(tmp_path_factory.mktemp("lab")))
    units = [Unit(name="a", model="pixel"), Unit(name="b", model="pixel")]
    farm = NightlyFarm(engine, World(units, [CodeChange(since=4, change=0.1)], Noise(sigma=0.006)), ["net"])
    for _ in range(5):
        farm.pass_night()
    yield farm
    farm.close()
    engine.dispose()


@pytest.fixture
def run(lab: NightlyFarm, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Run a command; returns what it printed, or the error that it ended in."""
    monkeypatch.setenv("BENCHFARM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("BENCHFARM_DATABASE_URL", str(lab.engine.url))

    def command(*arguments: str) -> Any:
        result = CliRunner().invoke(app, ["regressions", *arguments])
        return result.exception if result.exception is not None else result.stdout

    return command


def test_the_list_and_one_incident_with_its_picture(run: Any, tmp_path: Path) -> None:
    listed = run("list")
    for word in ("open", "code", "net on sim fp32", "2 pixel units", "r3 .. r4"):
        assert word in listed
    shown = run("show", "1", "--png", str(tmp_path / "incident.png"))
    for word in ("before   10 |", "after    10 |", "r3 .. r4", "benchfarm regressions confirm 1", "found in   run"):
        assert word in shown
    assert (tmp_path / "incident.png").read_bytes().startswith(b"\x89PNG")
    assert isinstance(run("show", "1", "--png", str(tmp_path / "no" / "where.png")), UsageError)


def test_documents(run: Any) -> None:
    [short] = json.loads(run("list", "--json"))
    assert (short["id"], short["series"], short["state"], short["cause"]) == (1, 2, "open", "code")
    whole = json.loads(run("show", "1", "--json"))
    assert len(whole["series"]) == 2
    assert whole["series"][0]["points"][-1]["revision"] == "r4"
    assert json.loads(run("list", "--state", "resolved", "--json")) == []
    assert "--all lists every one" in run("list", "--state", "resolved")


def test_people_change_what_it_is(run: Any) -> None:
    assert "incident 1 is acknowledged" in run("ack", "1", "--note", "on it")
    assert "acknowledged, by" in str(run("ack", "1"))
    assert json.loads(run("resolve", "1", "--json"))["state"] == "resolved"
    assert "no incident is open or acknowledged" in run("list")
    assert "resolved" in run("list", "--all")
    assert "incident 1 is open" in run("reopen", "1")
    assert "there is no incident 9" in str(run("show", "9"))
    assert "exclude each other" in str(run("list", "--all", "--state", "open"))


def test_the_report_has_it(lab: NightlyFarm) -> None:
    with reading(lab.engine) as connection:
        content = content_of(connection, Wanted(), None, lab.now)
        elsewhere = content_of(connection, Wanted(selector="name=a"), None, lab.now)
    assert content.incidents is not None
    assert content.incidents.rows[0][3].startswith("net on sim fp32")
    assert len(content.incident_charts) == 2
    chart = content.incident_charts[0]
    assert chart.figure is not None
    assert [len(trace["x"]) for trace in chart.figure["data"]] == [4, 1]
    assert "r4" in chart.caption
    assert len(elsewhere.incident_charts) == 1


def test_words() -> None:
    assert change_text(0.052, [0.041, 0.06]) == "+5.2 % [+4.1, +6.0]"
    assert change_text(None, None) == "—"
    assert revisions_text({"revision_good": None, "revision_bad": None}) == "the runs told none"
    assert revisions_text({"revision_good": "a" * 40, "revision_bad": "b" * 40}) == "aaaaaaaaaaaa .. bbbbbbbbbbbb"
    assert histogram([1.0, 1.0, 2.0], 1.0, 2.0, 4) == "█  ▄"
    assert histogram([1.0], 1.0, 1.0, 4) == "█   "
