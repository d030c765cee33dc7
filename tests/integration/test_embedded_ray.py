"""The embedded Ray: every socket on loopback, the token asked for, and nothing left when it ends or is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from workers.processes import Process, read_process, with_environment
from workers.spool import RAY_SESSION_VARIABLE, sweep_ray_sessions

# Ray reads its settings at import, and imports once: each test has a driver process of its own.
DRIVER = """
import json, os, sys, time
from pathlib import Path
from scheduler.executors.ray_embedded import EmbeddedRayExecutor
home = Path(sys.argv[1])
home.mkdir(parents=True)
executor = EmbeddedRayExecutor(home, f"file://{home}/artifacts", 60.0)
while not (came := executor.arrivals()):
    time.sleep(0.05)
print(json.dumps(came["embedded"]), flush=True)
sys.stdin.readline()
executor.close()
"""


@contextmanager
def started(home: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that has brought up an embedded Ray, and ends it when a line comes."""
    process = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(home)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    yield process
    if process.poll() is None:
        process.kill()
    process.communicate()
    sweep_ray_sessions(home / "spool")


@pytest.fixture
def driver(home: Path) -> Iterator[subprocess.Popen[str]]:
    """A driver of the test's own."""
    with started(home) as process:
        yield process


@dataclass(frozen=True)
class Standing:
    """A driver that has come up, for tests that leave it as it is; the last of them ends it."""

    home: Path
    process: subprocess.Popen[str]

    @property
    def session(self) -> str:
        return session_of(self.home)


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standing]:
    home = tmp_path_factory.mktemp("standing") / "home"
    with started(home) as process:
        hello(process)
        yield Standing(home, process)


def hello(driver: subprocess.Popen[str]) -> Any:
    assert driver.stdout is not None
    return json.loads(driver.stdout.readline())


def session_of(home: Path) -> str:
    (record,) = (home / "spool" / "ray").glob("*.json")
    return record.stem


def members(session: str) -> list[Process]:
    return with_environment(RAY_SESSION_VARIABLE, session)


def until_gone(session: str, timeout_s: float = 15) -> list[Process]:
    deadline = time.monotonic() + timeout_s
    while (left := members(session)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left


def test_every_listener_is_on_loopback(standing: Standing) -> None:
    pids = [standing.process.pid, *(process.pid for process in members(standing.session))]
    listening = []
    for pid in pids:
        with suppress(psutil.NoSuchProcess):
            sockets = psutil.Process(pid).net_connections(kind="inet")
            listening += [socket.laddr.ip for socket in sockets if socket.status == psutil.CONN_LISTEN]
    assert len(listening) >= 3  # at least the GCS, the raylet and the agent
    assert {address.removeprefix("::ffff:") for address in listening} <= {"127.0.0.1", "::1"}


def test_another_user_of_the_machine_needs_the_token(standing: Standing, tmp_path: Path) -> None:
    (gcs,) = [process for process in members(standing.session) if process.name.startswith("gcs_server")]
    port = next(
        socket.laddr.port for socket in psutil.Process(gcs.pid).net_connections("inet") if socket.status == "LISTEN"
    )
    probe = "import ray, sys; ray.init(address=sys.argv[1], log_to_driver=False, logging_level='ERROR'); print('IN')"
    stranger = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": "0" * 64,
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    command = [sys.executable, "-c", probe, f"127.0.0.1:{port}"]
    finished = subprocess.run(command, env=stranger, capture_output=True, text=True, timeout=120, check=False)
    assert finished.returncode != 0
    assert "IN" not in finished.stdout


def test_a_live_session_is_not_swept(standing: Standing) -> None:
    before = {process.pid for process in members(standing.session)}
    assert before
    assert sweep_ray_sessions(standing.home / "spool") == 0
    assert {process.pid for process in members(standing.session)} >= before


def test_closing_ends_every_process(standing: Standing) -> None:
    session = standing.session
    assert members(session)
    standing.process.communicate("end\n", timeout=60)
    assert standing.process.returncode == 0
    assert until_gone(session) == []
    assert list((standing.home / "spool" / "ray").iterdir()) == []


def test_a_killed_driver_leaves_what_the_sweep_ends(driver: subprocess.Popen[str], home: Path) -> None:
    agent_pid = hello(driver)["pid"]
    session = session_of(home)
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    sweep_ray_sessions(home / "spool")
    assert until_gone(session) == []
    assert read_process(agent_pid) is None  # gone, or a zombie that its new parent has not reaped


def test_the_agent_ends_by_itself_when_its_raylet_dies(driver: subprocess.Popen[str], home: Path) -> None:
    agent = psutil.Process(hello(driver)["pid"])
    raylet = agent.parent()
    assert raylet is not None
    raylet.kill()
    gone, _ = psutil.wait_procs([agent], timeout=15)
    assert gone == [agent]
