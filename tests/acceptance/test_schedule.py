"""Schedules as a user types them: added, changed, listed, paused, started at once; nobody runs the farm meanwhile."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import benchfarm
from benchfarm.api import Client
from device_registry.capabilities import DeviceDescription
from device_registry.database import writing
from device_registry.registry import record_hello
from device_registry.tables import utc_now
from tests.acceptance.conftest import Typed
from workers.host import describe_host

SWEEP = """\
name: phones
models: [sim/mobilenet]
recipes: [fp32]
devices: ["kind=sim"]
"""


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory that knows a host with a simulated phone; migrated once for all tests."""
    folder = tmp_path_factory.mktemp("template") / "home"
    client = benchfarm.connect(home=folder)
    found = [DeviceDescription(key="sim:1", name="phone-1", kind="sim", driver="sim", attributes={"simulated": True})]
    with writing(client.farm.engine) as connection:
        record_hello(connection, describe_host("lab-1", {}), found, "3", utc_now())
    client.farm.engine.dispose()
    return folder


@pytest.fixture
def lab(home: Path, template: Path) -> Client:
    """A farm of one host with a phone; nothing of it runs."""
    shutil.copytree(template, home)
    return benchfarm.connect(home=home)


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """A sweep file, in no repository."""
    (tmp_path / "nightly.yaml").write_text(SWEEP)
    return tmp_path / "nightly.yaml"


NIGHTLY = ("--cron", "0 2 * * *", "--timezone", "Europe/Berlin")


def test_a_schedule_is_added_listed_shown_changed_and_removed(typed: Typed, lab: Client, sweep: Path) -> None:
    said = typed("schedule", "add", str(sweep), *NIGHTLY)
    assert said.code == 0
    assert "schedule phones added: sweep phones, 0 2 * * *\n" in said.out
    assert said.out.count("02:00 Europe/Berlin (0") == 3
    assert said.out.endswith("schedules run while benchfarm up runs; it does not now\n")
    assert said.err == ""
    [listed] = typed("schedule", "list", "--json").json
    assert (listed["name"], listed["cron"], listed["timezone"]) == ("phones", "0 2 * * *", "Europe/Berlin")
    assert listed["next_due_at"].endswith("+00:00")
    assert (listed["paused"], listed["missing"], listed["last_run"]) == (False, 0, None)
    assert "Europe/Berlin (0" in typed("schedule", "list").out

    sweep.write_text(SWEEP + "seed: 3\n")
    shown = typed("schedule", "show", "phones", "--json").json
    assert shown["sweep_text"] == SWEEP
    assert shown["file_changed"] is True
    assert "it says something else by now" in typed("schedule", "show", "phones").out.replace("\n", " ")
    changed = typed("schedule", "add", str(sweep), *NIGHTLY, "--missed", "skip", "--json").json
    assert (changed["new"], changed["missed"], changed["file_changed"]) == (False, "skip", False)
    assert len(changed["due"]) == 3

    assert typed("schedule", "pause", "phones").out == "schedule phones is paused\n"
    assert "paused" in typed("schedule", "list").out
    assert typed("schedule", "resume", "phones").out.startswith("schedule phones is due 2")
    assert typed("schedule", "remove", "phones").out == "schedule phones is removed\n"
    assert typed("schedule", "list").out == "no schedules; benchfarm schedule add makes one\n"


def test_a_sweep_is_started_at_once_and_not_twice(typed: Typed, lab: Client, sweep: Path) -> None:
    typed("schedule", "add", str(sweep), *NIGHTLY)
    said = typed("schedule", "run-now", "phones")
    assert said.out == "run 1: 1 case\n"
    assert "wait until benchfarm up runs" in said.err
    assert len(lab.jobs()) == 6
    again = typed("schedule", "run-now", "phones")
    assert again.code == 2
    assert "run 1 of phones is still at work" in again.sentence
    assert typed("schedule", "list", "--json").json[0]["open_run"] == 1


def test_what_its_runs_will_fail_for_is_said_by_day(typed: Typed, lab: Client, sweep: Path) -> None:
    sweep.write_text(SWEEP.replace("sim/mobilenet", "./gone.onnx"))
    said = typed("schedule", "add", str(sweep), *NIGHTLY)
    assert said.code == 0
    assert "as the farm is now, its run could not be made" in said.err
    assert "gone.onnx" in said.err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--cron", "0 26 * * *"), "write five fields, minute hour day month weekday"),
        (("--cron", "@reboot"), "a farm has no boot to run at"),
        (("--cron", "* * * * * *"), "there are none of seconds"),
        ((*NIGHTLY[:2], "--timezone", "Berlin"), "did you mean Europe/Berlin?"),
        ((*NIGHTLY, "--name", "a/b"), "no /"),
        ((*NIGHTLY, "--revision-of", "/"), "no git repository"),
        ((*NIGHTLY, "--revision-of", "/", "--no-revision"), "exclude each other"),
    ],
)
def test_nonsense_is_refused_with_one_sentence(
    typed: Typed, lab: Client, sweep: Path, arguments: tuple[str, ...], says: str
) -> None:
    said = typed("schedule", "add", str(sweep), *arguments)
    assert said.code == 2
    assert says in said.sentence
    assert typed("schedule", "list", "--json").json == []


def test_a_file_that_is_no_sweep_and_a_name_that_is_none(typed: Typed, lab: Client, sweep: Path) -> None:
    sweep.write_text(SWEEP + "models: [")
    assert "nightly.yaml:" in typed("schedule", "add", str(sweep), *NIGHTLY).sentence
    assert "no such file" in typed("schedule", "add", "gone.yaml", *NIGHTLY).sentence
    for command in ("show", "pause", "resume", "run-now", "remove"):
        said = typed("schedule", command, "phones")
        assert (said.code, "no schedule 'phones'" in said.sentence) == (2, True)
