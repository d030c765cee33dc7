"""A farm's users: submit while nothing runs, look, change their minds, and use it from Python.

Commands run in this process, as typed; only what measures is started as users start it. All devices are simulated.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import benchfarm
from benchfarm.api import Client
from device_registry.capabilities import DeviceDescription
from device_registry.database import writing
from device_registry.errors import UsageError
from device_registry.registry import record_hello, set_host_presence
from device_registry.tables import utc_now
from tests.acceptance.conftest import Typed, call, document, environment, one_sentence
from workers.host import describe_host

FLEET = {
    "seed": 1,
    "time_scale": 0.01,
    "devices": [{"model": "Pixel 8", "count": 2, "soc": "tensor-g3"}, {"model": "Galaxy S24"}],
}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory that knows a host with three phones of two models; migrated once for all tests."""
    folder = tmp_path_factory.mktemp("template") / "home"
    client = benchfarm.connect(home=folder)
    found = [
        DeviceDescription(
            key=f"sim:{number}",
            name=f"phone-{number}",
            kind="sim",
            driver="sim",
            attributes={"simulated": True, "model": model},
        )
        for number, model in enumerate(("Pixel 8", "Pixel 8", "Galaxy S24"), start=1)
    ]
    with writing(client.farm.engine) as connection:
        record_hello(connection, describe_host("lab-1", {"rack": "a"}), found, "3", utc_now())
    client.farm.engine.dispose()
    return folder


@pytest.fixture
def lab(home: Path, template: Path) -> Client:
    """A farm of one host with three phones; nothing of it runs."""
    shutil.copytree(template, home)
    return benchfarm.connect(home=home)


TINY = ("submit", "sim/tiny", "--recipe", "fp32")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--device", "kind=sim,=a"), "cannot read '=a' at position 10"),
        (("--device", "kind=phone"), "no device matches 'kind=phone'; devices are phone-1, phone-2, phone-3"),
        (("--device", "kind=phone", "--any", "--wait-for-device"), "name what to run there: --runtime"),
        (("--device", "kind=phone", "--wait-for-device"), "--any queues for whichever comes first"),
        (("--any", "--per-model"), "exclude each other"),
        (("--queue-timeout", "soon"), "--queue-timeout 'soon': write 90s, 15m, 2h or 1d"),
        (("--run-timeout", "0s"), "--run-timeout 0: must be above 0"),
        (("--priority", "5000"), "from -1000 to 1000"),
        (("--owner", ""), "printable characters"),
        (("--threads", "0"), "1 is the least"),
        (("--runtime", "torch"), "no converter leads from sim to torch's format"),
    ],
)
def test_a_wrong_submission_is_refused_with_one_sentence(
    typed: Typed, lab: Client, arguments: tuple[str, ...], says: str
) -> None:
    said = typed(*TINY, *arguments)
    assert said.code == 2
    assert says in said.sentence
    assert lab.jobs() == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("jobs", "show", "99"), "no job 99"),
        (("jobs", "logs", "99"), "no job 99"),
        (("jobs", "logs", "1"), "job 1 has not run yet"),
        (("jobs", "cancel", "1", "99"), "no job 99"),
        (("jobs", "cancel", "--run", "99"), "no run 99"),
        (("jobs", "cancel"), "name jobs, or a run with --run"),
        (("jobs", "retry", "1"), "job 1 is queued: only failed and cancelled jobs"),
        (("jobs", "retry", "--run", "1"), "nothing of run 1 failed"),
        (("jobs", "wait", "99"), "no job 99"),
        (("jobs", "wait", "1", "--timeout", "never"), "--timeout 'never'"),
        (("jobs", "clone", "1"), "job 1 is a conversion"),
        (("jobs", "clone", "--run", "9"), "no run 9"),
        (("jobs", "list", "--state", "odd"), "no state 'odd'"),
        (("hosts", "show", "lab-9"), "no host 'lab-9'"),
        (("devices", "drain", "phone-9"), "no device 'phone-9'"),
        (("devices", "drain", "model=Nokia"), "no device matches 'model=Nokia'"),
        (("devices", "tag", "phone-1"), "say which tag"),
        (("devices", "tag", "phone-1", "--add", "a b"), "tag 'a b'"),
        (("status", "--watch", "--json"), "exclude each other"),
    ],
)
def test_what_does_not_exist_is_said_in_one_sentence(
    typed: Typed, lab: Client, arguments: tuple[str, ...], says: str
) -> None:
    lab.submit("sim/tiny", recipes=["fp32"])
    said = typed(*arguments)
    assert said.code == 2
    assert says in said.sentence


