"""The one job on a phone: started so that it outlives every connection, watched, ended for certain, fetched whole."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from workers.android.job_loop import JOB, PLAIN, JobSpec, job_id, loop_script
from workers.android.phone import ROOT, Phone
from workers.android.proof import tidy
from workers.android.scripts import END_JOB, IDENTITY, JOB_VARIABLE, ONE_LINE, QUERY_S, lines_of
from workers.android.shell import quote, words
from workers.errors import AttemptError, Cause, UnsupportedError

#: What one call of `progress` returns at most, so that it ends in time: the next call returns the next.
_INVOCATIONS_AT_ONCE = 32
_BYTES_AT_ONCE = 4 << 20
#: Files up to this size come with the list of files, larger ones in transfers of their own.
_SMALL_BYTES = 256 << 10
#: A larger file is no result of a tool, and stays where it is.
MOST_BYTES = 16 << 20
#: The slowest that a phone's USB and storage are waited for.
_SLOWEST_BYTES_PER_S = 2e6


class JobGoneError(AttemptError):
    """The job is not on the phone: it was cleaned away, or never began."""

    def __init__(self, message: str) -> None:
        """Say which job."""
        super().__init__(Cause.INFRASTRUCTURE, "job_gone", message)


class JobState(StrEnum):
    """What became of a job."""

    RUNNING = "running"
    DONE = "done"  # ended by itself; every file is there, with its digest
    DEAD = "dead"  # ended without its end marker: killed, out of memory, phone started again, deadline


@dataclass(frozen=True, kw_only=True)
class Invocation:
    """One finished invocation of the tool."""

    number: int
    exit_code: int
    output: str
    #: The output was longer than what is read of it.
    cut_short: bool
    #: Seconds since the phone's boot; None where the phone does not tell.
    began_s: float | None
    ended_s: float | None


@dataclass(frozen=True, kw_only=True)
class Progress:
    """A job as seen in one call."""

    state: JobState
    #: Those asked for that are finished, in order, a limited number at once.
    invocations: tuple[Invocation, ...]
    #: There are more finished ones than these: ask again.
    more: bool
    #: Seconds since the phone's boot at this call, to place the invocations in time; None: it does not tell.
    uptime_s: float | None
    #: Why it is dead, as far as the phone knows.
    why: str = ""


def start(phone: Phone, spec: JobSpec) -> None:
    """Start the job; it runs when this returns.

    Raises:
        PhoneLostError: it may run, or begin to: `attached` tells on the next contact, and `clean` ends it.
        UnsupportedError: the phone has no way to bind the tool to CPUs.
        AttemptError: another job's folder is still there, or the phone's shell could not start it.
    """
    binding = "command -v taskset > /dev/null || { echo no_taskset; exit; }" if spec.affinity is not None else ""
    script = f"""
{binding}
mkdir -p {ROOT} && cd {ROOT} || exit 70
mkdir job 2>/dev/null || {{ echo "busy $(cat job/id 2>/dev/null)"; exit; }}
printf %s {quote(loop_script(spec))} > job/run.sh && echo {quote(spec.id)} > job/.id && mv -f job/.id job/id || exit 70
{JOB_VARIABLE}={quote(spec.id)} setsid sh job/run.sh {quote(spec.id)} < /dev/null > job/log 2>&1 &
tries=0
while [ ! -e job/pid ] && [ $tries -lt 250 ]; do tries=$((tries + 1)); sleep 0.02; done
if [ -e job/pid ]; then echo began; else echo "silent $(cat job/log)"; fi
"""
    said = lines_of(phone.run(script, QUERY_S), "starting the job")
    match said[:1]:
        case ["began"]:
            return
        case ["no_taskset"]:
            raise UnsupportedError("the phone has no taskset: nothing there can be bound to CPUs")
        case [text] if text.startswith("busy"):
            other = tidy(text[5:]) or "?"
            raise AttemptError(Cause.INFRASTRUCTURE, "phone_busy", f"another job is on the phone: {other}")
        case _:
            raise AttemptError(Cause.DEVICE, "job_silent", f"the job did not begin: {tidy(' '.join(said))}")


def attached(phone: Phone, attempt_id: int, token: str) -> JobState | None:
    """What became of a job, asked on a new connection; None: it is not on the phone.

    Raises:
        PhoneLostError: the phone went again.
    """
    try:
        return _look(phone, job_id(attempt_id, token), since=None)[0]
    except JobGoneError:
        return None


def progress(phone: Phone, spec: JobSpec, since: int) -> Progress:
    """The state of the job and the outputs of its finished invocations after number `since`, in one call.

    Raises:
        PhoneLostError: the phone went; the job goes on.
        JobGoneError: it is not on the phone.
        AttemptError: what came is not what the phone's digest says.
    """
    state, lines = _look(phone, spec.id, since)
    found: list[Invocation] = []
    why: list[str] = []
    more, uptime_s = False, None
    rows = iter(lines)
    for row in rows:
        match row.split(" "):
            case ["more"]:
                more = True
            case ["why", *rest]:
                why.append(tidy(" ".join(rest)))
            case ["uptime", text, *_]:
                uptime_s = _seconds(text)
            case ["out", number, whole, sha256, code, began, ended]:
                output = _decoded(rows)
                if whole == "whole" and hashlib.sha256(output).hexdigest() != sha256:
                    raise damaged(f"the output of invocation {number}")
                found.append(
                    Invocation(
                        number=int(number),
                        exit_code=int(code),
                        output=output.decode(errors="replace"),
                        cut_short=whole != "whole",
                        began_s=_seconds(began),
                        ended_s=_seconds(ended),
                    )
                )
            case _:
                raise damaged(f"the job's progress ({row[:80]!r})")
    return Progress(state=state, invocations=tuple(found), more=more, uptime_s=uptime_s, why="; ".join(why))


def stop(phone: Phone, spec: JobSpec) -> None:
    """Ask the loop to end after this invocation.

    Raises:
        PhoneLostError: it may not have heard.
    """
    id_ = quote(spec.id)
    phone.run(f'id=; read -r id < {JOB}/id; [ "$id" = {id_} ] && echo > {JOB}/stop', QUERY_S)


def discard(phone: Phone, spec: JobSpec) -> None:
    """End the job now and forget it: its process group, whatever else carries its mark, its folder.

    Nothing of it lives when this returns. Preparations stay: `workers.android.leftovers.clean` does away with all.

    Raises:
        PhoneLostError: it may live.
        AttemptError: something of it does not die; nothing may be measured there until the phone started again.
    """
    script = f"""
{END_JOB}
{_only(spec.id)}
cd {ROOT} && end_job job && rm -rf job
"""
    said = phone.run(script, QUERY_S)
    if said.stdout.startswith("alive"):
        raise undying(said.stdout.strip())
    lines_of(said, "ending the job")


def fetch(
    phone: Phone,
    spec: JobSpec,
    folder: Path,
    names: Collection[str] | None = None,
    too_large: Callable[[str], None] = lambda _: None,
) -> dict[str, Path]:
    """The files of a job that is done, checked against the digests in its end marker.

    Args:
        phone: where it ran.
        spec: which job.
        folder: where they shall lie; made when it is not there.
        names: only these, of those there are (NAME.N for a kept file, out.N, code.N); None: all.
        too_large: told of each file that is left there for its size.

    Raises:
        PhoneLostError: the phone went; ask again.
        JobGoneError: it is not on the phone.
        AttemptError: not done, or a file is damaged.
    """
    wanted = '$(while read -r sum file; do echo "$file"; done < done)' if names is None else words(*names)
    script = f"""
{_only(spec.id)}
[ -e done ] || {{ echo running; exit; }}
echo done
while read -r sum file; do echo "$sum $(stat -c %s "$file") $file"; done < done
for file in {wanted}; do
  size=$(stat -c %s "$file" 2>/dev/null) && [ ${{#size}} -lt 10 ] && [ $size -le {_SMALL_BYTES} ] || continue
  echo "small $file"; base64 "$file"; echo end
done
true
"""
    said = lines_of(phone.run(script, QUERY_S), "listing the job's files")
    if said[:1] != ["done"]:
        raise JobGoneError(f"job {spec.id} is not on the phone, or not done")
    folder.mkdir(parents=True, exist_ok=True)
    listed: dict[str, tuple[str, int]] = {}
    fetched: dict[str, Path] = {}
    rows = iter(said[1:])
    for row in rows:
        match row.split(" "):
            case ["small", name] if name in listed:
                fetched[name] = folder / name
                fetched[name].write_bytes(_decoded(rows))
            case [sha256, size, name] if PLAIN.fullmatch(name) and size.isdecimal():
                listed[name] = sha256, int(size)
            case _:
                raise damaged("the job's end marker")
    for name, (sha256, bytes_) in listed.items():
        if names is not None and name not in names:
            continue
        if bytes_ > MOST_BYTES:
            too_large(f"{name} has {bytes_} bytes, which is more than is fetched")
            continue
        if name not in fetched:
            fetched[name] = folder / name
            phone.pull(f"{JOB}/{name}", fetched[name], QUERY_S + bytes_ / _SLOWEST_BYTES_PER_S)
        with fetched[name].open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
                raise damaged(f"the job's {name}")
    return fetched


def damaged(what: str) -> AttemptError:
    """Something that came from a phone is not what the phone said it would be."""
    return AttemptError(Cause.INFRASTRUCTURE, "transfer_damaged", f"{what} arrived damaged")


def undying(said: str) -> AttemptError:
    """Something does not die even when killed: it hangs in a driver."""
    message = f"processes of a job do not die ({tidy(said)}); the phone must start again"
    return AttemptError(Cause.DEVICE, "undying", message)


def _only(id_: str) -> str:
    """Goes on in the folder of this job, and ends the script when the phone has none or another."""
    return f"""
id=; {{ read -r id < {JOB}/id; }} 2>/dev/null
[ "$id" = {quote(id_)} ] && cd {JOB} || {{ echo gone; exit 0; }}
"""


def _look(phone: Phone, id_: str, since: int | None) -> tuple[JobState, list[str]]:
    """The job's state and, unless `since` is None, what `progress` reads."""
    # Whether it lives is asked before whether it is done: asked the other way round, one that ends between the two
    # questions would be called dead.
    script = f"""
{IDENTITY}
{_only(id_)}
pid=; start=; booted=; {{ read -r pid start booted < pid; }} 2>/dev/null
state=dead; leads "$pid" "$start" "$booted" && state=running
[ -e done ] && state=done
echo $state
{_outputs(since) if since is not None else ""}
true
"""
    said = lines_of(phone.run(script, QUERY_S), "looking at the job")
    match said[:1]:
        case ["running" | "done" | "dead" as state]:
            return JobState(state), said[1:]
        case ["gone"]:
            raise JobGoneError(f"job {id_} is not on the phone")
        case _:
            raise damaged("the job's state")


def _outputs(since: int) -> str:
    # Of an output of 8 digits and more, the end: the shell's numbers have 32 bits, a size may not.
    return rf"""
{ONE_LINE}
echo "uptime $(cat /proc/uptime)"
n={since} printed=0
while [ -e code.$((n + 1)) ]; do
  if [ $((n - {since})) -ge {_INVOCATIONS_AT_ONCE} ] || [ $printed -gt {_BYTES_AT_ONCE} ]; then echo more; break; fi
  n=$((n + 1))
  read -r result < code.$n
  size=$(stat -c %s out.$n)
  case $size in
    ????????*) echo "out $n cut - $result"; tail -c {_BYTES_AT_ONCE} out.$n | base64; printed=99999999 ;;
    *)
      sum=$(sha256sum < out.$n); echo "out $n whole ${{sum%% *}} $result"
      base64 out.$n; printed=$((printed + size)) ;;
  esac
  echo end
done
if [ $state = dead ]; then
  for file in ended log; do [ -s $file ] && echo "why $(one_line "$(head -c 1000 $file)")"; done
  [ "$booted" = "$(boot_now)" ] || echo "why the phone has started again"
fi
"""


def _decoded(rows: Iterator[str]) -> bytes:
    """The bytes that follow in base64, up to their end line."""
    encoded: list[str] = []
    for line in rows:
        if line == "end":
            try:
                return base64.b64decode("".join(encoded), validate=True)
            except binascii.Error:
                break
        encoded.append(line)
    raise damaged("a file of the job")


def _seconds(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
