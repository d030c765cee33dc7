"""A farm as its users start it, each host a machine of its own: network and mount namespaces on one bridge.

Needs root and iproute2. Whatever runs in a namespace is found by it, so a host's whole tree can be killed or frozen,
its cable pulled, and what it leaves behind be seen.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

_NETWORK = "10.77.0."
PORT = 6379
#: Short leases, so that faults take seconds. The agent ends its work then; the dispatcher gives it up 10 s later.
LEASE_S = 5.0
_DISK_MB = 64


def why_not() -> str | None:
    """Why namespaces cannot be had here; None where they can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "network namespaces need Linux and root"
    if shutil.which("ip") is None or shutil.which("nsenter") is None:
        return "iproute2 and util-linux are not installed"
    name = f"bfprobe{os.getpid()}"
    if subprocess.run(["ip", "netns", "add", name], capture_output=True).returncode != 0:
        return "network namespaces cannot be made here"
    subprocess.run(["ip", "netns", "del", name], check=True)
    return None


def wait_until(what: Callable[[], Any], timeout_s: float = 60, *, doing: str = "") -> Any:
    """Poll until something is true; returns it."""
    deadline = time.monotonic() + timeout_s
    while not (value := what()):
        assert time.monotonic() < deadline, f"not within {timeout_s:.0f} s: {doing or what}"
        time.sleep(0.05)
    return value


