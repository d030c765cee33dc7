"""What a job on a phone is: invocation after invocation of one tool, until it is told that there are enough."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from workers.android.phone import ROOT
from workers.android.scripts import IDENTITY
from workers.android.shell import quote, words

#: The folder of the one job; the tool runs in it.
JOB = f"{ROOT}/job"

#: A name that neither a shell nor a file system reads anything into.
PLAIN = re.compile(r"[A-Za-z0-9_.-]+")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
#: Names in the job's folder that are the loop's own.
_TAKEN = {"id", "pid", "stop", "done", "log", "ended", "run", "out", "code"}


@dataclass(frozen=True, kw_only=True)
class JobSpec:
    """What shall run. `ValueError` from the constructor means that our own code asked for what cannot be."""

    attempt_id: int
    token: str
    #: The tool and its arguments, unquoted.
    command: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)
    #: Invocations: so many at least, so many at most, and between the two none begins after `seconds`.
    least: int = 7
    most: int = 100
    seconds: float = 60.0
    #: The job ends itself then, whether anybody watches or not.
    deadline_s: float = 600.0
    #: Files the tool writes into its folder; each invocation's is kept as NAME.N.
    keep: tuple[str, ...] = ()
    #: CPUs the tool is bound to; None: wherever the system puts it.
    affinity: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        """Refuse what would not survive the way through a shell and a file system."""
        if not self.command or not PLAIN.fullmatch(self.token):
            raise ValueError(f"no command, or a token that is no plain word: {self.token!r}")
        for name in self.keep:
            if not PLAIN.fullmatch(name) or name.startswith((".", "-")) or name.partition(".")[0] in _TAKEN:
                raise ValueError(f"a result file cannot be named {name!r}")
        for name in self.environment:
            if not _VARIABLE.fullmatch(name):
                raise ValueError(f"an environment variable cannot be named {name!r}")

    @property
    def id(self) -> str:
        """What the phone knows the job by."""
        return job_id(self.attempt_id, self.token)


def job_id(attempt_id: int, token: str) -> str:
    """What a phone knows the job of an attempt by."""
    return f"{attempt_id} {token}"


def loop_script(spec: JobSpec) -> str:
    """The script that is the job: invocation after invocation, in a session and process group of its own."""
    command = words(*spec.command)
    if spec.affinity is not None:
        command = f"taskset {sum(1 << cpu for cpu in set(spec.affinity)):x} {command}"
    # For the tool alone: libraries that it is told to load are none for the phone's own commands.
    settings = "".join(f"{name}={quote(value)} " for name, value in spec.environment.items())
    # Paths are relative, but for one: should the folder be cleaned away, nothing here can write into its successor.
    return f"""{IDENTITY}
cd {JOB} || exit 70
umask 022
is_ours() {{ id=; {{ read -r id < "$1"; }} 2>/dev/null; [ "$id" = {quote(spec.id)} ]; }}
is_ours id && [ "$1" = "$id" ] || exit 70
started $$; boot_now
echo "$$ $started $boot_now" > .pid && mv -f .pid pid || exit 70
is_ours {JOB}/id || exit 70
( sleep {spec.deadline_s:.0f}; echo "its deadline passed" > ended; kill -KILL "-$$" ) > /dev/null 2>&1 &
uptime() {{ up=; {{ read -r up rest < /proc/uptime; }} 2>/dev/null; : "${{up:=-}}"; }}
seconds() {{ uptime; case $up in -) seconds=0 ;; *) seconds=${{up%%.*}} ;; esac; }}
seconds; first=$seconds n=0 code=0
while [ ! -e stop ] && [ $code -eq 0 ] && [ $n -lt {spec.most} ] &&
  {{ [ $n -lt {spec.least} ] || {{ seconds; [ $((seconds - first)) -lt {max(1, round(spec.seconds))} ]; }}; }}; do
  n=$((n + 1))
  uptime; began=$up
  {settings}{command} < /dev/null > out.$n 2>&1
  code=$?
  uptime; ended=$up
  for file in {words(*spec.keep)}; do [ ! -e "$file" ] || mv -f "$file" "$file.$n"; done
  # It counts once its line has an end.
  echo "$code $began $ended" > code.$n || exit 71
  # By its digits, as `workers.android.job` cuts it: nobody reads the next of a tool that fills the phone.
  case $(stat -c %s out.$n) in ????????*) break ;; esac
done
set --
for file in out.* code.* {" ".join(f"{quote(name)}.[0-9]*" for name in spec.keep)}; do
  [ ! -e "$file" ] || set -- "$@" "$file"
done
if [ $# -gt 0 ]; then sha256sum "$@" > .done; else : > .done; fi && mv -f .done done || exit 71
kill -KILL "-$$"
"""
