"""Debian 13's adbd, the real one, as a phone: in a chroot, in namespaces of its own.

It listens on every interface, as root, and asks nobody for a key: so its network is a namespace that nothing leads
into but the relay here, which is also the cable that tests pull. Android it is none: getprop, dumpsys and /sys are
those of the played phones.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from pathlib import Path

from workers.android.fake.condition import Texts
from workers.android.fake.description import Description
from workers.android.fake.root import OWN_PROC
from workers.android.fake.tools import write_tools

#: A tree made before, to save half a minute: what debootstrap made of `_PACKAGES`.
TREE_VARIABLE = "BENCHFARM_TEST_ADBD"
_ADBD = "/usr/lib/android-sdk/platform-tools/adbd"
_SUITE, _PACKAGES = "trixie", "adbd,procps"
_INSIDE_PORT = 15555
_STORAGE_MB = 512

#: $1: the tree, $2: state of the phone, $3: /system/bin, and then the command. In namespaces that end with it.
_ENTER = f"""
set -e
ip link set lo up
tree=$1 state=$2 tools=$3
shift 3
mount --bind "$tree" "$tree"
mkdir -p "$tree/data" "$tree/system/bin" "$tree/fake"
mount -t tmpfs -o size={_STORAGE_MB}m,mode=771 data "$tree/data"
mkdir -p "$tree/data/local/tmp"
mount --bind "$state/sys" "$tree/sys"
mount --bind "$state/fake" "$tree/fake"
mount --bind "$tools" "$tree/system/bin"
mount --rbind /dev "$tree/dev"
mount -t proc proc "$tree/proc"
for file in {" ".join(OWN_PROC)}; do mount --bind "$state/proc/$file" "$tree/proc/$file"; done
exec "$@"
"""


def why_not() -> str | None:
    """Why it cannot be had here; None where it may be."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "Debian's adbd needs Linux and root"
    for tool in ("ip", "unshare", "chroot"):
        if shutil.which(tool) is None:
            return f"{tool} is not installed"
    if TREE_VARIABLE not in os.environ and shutil.which("debootstrap") is None:
        return "debootstrap is not installed"
    done = subprocess.run(["unshare", "--net", "--mount", "--pid", "--fork", "true"], capture_output=True)
    return None if done.returncode == 0 else "network, mount and process namespaces cannot be made here"


def make_tree(folder: Path) -> Path | str:
    """Debian 13 with adbd, from the mirror that this system's apt uses; else why it could not be made."""
    if (made := os.environ.get(TREE_VARIABLE)) is not None:
        return Path(made)
    tree = folder / _SUITE
    for mirror in _mirrors():
        command = ["debootstrap", "--variant=minbase", f"--include={_PACKAGES}", _SUITE, str(tree), mirror]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode == 0:
            return tree
        shutil.rmtree(tree, ignore_errors=True)
    return f"no mirror that apt is configured with gave Debian's {_SUITE}"


def _mirrors() -> list[str]:
    """Of Debian itself, as apt knows them; that of security updates has no base system."""
    command = ["apt-get", "indextargets", "--format", "$(REPO_URI) $(ORIGIN)"]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    except (OSError, subprocess.CalledProcessError):
        return []
    found = dict.fromkeys(line.split(" ")[0] for line in listed if line.endswith(" Debian"))
    return [mirror for mirror in found if "security" not in mirror]


class RealAdbd:
    """One adbd and the cable to it. What runs in there ends with it."""

    def __init__(self, tree: Path) -> None:
        """Start it, plugged in."""
        self._lock = threading.Lock()
        self._folder = Path(tempfile.mkdtemp(prefix="benchfarm-adbd-"))
        self._texts = Texts(Description(name="adbd", vendor="pixel"), self._folder)
        tools = self._folder / "bin"
        write_tools(tools)
        # Made here, accepted in there: a socket belongs to the network that it was made in.
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        spaces = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private"]
        relay = [sys.executable, "-m", "tests.adbd", str(self._listener.fileno()), str(tree)]
        self._process = subprocess.Popen(
            [*spaces, "sh", "-c", _ENTER, "sh", str(tree), str(self._folder), str(tools), *relay],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=(self._listener.fileno(),),
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"ready\n", "adbd did not start"

    @property
    def address(self) -> str:
        """What `adb connect` takes."""
        return f"127.0.0.1:{self.port}"

    def plug(self) -> None:
        """Connect the cable."""
        self._tell("plug")

    def unplug(self) -> None:
        """Pull the cable."""
        self._tell("unplug")

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(timeout=20)
        self._process.stdout.close()
        self._listener.close()
        shutil.rmtree(self._folder)

    def _tell(self, what: str) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._lock:
            self._process.stdin.write(f"{what}\n".encode())
            self._process.stdin.flush()
            assert self._process.stdout.readline() == b"done\n"


class _Relay:
    """Runs as the first process in there: what it does not wait for, nobody does."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._lock = threading.Lock()
        self._open: list[socket.socket] = []
        self._plugged = True

    def accept(self) -> None:
        while True:
            outside, _ = self._listener.accept()
            try:
                inside = socket.create_connection(("127.0.0.1", _INSIDE_PORT), timeout=1)
            except OSError:
                outside.close()
                continue
            inside.settimeout(None)
            for connected in (outside, inside):
                connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                if not self._plugged:
                    outside.close()
                    inside.close()
                    continue
                self._open += [outside, inside]
            for source, target in ((outside, inside), (inside, outside)):
                threading.Thread(target=self._carry, args=(source, target), daemon=True).start()

    def plug(self, plugged: bool) -> None:
        with self._lock:
            self._plugged = plugged
            if not plugged:
                for connected in self._open:
                    with suppress(OSError):
                        connected.shutdown(socket.SHUT_RDWR)
                self._open.clear()

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 18):
                target.sendall(data)
        for connected in (source, target):
            with suppress(OSError):
                connected.shutdown(socket.SHUT_RDWR)


def _reap() -> None:
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def _main(descriptor: int, tree: str) -> None:
    environment = {"PATH": "/system/bin", "HOME": "/", "ADBD_PORT": str(_INSIDE_PORT)}
    nothing = subprocess.DEVNULL
    subprocess.Popen(["/usr/sbin/chroot", tree, _ADBD], env=environment, stdin=nothing, stdout=nothing, stderr=nothing)
    while True:
        with suppress(OSError), socket.create_connection(("127.0.0.1", _INSIDE_PORT), timeout=1):
            break
    threading.Thread(target=_reap, daemon=True).start()
    relay = _Relay(socket.socket(fileno=descriptor))
    threading.Thread(target=relay.accept, daemon=True).start()
    print("ready", flush=True)
    for line in sys.stdin:
        relay.plug(line.strip() == "plug")
        print("done", flush=True)


if __name__ == "__main__":
    _main(int(sys.argv[1]), sys.argv[2])
