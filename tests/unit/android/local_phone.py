"""A phone made of this machine's shell and a scratch folder: real scripts, real processes, and switches for faults.

Paths below `ROOT` are rewritten into the folder, and so is the boot id. `settings`, `cmd`, `dumpsys` and `input` are
stand-ins that keep what they are told in files. Nothing here is Android.
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from workers.android.phone import ROOT, Output, PhoneFullError, PhoneLostError
from workers.android.scripts import APPLETS, JOB_VARIABLE, OPTIONAL_APPLETS
from workers.errors import AttemptError, Cause

_BOOT_ID = "/proc/sys/kernel/random/boot_id"
_MARK = "LOCAL_PHONE"

_STAND_INS = {
    "settings": r"""
case $1 in
  get) cat "state/$2.$3" 2>/dev/null || echo null ;;
  put) echo "$4" > "state/$2.$3" ;;
  delete) rm -f "state/$2.$3"; echo "Deleted 1 rows" ;;
esac""",
    "cmd": r"""
case "$1 $2" in
  "power set-fixed-performance-mode-enabled")
    if [ -e state/no_fixed_performance ]; then echo "Failed to set FIXED_PERFORMANCE mode" >&2; exit 255; fi
    echo "$3" > state/fixed_performance ;;
  "connectivity airplane-mode")
    if [ -e state/no_airplane ]; then echo "Unknown command: airplane-mode" >&2; exit 255; fi
    case $3 in enable) echo 1 ;; disable) echo 0 ;; esac > state/global.airplane_mode_on ;;
  *) echo "cmd: Can't find service: $1" >&2; exit 20 ;;
esac""",
    "dumpsys": r"""echo "  mWakefulness=$(cat state/wakefulness)" """,
    "input": r"""
case $2 in 223) echo Asleep ;; 224) echo Awake ;; esac > state/wakefulness""",
    "df": r"""
used=$(du -sk data | cut -f1)
echo "Filesystem     1K-blocks  Used Available Use% Mounted on"
echo "/dev/block/dm-5 1048576 $used $(($(cat state/capacity_kb) - used)) 50% /data/user/0" """,
}

#: Stands before a command: counts down, and at nought waits until the phone's shell has been killed. What a job calls
#: does not count: it goes on when the shell is gone.
_FUSE = r"""#!/bin/sh
[ -n "$JOB" ] && [ NAME != setsid ] && exec REAL/NAME "$@"
left=; { read -r left < "FOLDER/fuse"; } 2>/dev/null
if [ "${left:=-1}" = 0 ]; then
  echo -1 > "FOLDER/fuse"; echo > "FOLDER/cut"
  while [ -e "FOLDER/cut" ]; do REAL/sleep 0.005; done
  exit 137
