"""Ray's cluster launcher with deploy/ray/cluster.yaml: who is reached, in which order, with which commands.

`ssh` is played: it writes down what it is told. Everything else is real: `ray up`, a head, and Ray's monitor beside it.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.acceptance.conftest import command_line, environment
from tests.deploy import DEPLOY, documents
from tests.faults.hosts import wait_until

_PORT = 6393
HOSTS = ("127.0.0.11", "127.0.0.12")


@pytest.fixture
def ssh(tmp_path: Path) -> Path:
    """A folder with an ssh and an rsync that write down what they are told, one line for each."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("ssh", "rsync"):
        program = folder / name
        program.write_text(f'#!/bin/sh\nprintf "%s " "$@" | tr "\\n" " " >> {tmp_path}/told\necho >> {tmp_path}/told\n')
        program.chmod(0o755)
    (tmp_path / "told").touch()
    return folder


@pytest.fixture
def variables(home: Path, tmp_path: Path, ssh: Path) -> dict[str, str]:
    """What Ray's programs are started with; as in benchfarm-launcher.service, but on loopback."""
    home.mkdir(parents=True)
    return {
        **environment(home),
        "PATH": f"{ssh}:{sysconfig.get_path('scripts')}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        # Ray remembers there what it has set up: an earlier test's hosts would not be set up again.
        "RAY_TMPDIR": str(tmp_path),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(home / "ray-token"),
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    }


@pytest.fixture
def cluster(tmp_path: Path) -> Path:
    """The file with addresses of loopback."""
    [found] = documents(DEPLOY / "ray" / "cluster.yaml")
    found["provider"] |= {"head_ip": "127.0.0.1", "worker_ips": list(HOSTS)}
    found["auth"].pop("ssh_private_key")
    path = tmp_path / "cluster.yaml"
    path.write_text(yaml.safe_dump(found))
    return path


def _told(tmp_path: Path) -> list[tuple[str, str]]:
    """(host, command) of each call of ssh that runs one of ours."""
    found = re.findall(r"benchfarm@([\d.]+) bash .*?&& \((.*?)\)'", (tmp_path / "told").read_text())
    return [(host, words.rpartition("; ")[2]) for host, words in found if "systemctl" in words or "--version" in words]


def test_ray_up_starts_the_head(cluster: Path, variables: dict[str, str], tmp_path: Path) -> None:
    command = ["ray", "up", "--yes", "--no-config-cache", str(cluster)]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    [config] = documents(DEPLOY / "ray" / "cluster.yaml")
    assert [host for host, _ in _told(tmp_path)] == ["127.0.0.1"] * 2
    assert [command for _, command in _told(tmp_path)] == [
        *config["setup_commands"],
        *config["head_start_ray_commands"],
    ]
    assert "ray_bootstrap_config.yaml" in (tmp_path / "told").read_text()  # what the monitor reads there


@pytest.fixture
def started(variables: dict[str, str], home: Path, tmp_path: Path) -> Iterator[list[Any]]:
    """A head, and room for what is started beside it; all of it is ended."""
    with (tmp_path / "head.out").open("wb") as out:
        head = subprocess.Popen(
            command_line("head", "--address", f"127.0.0.1:{_PORT}"), env=environment(home), stdout=out, stderr=out
        )
    processes: list[Any] = [head]
    yield processes
    for process in reversed(processes):
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)


def test_its_monitor_reaches_every_host(
    cluster: Path, variables: dict[str, str], started: list[Any], tmp_path: Path, home: Path
) -> None:
    wait_until(lambda: (home / "head.json").exists(), 90, doing="the head")
    # What `ray up` puts on the head: the file with all defaults filled in.
    full = tmp_path / "ray_bootstrap_config.yaml"
    code = (
        "import sys, yaml; from ray.autoscaler._private.commands import prepare_config;"
        "yaml.safe_dump(prepare_config(yaml.safe_load(open(sys.argv[1]))), open(sys.argv[2], 'w'))"
    )
    subprocess.run([sys.executable, "-c", code, cluster, full], env=variables, check=True)
    unit = (DEPLOY / "systemd" / "benchfarm-launcher.service").read_text().replace("\\\n", " ")
    [line] = re.findall(r"^ExecStart=(.*)$", unit, re.MULTILINE)
    line = line.replace("${BENCHFARM_ADDRESS}", f"127.0.0.1:{_PORT}").replace("/var/lib/benchfarm", str(tmp_path))
    _, *arguments = shlex.split(line)
    with (tmp_path / "monitor.out").open("wb") as out:
        monitor = subprocess.Popen([sys.executable, *arguments], env=variables, stdout=out, stderr=out)
    started.append(monitor)
    [config] = documents(DEPLOY / "ray" / "cluster.yaml")
    wanted = [*config["setup_commands"], *config["worker_start_ray_commands"]]
    wait_until(lambda: len(_told(tmp_path)) >= len(wanted) * len(HOSTS), 90, doing="hosts reached")
    for host in HOSTS:
        assert [command for known, command in _told(tmp_path) if known == host] == wanted
