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
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from workers.agent import HostAgent
from workers.artifacts import ArtifactStore
from workers.codec import from_dict, to_dict
from workers.contract import ConvertTask, Limits, MeasureTask, ModelRequest, Order
from workers.processes import read_process
from workers.report import Report

HANGS = "signal:pause"
ABORTS = "os:abort"
SEGFAULTS = "faulthandler:_sigsegv"
UNKNOWN = "workers.models.nothing:Nothing"
SECRET = "a-secret-of-the-user"

needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")
#: For what takes as long as a process takes to start; nothing is asserted about it.
_PATIENCE_S = 60.0

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


def _order(entry: str, *, attempt_id: int = 1, deadline_s: float = 120.0, **changes: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "attempt_id": attempt_id,
        "token": f"{attempt_id:032d}",
        "place": "slot:1:0",
        "limits": Limits(deadline_s=deadline_s, memory_bytes=8 * 2**30),
        "convert": ConvertTask(entry=entry, format="pt2", recipe="fp32"),
    }
    return to_dict(Order(**fields | changes))


def _code(folder: Path, code: str, **changes: Any) -> dict[str, Any]:
    """An order that runs the body of a function, as a user's factory."""
    folder.mkdir(exist_ok=True)
    body = "".join(f"    {line}\n" for line in code.splitlines())
    (folder / "made_by_test.py").write_text(f"import ctypes, os, subprocess, sys, time\n\ndef make():\n{body}")
    request = ModelRequest(name="made_by_test:make", allow_code=True, search_path=(str(folder),))
    task = ConvertTask(entry="workers.models.factory:Factory", format="pt2", recipe="fp32", model=request)
    return _order("", convert=task, **changes)