def test_a_farm_that_knows_no_device_says_how_to_get_one(typed: Typed, home: Path) -> None:
    said = typed(*TINY)
    assert said.code == 2
    assert "benchfarm join" in said.sentence


def test_the_queue_works_while_the_farm_is_down(typed: Typed, lab: Client) -> None:
    first = typed(*TINY, "--per-model", "--priority", "5", "--owner", "ci", "--json").json
    assert first == {"run": 1, "jobs": [1, 2, 3], "reused": 0}
    assert typed(*TINY, "--any").out == "run 2: 1 job, 4\n"  # the conversion is shared
    listed = typed("jobs", "list", "--json").json
    assert [(job["id"], job["state"], job["owner"], job["priority"]) for job in listed[1:]] == [
        (3, "blocked", "ci", 5),
        (2, "blocked", "ci", 5),
        (1, "queued", "ci", 5),
    ]
    assert listed[-1]["queue_position"] == 1
    assert "nobody dispatches" in listed[-1]["why"]
    assert listed[0]["why"] == "waits for what job 1 makes"
    assert [job["id"] for job in typed("jobs", "list", "--owner", "ci", "--run", "1", "--json").json] == [3, 2, 1]
    shown = typed("jobs", "show", "2", "--json").json
    assert shown["title"].endswith("any Pixel 8 (simulated)") or shown["title"].endswith("any Galaxy S24 (simulated)")
    waited = typed("jobs", "wait", "--run", "1", "--timeout", "1s")
    assert waited.code == 1
    assert "run 1 is not done after 1 s" in waited.err
    status = typed("status", "--json").json
    assert status["dispatcher"]["alive"] is False
    assert [(group["owner"], group["jobs"]) for group in status["queue"]] == [("ci", 1)]
    assert "no dispatcher" in typed("status").out


def test_minds_are_changed(typed: Typed, lab: Client) -> None:
    lab.submit("sim/tiny", recipes=["fp32"], device="name=phone-1")
    lab.submit("sim/tiny", recipes=["fp32"], device="name=phone-2")
    assert typed("jobs", "cancel", "1").out == "job 1 goes on: other runs wait for it; what waited here is cancelled\n"
    assert [job["state"] for job in lab.jobs()] == ["blocked", "cancelled", "queued"]
    again = typed("jobs", "cancel", "2")
    assert (again.code, again.sentence) == (2, "benchfarm: job 2 is cancelled already")
    assert typed("jobs", "retry", "2").out == "job 2 is tried again as job 4\n"
    assert typed("jobs", "cancel", "--run", "2", "--json").json == {"run": 2, "cancelled": 1}
    assert typed("jobs", "clone", "3", "--priority", "7", "--json").json["jobs"] == [5]
    assert lab.jobs()[0]["priority"] == 7
    assert typed("jobs", "wait", "3").code == 1


