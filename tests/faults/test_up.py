"""A farm on one machine as the README starts it: `up`, `join`, `down`, every socket on loopback, nothing left."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.acceptance.conftest import call, document, environment
from tests.faults.hosts import wait_until
from tests.prometheus import free_port

FLEET = {"seed": 1, "time_scale": 0.05, "devices": [{"count": 2, "model": "Pixel 8"}]}
Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a command that stays; what it prints goes to NAME.out."""
    started: list[subprocess.Popen[bytes]] = []

    def begin(name: str, home: Path, *arguments: str) -> subprocess.Popen[bytes]:
        with (tmp_path / f"{name}.out").open("ab") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "benchfarm", *arguments],
                env=environment(home), stdout=out, stderr=out, start_new_session=True,
            )  # fmt: skip
        started.append(process)
        return process

    yield begin
    for process in started:
        if process.poll() is None:
            process.terminate()
        process.wait(timeout=60)


def value(port: int, series: str) -> float | None:
    """What a series of /metrics says now; None where there is none."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        lines = answer.read().decode().splitlines()
    return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{series} ")), None)


def of_homes(*homes: Path) -> list[psutil.Process]:
    """Processes started with one of these data directories."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get("BENCHFARM_HOME") in {str(home) for home in homes}:
                found.append(process)
    return found


def test_a_farm_on_one_machine(start: Start, tmp_path: Path) -> None:
    farm, host = tmp_path / "farm", tmp_path / "host"
    out = tmp_path / "up.out"
    port = free_port()
    service = start("up", farm, "up", "--metrics", f"127.0.0.1:{port}")
    try:
        wait_until(lambda: "the farm is up" in out.read_text() or service.poll() is not None, 90, doing="up")
        assert service.poll() is None, out.read_text()
        (line,) = [line for line in out.read_text().splitlines() if "benchfarm join" in line]
        address = line.split("benchfarm join ")[1].split()[0]
        assert str(farm / "ray-token") in out.read_text()
        host.mkdir()
        shutil.copy(farm / "ray-token", host)
        fleet = tmp_path / "fleet.json"
        fleet.write_text(json.dumps(FLEET))
        join = start("join", host, "join", address, "--name", "here", "--only", "sim", "--simulate", str(fleet))
        wait_until(lambda: list(document(call(farm, "devices", "list", "--json"))), 60, doing="devices")
        assert value(port, 'benchfarm_devices{device_kind="sim",state="idle"}') == 2
        assert value(port, "benchfarm_dispatcher_up") == 1
        refused = call(farm, "up", "--metrics", f"127.0.0.1:{port}")
        assert refused.returncode == 2
        assert "--no-metrics" in refused.stderr
        done = call(farm, "submit", "sim/tiny", "--runtime", "sim", "--recipe", "fp32", "--no-gate", "--wait")
        assert done.returncode == 0, done.stderr

        ended = 'benchfarm_attempts_total{cause="none",kind="measure",outcome="succeeded"}'
        wait_until(lambda: value(port, ended) == 2, 60, doing="attempts counted")

        listening = []
        for process in of_homes(farm, host):
            with suppress(psutil.Error):
                sockets = process.net_connections(kind="inet")
                listening += [socket.laddr.ip for socket in sockets if socket.status == psutil.CONN_LISTEN]
        assert len(listening) >= 6  # the GCS, two raylets and the metrics
        assert {known.removeprefix("::ffff:") for known in listening} <= {"127.0.0.1", "::1"}

        service.send_signal(signal.SIGINT)
        assert service.wait(timeout=60) == 0
        assert "`benchfarm down` ends it" in out.read_text()
        assert of_homes(farm) != []  # the head goes on
        again = start("again", farm, "up", "--no-metrics")
        wait_until(lambda: "the farm is up" in (tmp_path / "again.out").read_text(), 60, doing="up again")
        assert "starting a Ray head" not in (tmp_path / "again.out").read_text()
        assert "metrics" not in (tmp_path / "again.out").read_text()
        again.terminate()
        assert again.wait(timeout=60) == 0

        join.terminate()
        assert join.wait(timeout=60) == 0
        assert of_homes(host) == []
    finally:
        ended = call(farm, "down")
    assert "ended" in ended.stdout
    wait_until(lambda: not of_homes(farm, host), 60, doing="nothing left")
    assert "no head runs" in call(farm, "down").stdout
