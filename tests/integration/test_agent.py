"""The agent as a plain object: real child processes, no Ray, and what of them is left when something dies.

An order's entry may name anything that can be imported and called: `signal:pause` hangs, `os:abort` crashes. Orders
that need code of their own bring it as a factory, and with it torch.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.integration.agent_orders import (
    HANGS,
    UNKNOWN,
    event_of,
    failure_of,
    order,
    report_of,
    runner_of,
    token_of,
    until,
)
from workers.agent import HostAgent
from workers.artifacts import ArtifactStore
from workers.contract import ConvertTask, Limits, MeasureTask, ModelRequest
from workers.processes import read_process
from workers.progress import PROGRESS_FILE
from workers.report import Report

ABORTS = "os:abort"
SEGFAULTS = "faulthandler:_sigsegv"
SECRET = "a-secret-of-the-user"

needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")

MakeAgent = Callable[..., HostAgent]


@pytest.fixture
def make_agent(home: Path) -> Iterator[MakeAgent]:
    """Make agents on this test's home, one after the other; all are closed at the end."""
    made: list[HostAgent] = []

    def make(lease_s: float = 60.0) -> HostAgent:
        for agent in made:
            agent.close()
        made.clear()
        made.append(HostAgent(home, f"file://{home / 'store'}", lease_s))
        return made[0]

    yield make
    for agent in made:
        agent.close()


@pytest.fixture
def agent(make_agent: MakeAgent) -> HostAgent:
    """An agent that is not in a hurry."""
    return make_agent()


def _code(folder: Path, code: str, **changes: Any) -> dict[str, Any]:
    """An order that runs the body of a function, as a user's factory."""
    folder.mkdir(exist_ok=True)
    body = "".join(f"    {line}\n" for line in code.splitlines())
    (folder / "made_by_test.py").write_text(f"import ctypes, os, subprocess, sys, time\n\ndef make():\n{body}")
    request = ModelRequest(name="made_by_test:make", allow_code=True, search_path=(str(folder),))
    task = ConvertTask(entry="workers.models.factory:Factory", format="pt2", recipe="fp32", model=request)
    return order("", convert=task, **changes)


def _is_gone(pid: int) -> bool:
    return read_process(pid) is None


def _log(home: Path, report: Report) -> str:
    assert report.log_sha256 is not None
    store = ArtifactStore(f"file://{home / 'store'}", home / "cache")
    return zlib.decompress(store.fetch(report.log_sha256).read_bytes()).decode()


@pytest.mark.parametrize(
    ("entry", "cause", "code"),
    [(UNKNOWN, "model", "raised"), (ABORTS, "model", "crashed"), (SEGFAULTS, "model", "crashed")],
)
def test_a_runner_that_fails_is_reported_with_its_cause_and_its_log(
    agent: HostAgent, home: Path, entry: str, cause: str, code: str
) -> None:
    agent.start([order(entry)])
    assert failure_of(agent) == (cause, code)
    report = report_of(agent)
    assert report.token == report.result.token == token_of(1)
    assert report.log_sha256 is not None
    if entry == UNKNOWN:
        assert "ModuleNotFoundError" in _log(home, report)


def test_a_runner_that_hangs_is_ended_at_its_deadline(agent: HostAgent, home: Path) -> None:
    agent.start([order(HANGS, deadline_s=1.0)])
    runner = runner_of(home)
    assert failure_of(agent) == ("model", "hung")
    assert _is_gone(runner)


def test_a_runner_that_somebody_kills_is_the_infrastructures_fault(agent: HostAgent, home: Path) -> None:
    agent.start([order(HANGS)])
    event_of(agent, "started")
    os.kill(runner_of(home), signal.SIGKILL)
    assert failure_of(agent) == ("infrastructure", "killed")


def test_cancelling_ends_the_runner_and_says_cancelled(agent: HostAgent, home: Path) -> None:
    agent.start([order(HANGS)])
    event_of(agent, "started")
    runner = runner_of(home)
    assert agent.hello()["running"] == [1]
    agent.cancel([1], "the user wants it no more")
    failure = report_of(agent).result.failure
    assert failure is not None
    assert (failure.code, failure.message) == ("cancelled", "the user wants it no more")
    assert _is_gone(runner)
    assert agent.poll(0, 0)["running"] == []


def test_what_a_child_says_of_itself_comes_with_every_poll(agent: HostAgent, home: Path) -> None:
    agent.start([order(HANGS)])
    event_of(agent, "started")
    (folder,) = (home / "spool" / "attempts").iterdir()
    (folder / PROGRESS_FILE).write_text('{"text": "epoch 1/2"}')
    until(lambda: agent.poll(0, 0.1)["progress"] == [[1, "epoch 1/2"]], "the child to be heard")
    agent.cancel([1], "seen")
    assert failure_of(agent) == ("user", "cancelled")
    assert agent.poll(0, 0)["progress"] == []


