"""The agent as a member of a fleet: named hosts, batches, leases, devices that come and go, and simulated attempts."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import workers.agent
import workers.attempts
from device_registry.errors import UsageError
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
from workers.agent import AGENT_VERSION, HostAgent
from workers.artifacts import ArtifactStore
from workers.codec import ContractError, to_dict
from workers.contract import ConvertTask, Limits, MeasureTask, ModelRequest, Order
from workers.devices.cpu import machine_key
from workers.devices.sim_fleet import FLEET_VARIABLE

MakeAgent = Callable[..., HostAgent]
PLACE = "sim:lab-3:pixel-8:1"


@pytest.fixture
def fleet_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where agents of this test look for simulated devices."""
    path = tmp_path / "fleet.json"
    monkeypatch.setenv(FLEET_VARIABLE, str(path))
    return path


@pytest.fixture
def make_agent(home: Path) -> Iterator[MakeAgent]:
    """An agent of the host lab-3 with simulated devices only; closed at the end."""
    made: list[HostAgent] = []

    def make(lease_s: float = 60.0, **options: Any) -> HostAgent:
        wanted = {"name": "lab-3", "drivers": ("sim",)} | options
        made.append(HostAgent(home, f"file://{home / 'store'}", lease_s, **wanted))
        return made[-1]

    yield make
    for agent in made:
        agent.close()


@pytest.fixture
def agent(make_agent: MakeAgent, monkeypatch: pytest.MonkeyPatch) -> HostAgent:
    """An agent without any device, which is not in a hurry."""
    monkeypatch.delenv(FLEET_VARIABLE, raising=False)
    return make_agent()


def _fleet(path: Path, *groups: dict[str, Any], time_scale: float = 0.0) -> None:
    path.write_text(json.dumps({"devices": groups, "time_scale": time_scale}))


def _measure(attempt_id: int = 1, place: str = PLACE, **changes: Any) -> dict[str, Any]:
    task = MeasureTask(
        runtime="sim",
        entry="workers.runtimes.sim:Sim",
        format="sim",
        recipe="fp32",
        model="sim/tiny",
        weights="random",
        compute_unit="sim",
    )
    limits = Limits(deadline_s=600.0, memory_bytes=2**30)
    order = Order(
        attempt_id=attempt_id, token=token_of(attempt_id), place=place, limits=limits, measure=task, **changes
    )
    return to_dict(order)


def _own_event(agent: HostAgent, kind: str) -> dict[str, Any]:
    """An event that is of no attempt."""

    def look() -> dict[str, Any] | None:
        return next((event for event in agent.poll(0, 0.2)["events"] if event["kind"] == kind), None)

    return dict(until(look, kind))


def test_a_host_is_called_what_its_lab_calls_it(make_agent: MakeAgent, fleet_file: Path, home: Path) -> None:
    _fleet(fleet_file, {"model": "Pixel 8"})
    agent = make_agent(labels={"rack": "a"}, drivers=None)
    hello = agent.hello()
    assert hello["version"] == AGENT_VERSION
    host = hello["host"]
    assert (host["name"], host["labels"]) == ("lab-3", {"rack": "a"})
    assert host["key"] == f"{machine_key()}/lab-3"
    assert {device["name"] for device in hello["devices"]} == {"lab-3-cpu", "lab-3-pixel-8-01"}
    assert {"sim", "torchvision", "file"} <= {source["name"] for source in host["sources"]}
    assert hello["store"] is None
    mark = ArtifactStore(f"file://{home / 'store'}", home / "cache").mark()
    assert agent.hello()["store"] == mark


def test_a_driver_that_nobody_registered_is_refused(make_agent: MakeAgent) -> None:
    with pytest.raises(UsageError, match=r"'toaster'.*cpu"):
        make_agent(drivers=("toaster",))


def test_a_session_is_one_agents_life(make_agent: MakeAgent) -> None:
    first = make_agent()
    assert first.hello()["session"] == first.poll(0, 0)["session"]
    first.close()
    assert make_agent().hello()["session"] != first.hello()["session"]


def test_orders_of_a_batch_each_end_in_an_event_good_or_bad(agent: HostAgent) -> None:
    bad = order(UNKNOWN, attempt_id=2) | {"limits": "none"}
    agent.start([order(UNKNOWN, attempt_id=1), bad, order(UNKNOWN, attempt_id=3)])
    assert [failure_of(agent, attempt_id)[1] for attempt_id in (1, 2, 3)] == ["raised", "bad_order", "raised"]
    with pytest.raises(ContractError):
        agent.start([{"place": "slot:1:1"}])


