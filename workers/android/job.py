"""The one job on a phone: started so that it outlives every connection, watched, ended for certain, fetched whole."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from workers.android.job_loop import JOB, PLAIN, JobSpec, job_id, loop_script
from workers.android.phone import ROOT, Phone
from workers.android.proof import tidy
from workers.android.scripts import END_JOB, IDENTITY, JOB_VARIABLE, ONE_LINE, QUERY_S, lines_of
from workers.android.shell import quote
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
    #: It is done, and left files that it was to keep.
    kept: bool = False
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
    results: dict[str, tuple[str, str, str]] = {}
    sizes: dict[str, int] = {}
    sums: dict[str, str] = {}
    cut: dict[str, bytes] = {}
    outputs = b""
    why: list[str] = []
    more, kept, uptime_s = False, False, None
    rows = iter(lines)
    for row in rows:
        match row.split(" "):
            case ["more"]:
                more = True
            case ["kept"]:
                kept = True
            case ["why", *rest]:
                why.append(tidy(" ".join(rest)))
            case ["uptime", text, *_]:
                uptime_s = _seconds(text)
            case ["code", number, code, began, ended]:
                results[number] = code, began, ended
            case ["whole", number, size]:
                sizes[number] = int(size)
            case ["cut", number]:
                cut[number] = _decoded(rows)
            case [sha256, "", name] if name.startswith("out."):
                sums[name.removeprefix("out.")] = sha256
            case ["outputs"]:
                outputs = _decoded(rows)
            case _:
                raise damaged(f"the job's progress ({row[:80]!r})")
    found = _apart(outputs, sizes, sums) | cut
    if results and not found:
        raise damaged("the outputs of the job")
    return Progress(
        state=state,
        invocations=tuple(_invocation(number, *results[number], found[number], number in cut) for number in found),
        more=more,
        kept=kept,
        uptime_s=uptime_s,
        why="; ".join(why),
    )


def _apart(outputs: bytes, sizes: Mapping[str, int], sums: Mapping[str, str]) -> dict[str, bytes]:
    """The outputs that came behind one another, by number; each is what the phone's digest says."""
    found, at = {}, 0
    for number, size in sizes.items():
        found[number] = outputs[at : at + size]
        at += size
        if hashlib.sha256(found[number]).hexdigest() != sums.get(number):
            raise damaged(f"the output of invocation {number}")
    return found


def _invocation(number: str, code: str, began: str, ended: str, output: bytes, cut_short: bool) -> Invocation:
    return Invocation(
        number=int(number),
        exit_code=int(code),
        output=output.decode(errors="replace"),
        cut_short=cut_short,
        began_s=_seconds(began),
        ended_s=_seconds(ended),
    )


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
    wanted = quote(f" {' '.join(names or ())} ")
    is_wanted = "true" if names is None else f'case {wanted} in *" $file "*) ;; *) false ;; esac'
    script = f"""
{_only(spec.id)}
[ -e done ] || {{ echo running; exit; }}
echo done
set --
while read -r sum file; do
  if {is_wanted}; then echo "sum $sum $file"; set -- "$@" "$file"; fi
done < done
[ $# -eq 0 ] || stat -c '%s %n' "$@" | while read -r size file; do
  echo "size $size $file"
  [ ${{#size}} -lt 10 ] && [ $size -le {_SMALL_BYTES} ] || continue
  echo "small $file"; base64 "$file"; echo end
done
true
"""
    said = lines_of(phone.run(script, QUERY_S), "listing the job's files")
    if said[:1] != ["done"]:
        raise JobGoneError(f"job {spec.id} is not on the phone, or not done")
    folder.mkdir(parents=True, exist_ok=True)
    sums: dict[str, str] = {}
    sizes: dict[str, int] = {}
    fetched: dict[str, Path] = {}
    rows = iter(said[1:])
    for row in rows:
        match row.split(" "):
            case ["sum", sha256, name] if PLAIN.fullmatch(name):
                sums[name] = sha256
            case ["size", size, name] if name in sums and size.isdecimal():
                sizes[name] = int(size)
            case ["small", name] if name in sizes:
                fetched[name] = folder / name
                fetched[name].write_bytes(_decoded(rows))
            case _:
                raise damaged("the job's end marker")
    if sums.keys() != sizes.keys():
        raise damaged("the list of the job's files")
    for name, sha256 in sums.items():
        bytes_ = sizes[name]
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
    # A handful of commands reads all outputs: each costs the phone a process, beside what is measured. Of an output of
    # 8 digits and more, which comes alone, the end: the shell's numbers have 32 bits, a size may not.
    return rf"""
{ONE_LINE}
up=; {{ read -r up rest < /proc/uptime; }} 2>/dev/null; echo "uptime $up"
n={since}
set --
while [ $# -lt {_INVOCATIONS_AT_ONCE} ] && [ -e code.$((n + 1)) ] && read -r result < code.$((n + 1)); do
  n=$((n + 1)); echo "code $n $result"
  set -- "$@" out.$n
done
more=; [ $# -lt {_INVOCATIONS_AT_ONCE} ] || [ ! -e code.$((n + 1)) ] || more=more
[ $# -eq 0 ] || stat -c '%s %n' "$@" | {{
  later() {{ [ ! -e code.$((${{file#out.}} + 1)) ] || more=more; }}
  bytes=0
  set --
  while read -r size file; do
    case $size in
      ????????*)
        [ $# -eq 0 ] || {{ more=more; break; }}
        echo "cut ${{file#out.}}"; tail -c {_BYTES_AT_ONCE} "$file" | base64; echo end; later; break ;;
    esac
    set -- "$@" "$file"; bytes=$((bytes + size)); echo "whole ${{file#out.}} $size"
    [ $bytes -le {_BYTES_AT_ONCE} ] || {{ later; break; }}
  done
  [ $# -eq 0 ] || {{ sha256sum "$@"; echo outputs; cat "$@" | base64; echo end; }}
  [ -z "$more" ] || echo more
}}
if [ $state = done ]; then
  while read -r sum file; do case $file in out.*|code.*) ;; *) echo kept; break ;; esac; done < done
fi
if [ $state = dead ]; then
  for file in ended log; do [ -s $file ] && echo "why $(one_line "$(head -c 1000 $file)")"; done
  boot_now; [ "$booted" = "$boot_now" ] || echo "why the phone has started again"
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