def test_cancelling_what_is_unknown_or_over_changes_nothing(agent: HostAgent) -> None:
    agent.cancel([77], "never heard of it")
    agent.start([order(UNKNOWN)])
    before = report_of(agent)
    agent.cancel([1], "too late")
    assert report_of(agent) == before


def test_an_agent_that_nobody_polls_for_its_lease_ends_its_work(make_agent: MakeAgent, home: Path) -> None:
    agent = make_agent(lease_s=1.5)
    agent.start([order(HANGS)])
    runner = runner_of(home)
    until(lambda: _is_gone(runner), "the runner to be ended")
    assert failure_of(agent) == ("infrastructure", "lease_lost")


def test_an_agent_that_is_polled_goes_on_beyond_its_lease(make_agent: MakeAgent, home: Path) -> None:
    agent = make_agent(lease_s=1.5)
    agent.start([order(HANGS, deadline_s=4.0)])
    assert failure_of(agent) == ("model", "hung")


def test_starting_an_attempt_twice_runs_it_once(agent: HostAgent) -> None:
    wanted = order(UNKNOWN)
    agent.start([wanted])
    agent.start([wanted])
    report_of(agent)
    agent.start([wanted])  # it has finished, and its report was not taken yet
    agent.start([order(UNKNOWN, attempt_id=2)])
    report_of(agent, 2)
    kinds = [(event["attempt_id"], event["kind"]) for event in agent.poll(0, 0)["events"]]
    assert kinds == [(1, "started"), (1, "finished"), (2, "started"), (2, "finished")]


def test_what_was_taken_is_not_told_again_and_leaves_nothing_behind(agent: HostAgent, home: Path) -> None:
    agent.start([order(UNKNOWN)])
    last = event_of(agent, "finished")["sequence"]
    assert list((home / "spool" / "attempts").iterdir()) != []
    answer = agent.poll(last, 0)
    assert (answer["session"], answer["events"], answer["running"]) == (agent.hello()["session"], [], [])
    assert agent.poll(0, 0)["events"] == []
    assert list((home / "spool" / "attempts").iterdir()) == []


def test_a_successor_tells_a_report_that_nobody_took(make_agent: MakeAgent) -> None:
    first = make_agent()
    first.start([order(UNKNOWN)])
    told = report_of(first)
    second = make_agent()
    assert report_of(second) == told
    assert second.poll(event_of(second, "finished")["sequence"], 0)["events"] == []
    assert make_agent().poll(0, 0)["events"] == []


def test_closing_an_agent_ends_its_work_and_its_successor_says_so(make_agent: MakeAgent, home: Path) -> None:
    first = make_agent()
    first.start([order(HANGS)])
    event_of(first, "started")
    runner = runner_of(home)
    second = make_agent()
    assert _is_gone(runner)
    assert failure_of(second) == ("infrastructure", "agent_closed")


_OWN_AGENT = """
import json, sys
from pathlib import Path
from workers.agent import HostAgent

agent = HostAgent(Path(sys.argv[1]), "file://" + sys.argv[1] + "/store")
agent.start([json.loads(sys.argv[2])])
while True:
    agent.poll(0, 1.0)
"""


def test_what_a_killed_agent_left_is_ended_by_its_successor_and_told_as_lost(make_agent: MakeAgent, home: Path) -> None:
    home.mkdir()
    command = [sys.executable, "-c", _OWN_AGENT, str(home), json.dumps(order(HANGS))]
    with subprocess.Popen(command) as killed:
        try:
            runner = runner_of(home)
        finally:
            killed.kill()
    assert not _is_gone(runner)  # nobody tells it
    successor = make_agent()
    assert _is_gone(runner)
    event = event_of(successor, "lost")
    assert event["token"] == token_of(1)
    successor.poll(event["sequence"], 0)
    assert list((home / "spool" / "attempts").iterdir()) == []


def test_an_order_for_a_device_that_is_not_here_is_the_infrastructures_fault(agent: HostAgent) -> None:
    task = MeasureTask(
        runtime="torch",
        entry=UNKNOWN,
        format="pt2",
        recipe="fp32",
        model="net",
        weights="random",
        compute_unit="cpu",
    )
    agent.start([order("", convert=None, measure=task, place="gone")])
    assert failure_of(agent) == ("infrastructure", "no_such_device")