def test_a_place_never_has_two_attempts(agent: HostAgent, home: Path) -> None:
    """A dispatcher that gave an attempt up, and whose agent did not hear of it, gives the place to another."""
    place = "slot:1:1"
    agent.start([order(HANGS, attempt_id=5, place=place)])
    event_of(agent, "started", 5)
    first = runner_of(home, 5)
    agent.start([order(HANGS, attempt_id=7, place=place), order(UNKNOWN, attempt_id=3, place=place)])
    event_of(agent, "started", 7)
    assert workers.attempts.read_process(first) is None
    assert failure_of(agent, 5) == ("infrastructure", "superseded")
    assert failure_of(agent, 3) == ("infrastructure", "stale_order")
    assert agent.poll(0, 0)["running"] == [7]


def test_an_attempt_of_another_farm_is_told_apart_by_its_token(agent: HostAgent) -> None:
    """Each database counts from 1: what is left of another farm must not swallow an order of this one."""
    agent.start([order(UNKNOWN)])
    event_of(agent, "finished")  # and nobody takes it
    agent.start([order(HANGS, token="f" * 32)])
    assert until(lambda: agent.poll(0, 0.1)["running"], "the second to run") == [1]
    agent.start([order(UNKNOWN, token="e" * 32, place="slot:1:9")])
    told = [event for event in agent.poll(0, 0)["events"] if event.get("token") == "e" * 32]
    assert "stale_order" in told[0]["report"]
    assert agent.poll(0, 0)["running"] == [1]