class Space:
    """A network namespace and what runs in it."""

    def __init__(self, name: str, folder: Path) -> None:
        """Make it, with loopback."""
        self.name = name
        self.folder = folder
        folder.mkdir()
        self.started: list[subprocess.Popen[bytes]] = []
        _ip("netns", "add", name)
        self.ip("link", "set", "lo", "up")

    def ip(self, *arguments: str) -> None:
        """`ip ARGUMENTS` in here."""
        _ip("-n", self.name, *arguments)

    def start(self, command: list[str], environment: dict[str, str], log: str) -> subprocess.Popen[bytes]:
        """Start a process in here; what it prints goes to a file in the folder."""
        with (self.folder / log).open("ab") as file:
            process = subprocess.Popen(
                ["ip", "netns", "exec", self.name, *command],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        self.started.append(process)
        return process

    def processes(self) -> list[psutil.Process]:
        """All that runs in here."""
        listed = subprocess.run(["ip", "netns", "pids", self.name], capture_output=True, text=True)
        found = []
        for pid in listed.stdout.split():
            with suppress(psutil.NoSuchProcess):
                process = psutil.Process(int(pid))
                if process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def find(self, words: str) -> list[psutil.Process]:
        """Processes in here with these words in their command line."""
        found = []
        for process in self.processes():
            with suppress(psutil.Error):
                if words in " ".join(process.cmdline()):
                    found.append(process)
        return found

    def signal(self, number: signal.Signals, processes: Iterable[psutil.Process] | None = None) -> None:
        """Send a signal to all that runs in here, or to some of it."""
        for process in self.processes() if processes is None else processes:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def remove(self) -> None:
        """Kill what runs in here, and delete it."""
        while self.processes():
            self.signal(signal.SIGKILL)
        for process in self.started:
            process.wait()
        subprocess.run(["ip", "netns", "del", self.name], check=False)


class LabHost(Space):
    """A host: its namespace, its cable, its disk, and the `benchfarm join` that runs there."""

    def __init__(self, lab: Lab, name: str, number: int) -> None:
        """Make the machine and plug it in; nothing runs on it."""
        super().__init__(f"{lab.prefix}{name}", lab.folder / name)
        self._lab = lab
        self.host = name
        self.address = f"{_NETWORK}{number}"
        self._cable = f"v{number}"
        _ip("link", "add", self._cable, "netns", lab.head.name, "type", "veth", "peer", "eth0", "netns", self.name)
        lab.head.ip("link", "set", self._cable, "master", "br0", "up")
        self.ip("address", "add", f"{self.address}/24", "dev", "eth0")
        self.ip("link", "set", "eth0", "up")
        self.home = self.folder / "home"
        self.home.mkdir()
        # Seen by this host only: it is mounted in a namespace that a process of the test keeps, whoever dies here.
        prepare = f'mount -t tmpfs -o size={_DISK_MB}m tmpfs "$0" && exec sleep infinity'
        command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", prepare, str(self.home)]
        self._disk = subprocess.Popen(command)
        mounts = Path(f"/proc/{self._disk.pid}/mounts")
        wait_until(lambda: str(self.home) in mounts.read_text(), 60, doing="disk mounted")
        self.joined: subprocess.Popen[bytes] | None = None

    def join(self, *options: str, head: str | None = None) -> subprocess.Popen[bytes]:
        """`benchfarm join` on this host, its data directory on the host's disk."""
        environment = self._lab.environment(self.home)
        environment.pop("BENCHFARM_DATABASE_URL", None)
        words = [sys.executable, "-m", "benchfarm", "join", head or f"{self._lab.address}:{PORT}", "--name", self.host]
        words += ["--token-file", str(self._lab.token), *options]
        self.joined = self.start([*self._on_disk(), *words], environment, "join.out")
        return self.joined

    def has_joined(self, times: int = 1) -> bool:
        """Whether `join` has said so often that it is in."""
        return self.said().count("joined ") >= times

    def said(self) -> str:
        """What `join` has printed."""
        return (self.folder / "join.out").read_text(errors="replace")

    def pull_cable(self) -> None:
        """Cut the host off."""
        self._lab.head.ip("link", "set", self._cable, "down")

    def plug_cable(self) -> None:
        """Connect it again."""
        self._lab.head.ip("link", "set", self._cable, "up")

    def raylet(self) -> psutil.Process:
        """The raylet of this host."""
        (found,) = [process for process in self.processes() if process.name() == "raylet"]
        return found

    def agents(self) -> list[psutil.Process]:
        """The agent of this host."""
        return self.find("ray::RemoteAgent")

    def runners(self) -> list[psutil.Process]:
        """Children that run an attempt."""
        return self.find("workers.runner")

    def on_disk(self, script: str) -> None:
        """Run a shell script where this host's disk is seen."""
        subprocess.run([*self._on_disk(), "sh", "-c", script], check=True)

    def remove(self) -> None:
        """Kill what runs on it, and delete it with its disk."""
        super().remove()
        self._disk.kill()
        self._disk.wait()

    def _on_disk(self) -> list[str]:
        return ["nsenter", f"--mount=/proc/{self._disk.pid}/ns/mnt", "--"]


class Lab:
    """A head, its service, and hosts."""

    def __init__(self, database_url: str | None = None, *, lease_s: float = LEASE_S) -> None:
        """Make the network; nothing runs yet.

        Args:
            database_url: None: SQLite in the head's data directory.
            lease_s: of attempts.
        """
        # Not pytest's folder: the paths of unix sockets must be short.
        self.folder = Path(tempfile.mkdtemp(prefix="bfl-"))
        self.prefix = f"bf{os.getpid()}-{self.folder.name[-4:]}-"
        self.home = self.folder / "farm"
        self.home.mkdir()
        self._database_url = database_url or f"sqlite:///{self.home / 'benchfarm.db'}"
        self._lease_s = lease_s
        self.address = f"{_NETWORK}1"
        self.token = self.home / "ray-token"
        self.head = Space(f"{self.prefix}head", self.folder / "head")
        self.head.ip("link", "add", "br0", "type", "bridge")
        self.head.ip("address", "add", f"{self.address}/24", "dev", "br0")
        self.head.ip("link", "set", "br0", "up")
        self.hosts: list[LabHost] = []

    @property
    def database_url(self) -> str:
        """Of the farm's database."""
        return self._database_url

    def environment(self, home: Path, **variables: str) -> dict[str, str]:
        """A user's environment with a data directory of its own."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("BENCHFARM_", "RAY_"))}
        return {
            **kept,
            "BENCHFARM_HOME": str(home),
            "BENCHFARM_DATABASE_URL": self._database_url,
            "BENCHFARM_LEASE_S": str(self._lease_s),
            "COLUMNS": "200",
            **variables,
        }

    def start_head(self, **variables: str) -> subprocess.Popen[bytes]:
        """`benchfarm head`, and wait until it is up."""
        command = [sys.executable, "-m", "benchfarm", "head", "--address", f"{self.address}:{PORT}"]
        before = self.said("head.out").count("head of the farm")
        process = self.head.start(command, self.environment(self.home, **variables), "head.out")
        wait_until(lambda: self.said("head.out").count("head of the farm") > before, 90, doing="head up")
        return process

    def up(self, log: str = "up.out", **variables: str) -> subprocess.Popen[bytes]:
        """`benchfarm up` against the head; without metrics, for a second one on this machine cannot serve them too."""
        command = [sys.executable, "-m", "benchfarm", "up", "--address", f"{self.address}:{PORT}", "--no-metrics"]
        return self.head.start(command, self.environment(self.home, **variables), log)

    def said(self, log: str = "up.out") -> str:
        """What the service has printed."""
        path = self.head.folder / log
        return path.read_text(errors="replace") if path.exists() else ""

    def host(self, name: str) -> LabHost:
        """A new machine on the network."""
        host = LabHost(self, name, len(self.hosts) + 2)
        self.hosts.append(host)
        return host

    def call(self, *arguments: str, timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
        """`benchfarm ARGUMENTS`, as a user of the farm's database."""
        return subprocess.run(
            [sys.executable, "-m", "benchfarm", *arguments],
            env=self.environment(self.home),
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def document(self, *arguments: str) -> Any:
        """The JSON document that a command prints."""
        done = self.call(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def close(self) -> None:
        """End everything and delete it."""
        for space in [*self.hosts, self.head]:
            space.remove()
        shutil.rmtree(self.folder, ignore_errors=True)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)
