"""What the agent sees of its host once a second: processes and sensors, kept for as long as a run may last.

It runs all the time, not only beside a measurement: so a gate finds its two seconds of foreign load already there, and
the idle power before a run is known.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import psutil

from workers.clock import steady
from workers.processes import Process, descendants, snapshot
from workers.report import Energy, ForeignLoad, Quality, Reading
from workers.sensors.sensor import Sensor

_PERIOD_S = 1.0
#: Long enough for a sustained run of ten minutes and its gates.
_KEPT = 1200
#: Foreign load is judged over at least this long.
FOREIGN_WINDOW_S = 2.0
#: Short-lived processes escape the snapshots; the kernel's totals do not, but count ticks, so only much of it counts.
_UNSEEN_LIMIT = 0.30


@dataclass(frozen=True)
class Tick:
    """One second's view."""

    at: float  # epoch seconds, steady
    processes: dict[int, Process]
    #: CPU seconds of the whole host: user and system.
    busy_s: float
    readings: tuple[Reading, ...]


class HostMonitor:
    """A thread that looks once a second. `watch` names the processes that sensors of processes shall read."""

    def __init__(self, sensors: Sequence[Sensor]) -> None:
        """Start looking at once."""
        quick = [sensor for sensor in sensors if not sensor.slow]
        self._sensors = [sensor for sensor in quick if sensor.why_not() is None]
        self._absent = [(sensor, answer) for sensor in quick if (answer := sensor.why_not()) is not None]
        self._slow = [sensor for sensor in sensors if sensor.slow and sensor.why_not() is None]
        self._ticks: deque[Tick] = deque(maxlen=_KEPT)
        self._roots: set[int] = set()
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self.failure: BaseException | None = None
        self._look()
        self._thread = threading.Thread(target=self._loop, name="host-monitor", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop looking."""
        self._stop.set()
        self._thread.join()

    def watch(self, pid: int) -> None:
        """Count a process and its descendants as the measured ones."""
        with self._lock:
            self._roots.add(pid)

    def unwatch(self, pid: int) -> None:
        """Forget a measured process."""
        with self._lock:
            self._roots.discard(pid)

    def look_now(self) -> float:
        """Look at once and return that moment: borders of a window should be fresh."""
        return self._look()

    def foreign_load(self, since: float, until: float, own: Iterable[int]) -> ForeignLoad:
        """CPU time of processes that descend from none of `own`, between two moments.

        Returns:
            The share of one core; None where the window is shorter than two looks.
        """
        ticks = [tick for tick in list(self._ticks) if since - 0.001 <= tick.at <= until + 0.001]
        if len(ticks) < 2 or ticks[-1].at <= ticks[0].at:  # the second: a clock that was set back
            return ForeignLoad(share_of_core=None, window_s=0.0)
        window_s = ticks[-1].at - ticks[0].at
        roots = set(own) | {os.getpid()}
        used: dict[int, float] = {}
        names: dict[int, str] = {}
        unseen_s = unseen_window_s = 0.0
        for before, after in pairwise(ticks):
            ours_before = descendants(before.processes, roots)
            ours = descendants(after.processes, roots) | ours_before
            spent_s = 0.0
            for pid, process in after.processes.items():
                earlier = before.processes.get(pid)
                known = earlier is not None and earlier.started == process.started
                spent = process.cpu_s - (earlier.cpu_s if known and earlier is not None else 0.0)
                spent_s += spent
                if pid not in ours:
                    used[pid] = used.get(pid, 0.0) + spent
                    names[pid] = process.name
            # Where one of our own ended, its last CPU time is in the totals and in no snapshot: nothing can be said.
            if all(pid in after.processes for pid in ours_before & set(before.processes)):
                unseen_s += after.busy_s - before.busy_s - spent_s
                unseen_window_s += after.at - before.at
        share = sum(used.values()) / window_s
        unseen = unseen_s / unseen_window_s if unseen_window_s > 0 else 0.0
        if unseen > _UNSEEN_LIMIT:
            share += unseen
        worst = sorted(used, key=lambda pid: -used[pid])[:3]
        culprits = tuple(
            f"{names[pid]} ({pid}) {used[pid] / window_s:.0%}" for pid in worst if used[pid] / window_s >= 0.02
        )
        return ForeignLoad(share_of_core=max(share, 0.0), window_s=window_s, culprits=culprits)

    def telemetry(self, since: float, until: float) -> list[Reading]:
        """Readings between two moments; one reading without a value for each sensor that this host lacks."""
        readings = [reading for tick in list(self._ticks) if since <= tick.at <= until for reading in tick.readings]
        for sensor, (quality, why) in self._absent:
            readings.append(sensor.reading(until, None, quality, why))
        return readings

    def latest(self) -> tuple[Reading, ...]:
        """What the last look told."""
        return self._ticks[-1].readings

    def slow(self) -> list[Reading]:
        """What changes too slowly to be looked at every second, read now."""
        at = steady()
        return [reading for sensor in self._slow for reading in sensor.read(at, frozenset())]

    def energy(self, since: float, until: float, idle_since: float, idle_until: float) -> Energy:
        """Energy of all counters over a window, as a difference between the looks inside it; idle power beside it."""
        inside = [reading for reading in self.telemetry(since, until) if reading.quantity == "energy"]
        with_value = [reading for reading in inside if reading.value is not None]
        if not with_value:
            quality: Quality = inside[0].quality if inside else "unsupported"
            return Energy(quality=quality, why=inside[0].why if inside else "no energy sensor is registered")
        spent = _counter_difference(with_value)
        if spent is None:
            return Energy(quality="partial", source=with_value[0].sensor, why="the window is shorter than two readings")
        idle = _counter_difference(
            [r for r in self.telemetry(idle_since, idle_until) if r.quantity == "energy" and r.value is not None]
        )
        energy_mj, window_s = spent
        return Energy(
            quality="ok" if window_s >= 2 * _PERIOD_S and len(with_value) == len(inside) else "partial",
            source=with_value[0].sensor,
            energy_mj=energy_mj,
            window_s=window_s,
            idle_power_mw=idle[0] / idle[1] if idle else None,
        )

    def _loop(self) -> None:
        try:
            while not self._stop.wait(_PERIOD_S):
                self._look()
        except BaseException as error:  # the agent asks, and stops loudly: no side loop dies in silence
            self.failure = error
            raise

    def _look(self) -> float:
        at = steady()
        with self._lock:
            processes = snapshot()
            pids = frozenset(descendants(processes, self._roots)) if self._roots else frozenset()
            times = psutil.cpu_times()
            readings = tuple(reading for sensor in self._sensors for reading in sensor.read(at, pids))
            self._ticks.append(Tick(at, processes, times.user + times.system, readings))
        return at


def _counter_difference(readings: Sequence[Reading]) -> tuple[float, float] | None:
    """Sum over domains of last minus first value, and the window in seconds; None with fewer than two looks."""
    total, window_s = 0.0, 0.0
    for domain in {reading.domain for reading in readings}:
        own = [reading for reading in readings if reading.domain == domain and reading.value is not None]
        if len(own) < 2 or own[-1].value is None or own[0].value is None:
            return None
        total += own[-1].value - own[0].value
        window_s = own[-1].at - own[0].at
    return (total, window_s) if window_s > 0 else None