def test_people_say_what_devices_may_do_and_others_read_why(typed: Typed, lab: Client) -> None:
    assert typed("devices", "drain", "phone-1", "--why", "loose cable").out == "phone-1 (simulated) is draining\n"
    assert typed("devices", "quarantine", "model=Pixel 8", "name=phone-2").code == 0
    refused = typed("devices", "resume", "phone-1")
    assert (refused.code, "devices release" in refused.sentence) == (2, True)
    assert typed("devices", "tag", "phone-3", "--add", "canary", "--json").json[0]["tags"] == ["canary"]
    assert [device["name"] for device in lab.devices("tag=canary,host.rack=a")] == ["phone-3"]
    events = typed("devices", "show", "phone-1", "--json").json["events"]
    assert ("draining", "loose cable") in [(event["after"], event["why"]) for event in events]
    assert [job["device"] for job in lab.jobs(run=lab.submit("sim/tiny", recipes=["fp32"]).run)][:1] == [
        "phone-3 (simulated)"
    ]
    assert len(lab.jobs()) == 2  # the two that are put aside are left out
    assert typed("devices", "release", "phone-1", "phone-2").code == 0
    assert {device["admin"] for device in lab.devices()} == {"enabled"}


def test_a_host_that_is_gone_and_why_is_listed(typed: Typed, lab: Client) -> None:
    with writing(lab.farm.engine) as connection:
        set_host_presence(connection, 1, "refused", "it runs version 0.9", utc_now())
    [host] = typed("hosts", "list", "--json").json
    assert (host["presence"], host["why"], host["labels"], host["online"]) == (
        "refused",
        "it runs version 0.9",
        {"rack": "a"},
        0,
    )
    assert typed("hosts", "show", "lab-1", "--json").json["devices"] == [f"phone-{n} (simulated)" for n in (1, 2, 3)]
    assert "it runs version 0.9" in typed("hosts", "list").out
    said = typed(*TINY)
    assert (said.code, "take no work" in said.sentence or "takes work now" in said.sentence) == (2, True)


def test_python_submits_and_reads_as_the_command_line_does(lab: Client) -> None:
    job = lab.submit("sim/tiny", device="model=Pixel 8", any=True, recipes=["fp32"], queue_timeout_s=60)
    assert job.jobs == [1, 2]
    assert job.status().counts == {"queued": 1, "blocked": 1}
    assert lab.run(job.run).jobs == job.jobs
    assert list(job.results(as_="dicts")) == []
    with pytest.raises(UsageError, match="did you mean sim/tiny"):
        lab.submit("sim/tyny")
    with pytest.raises(UsageError, match="exclude"):
        lab.submit("sim/tiny", any=True, per_model=True)
    with pytest.raises(UsageError, match="no run 9"):
        lab.run(9)
    assert job.cancel() == 2
    assert job.wait().done


def test_importing_benchfarm_is_cheap(home: Path) -> None:
    probe = "import benchfarm, sys; print(sorted({'sqlalchemy', 'rich', 'numpy', 'pandas'} & set(sys.modules)))"
    found = subprocess.run(
        [sys.executable, "-c", probe], env=environment(home), capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"


def test_a_run_works_off_what_was_submitted_before(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, typed: Typed
) -> None:
    (tmp_path / "fleet.json").write_text(json.dumps(FLEET))
    monkeypatch.setenv("BENCHFARM_SIM", str(tmp_path / "fleet.json"))
    assert len(typed("devices", "list", "kind=sim", "--json").json) == 3
    client = benchfarm.connect(home=home)
    waiting = client.submit("sim/tiny", device="model=Pixel 8", any=True, recipes=["fp32"])
    run = ("run", "sim/tiny", "--device", "kind=sim", "--executor", "local", "--json")
    finished = subprocess.run(
        [sys.executable, "-m", "benchfarm", *run],
        env={**environment(home), "BENCHFARM_SIM": str(tmp_path / "fleet.json")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    results = document(finished)["results"]
    assert {row["simulated"] for row in results} == {True}
    assert len({row["device"] for row in results}) == 3
    assert waiting.wait(timeout_s=1).done
    [row] = waiting.results(as_="dicts")
    assert row["simulated"] is True
    frame = client.results(model="sim/tiny")
    assert len(frame) == len(results) + 1
    assert "(simulated)" in typed("results", "show", str(waiting.run)).out
    assert one_sentence(call(home, "jobs", "cancel", str(waiting.jobs[0]))).endswith("is succeeded already")
