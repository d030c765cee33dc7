"""A rack of phones on one host: how much of the wall time is not the phones' own work, and how soon one is noticed.

40 played phones (docs/fake-phones.md) behind a real adb server, each sent a program of 5 MB and a run of one second by
the stand-in that sleeps; everything on this host's side is real: adb, the agent, its driver, its reports. The phones
are played on the same machine, and what that costs is told beside.

    python benchmarks/phones.py [--quick] [--phones 40] [--rounds 5]
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import adbutils
import psutil
from common import arguments, at_most, counted, finish, mean_interval, say

from workers.agent import HostAgent
from workers.android.adb import AdbServer
from workers.android.fake.handle import FakeRack
from workers.android.fake.root import why_not
from workers.android.fake.stand_ins import write_sleeping
from workers.artifacts import ArtifactStore
from workers.codec import to_dict
from workers.contract import Limits, MeasureTask, Options, Order
from workers.errors import AttemptError

WALL_BAR, RSS_BAR_MB, PLUG_BAR_S, OVERHEAD_BAR_MS = 1.5, 250.0, 3.0, 300.0
#: By whether adb notices a lost phone by itself.
UNPLUG_BAR_S = {"carried": 2.0, "system": 15.0}
MODEL_BYTES = 5_000_000
RUN_S = 1.0
#: Times that one phone is pulled and plugged, and runs alone.
_ONE_PHONE_TIMES = 7
_PATIENCE_S = 180.0


class Host:
    """An agent, and what has happened to it so far."""

    def __init__(self, home: Path) -> None:
        """Start it."""
        self.store = ArtifactStore(f"file://{home / 'store'}", home / "store-cache")
        self.agent = HostAgent(home, f"file://{home / 'store'}", drivers=["android"])
        self.since = 0
        self.presence = {device["key"]: device["presence"] for device in self.agent.hello()["devices"]}
        self.reports: dict[int, dict[str, Any]] = {}
        self.peak_mb = 0.0
        self._number = 0
        self._home = home
        self._me = psutil.Process()

    def look(self) -> None:
        """Take what there is to hear, waiting a little for it."""
        for event in self.agent.poll(self.since, 0.2)["events"]:
            if event["sequence"] <= self.since:
                continue
            self.since = event["sequence"]
            if event["kind"] == "devices":
                self.presence = {device["key"]: device["presence"] for device in event["devices"]}
            elif event["kind"] == "finished":
                self.reports[event["attempt_id"]] = json.loads(event["report"])
        self.peak_mb = max(self.peak_mb, self._me.memory_info().rss / 2**20)

    def wait(self, what: Callable[[], bool], doing: str) -> float:
        """Seconds until something is so."""
        began = time.monotonic()
        while not what():
            self.look()
            if time.monotonic() - began > _PATIENCE_S:
                raise RuntimeError(f"not within {_PATIENCE_S:g} s: {doing}")
        return time.monotonic() - began

    def online(self) -> list[str]:
        """Keys of the phones that are there."""
        return [key for key, presence in self.presence.items() if presence == "online"]

    def model(self, number: int) -> str:
        """Digest of a program that no phone has yet; the stand-in does not look into it."""
        content = hashlib.shake_128(str(number).encode()).digest(MODEL_BYTES)
        return self.store.put_bytes(content, self._home)

    def start(self, place: str, artifact: str) -> int:
        """Begin one run of a second."""
        self._number += 1
        task = MeasureTask(
            runtime="benchmark-model",
            entry="workers.runtimes.phone_tools:BenchmarkModelRuntime",
            format="tflite",
            recipe="fp32",
            model="benchmark",
            weights="random",
            compute_unit="cpu",
            options=Options(min_seconds=RUN_S, max_seconds=RUN_S),
        )
        order = Order(
            attempt_id=self._number,
            token=f"t{self._number}",
            place=place,
            limits=Limits(deadline_s=120, memory_bytes=1 << 30),
            measure=task,
            inputs={"artifact": artifact},
        )
        self.agent.start([to_dict(order)])
        return self._number

    def report(self, attempt: int) -> dict[str, Any]:
        """Of a run that is over.

        Raises:
            RuntimeError: it failed.
        """
        report = self.reports[attempt]
        if (failure := report["result"]["failure"]) is not None:
            raise RuntimeError(f"a run failed: {failure['code']}: {failure['message']}")
        return report


@contextmanager
def server(which: str, program: str, home: Path) -> Iterator[AdbServer]:
    """An adb server of our own."""
    port = 16000 + os.getpid() % 10000
    # libusb: a new adb would wait for a bus that has no phone.
    os.environ.update(HOME=str(home), ANDROID_ADB_SERVER_PORT=str(port), ADB_LIBUSB="0")
    say(f"adb, {which}: {program}")
    adb = AdbServer(port, program)
    adb.start()
    try:
        yield adb
    finally:
        with suppress(AttemptError):
            adb.kill()


@contextmanager
def host(adb: AdbServer, program: str, home: Path) -> Iterator[Host]:
    """An agent with settings for phones."""
    tool = write_sleeping(home / "benchmark_model")
    digest = hashlib.sha256(tool.read_bytes()).hexdigest()
    settings = home / "android.toml"
    settings.write_text(
        f'[adb]\nport = {adb.port}\npath = "{program}"\n'
        f'[tools.benchmark-model.arm64-v8a]\npath = "{tool}"\nsha256 = "{digest}"\nversion = "stand-in"\n'
    )
    os.environ["BENCHFARM_ANDROID"] = str(settings)
    running = Host(home / "agent")
    try:
        yield running
    finally:
        running.agent.close()


def crowd(running: Host, phones: int, rounds: int, rack: FakeRack) -> tuple[float, dict[str, Any]]:
    """All phones at work, each `rounds` runs back to back, each with a program of its own round.

    Returns:
        Seconds, and what it cost.
    """
    models = [running.model(number) for number in range(rounds)]
    mine, theirs = psutil.Process(), psutil.Process(rack.pid)
    before = _cpu_s(mine), _cpu_s(theirs), _machine_s()
    load = os.getloadavg()[0]
    began = time.monotonic()
    todo = {key: list(models) for key in running.online()}
    at_work = {running.start(key, todo[key].pop(0)): key for key in todo}
    walls = []
    while at_work:
        running.look()
        for attempt in [attempt for attempt in at_work if attempt in running.reports]:
            key = at_work.pop(attempt)
            walls.append(running.report(attempt)["wall_s"])
            if todo[key]:
                at_work[running.start(key, todo[key].pop(0))] = key
        if time.monotonic() - began > _PATIENCE_S:
            raise RuntimeError(f"{len(at_work)} runs do not end")
    wall_s = time.monotonic() - began
    played_s = _cpu_s(theirs) - before[1]
    seen: dict[str, Any] = {
        "runs": phones * rounds,
        "run_wall_p50_s": statistics.median(walls),
        "run_wall_max_s": max(walls),
        "agent_cpu_ms_per_run": (_cpu_s(mine) - before[0]) / len(walls) * 1e3,
        # With its shells' processes that have ended; not with the jobs, which nobody of it waits for.
        "played_phones_cpu_ms_per_run": played_s / len(walls) * 1e3,
        # What else kept this machine busy when it began: whatever it is, it is in the wall time.
        "load_average_before": load,
    }
    # Real phones have processors of their own; played ones share this machine's, and cannot be faster than it.
    bound_s = max(RUN_S * rounds, played_s / (os.cpu_count() or 1))
    seen["context_ideal_bound_by_playing_s"] = bound_s
    seen["context_wall_over_ideal_bound_by_playing"] = wall_s / bound_s
    seen["machine_busy_cores"] = (_machine_s() - before[2]) / wall_s
    return wall_s, seen


def _machine_s() -> float:
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system)


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    own = times.user + times.system
    return float(own if process.pid == os.getpid() else own + times.children_user + times.children_system)


def overheads_ms(running: Host, key: str) -> list[float]:
    """What a run of one phone alone takes beyond the run itself, its program being there already."""
    model = running.model(1000)
    taken = []
    for _ in range(_ONE_PHONE_TIMES + 1):
        attempt = running.start(key, model)
        running.wait(lambda attempt=attempt: attempt in running.reports, "a run alone")  # type: ignore[misc]
        report = running.report(attempt)
        seen = report["result"]["measurement"]
        taken.append((report["wall_s"] - (seen["timed_to"] - seen["timed_from"])) * 1e3)
    return taken[1:]  # the first one pushes


def cable(running: Host, rack: FakeRack) -> tuple[list[float], list[float]]:
    """Seconds until the agent tells that a phone has come, and that it went."""
    before = set(running.online())
    played = rack["p0"]
    played.unplug()
    running.wait(lambda: len(running.online()) < len(before), "unplugged")
    (key,) = before - set(running.online())
    plugged, unplugged = [], []
    for _ in range(_ONE_PHONE_TIMES):
        played.plug()
        plugged.append(running.wait(lambda: key in running.online(), "plugged"))
        played.unplug()
        unplugged.append(running.wait(lambda: key not in running.online(), "unplugged"))
    played.plug()
    running.wait(lambda: key in running.online(), "plugged")
    return plugged, unplugged


def main() -> int:
    """Measure all of it."""
    given = arguments(__doc__, phones=40, rounds=5)
    if (reason := why_not()) is not None:
        say(f"no phones can be played here: {reason}")
        return 2
    carried = Path(adbutils.__file__).parent / "binaries" / "adb"
    programs = {"carried": str(carried) if carried.exists() else None, "system": shutil.which("adb")}
    figures: list[dict[str, Any]] = []
    context: dict[str, Any] = {}
    for which, program in programs.items():
        if program is None:
            say(f"no {which} adb: left out")
            continue
        with tempfile.TemporaryDirectory(prefix="benchfarm-phones-") as name:
            home = Path(name)
            entries = [{"name": f"p{number}", "vendor": "pixel"} for number in range(given.phones)]
            with (
                server(which, program, home) as adb,
                FakeRack(entries, adb_port=adb.port) as rack,
                host(adb, program, home) as running,
            ):
                all_s = running.wait(lambda: len(running.online()) == given.phones, "all phones online")
                context[f"all_online_s_{which}"] = all_s
                plugged, unplugged = cable(running, rack)
                figures += [
                    counted(f"plug to online, {which} adb, worst", max(plugged), PLUG_BAR_S, "s", seconds=plugged),
                    counted(
                        f"unplug noticed, {which} adb, worst",
                        max(unplugged),
                        UNPLUG_BAR_S[which],
                        "s",
                        seconds=unplugged,
                    ),
                ]
                if which == "system":
                    continue
                alone = overheads_ms(running, running.online()[0])
                # The mean: a wait that only every second run has is overhead too.
                name = "overhead of a run beyond push and run, mean"
                interval = mean_interval(alone)
                figures.append(at_most(name, statistics.fmean(alone), interval, OVERHEAD_BAR_MS, "ms", each_ms=alone))
                wall_s, seen = crowd(running, given.phones, given.rounds, rack)
                ideal_s = RUN_S * given.rounds
                name = f"wall over ideal, {given.phones} phones x {given.rounds} runs of {RUN_S:g} s"
                figures.append(counted(name, wall_s / ideal_s, WALL_BAR, "ratio", wall_s=wall_s, **seen))
                figures.append(counted("most memory of the agent", running.peak_mb, RSS_BAR_MB, "MiB"))
    return finish("phones", given.quick, figures, cores=os.cpu_count(), **context)


if __name__ == "__main__":
    sys.exit(main())
