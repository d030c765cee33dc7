"""Shell text that scripts share. POSIX sh as Android's mksh reads it, and no command that toybox does not have.

Traps that these scripts mind: a here-document needs a temporary folder that the shell may not have; `printf` is no
builtin of mksh, and its `echo` reads backslashes; its arithmetic has 32 bits; whatever a script starts keeps the adb
shell open as long as it holds one of its streams.
"""

from __future__ import annotations

from workers.android.phone import Output, PhoneFullError
from workers.android.proof import tidy
from workers.errors import AttemptError, Cause

#: Every command our scripts call that is no builtin of the shell. A phone that lacks one cannot measure.
APPLETS = (
    *("base64", "cat", "chmod", "df", "grep", "head", "mkdir", "mv", "printf", "rm", "setsid", "sh"),
    *("sha256sum", "sleep", "stat", "tail", "touch"),
)
#: Wanted for some cases only.
OPTIONAL_APPLETS = ("taskset",)
#: In the environment of a job and so of all it starts: "ATTEMPT_ID TOKEN".
JOB_VARIABLE = "BENCHFARM_JOB"
#: The shell must say something within this time; a full phone's package manager can take seconds for a word.
QUERY_S = 15.0

#: Who a process is. `/proc/PID/stat` has its start in field 22, in ticks since boot; a pid alone is used again, and a
#: phone that started again has other processes under the numbers of the old ones. What a function finds is in the
#: variable of its name: whatever stands in `$(...)` costs the phone a process.
IDENTITY = r"""
boot_now() { boot_now=; { read -r boot_now < /proc/sys/kernel/random/boot_id; } 2>/dev/null; : "${boot_now:=unknown}"; }
started() {
  started= line=; { read -r line < "/proc/$1/stat"; } 2>/dev/null
  set -- ${line##*) }
  case ${1:-X} in [ZX]) ;; *) started=${20} ;; esac
}
leads() { [ -n "$1" ] && boot_now && [ "$3" = "$boot_now" ] && started "$1" && [ "$started" = "$2" ]; }
"""

#: What a program printed, as one line of bounded length. No `tr`: that of some toybox versions prints nothing.
ONE_LINE = r"""
one_line() { ( set -f; printf '%s ' $1 | head -c 200 ); }
"""

#: `end_job FOLDER` ends the job whose folder that is and proves it: only processes whose leader is the one that wrote
#: `pid`, or that carry the job's mark. They have a second to end by themselves. Says "alive PIDS" and fails when
#: something does not die: it hangs in a driver.
END_JOB = (
    IDENTITY
    + rf"""
of_group() {{ grep -lsE "\) [^ZX] [0-9]+ $1 $1 " /proc/[0-9]*/stat; }}
of_job() {{ grep -lszxF "{JOB_VARIABLE}=$1" /proc/[0-9]*/environ; }}
end_job() {{
  id=; pid=; start=; booted=; group=
  {{ read -r id < "$1/id"; read -r pid start booted < "$1/pid"; }} 2>/dev/null
  leads "$pid" "$start" "$booted" && group=$pid
  tries=0
  while :; do
    left=
    for file in $([ -n "$group" ] && of_group "$group"; [ -n "$id" ] && of_job "$id"); do
      file=${{file#/proc/}}; left="$left ${{file%%/*}}"
    done
    [ -z "$left" ] && return 0
    [ $tries -eq 70 ] && break
    if [ $tries -eq 0 ]; then kill -TERM $left; elif [ $tries -ge 20 ]; then kill -KILL $left; fi 2>/dev/null
    tries=$((tries + 1))
    if [ $tries -le 10 ]; then sleep 0.02; else sleep 0.1; fi
  done
  echo "alive$left"; return 1
}}
"""
)


def lines_of(output: Output, doing: str) -> list[str]:
    """The lines a script of ours printed.

    Raises:
        PhoneFullError: it failed because there is no room.
        AttemptError: the script failed: the phone's shell is not what we know, or its storage is out of order.
    """
    if output.exit_code != 0:
        if "No space left on device" in output.stderr:
            raise PhoneFullError(f"{doing}: the phone's storage is full")
        said = tidy((output.stderr.strip() or output.stdout.strip() or "nothing said").splitlines()[-1])
        raise AttemptError(Cause.DEVICE, "phone_script", f"{doing} failed on the phone ({output.exit_code}): {said}")
    # Nothing else ends a line here: what a phone says may hold any character.
    return output.stdout.removesuffix("\n").split("\n") if output.stdout else []
