"""What a phone told of itself, second after second: kept small, for forty phones' worth lies in one process."""

from __future__ import annotations

import math
import threading
import zlib
from collections import OrderedDict
from dataclasses import dataclass

from workers.android.snapshot import FULL_EVERY, Snapshot, read_snapshot

#: Compressed, of one phone: about a quarter of an hour at full rate, then coarser. It is thinned to the second figure.
_LIMIT_BYTES, _ROOMY_BYTES = 2 << 20, 3 << 19
#: Never thinned: what the next gate and the present run look at.
_FRESH_S = 300.0
#: Nobody asks for more.
_LIMIT_AGE_S = 2 * 3600.0
#: Gate, energy and telemetry of one run ask for the same ones: so many stay as they were read.
_MOST_READ = 16


@dataclass(frozen=True, slots=True)
class _Kept:
    at: float
    packed: bytes
    full: bool

    def read(self) -> Snapshot:
        return read_snapshot(zlib.decompress(self.packed).decode(), self.at)


class PhoneHistory:
    """Snapshots of one phone. Their text is kept compressed and read when it is asked for: most of it never is."""

    def __init__(self) -> None:
        """Nothing was told yet."""
        self._lock = threading.Lock()
        self._kept: list[_Kept] = []
        self._bytes = 0
        #: Of those that are not fresh, where it was thinned.
        self._spacing_s = float(FULL_EVERY)
        #: The newest, and the newest full one: asked for again and again, read once.
        self._read: dict[bool, Snapshot] = {}
        #: What was read last, by its moment.
        self._lately: OrderedDict[float, Snapshot] = OrderedDict()

    def add(self, text: str, at: float, *, full: bool) -> None:
        """Keep one.

        Args:
            text: what the script printed.
            at: epoch seconds.
            full: whether Android's services were asked as well.
        """
        kept = _Kept(at, zlib.compress(text.encode(errors="replace"), 1), full)
        with self._lock:
            self._kept.append(kept)
            self._bytes += len(kept.packed)
            self._read.pop(False, None)
            if full:
                self._read.pop(True, None)
            if self._bytes > _LIMIT_BYTES or at - self._kept[0].at > _LIMIT_AGE_S:
                self._thin(at)

    def latest(self, *, full: bool = False) -> Snapshot | None:
        """The newest, or the newest full one; None while there is none."""
        with self._lock:
            if full not in self._read:
                found = next((kept for kept in reversed(self._kept) if kept.full or not full), None)
                if found is None:
                    return None
                self._read[full] = self._snapshot(found)
            return self._read[full]

    def between(self, since: float, until: float = math.inf) -> tuple[Snapshot, ...]:
        """Those of a window (epoch seconds), the oldest first."""
        with self._lock:
            return tuple(self._snapshot(kept) for kept in self._kept if since <= kept.at <= until)

    def _snapshot(self, kept: _Kept) -> Snapshot:
        if (found := self._lately.pop(kept.at, None)) is None:
            found = kept.read()
        self._lately[kept.at] = found
        if len(self._lately) > _MOST_READ:
            self._lately.popitem(last=False)
        return found

    def _thin(self, now: float) -> None:
        """What is older goes, but for full ones ever further apart: a long run keeps all of its length, coarser."""
        self._keep([kept for kept in self._kept if now - kept.at <= _LIMIT_AGE_S])
        while self._bytes > _ROOMY_BYTES:
            thinned: list[_Kept] = []
            last = float("-inf")
            for kept in self._kept:
                if now - kept.at <= _FRESH_S:
                    thinned.append(kept)
                elif kept.full and kept.at - last >= self._spacing_s - 1:  # beats are not quite a second apart
                    thinned.append(kept)
                    last = kept.at
            self._keep(thinned)
            if self._bytes > _ROOMY_BYTES and self._spacing_s <= _LIMIT_AGE_S:
                self._spacing_s *= 2
            elif self._bytes > _ROOMY_BYTES:  # dumps so long that five minutes of them are too much
                self._keep(thinned[len(thinned) // 4 + 1 :])

    def _keep(self, kept: list[_Kept]) -> None:
        self._kept, self._bytes = kept, sum(len(one.packed) for one in kept)
