"""What a run leaves on a phone, and how any agent on any host clears it away."""

from __future__ import annotations

from dataclasses import dataclass

from workers.android.job import undying
from workers.android.ownership import OWNER
from workers.android.phone import ROOT, Phone
from workers.android.preparation import UNDO_ALL, undo_failed
from workers.android.scripts import END_JOB, lines_of
from workers.android.shell import quote

#: Ending what does not want to end takes seconds, and so do settings on a busy phone.
_CLEAN_S = 60.0


@dataclass(frozen=True, kw_only=True)
class Leftovers:
    """What was there, for the log; empty when the phone was clean."""

    #: Jobs that were ended and removed ("ATTEMPT_ID TOKEN", "?" for one that never got that far).
    jobs: tuple[str, ...] = ()
    #: Preparations that were undone, the last first.
    undone: tuple[str, ...] = ()
    #: Half files that were removed.
    half_files: int = 0

    def __bool__(self) -> bool:
        """Whether there was anything."""
        return bool(self.jobs or self.undone or self.half_files)


def clean(phone: Phone, spare: str | None = None, *, release: bool = False) -> Leftovers:
    """End what runs of ours, undo every preparation, remove the job's folder and half files. Repeat it as you like.

    In this order: a job may depend on its preparations, nothing depends on a job. Cut anywhere, it leaves what the
    next call finds: a folder is renamed before its job is ended, so that a job that is only just beginning sees that
    it is not wanted, and is removed only once the job is proven to be over.

    Args:
        phone: which.
        spare: the id of a job that somebody waits for, or is about to start (`JobSpec.id`): who does so cleared up
            before and will again, so nothing is touched, unless another job is on the phone.
        release: whether the phone, once it is clean, is nobody's (`workers.android.ownership`).

    Raises:
        PhoneLostError: it went meanwhile; what is left is found on the next contact.
        AttemptError: processes do not die, or an undo failed: nothing may be measured there. The rest is done.
    """
    spared = ""
    if spare is not None:
        mine = quote(spare)
        spared = f'id={mine}; {{ read -r id < job/id; }} 2>/dev/null; [ "$id" != {mine} ] || exit 0'
    script = f"""
{END_JOB}
{UNDO_ALL}
cd {ROOT} 2>/dev/null || exit 0
{spared}
if [ -d job ]; then
  n=0; while [ -e "gone.$n" ]; do n=$((n + 1)); done
  mv -f job "gone.$n"
fi
alive=
for folder in gone.*; do
  [ -d "$folder" ] || continue
  id=; {{ read -r id < "$folder/id"; }} 2>/dev/null
  if end_job "$folder"; then rm -rf "$folder"; echo "job ${{id:-?}}"; else alive=alive; fi
done
undo_all
for file in cache/*.part-* tools/*/*.part; do
  [ -e "$file" ] && rm -rf "$file" && echo "half"
done
{f'[ -n "$alive$stuck" ] || [ ! -e {OWNER} ] || rm -f {OWNER}' if release else ""}
true
"""
    said = lines_of(phone.run(script, _CLEAN_S), "clearing up")
    if alive := [line for line in said if line.startswith("alive")]:
        raise undying("; ".join(alive))
    if stuck := [line.removeprefix("stuck ").strip() for line in said if line.startswith("stuck ")]:
        raise undo_failed(stuck)
    return Leftovers(
        jobs=tuple(line.removeprefix("job ") for line in said if line.startswith("job ")),
        undone=tuple(line.removeprefix("undone ") for line in said if line.startswith("undone ")),
        half_files=said.count("half"),
    )
