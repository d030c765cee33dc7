"""A file system for each phone: a mount namespace with the host's programs, and a /data, /sys and /system of its own.

So scripts, and files that scripts name, run on it as they are. Needs Linux, and root or user namespaces.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: Files of /proc that a phone has of its own. Not uptime: whoever reads it twice wants it to have moved.
OWN_PROC = ("stat", "meminfo", "loadavg", "sys/kernel/random/boot_id")

#: By its path: a phone's PATH does not lead there.
_NSENTER = shutil.which("nsenter") or "nsenter"

#: What all phones of a rack have. $1: an empty folder to build in, $2: the rack's folder, $3: its /system/bin.
_BUILD_BASE = """
set -e
mount -t tmpfs -o mode=755 phone "$1"
mount --make-unbindable "$1"
for entry in /*; do
  name=${entry#/}
  case $name in data|sys|system|vendor|sdcard|fake|lost+found) continue ;; esac
  if [ -L "$entry" ]; then cp -P "$entry" "$1/$name"; continue; fi
  [ -d "$entry" ] || continue
  mkdir "$1/$name"
  mount --rbind "$entry" "$1/$name"
  case $name in
    dev|proc|tmp) ;;
    # A user namespace may not change every mount.
    *) mount -o remount,bind,ro "$1/$name" 2>/dev/null || true ;;
  esac
done
mkdir -p "$1/data" "$1/sys" "$1/system/bin" "$1/fake" "$1/.old"
mount --bind "$2" "$1/$2"
mount --bind "$3" "$1/system/bin"
cd "$1"
pivot_root . .old
umount -l /.old
echo built
read -r _ || true
"""

#: What each has of its own. $1: its folder, $2: megabytes of its storage.
_BUILD_PHONE = f"""
set -e
mount -t tmpfs -o "size=$2m,mode=771" data /data
mkdir -p /data/local/tmp
mount --bind "$1/sys" /sys
mount --bind "$1/fake" /fake
for file in {" ".join(OWN_PROC)}; do mount --bind "$1/proc/$file" "/proc/$file"; done
echo built
read -r _ || true
"""


class RootError(Exception):
    """A file system of its own cannot be made here."""


def why_not() -> str | None:
    """Why phones cannot be played here; None where they can."""
    if sys.platform != "linux":
        return "mount namespaces need Linux"
    for tool in ("unshare", "nsenter"):
        if shutil.which(tool) is None:
            return f"{tool} (util-linux) is not installed"
    done = subprocess.run([*as_root(), "unshare", "--mount", "true"], capture_output=True, check=False)
    if done.returncode != 0:
        return "mount namespaces cannot be made here: neither root nor user namespaces are allowed"
    return None


def as_root() -> list[str]:
    """What to put before a command, so that it may mount."""
    return [] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user"]


class Base:
    """What the phones of a rack share: the host's folders, read-only, and their /system/bin."""

    def __init__(self, folder: Path, tools: Path) -> None:
        """Build it.

        Args:
            folder: the rack's, with the folders of the phones.
            tools: the /system/bin.

        Raises:
            RootError: the system does not allow it.
        """
        building = folder / "base"
        building.mkdir()
        command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", _BUILD_BASE, "sh"]
        with _build([*command, str(building), str(folder), str(tools)]) as pid:
            self.namespace = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)

    def close(self) -> None:
        """Give it back."""
        os.close(self.namespace)


class Root:
    """One phone's file system. It lives as long as its descriptors are open: no process keeps it."""

    def __init__(self, base: Base, state: Path, storage_mb: int) -> None:
        """Build it.

        Args:
            base: of its rack.
            state: folder with `sys`, `fake` and `proc`, which the phone sees.
            storage_mb: how much its /data holds.

        Raises:
            RootError: the system does not allow it.
        """
        self._storage_mb = storage_mb
        words = ["unshare", "--mount", "--propagation", "private", "sh", "-c", _BUILD_PHONE, "sh"]
        command = [*_inside(base.namespace), *words, str(state), str(storage_mb)]
        with _build(command, base.namespace) as pid:
            self.namespace = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
            self._folder = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_CLOEXEC)

    @property
    def path(self) -> Path:
        """The phone's /, for this process."""
        return Path(f"/proc/self/fd/{self._folder}")

    def visible_at(self) -> str:
        """The phone's /, for other processes of this user."""
        return f"/proc/{os.getpid()}/fd/{self._folder}"

    def inside(self, *command: str) -> list[str]:
        """A command that runs in there; it needs the descriptor `namespace`."""
        return [*_inside(self.namespace), *command]

    def leave_free(self, free_bytes: int | None) -> None:
        """Shrink /data until only so many bytes are free in it; None: back to its size."""
        size = self._storage_mb << 20
        if free_bytes is not None:
            seen = os.statvfs(self.path / "data")
            size = (seen.f_blocks - seen.f_bfree) * seen.f_frsize + free_bytes
        command = self.inside("/bin/mount", "-o", f"remount,size={size}", "/data")
        subprocess.run(command, check=True, pass_fds=(self.namespace,))

    def close(self) -> None:
        """Give it back, with all that is in /data."""
        os.close(self.namespace)
        os.close(self._folder)


def _inside(namespace: int) -> list[str]:
    return [_NSENTER, f"--mount=/proc/self/fd/{namespace}", "--"]


@contextmanager
def _build(command: list[str], *descriptors: int) -> Iterator[int]:
    """The pid of a builder that has built; it goes when the block ends, and what has no descriptor goes with it."""
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, pass_fds=descriptors
    ) as builder:
        assert builder.stdout is not None
        assert builder.stderr is not None
        if builder.stdout.readline() != b"built\n":
            raise RootError(builder.stderr.read().decode(errors="replace").strip())
        yield builder.pid