def _until(look: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        if seen := look():
            return seen
        time.sleep(0.05)
    raise AssertionError(f"waited in vain for {what}")


def _event(agent: HostAgent, kind: str, attempt_id: int = 1) -> dict[str, Any]:
    """The event of an attempt; nothing counts as taken, so it can be asked for again."""

    def look() -> dict[str, Any] | None:
        events = agent.poll(0, 0.2)["events"]
        return next((e for e in events if e["kind"] == kind and e["attempt_id"] == attempt_id), None)

    return dict(_until(look, f"{kind} of attempt {attempt_id}"))


def _report(agent: HostAgent, attempt_id: int = 1) -> Report:
    return from_dict(Report, _event(agent, "finished", attempt_id)["report"])


def _failure(agent: HostAgent, attempt_id: int = 1) -> tuple[str, str]:
    failure = _report(agent, attempt_id).result.failure
    assert failure is not None
    assert failure.message
    return str(failure.cause), failure.code


def _runner(home: Path, attempt_id: int = 1) -> int:
    """The process that runs an attempt."""
    pattern = f"attempts/{attempt_id}-*/process.json"
    [path] = _until(lambda: list((home / "spool").glob(pattern)), "the runner to be written down")
    return int(path.read_text().partition('"pid": ')[2].partition(",")[0])


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
    agent.start(_order(entry))
    assert _failure(agent) == (cause, code)
    report = _report(agent)
    assert report.token == report.result.token == f"{1:032d}"
    assert report.log_sha256 is not None
    if entry == UNKNOWN:
        assert "ModuleNotFoundError" in _log(home, report)


def test_a_runner_that_hangs_is_ended_at_its_deadline(agent: HostAgent, home: Path) -> None:
    agent.start(_order(HANGS, deadline_s=1.0))
    runner = _runner(home)
    assert _failure(agent) == ("model", "hung")
    assert _is_gone(runner)


def test_a_runner_that_somebody_kills_is_the_infrastructures_fault(agent: HostAgent, home: Path) -> None:
    agent.start(_order(HANGS))
    _event(agent, "started")
    os.kill(_runner(home), signal.SIGKILL)
    assert _failure(agent) == ("infrastructure", "killed")


def test_cancelling_ends_the_runner_and_says_cancelled(agent: HostAgent, home: Path) -> None:
    agent.start(_order(HANGS))
    _event(agent, "started")
    runner = _runner(home)
    assert agent.hello()["running"] == [1]
    agent.cancel(1, "the user wants it no more")
    failure = _report(agent).result.failure
    assert failure is not None
    assert (failure.code, failure.message) == ("cancelled", "the user wants it no more")
    assert _is_gone(runner)
    assert agent.poll(0, 0)["running"] == []


def test_cancelling_what_is_unknown_or_over_changes_nothing(agent: HostAgent) -> None:
    agent.cancel(77, "never heard of it")
    agent.start(_order(UNKNOWN))
    before = _report(agent)
    agent.cancel(1, "too late")
    assert _report(agent) == before


def test_an_agent_that_nobody_polls_for_its_lease_ends_its_work(make_agent: MakeAgent, home: Path) -> None:
    agent = make_agent(lease_s=1.5)
    agent.start(_order(HANGS))
    runner = _runner(home)
    _until(lambda: _is_gone(runner), "the runner to be ended")
    assert _failure(agent) == ("infrastructure", "lease_lost")


def test_an_agent_that_is_polled_goes_on_beyond_its_lease(make_agent: MakeAgent, home: Path) -> None:
    agent = make_agent(lease_s=1.5)
    agent.start(_order(HANGS, deadline_s=4.0))
    assert _failure(agent) == ("model", "hung")


def test_starting_an_attempt_twice_runs_it_once(agent: HostAgent) -> None:
    order = _order(UNKNOWN)
    agent.start(order)
    agent.start(order)
    _report(agent)
    agent.start(order)  # it has finished, and its report was not taken yet
    agent.start(_order(UNKNOWN, attempt_id=2))
    _report(agent, 2)
    kinds = [(event["attempt_id"], event["kind"]) for event in agent.poll(0, 0)["events"]]
    assert kinds == [(1, "started"), (1, "finished"), (2, "started"), (2, "finished")]


def test_what_was_taken_is_not_told_again_and_leaves_nothing_behind(agent: HostAgent, home: Path) -> None:
    agent.start(_order(UNKNOWN))
    last = _event(agent, "finished")["sequence"]
    assert list((home / "spool" / "attempts").iterdir()) != []
    assert agent.poll(last, 0) == {"events": [], "running": []}
    assert agent.poll(0, 0)["events"] == []
    assert list((home / "spool" / "attempts").iterdir()) == []


def test_a_successor_tells_a_report_that_nobody_took(make_agent: MakeAgent) -> None:
    first = make_agent()
    first.start(_order(UNKNOWN))
    told = _report(first)
    second = make_agent()
    assert _report(second) == told
    assert second.poll(_event(second, "finished")["sequence"], 0)["events"] == []
    assert make_agent().poll(0, 0)["events"] == []


def test_closing_an_agent_ends_its_work_and_its_successor_says_so(make_agent: MakeAgent, home: Path) -> None:
    first = make_agent()
    first.start(_order(HANGS))
    _event(first, "started")
    runner = _runner(home)
    second = make_agent()
    assert _is_gone(runner)
    assert _failure(second) == ("infrastructure", "agent_closed")


_OWN_AGENT = """
import json, sys
from pathlib import Path
from workers.agent import HostAgent

agent = HostAgent(Path(sys.argv[1]), "file://" + sys.argv[1] + "/store")
agent.start(json.loads(sys.argv[2]))
while True:
    agent.poll(0, 1.0)
"""


def test_what_a_killed_agent_left_is_ended_by_its_successor_and_told_as_lost(make_agent: MakeAgent, home: Path) -> None:
    home.mkdir()
    command = [sys.executable, "-c", _OWN_AGENT, str(home), json.dumps(_order(HANGS))]
    with subprocess.Popen(command) as killed:
        try:
            runner = _runner(home)
        finally:
            killed.kill()
    assert not _is_gone(runner)  # nobody tells it
    successor = make_agent()
    assert _is_gone(runner)
    event = _event(successor, "lost")
    assert (event["token"], event["report"]) == (f"{1:032d}", None)
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
    agent.start(_order("", convert=None, measure=task, place="gone"))
    assert _failure(agent) == ("infrastructure", "no_such_device")


@pytest.mark.parametrize("how", ["missing", "damaged"])
def test_an_input_that_is_not_what_its_name_promises_is_named(agent: HostAgent, home: Path, how: str) -> None:
    home.mkdir(exist_ok=True)
    store = ArtifactStore(f"file://{home / 'store'}", home / "cache")
    sha256 = store.put_bytes(b"an artifact", home)
    path = store.fetch(sha256)
    path.write_bytes(b"something else") if how == "damaged" else path.unlink()
    agent.start(_order(UNKNOWN, inputs={"artifact": sha256}))
    failure = _report(agent).result.failure
    assert failure is not None
    assert (failure.cause, failure.code, failure.artifact_sha256) == ("infrastructure", "artifact_corrupt", sha256)
    assert not path.exists()


def test_an_agent_whose_spool_is_gone_blames_no_model(agent: HostAgent, home: Path) -> None:
    """A model is never tried again for what it did; what the host did must be."""
    (home / "spool" / "attempts").rmdir()
    agent.start(_order(UNKNOWN))
    cause, _ = _failure(agent)
    assert cause == "infrastructure"


def test_attempts_run_side_by_side(agent: HostAgent) -> None:
    agent.start(_order(HANGS, attempt_id=1))
    agent.start(_order(HANGS, attempt_id=2))
    for attempt_id in (1, 2):
        _event(agent, "started", attempt_id)
    assert agent.poll(0, 0)["running"] == [1, 2]
    agent.cancel(2, "only this one")
    _report(agent, 2)
    assert agent.poll(0, 0)["running"] == [1]


def test_the_childs_environment_holds_nothing_of_ours(
    agent: HostAgent, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("BENCHFARM_DATABASE_URL", "RAY_AUTH_TOKEN", "AWS_SECRET_ACCESS_KEY", "PYTHONPATH", "LD_PRELOAD_OF_USER")
    for name in names:
        monkeypatch.setenv(name, SECRET)
    agent.start(_order(HANGS))
    _event(agent, "started")
    environment = _environment(_runner(home))
    assert SECRET not in environment.values()
    assert not set(names) & set(environment)
    assert environment["HOME"].startswith(str(home))


def _environment(pid: int) -> dict[str, str]:
    # Between fork and exec a child still shows its parent's.
    return dict(_until(lambda: (e := psutil.Process(pid).environ()).get("PYTHONHASHSEED") == "0" and e, "exec"))


@needs_torch
def test_code_of_the_user_sees_nothing_of_ours(
    agent: HostAgent, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENCHFARM_DATABASE_URL", f"postgresql://user:{SECRET}@host/farm")
    agent.start(_code(tmp_path / "code", "print(dict(os.environ), sys.argv)\nraise ValueError('seen enough')"))
    report = _report(agent)
    failure = report.result.failure
    assert failure is not None
    assert (failure.cause, failure.code) == ("user", "factory_failed")
    assert "ValueError: seen enough" in failure.message
    assert "PYTHONHASHSEED" in _log(home, report)
    assert SECRET not in _log(home, report)


@needs_torch
def test_code_that_takes_more_memory_than_it_may_is_out_of_memory(agent: HostAgent, tmp_path: Path) -> None:
    limits = Limits(deadline_s=120.0, memory_bytes=4 * 2**30)
    agent.start(_code(tmp_path / "code", "return bytearray(8 * 2**30)", limits=limits))
    assert _failure(agent) == ("model", "out_of_memory")


@needs_torch
def test_code_that_crashes_the_process_leaves_a_report(agent: HostAgent, tmp_path: Path) -> None:
    agent.start(_code(tmp_path / "code", "ctypes.string_at(0)"))
    assert _failure(agent) == ("model", "crashed")


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
    agent.start(_code(code, body))
    if ending == "lease_lost":  # polled until it has a grandchild, and then no more
        _until(lambda: agent.poll(0, 0.1) and note.exists(), "the grandchild")
    else:
        _until(note.exists, "the grandchild")
    grandchild = int(note.read_text())
    if ending == "cancelled":
        agent.cancel(1, "enough")
    _until(lambda: _is_gone(grandchild), "the grandchild to be ended")
    assert _failure(agent)[1] == ending