def test_an_attempt_for_which_there_is_no_thread_is_the_infrastructures_fault(
    agent: HostAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name.startswith("attempt-"):
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    agent.start([order(UNKNOWN)])
    assert failure_of(agent) == ("infrastructure", "no_thread")
    assert agent.poll(0, 0)["running"] == []
    monkeypatch.undo()
    agent.start([order(UNKNOWN, attempt_id=2, place="slot:1:1")])
    assert failure_of(agent, 2) == ("model", "raised")


def test_a_store_that_never_answers_holds_no_place_for_ever(
    agent: HostAgent, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    mended = threading.Event()

    def hang(*_: object) -> Path:
        mended.wait(60)
        return home

    monkeypatch.setattr(agent._store, "fetch", hang)
    monkeypatch.setattr(workers.attempts, "_TRANSFERS_S", -1000.0)
    agent.start([order(HANGS, inputs={"artifact": "0" * 64})])
    assert failure_of(agent) == ("infrastructure", "stuck")
    assert agent.poll(0, 0)["running"] == []
    left = [thread for thread in threading.enumerate() if thread.name == "attempt-1"]
    mended.set()
    for thread in left:
        thread.join(60)
    # It woke up, began nothing, and is told of once.
    kinds = [event["kind"] for event in agent.poll(0, 0)["events"]]
    assert kinds == ["finished"]


def test_hello_renews_no_lease(make_agent: MakeAgent) -> None:
    agent = make_agent(lease_s=1.5)
    agent.start([order(HANGS)])
    until(lambda: agent.hello()["running"] == [], "the attempt to be ended")
    assert failure_of(agent) == ("infrastructure", "lease_lost")


def test_a_host_that_thaws_ends_its_work_even_if_it_is_polled_first(
    agent: HostAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent.start([order(HANGS)])
    event_of(agent, "started")
    clock = workers.agent.boot_clock
    monkeypatch.setattr(workers.agent, "boot_clock", lambda: clock() + 3600)  # a frozen host notices no time pass
    agent.poll(0, 0)
    assert failure_of(agent) == ("infrastructure", "lease_lost")


def test_a_host_whose_disk_is_full_blames_no_model_and_goes_on(agent: HostAgent) -> None:
    """The runner may write no file longer than a few bytes, which ends as a full disk does."""
    limits = Limits(deadline_s=120.0, memory_bytes=8 * 2**30, file_bytes=16)
    agent.start([order(UNKNOWN, limits=limits)])
    assert failure_of(agent) == ("infrastructure", "disk_full")
    agent.start([order(UNKNOWN, attempt_id=2)])
    assert failure_of(agent, 2) == ("model", "raised")


def test_a_device_that_is_plugged_in_is_told_and_takes_work(make_agent: MakeAgent, fleet_file: Path) -> None:
    _fleet(fleet_file)
    agent = make_agent()
    assert agent.hello()["devices"] == []
    _fleet(fleet_file, {"model": "Pixel 8"})
    told = _own_event(agent, "devices")
    assert [device["key"] for device in told["devices"]] == [PLACE]
    agent.start([_measure()])
    assert report_of(agent).result.measurement is not None


def test_what_ran_on_a_device_that_was_unplugged_is_the_infrastructures_fault(
    make_agent: MakeAgent, fleet_file: Path
) -> None:
    _fleet(fleet_file, {"model": "Pixel 8", "count": 2}, time_scale=1000.0)
    agent = make_agent()
    agent.start([_measure(1), _measure(2, "sim:lab-3:pixel-8:2")])
    event_of(agent, "started", 2)
    _fleet(fleet_file, {"model": "Pixel 8"}, time_scale=1000.0)
    assert [device["key"] for device in _own_event(agent, "devices")["devices"]] == [PLACE]
    assert failure_of(agent, 2) == ("infrastructure", "device_gone")
    assert agent.poll(0, 0)["running"] == [1]
    agent.start([_measure(3, "sim:lab-3:pixel-8:2")])
    assert failure_of(agent, 3) == ("infrastructure", "no_such_device")


def test_a_simulated_model_goes_from_its_name_to_a_result(make_agent: MakeAgent, fleet_file: Path) -> None:
    """Conversions are ordinary ones, in a child; no package of machine learning takes part."""
    _fleet(fleet_file, {"model": "Pixel 8"})
    agent = make_agent()
    source = ConvertTask(
        entry="workers.models.sim_zoo:SimZoo",
        format="sim",
        recipe="fp32",
        model=ModelRequest(name="sim/tiny"),
    )
    agent.start([order("", convert=source)])
    made = report_of(agent).result.conversion
    assert made is not None
    inputs = {"artifact": made.artifact.sha256} | {role: file.sha256 for role, file in made.companions.items()}
    quantise = ConvertTask(
        entry="workers.converters.sim_quantize:SimQuantize", format="sim", recipe="int8-static", input_format="sim"
    )
    agent.start([order("", attempt_id=2, convert=quantise, inputs=inputs)])
    quantised = report_of(agent, 2).result.conversion
    assert quantised is not None
    assert quantised.artifact.sha256 != made.artifact.sha256
    agent.start([_measure(3, inputs={"artifact": quantised.artifact.sha256})])
    report = report_of(agent, 3)
    assert report.artifact_sha256 == quantised.artifact.sha256
    assert report.result.measurement is not None


def test_simulated_attempts_leave_nothing_on_disk_and_are_told_once(
    make_agent: MakeAgent, fleet_file: Path, home: Path
) -> None:
    _fleet(fleet_file, {"model": "Pixel 8", "count": 50})
    agent = make_agent()
    agent.start([_measure(number, f"sim:lab-3:pixel-8:{number}") for number in range(1, 51)])
    assert all(report_of(agent, number).result.measurement is not None for number in range(1, 51))
    last = agent.poll(0, 0)["events"][-1]["sequence"]
    agent.start([_measure(1)])  # known, and not taken yet
    assert agent.poll(last, 0)["events"] == []
    assert agent.poll(last, 0)["running"] == []
    assert list((home / "spool" / "attempts").iterdir()) == []


def test_simulated_attempts_are_cancelled_and_end_with_the_lease(
    make_agent: MakeAgent, fleet_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _fleet(fleet_file, {"model": "Pixel 8", "count": 2}, time_scale=1000.0)
    agent = make_agent()
    agent.start([_measure(1), _measure(2, "sim:lab-3:pixel-8:2")])
    assert agent.poll(0, 0)["running"] == [1, 2]
    agent.cancel([1], "the user wants it no more")
    assert failure_of(agent, 1) == ("user", "cancelled")
    clock = workers.agent.boot_clock
    monkeypatch.setattr(workers.agent, "boot_clock", lambda: clock() + 3600)
    agent.poll(0, 0)
    assert failure_of(agent, 2) == ("infrastructure", "lease_lost")


def test_recovery_climbs_a_rung_and_tells_how_it_went(make_agent: MakeAgent, fleet_file: Path) -> None:
    _fleet(fleet_file, {"model": "Pixel 8", "faults": [{"fault": "sick", "at_s": 0, "seconds": 1e6}]})
    agent = make_agent()
    assert agent.hello()["devices"][0]["recovery"] == ("reconnect", "reboot")
    agent.start([_measure(1)])
    assert failure_of(agent, 1) == ("device", "unwell")
    for rung, ok in ((0, False), (1, True)):
        agent.recover(PLACE, rung)
        told = _recovered(agent, rung)
        assert (told["device"], told["ok"], told["why"] is None) == (PLACE, ok, ok)
    agent.start([_measure(2)])
    assert report_of(agent, 2).result.measurement is not None
    agent.recover("sim:nowhere", 0)
    assert not _recovered(agent, 0, "sim:nowhere")["ok"]


def _recovered(agent: HostAgent, rung: int, device: str = PLACE) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        events = (event for event in agent.poll(0, 0.2)["events"] if event["kind"] == "recovered")
        return next((event for event in events if (event["device"], event["rung"]) == (device, rung)), None)

    return dict(until(look, f"rung {rung}"))


def test_a_loop_of_the_agent_that_dies_is_not_silent(agent: HostAgent, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> dict[str, Any]:
        raise RuntimeError("a driver with a bug")

    monkeypatch.setattr("threading.excepthook", lambda _: None)
    monkeypatch.setattr(agent, "_discover", broken)
    with pytest.raises(RuntimeError, match="a loop of the agent died"):
        until(lambda: agent.poll(0, 0.2) is None, "the poll to tell of it")
