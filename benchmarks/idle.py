"""CPU that an idle farm takes beside a measurement: the agent's sampling, and all that the embedded Ray brings."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import psutil
from common import Figure, at_most, mean_interval, say
from farm import own_environment

from device_registry.database import writing
from device_registry.tables import utc_now

RAY_PERCENT = 8
SAMPLING_PERCENT = 1
#: Idle CPU is read over windows of this length.
_WINDOW_S = 2.0
_MONITOR = """
import json, os, sys, time
from workers.host import load_sensors
from workers.host_monitor import HostMonitor
monitor = HostMonitor(load_sensors())
monitor.watch(os.getpid())
shares = []
for _ in range(int(sys.argv[1])):
    began, used = time.monotonic(), time.process_time()
    time.sleep(float(sys.argv[2]))
    shares.append((time.process_time() - used) / (time.monotonic() - began) * 100)
print(json.dumps(shares))
os._exit(0)
"""


def idle_cost(home: Path, windows: int) -> list[Figure]:
    """CPU of an idle farm: first the agent's sampling by itself, then everything that the embedded Ray brings."""
    say(f"the agent's sampling ({windows * _WINDOW_S:.0f} s)")
    child = subprocess.run(
        [sys.executable, "-c", _MONITOR, str(windows), str(_WINDOW_S)],
        stdout=subprocess.PIPE,
        env=own_environment(home),
        check=True,
    )
    sampling = json.loads(child.stdout)
    say(f"an idle embedded Ray ({windows * _WINDOW_S:.0f} s)")
    shares = _idle_ray(home, windows)
    total = [sum(window.values()) - statistics.mean(sampling) for window in shares]
    names = sorted({name for window in shares for name in window})
    by_process = {name: statistics.mean(window.get(name, 0.0) for window in shares) for name in names}
    what = "idle dispatcher, Ray and agent, less the sampling"
    return [
        at_most(
            "agent's sampling",
            statistics.mean(sampling),
            mean_interval(sampling),
            SAMPLING_PERCENT,
            "% of a core",
            processes_on_host=len(psutil.pids()),
        ),
        at_most(
            what,
            statistics.mean(total),
            mean_interval(total),
            RAY_PERCENT,
            "% of a core",
            by_process_percent=by_process,
        ),
    ]


def _idle_ray(home: Path, windows: int) -> list[dict[str, float]]:
    """Per window, the share of a core that this process (as dispatcher) and each of its descendants takes, in %."""
    from scheduler.dispatcher import ATTEMPT_LEASE_S, Dispatcher
    from scheduler.embedded import EmbeddedFarm, Home
    from scheduler.executors.ray_embedded import EmbeddedRayExecutor
    from scheduler.leases import DispatcherLease

    farm = EmbeddedFarm(Home(home, f"sqlite:///{home / 'benchfarm.db'}", f"file://{home / 'artifacts'}"))
    executor = EmbeddedRayExecutor(home, farm.home.store_url, ATTEMPT_LEASE_S)
    try:
        lease = DispatcherLease()
        with writing(farm.engine) as connection:
            lease.acquire(connection, utc_now())
        dispatcher = Dispatcher(farm.engine, executor, lease)
        dispatcher.join_hosts()
        shares: list[dict[str, float]] = []
        while len(shares) < windows + 1:
            before, began = _cpu_seconds(), time.monotonic()
            while time.monotonic() - began < _WINDOW_S:
                dispatcher.tick()
            after, length = _cpu_seconds(), time.monotonic() - began
            shares.append({name: (after[name] - before.get(name, 0.0)) / length * 100 for name in after})
        return shares[1:]  # the first sees Ray's start die down
    finally:
        executor.close()


def _cpu_seconds() -> dict[str, float]:
    """CPU seconds of this process and its descendants, by name."""
    me = psutil.Process()
    used: dict[str, float] = {}
    for process in [me, *me.children(recursive=True)]:
        try:
            # The command line tells Ray's Python processes apart.
            words = process.cmdline() or [process.name()]
            script = next((word for word in words[1:] if word.endswith(".py")), words[0])
            name = "dispatcher" if process == me else Path(script).name
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        used[name] = used.get(name, 0.0) + times.user + times.system
    return used
