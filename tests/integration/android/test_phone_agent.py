"""Attempts on played phones through the host agent: what it reports, and what it leaves on a phone."""

from __future__ import annotations

import hashlib
import json
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.android import AdbUnderTest, play, wait_until
from tests.integration.agent_orders import event_of, failure_of, report_of
from workers.agent import HostAgent
from workers.android.fake.handle import FakeRack, PlayedPhone
from workers.android.fake.stand_ins import write_sleeping
from workers.android.phone import ROOT
from workers.artifacts import ArtifactStore
from workers.codec import to_dict
from workers.contract import Limits, MeasureTask, Options, Order
from workers.report import Report

_PROGRAM = b"a program that the stand-in does not look into"


@pytest.fixture(scope="module")
def carried() -> Iterator[AdbUnderTest]:
    """A server of the current adb."""
    server = AdbUnderTest.of("carried")
    yield server
    server.close()


@pytest.fixture(scope="module")
def rack(carried: AdbUnderTest) -> Iterator[FakeRack]:
    """Two phones."""
    described = {"storage_mb": 1024, "delegates": {"gpu": "partial", "nnapi": "none"}}
    with play(carried, {"name": "a", "vendor": "pixel", **described}, {"name": "b", **described}) as played:
        yield played


@pytest.fixture
def home(tmp_path: Path, carried: AdbUnderTest, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data directory with settings for phones."""
    tool = write_sleeping(tmp_path / "benchmark_model")
    digest = hashlib.sha256(tool.read_bytes()).hexdigest()
    settings = tmp_path / "android.toml"
    settings.write_text(
        f'[adb]\nport = {carried.port}\npath = "{carried.program}"\n'
        f'[tools.benchmark-model.arm64-v8a]\npath = "benchmark_model"\nsha256 = "{digest}"\nversion = "stand-in"\n'
    )
    monkeypatch.setenv("BENCHFARM_ANDROID", str(settings))
    for name, value in carried.environment.items():
        if name.startswith(("ADB_", "ANDROID_")) or name == "HOME":
            monkeypatch.setenv(name, value)
    return tmp_path


@pytest.fixture
def agent(home: Path, rack: FakeRack) -> Iterator[HostAgent]:
    """An agent with nothing but phones."""
    running = HostAgent(home / "agent", f"file://{home / 'store'}", drivers=["android"])
    yield running
    running.close()


def key_of(agent: HostAgent, phone: PlayedPhone) -> str:
    """The key of a played phone, by which its order names it."""

    def look() -> str | None:
        devices = agent.hello()["devices"]
        model = phone.path("/fake/properties").read_text().partition("ro.product.model=")[2].partition("\n")[0]
        found = [d for d in devices if d["attributes"]["model"] == model and d["presence"] == "online"]
        return str(found[0]["key"]) if found else None

    return str(wait_until(look, doing=f"phone {phone.name} is online"))


def order(home: Path, place: str, attempt_id: int = 1, seconds: float = 1.0, **options: Any) -> dict[str, Any]:
    """A measurement by the stand-in that sleeps, as plain data."""
    store = ArtifactStore(f"file://{home / 'store'}", home / "cache")
    task = MeasureTask(
        runtime="benchmark-model",
        entry="workers.runtimes.phone_tools:BenchmarkModelRuntime",
        format="tflite",
        recipe="fp32",
        model="m",
        weights="random",
        compute_unit="cpu",
        options=Options(min_seconds=seconds, max_seconds=seconds, **options),
    )
    return to_dict(
        Order(
            attempt_id=attempt_id,
            # Of its own: played phones share their host's processes, and a job is ended by its id.
            token=secrets.token_hex(8),
            place=place,
            limits=Limits(deadline_s=60.0, memory_bytes=1 << 30),
            measure=task,
            inputs={"artifact": store.put_bytes(_PROGRAM, home)},
            gate="none",
        )
    )


def is_clean(phone: PlayedPhone) -> bool:
    """Nothing of a run is on the phone: no job, no undo, no process of ours."""
    left = {path.name for path in phone.path(ROOT).iterdir()} if phone.path(ROOT).exists() else set()
    undo = phone.path(f"{ROOT}/undo")
    return left <= {"cache", "tools", "undo"} and not (undo.exists() and list(undo.iterdir()))


def measured(report: Report) -> Any:
    """Its measurement, which there must be."""
    assert report.result.failure is None, report.result.failure
    assert report.result.measurement is not None
    return report.result.measurement


def test_a_phone_that_is_only_played_says_so(agent: HostAgent, rack: FakeRack) -> None:
    place = key_of(agent, rack["a"])
    [device] = [device for device in agent.hello()["devices"] if device["key"] == place]
    assert device["attributes"]["simulated"] is True


def test_a_run_is_told_with_all_that_was_seen(agent: HostAgent, home: Path, rack: FakeRack) -> None:
    phone = rack["a"]
    agent.start([order(home, key_of(agent, phone))])
    report = report_of(agent)
    seen = measured(report)
    assert seen.timings.iterations >= 7
    assert seen.timings.of_invocations in ("median", "mean")
    assert seen.raw is None
    assert seen.runtime.name == "benchmark-model"
    assert seen.runtime.compute_unit == "cpu"
    assert "stand-in" in seen.runtime.version
    assert report.judgement is not None
    assert report.gate_before is not None
    assert report.gate_before.checks["battery_level"] == "ok"
    assert report.energy is not None
    assert report.energy.energy_mj is None or report.energy.why
    assert report.environment["build"].startswith("google/")
    assert report.environment["prepared_fixed_performance"] == "yes"
    assert {reading.sensor for reading in report.telemetry} >= {"android-battery", "android-thermal"}
    assert is_clean(phone)
    told = [action for action in phone.actions() if "fixed-performance" in action]
    assert told[-1].endswith("false")


@pytest.mark.parametrize(
    ("delegate", "full", "expected"),
    [
        ("nnapi", "no", ("model", "not_delegated")),
        ("gpu", "yes", ("model", "partially_delegated")),
        ("gpu", "no", None),
    ],
)
def test_a_delegate_is_proven_or_named_no_result(
    agent: HostAgent, home: Path, rack: FakeRack, delegate: str, full: str, expected: tuple[str, str] | None
) -> None:
    options = {"delegate": delegate, "require_full_delegation": full}
    agent.start([order(home, key_of(agent, rack["a"]), runtime_options=options)])
    if expected is not None:
        assert failure_of(agent) == expected
    else:
        runtime = measured(report_of(agent)).runtime
        assert runtime.compute_unit == "gpu+cpu"
        assert 0 < runtime.delegated_share < 1
    assert is_clean(rack["a"])


def test_a_cable_that_comes_back_costs_no_run(agent: HostAgent, home: Path, rack: FakeRack) -> None:
    phone = rack["b"]
    agent.start([order(home, key_of(agent, phone), seconds=6.0)])
    event_of(agent, "started")
    phone.unplug()
    time.sleep(1.0)  # the job goes on meanwhile
    phone.plug()
    report = report_of(agent)
    assert measured(report).timings.iterations >= 7
    assert is_clean(phone)


def test_another_process_leaves_a_phone_at_work_alone(agent: HostAgent, home: Path, rack: FakeRack) -> None:
    phone = rack["b"]
    agent.start([order(home, key_of(agent, phone), seconds=4.0)])
    event_of(agent, "started")
    look = "from workers.host import discover_devices; print(*(d.presence for d in discover_devices(['android'])))"
    seen = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True, timeout=60)
    assert sorted(seen.stdout.split()) == ["offline", "online"]  # this one it may not meet
    assert measured(report_of(agent)).timings.iterations >= 7
    assert is_clean(phone)


def test_a_phone_that_stays_away_gives_its_job_back(
    agent: HostAgent, home: Path, rack: FakeRack, monkeypatch: pytest.MonkeyPatch
) -> None:
    phone = rack["b"]
    monkeypatch.setattr("workers.android.attempt.GRACE_S", 1.0)
    agent.start([order(home, key_of(agent, phone), seconds=30.0)])
    event_of(agent, "started")
    phone.unplug()
    assert failure_of(agent) == ("infrastructure", "device_lost")
    assert phone.path(f"{ROOT}/job").exists()  # it goes on there, until somebody meets the phone
    phone.plug()
    wait_until(lambda: is_clean(phone), doing="the phone is cleared up when it is met")


def test_a_phone_that_restarts_loses_its_job_and_nothing_else(agent: HostAgent, home: Path, rack: FakeRack) -> None:
    phone = rack["b"]
    agent.start([order(home, key_of(agent, phone), seconds=30.0)])
    event_of(agent, "started")
    phone.restart()
    assert failure_of(agent) == ("device", "job_died")
    wait_until(lambda: is_clean(phone), doing="the phone is cleared up")


def _cancel(agent: HostAgent) -> None:
    agent.cancel([1], "the user")


def _close(agent: HostAgent) -> None:
    agent.close()


@pytest.mark.parametrize(("end", "code"), [(_cancel, "cancelled"), (_close, "agent_closed")])
def test_whoever_ends_it_leaves_the_phone_clean(
    agent: HostAgent, home: Path, rack: FakeRack, end: Callable[[HostAgent], None], code: str
) -> None:
    phone = rack["b"]
    agent.start([order(home, key_of(agent, phone), seconds=30.0)])
    event_of(agent, "started")
    end(agent)
    assert failure_of(agent)[1] == code
    assert is_clean(phone)


_AGENT = """
import json, sys, time
from pathlib import Path
from workers.agent import HostAgent
home, order = Path(sys.argv[1]), json.loads(sys.argv[2])
agent = HostAgent(home / "first", f"file://{home / 'store'}", drivers=["android"])
while not any(d["key"] == order["place"] and d["presence"] == "online" for d in agent.hello()["devices"]):
    time.sleep(0.05)
agent.start([order])
while not any(event["kind"] == "started" for event in agent.poll(0, 0.2)["events"]):
    pass
print("began", flush=True)
time.sleep(60)
"""


def test_an_agent_that_is_killed_leaves_its_phone_to_the_next(home: Path, rack: FakeRack, agent: HostAgent) -> None:
    phone = rack["b"]
    place = key_of(agent, phone)
    agent.close()
    words = [sys.executable, "-c", _AGENT, str(home), json.dumps(order(home, place, seconds=30.0))]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "began\n"
        first.send_signal(signal.SIGKILL)
    assert phone.path(f"{ROOT}/job").exists()
    second = HostAgent(home / "second", f"file://{home / 'store'}", drivers=["android"])
    try:
        key_of(second, phone)
        assert is_clean(phone)  # before it is online
        second.start([order(home, place, attempt_id=2)])
        measured(report_of(second, 2))
    finally:
        second.close()