@pytest.mark.parametrize("how", ["missing", "damaged"])
def test_an_input_that_is_not_what_its_name_promises_is_named(agent: HostAgent, home: Path, how: str) -> None:
    home.mkdir(exist_ok=True)
    store = ArtifactStore(f"file://{home / 'store'}", home / "cache")
    sha256 = store.put_bytes(b"an artifact", home)
    path = store.fetch(sha256)
    path.write_bytes(b"something else") if how == "damaged" else path.unlink()
    agent.start([order(UNKNOWN, inputs={"artifact": sha256})])
    failure = report_of(agent).result.failure
    assert failure is not None
    assert (failure.cause, failure.code, failure.artifact_sha256) == ("infrastructure", "artifact_corrupt", sha256)
    assert not path.exists()


def test_an_agent_whose_spool_is_gone_blames_no_model(agent: HostAgent, home: Path) -> None:
    """A model is never tried again for what it did; what the host did must be."""
    (home / "spool" / "attempts").rmdir()
    agent.start([order(UNKNOWN)])
    cause, _ = failure_of(agent)
    assert cause == "infrastructure"


def test_attempts_run_side_by_side(agent: HostAgent) -> None:
    agent.start([order(HANGS, attempt_id=1)])
    agent.start([order(HANGS, attempt_id=2)])
    for attempt_id in (1, 2):
        event_of(agent, "started", attempt_id)
    assert agent.poll(0, 0)["running"] == [1, 2]
    agent.cancel([2], "only this one")
    report_of(agent, 2)
    assert agent.poll(0, 0)["running"] == [1]


def test_the_childs_environment_holds_nothing_of_ours(
    agent: HostAgent, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("BENCHFARM_DATABASE_URL", "RAY_AUTH_TOKEN", "AWS_SECRET_ACCESS_KEY", "PYTHONPATH", "LD_PRELOAD_OF_USER")
    for name in names:
        monkeypatch.setenv(name, SECRET)
    agent.start([order(HANGS)])
    event_of(agent, "started")
    environment = _environment(runner_of(home))
    assert SECRET not in environment.values()
    assert not set(names) & set(environment)
    assert environment["HOME"].startswith(str(home))


def _environment(pid: int) -> dict[str, str]:
    # Between fork and exec a child still shows its parent's.
    return dict(until(lambda: (e := psutil.Process(pid).environ()).get("PYTHONHASHSEED") == "0" and e, "exec"))


@needs_torch
def test_code_of_the_user_sees_nothing_of_ours(
    agent: HostAgent, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENCHFARM_DATABASE_URL", f"postgresql://user:{SECRET}@host/farm")
    agent.start([_code(tmp_path / "code", "print(dict(os.environ), sys.argv)\nraise ValueError('seen enough')")])
    report = report_of(agent)
    failure = report.result.failure
    assert failure is not None
    assert (failure.cause, failure.code) == ("user", "factory_failed")
    assert "ValueError: seen enough" in failure.message
    assert "PYTHONHASHSEED" in _log(home, report)
    assert SECRET not in _log(home, report)


@needs_torch
def test_code_that_takes_more_memory_than_it_may_is_out_of_memory(agent: HostAgent, tmp_path: Path) -> None:
    limits = Limits(deadline_s=120.0, memory_bytes=4 * 2**30)
    agent.start([_code(tmp_path / "code", "return bytearray(8 * 2**30)", limits=limits)])
    assert failure_of(agent) == ("model", "out_of_memory")


@needs_torch
def test_code_that_crashes_the_process_leaves_a_report(agent: HostAgent, tmp_path: Path) -> None:
    agent.start([_code(tmp_path / "code", "ctypes.string_at(0)")])
    assert failure_of(agent) == ("model", "crashed")


@needs_torch
@pytest.mark.parametrize("ending", ["cancelled", "lease_lost", "factory_failed"])
def test_what_a_runner_started_ends_with_it(make_agent: MakeAgent, tmp_path: Path, ending: str) -> None:
    agent = make_agent(lease_s=3.0 if ending == "lease_lost" else 60.0)
    code = tmp_path / "code"
    note = code / "pid"
    body = f"""child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
with open({str(note)!r} + ".part", "w") as file:
    file.write(str(child.pid))
os.rename({str(note)!r} + ".part", {str(note)!r})
"""
    body += "raise ValueError" if ending == "factory_failed" else "time.sleep(600)"
    agent.start([_code(code, body)])
    if ending == "lease_lost":  # polled until it has a grandchild, and then no more
        until(lambda: agent.poll(0, 0.1) and note.exists(), "the grandchild")
    else:
        until(note.exists, "the grandchild")
    grandchild = int(note.read_text())
    if ending == "cancelled":
        agent.cancel([1], "enough")
    until(lambda: _is_gone(grandchild), "the grandchild to be ended")
    assert failure_of(agent)[1] == ending
