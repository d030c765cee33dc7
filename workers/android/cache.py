"""Artifacts kept on a phone by digest: what is there is not pushed again, and the least recently used goes first."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from workers.android.job import damaged
from workers.android.phone import ROOT, Phone, PhoneFullError
from workers.android.scripts import QUERY_S, lines_of
from workers.android.shell import quote, words
from workers.errors import AttemptError, Cause

#: The folder of artifacts.
CACHE = f"{ROOT}/cache"
#: Left free beside what is pushed: a phone whose storage runs full is slow, and kills what runs.
MARGIN_BYTES = 256 << 20
#: The slowest that a phone's USB and storage are waited for.
_SLOWEST_BYTES_PER_S = 2e6
#: Digests on the phone: the slowest core with no instruction for them.
_SLOWEST_DIGEST_BYTES_PER_S = 2e7


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A file that a job needs on the phone."""

    sha256: str
    local: Path
    bytes: int

    @property
    def remote(self) -> str:
        """Where it is on the phone, once it is there."""
        return f"{CACHE}/{self.sha256}"


@dataclass(frozen=True, kw_only=True)
class Kept:
    """A file in the cache of a phone."""

    sha256: str
    bytes: int
    #: Epoch seconds by the phone's clock.
    last_used: int


@dataclass(frozen=True, kw_only=True)
class Room:
    """What a phone's storage says."""

    free_bytes: int
    kept: tuple[Kept, ...]


def ensure(phone: Phone, wanted: Sequence[Wanted], limit_bytes: int) -> int:
    """Have these files on the phone, whole; one call when they are there already. Returns the bytes pushed.

    Whether a file is whole is computed on the phone: when it arrives, and once more after every boot.

    Args:
        phone: where.
        wanted: all that the job needs; none of it is evicted.
        limit_bytes: the cache holds no more than this, unless one job needs more.

    Raises:
        PhoneLostError: it went; a half file lies under a name of its own until the phone is cleaned.
        PhoneFullError: no room even without everything that the job does not need.
        AttemptError: a file arrived damaged, twice.
    """
    missing, room = _look(phone, wanted)
    # Looked at where nothing is missing, too: the cache gives way to whatever else fills the phone.
    need = sum(file.bytes for file in missing)
    gone = victims(room, need, limit_bytes, keep={file.sha256 for file in wanted})
    if gone:
        names = [name for sha256 in gone for name in (sha256, f"{sha256}.whole")]
        lines_of(phone.run(f"cd {CACHE} && rm -f {words(*names)}", QUERY_S), "evicting from the cache")
    for file in missing:
        if not _push(phone, file) and not _push(phone, file):
            raise damaged(file.local.name)
    return need


def victims(room: Room, need_bytes: int, limit_bytes: int, keep: Collection[str]) -> list[str]:
    """Which files must go so that `need_bytes` more fit: the least recently used first, and no more than it takes.

    Raises:
        PhoneFullError: it does not fit, whatever goes.
    """
    free, held = room.free_bytes, sum(file.bytes for file in room.kept)
    gone = []
    for file in sorted(room.kept, key=lambda file: (file.last_used, file.sha256)):
        if free >= need_bytes + MARGIN_BYTES and held + need_bytes <= limit_bytes:
            break
        if file.sha256 not in keep:
            gone.append(file.sha256)
            free, held = free + file.bytes, held - file.bytes
    if free < need_bytes + MARGIN_BYTES:
        raise PhoneFullError(
            f"{_mib(need_bytes)} wanted and {_mib(MARGIN_BYTES)} to stay free, but the phone has "
            f"{_mib(room.free_bytes)} and the cache could give back {_mib(free - room.free_bytes)}"
        )
    return gone


def read_room(lines: Iterable[str]) -> Room:
    """What `df -k` and `stat` said, line by line; anything else is passed over."""
    free, kept = None, []
    for line in lines:
        match line.split():
            case ["kept", name, size, used] if _is_digest(name) and size.isdecimal() and used.isdecimal():
                kept.append(Kept(sha256=name, bytes=int(size), last_used=int(used)))
            # A long device name wraps the line of df: only the end of the last line is certain.
            case ["df", *fields] if len(fields) >= 4 and fields[-3].isdecimal():
                free = int(fields[-3]) * 1024
    if free is None:
        raise AttemptError(Cause.DEVICE, "phone_script", "the phone does not say how much room its storage has")
    return Room(free_bytes=free, kept=tuple(kept))


def _look(phone: Phone, wanted: Sequence[Wanted]) -> tuple[list[Wanted], Room]:
    """Which files are not there, or damaged; and the room there is."""
    script = _LOOK + "".join(f"have {quote(file.sha256)} {file.bytes}\n" for file in wanted) + _ROOM
    total = sum(file.bytes for file in wanted)
    lines = lines_of(phone.run(script, QUERY_S + total / _SLOWEST_DIGEST_BYTES_PER_S), "looking into the cache")
    lacking = {line.removeprefix("lacks ") for line in lines if line.startswith("lacks ")}
    missing = [file for file in wanted if file.sha256 in lacking]
    return missing, read_room(lines)


def _push(phone: Phone, file: Wanted) -> bool:
    """Push one file under a name of its own, then into its place if it arrived whole."""
    part = f"{file.remote}.part-{secrets.token_hex(4)}"
    try:
        phone.push(file.local, part, QUERY_S + file.bytes / _SLOWEST_BYTES_PER_S)
    except PhoneFullError:
        phone.run(f"rm -f {quote(part)}", QUERY_S)
        raise
    script = f"""
{_BOOT}
part={quote(part)} file={quote(file.remote)}
sum=$(sha256sum < "$part")
if [ "${{sum%% *}}" = {quote(file.sha256)} ]; then
  chmod 644 "$part" && mv -f "$part" "$file" && echo "$boot" > "$file.whole" && echo whole
else rm -f "$part"; echo damaged; fi
"""
    said = lines_of(phone.run(script, QUERY_S + file.bytes / _SLOWEST_DIGEST_BYTES_PER_S), "checking what was pushed")
    return said == ["whole"]


_BOOT = "boot=unknown; { read -r boot < /proc/sys/kernel/random/boot_id; } 2>/dev/null"

#: `have SHA256 BYTES`: says "lacks SHA256" unless the file is there and whole. What was computed in this boot is
#: believed (SHA256.whole holds the boot's id), what is of the wrong size never.
_LOOK = f"""
mkdir -p {CACHE} && cd {CACHE} || exit 70
{_BOOT}
have() {{
  if [ -e $1 ] && [ "$(stat -c %s $1)" = $2 ]; then
    seen=; {{ read -r seen < $1.whole; }} 2>/dev/null
    if [ "$seen" = "$boot" ] && [ $boot != unknown ]; then touch $1; return; fi
    sum=$(sha256sum < $1)
    if [ "${{sum%% *}}" = $1 ]; then touch $1; echo "$boot" > $1.whole; return; fi
  fi
  rm -f $1 $1.whole; echo "lacks $1"
}}
"""

_ROOM = """
echo df $(df -k . | tail -n 1)
for file in *; do
  case $file in *.*) ;; *) [ -e "$file" ] && echo "kept $(stat -c '%n %s %Y' "$file")" ;; esac
done
true
"""


def _is_digest(text: str) -> bool:
    return len(text) == 64 and all(character in "0123456789abcdef" for character in text)


def _mib(count: int) -> str:
    return f"{count / (1 << 20):.0f} MiB"