fi
[ "$left" -gt 0 ] && echo $((left - 1)) > "FOLDER/fuse"
exec REAL/NAME "$@"
"""


@dataclass(frozen=True, slots=True)
class Cut:
    """Where the phone is lost."""

    #: At this call, counted from 0.
    call: int
    #: Before the call does anything; after it did all; or inside, where `step` counts its commands.
    moment: Literal["before", "inside", "after"]
    step: int = 0


@dataclass
class LocalPhone:
    """Implements `workers.android.phone.Phone`."""

    folder: Path
    #: The shell that plays the phone's, and its options.
    shell: tuple[str, ...] = ("/bin/sh",)
    #: A program that has all applets (toybox, busybox); None: this machine's own commands.
    box: str | None = None
    serial: str = "LOCAL0"
    cut: Cut | None = None
    latency_s: float = 0.0
    #: Calls so far, and what they were.
    calls: list[str] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=itertools.count, repr=False)

    def __post_init__(self) -> None:
        """Lay out the phone."""
        self.root.parent.mkdir(parents=True)
        self._state.mkdir()
        (self._state / "wakefulness").write_text("Awake\n")
        self.set_capacity(1 << 40)
        self._lay_out_commands()
        self.reboot()

    @property
    def root(self) -> Path:
        """Where `ROOT` is here."""
        return self.folder / "data" / ROOT.removeprefix("/data/")

    @property
    def _state(self) -> Path:
        return self.folder / "state"

    def setting(self, name: str) -> str | None:
        """One fact of its state (global.airplane_mode_on, fixed_performance, wakefulness); None: never set."""
        path = self._state / name
        return path.read_text().strip() if path.exists() else None

    def set(self, name: str, value: str) -> None:
        """Set one fact of its state."""
        (self._state / name).write_text(f"{value}\n")

    def settings(self) -> dict[str, str]:
        """Its whole state; what is off by default is left out when it is off."""
        off = {("fixed_performance", "false")}
        found = {path.name: path.read_text().strip() for path in self._state.iterdir()}
        return {name: value for name, value in found.items() if (name, value) not in off}

    def set_capacity(self, capacity_bytes: int) -> None:
        """How much its storage holds."""
        self._capacity = capacity_bytes
        self.set("capacity_kb", str(capacity_bytes // 1024))

    def precede(self, command: str, lines: str) -> None:
        """Have lines of shell run before a command, with its arguments as theirs."""
        original = self.folder / "original" / command
        original.parent.mkdir(exist_ok=True)
        (self.folder / "real" / command).rename(original)
        _write_program(self.folder / "real" / command, f'#!/bin/sh\n{lines}\nexec {original} "$@"\n')

    def run(self, script: str, deadline_s: float) -> Output:
        """See `Phone`."""
        self._begin_call("run")
        commands = "real"
        if (cut := self._cut_now()) is not None and cut.moment == "inside":
            commands = "bin"
            (self.folder / "fuse").write_text(f"{cut.step}\n")
        number = next(self._numbers)
        out, err = self.folder / f"stdout-{number}", self.folder / f"stderr-{number}"
        # Files, not pipes: what a script leaves running in the background must not hold its call open here either.
        with out.open("wb") as stdout, err.open("wb") as stderr:
            process = subprocess.Popen(
                [*self.shell, "-c", self._rewritten(script)],
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                cwd="/",
                env={"PATH": str(self.folder / commands), "HOME": "/", _MARK: str(self.folder)},
                start_new_session=True,
            )
            lost = self._wait(process, deadline_s)
        (self.folder / "fuse").unlink(missing_ok=True)
        if lost:
            raise PhoneLostError("the connection was cut, or the deadline passed")
        self._end_call()
        return Output(process.returncode, out.read_text(errors="replace"), err.read_text(errors="replace"))

    def push(self, local: Path, remote: str, deadline_s: float) -> None:
        """See `Phone`."""
        self._begin_call("push")
        data, target = local.read_bytes(), Path(self._rewritten(remote))
        room = self._capacity - sum(path.stat().st_size for path in self.root.rglob("*") if path.is_file())
        cut = self._cut_now()
        inside = cut is not None and cut.moment == "inside"
        target.write_bytes(data[: len(data) // 2] if inside else data[: max(0, room)])
        if inside:
            raise PhoneLostError("cut in the middle of a push")
        if len(data) > room:
            raise PhoneFullError(f"{len(data)} bytes wanted, {room} there")
        self._end_call()

    def pull(self, remote: str, local: Path, deadline_s: float) -> None:
        """See `Phone`."""
        self._begin_call("pull")
        source = Path(self._rewritten(remote))
        if not source.is_file():
            raise AttemptError(Cause.INFRASTRUCTURE, "no_such_file", f"the phone has no {remote}")
        shutil.copyfile(source, local)
        self._end_call()

    def processes(self) -> dict[int, str]:
        """Whatever still runs on it: pid to command line, and the job's id after it if it is one's."""
        found = {}
        for entry in Path("/proc").iterdir():
            with suppress(OSError):
                variables = (entry / "environ").read_bytes().split(b"\0") if entry.name.isdigit() else []
                if f"{_MARK}={self.folder}".encode() in variables:
                    words = (entry / "cmdline").read_bytes().split(b"\0")
                    words += [variable for variable in variables if variable.startswith(JOB_VARIABLE.encode())]
                    found[int(entry.name)] = b" ".join(words).decode()
        return found

    def reboot(self) -> None:
        """Power cut: all that ran is gone, files stay, what no phone keeps over a boot is back at its default."""
        while running := self.processes():
            for pid in running:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.005)
        (self.folder / "boot_id").write_text(f"{uuid.uuid4()}\n")
        (self._state / "fixed_performance").unlink(missing_ok=True)

    def _rewritten(self, text: str) -> str:
        return text.replace(ROOT, str(self.root)).replace(_BOOT_ID, str(self.folder / "boot_id"))

    def _cut_now(self) -> Cut | None:
        return self.cut if self.cut is not None and self.cut.call == len(self.calls) - 1 else None

    def _begin_call(self, kind: str) -> None:
        self.calls.append(kind)
        time.sleep(self.latency_s)
        if (cut := self._cut_now()) is not None and cut.moment == "before":
            raise PhoneLostError("cut before the call")

    def _end_call(self) -> None:
        if (cut := self._cut_now()) is not None and cut.moment == "after":
            raise PhoneLostError("cut before the answer arrived")

    def _wait(self, process: subprocess.Popen[bytes], deadline_s: float) -> bool:
        """Until it ended; True when the phone was lost first: then its shell dies, and what that started goes on."""
        cut, deadline = self.folder / "cut", time.monotonic() + deadline_s
        while process.poll() is None:
            if cut.exists() or time.monotonic() > deadline:
                process.kill()
                process.wait()
                cut.unlink(missing_ok=True)
                self._let_orphans_end()
                return True
            time.sleep(0.002)
        return False

    def _let_orphans_end(self) -> None:
        """What the shell was just calling, and its own forks, come to their end; a job does not."""
        deadline = time.monotonic() + 5
        while any(JOB_VARIABLE not in text for text in self.processes().values()) and time.monotonic() < deadline:
            time.sleep(0.005)

    def _lay_out_commands(self) -> None:
        real, bin_ = self.folder / "real", self.folder / "bin"
        real.mkdir()
        bin_.mkdir()
        for name in (*APPLETS, *OPTIONAL_APPLETS):
            (real / name).symlink_to(self.box or shutil.which(name) or f"/missing/{name}")
        (real / "sh").unlink()
        _write_program(real / "sh", f'#!/bin/sh\nexec {" ".join(self.shell)} "$@"\n')
        for name, text in _STAND_INS.items():
            (real / name).unlink(missing_ok=True)
            # The stand-ins use this machine's commands: their own are no steps of a script of ours.
            head = f'#!/bin/sh\nPATH=/usr/bin:/bin; cd {self.folder}; echo "{name} $*" >> calls.log\n'
            _write_program(real / name, head + text + "\n")
        for name in (*APPLETS, *OPTIONAL_APPLETS, *_STAND_INS):
            text = _FUSE.replace("FOLDER", str(self.folder)).replace("REAL", str(real))
            _write_program(bin_ / name, text.replace("NAME", name).replace("JOB", JOB_VARIABLE))


def _write_program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)
