"""workers.host_monitor: foreign load is told from our own, and energy is a difference of counters."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import ClassVar

import pytest

from tests.unit.builders import by_pid, make_process
from tests.unit.children import foreigner
from workers import host_monitor
from workers.host_monitor import HostMonitor
from workers.processes import Process
from workers.report import Quality, Reading
from workers.sensors.sensor import Sensor

ME = os.getpid()
Look = Callable[..., None]


class Counter(Sensor):
    """An energy counter that gives back what a test says, look by look: {domain: millijoules or None}."""

    name: ClassVar[str] = "counter"
    domain: ClassVar[str] = "cpu_package"
    quantity: ClassVar[str] = "energy"
    unit: ClassVar[str] = "mJ"

    def __init__(self, *looks: dict[str, float | None], absent: tuple[Quality, str] | None = None) -> None:
        self._looks = iter(looks)
        self._absent = absent

    def why_not(self) -> tuple[Quality, str] | None:
        return self._absent

    def read(self, at: float, pids: frozenset[int]) -> list[Reading]:
        return [
            self.reading(at, value, "ok" if value is not None else "stale", domain=domain)
            for domain, value in next(self._looks).items()
        ]


@pytest.fixture
def made_up_host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., HostMonitor]]:
    """A monitor of a made-up host: it looks when told, at the seconds told, and sees the processes told."""
    monitors: list[HostMonitor] = []

    def see(at: float, busy_s: float, *processes: Process) -> None:
        host = by_pid([make_process(1, 0), make_process(ME, 1), *processes])
        monkeypatch.setattr(host_monitor, "snapshot", lambda: host)
        monkeypatch.setattr(host_monitor, "steady", lambda: at)
        times = SimpleNamespace(user=busy_s, system=0.0)
        monkeypatch.setattr(host_monitor, "psutil", SimpleNamespace(cpu_times=lambda: times))

    def make(*looks: tuple[float, float, Sequence[Process]], sensors: Sequence[Sensor] = ()) -> HostMonitor:
        monkeypatch.setattr(HostMonitor, "_loop", lambda self: None)  # only told looks
        first, *rest = looks
        see(first[0], first[1], *first[2])
        monitor = HostMonitor(sensors)
        monitors.append(monitor)
        for at, busy_s, processes in rest:
            see(at, busy_s, *processes)
            monitor.look_now()
        return monitor

    yield make
    for monitor in monitors:
        monitor.close()


def counted(
    made_up_host: Callable[..., HostMonitor], *looks: dict[str, float | None], absent: tuple[Quality, str] | None = None
) -> HostMonitor:
    """A monitor with one counter, one look a second from second 0 on."""
    counter = Counter(*looks, absent=absent)
    return made_up_host(*((float(at), 0.0, ()) for at in range(max(len(looks), 1))), sensors=[counter])


# Foreign load


def test_load_is_that_of_processes_that_descend_from_none_of_ours(made_up_host: Callable[..., HostMonitor]) -> None:
    def processes(cpu_s: float) -> list[Process]:
        return [
            make_process(50, ME, cpu_s=3 * cpu_s),  # the runner
            make_process(60, 1, cpu_s=2 * cpu_s),  # named as our own
            make_process(61, 60, cpu_s=2 * cpu_s),  # its child
            make_process(70, 1, cpu_s=cpu_s, name="cc1plus"),
            make_process(71, 70, cpu_s=0.5 * cpu_s, name="as"),
        ]

    monitor = made_up_host((0.0, 0.0, processes(1.0)), (2.0, 8.5, processes(2.0)))
    load = monitor.foreign_load(0.0, 2.0, own=[60])
    assert load.share_of_core == pytest.approx(0.75)
    assert load.window_s == 2.0
    assert load.culprits == ("cc1plus (70) 50%", "as (71) 25%")


def test_load_is_unknown_before_there_were_two_looks(made_up_host: Callable[..., HostMonitor]) -> None:
    monitor = made_up_host((0.0, 0.0, ()), (2.0, 0.0, ()))
    assert monitor.foreign_load(1.0, 2.0, own=[]).share_of_core is None
    assert monitor.foreign_load(0.0, 2.0, own=[]).share_of_core == 0.0


def test_looks_outside_of_the_window_do_not_count(made_up_host: Callable[..., HostMonitor]) -> None:
    looks = [
        (float(at), 0.0, [make_process(70, 1, cpu_s=cpu_s)]) for at, cpu_s in enumerate((0.0, 9.0, 9.1, 9.3, 20.0))
    ]
    load = made_up_host(*looks).foreign_load(1.0, 3.0, own=[])
    assert load.share_of_core == pytest.approx(0.15)
    assert load.window_s == 2.0


def test_a_later_process_of_the_same_pid_begins_at_zero(made_up_host: Callable[..., HostMonitor]) -> None:
    before, after = make_process(70, 1, started=1.0, cpu_s=50.0), make_process(70, 1, started=2.0, cpu_s=0.5)
    load = made_up_host((0.0, 0.0, [before]), (1.0, 0.0, [after])).foreign_load(0.0, 1.0, own=[])
    assert load.share_of_core == pytest.approx(0.5)


def test_much_load_that_no_snapshot_saw_counts(made_up_host: Callable[..., HostMonitor]) -> None:
    load = made_up_host((0.0, 10.0, ()), (2.0, 11.6, ())).foreign_load(0.0, 2.0, own=[])
    assert load.share_of_core == pytest.approx(0.8)
    assert load.culprits == ()


def test_a_little_load_that_no_snapshot_saw_is_the_grain_of_the_clock(made_up_host: Callable[..., HostMonitor]) -> None:
    load = made_up_host((0.0, 10.0, ()), (2.0, 10.5, ())).foreign_load(0.0, 2.0, own=[])
    assert load.share_of_core == 0.0


def test_the_last_work_of_our_own_that_ended_is_not_foreign(made_up_host: Callable[..., HostMonitor]) -> None:
    # It was there in the second look only: what it used until it ended is in the totals alone.
    looks = [(0.0, 0.0, ()), (1.0, 0.2, [make_process(50, ME, cpu_s=0.2)]), (2.0, 1.2, ())]
    assert made_up_host(*looks).foreign_load(0.0, 2.0, own=[]).share_of_core == 0.0


def test_a_runner_whose_parent_ended_meanwhile_is_still_ours(made_up_host: Callable[..., HostMonitor]) -> None:
    before = [make_process(50, ME), make_process(51, 50, cpu_s=1.0)]
    after = [make_process(51, 1, cpu_s=2.0)]
    assert made_up_host((0.0, 0.0, before), (1.0, 1.0, after)).foreign_load(0.0, 1.0, own=[]).share_of_core == 0.0


def test_load_is_unknown_over_no_time_at_all(made_up_host: Callable[..., HostMonitor]) -> None:
    monitor = made_up_host((5.0, 0.0, ()), (5.0, 0.0, ()))
    assert monitor.foreign_load(5.0, 5.0, own=[]).share_of_core is None


def test_a_busy_process_of_somebody_else_is_named_and_our_own_is_not() -> None:
    monitor = HostMonitor([])
    try:
        with foreigner("while True: pass") as pid:
            named = False
            deadline = time.monotonic() + 60
            while not named and time.monotonic() < deadline:
                since = monitor.look_now()
                time.sleep(0.3)
                until = monitor.look_now()
                foreign = monitor.foreign_load(since, until, own=[])
                named = any(f"({pid})" in culprit for culprit in foreign.culprits)
            assert named
            assert foreign.share_of_core is not None
            assert foreign.share_of_core > 0
            ours = monitor.foreign_load(since, until, own=[pid])
            assert not any(f"({pid})" in culprit for culprit in ours.culprits)
    finally:
        monitor.close()
    assert monitor.failure is None


# Readings


def test_readings_are_cut_to_the_window(made_up_host: Callable[..., HostMonitor]) -> None:
    monitor = counted(made_up_host, *({"cpu_package:0": float(at)} for at in range(5)))
    assert [reading.value for reading in monitor.telemetry(1.0, 3.0)] == [1.0, 2.0, 3.0]


def test_a_sensor_that_this_host_lacks_is_told_with_its_reason_and_no_value(
    made_up_host: Callable[..., HostMonitor],
) -> None:
    (reading,) = counted(made_up_host, absent=("no_permission", "only root may read it")).telemetry(0.0, 9.0)
    assert (reading.sensor, reading.value, reading.quality) == ("counter", None, "no_permission")
    assert reading.why == "only root may read it"


def test_sensors_of_processes_are_told_the_watched_ones_and_what_they_started(
    made_up_host: Callable[..., HostMonitor],
) -> None:
    seen: list[frozenset[int]] = []

    class Watcher(Counter):
        def read(self, at: float, pids: frozenset[int]) -> list[Reading]:
            seen.append(pids)
            return []

    processes = [make_process(50, ME), make_process(51, 50), make_process(70, 1)]
    monitor = made_up_host((0.0, 0.0, processes), sensors=[Watcher()])
    monitor.watch(50)
    monitor.look_now()
    monitor.unwatch(50)
    monitor.look_now()
    assert seen == [frozenset(), frozenset({50, 51}), frozenset()]


# Energy


def test_energy_is_the_difference_of_the_counter_inside_the_window(made_up_host: Callable[..., HostMonitor]) -> None:
    counts = [0.0, 10.0, 20.0, 500.0, 1000.0, 1500.0, 9999.0]
    monitor = counted(made_up_host, *({"cpu_package:0": count} for count in counts))
    energy = monitor.energy(2.0, 5.0, 0.0, 2.0)
    assert (energy.quality, energy.source, energy.energy_mj, energy.window_s) == ("ok", "counter", 1480.0, 3.0)
    assert energy.idle_power_mw == 10.0
    assert energy.why is None


def test_energy_of_several_packages_is_their_sum(made_up_host: Callable[..., HostMonitor]) -> None:
    looks = [{"cpu_package:0": 100.0 * at, "cpu_package:1": 10.0 * at} for at in range(4)]
    assert counted(made_up_host, *looks).energy(0.0, 3.0, 0.0, 0.0).energy_mj == 330.0


def test_energy_over_a_short_window_is_partial(made_up_host: Callable[..., HostMonitor]) -> None:
    monitor = counted(made_up_host, *({"cpu_package:0": 100.0 * at} for at in range(4)))
    energy = monitor.energy(1.0, 2.0, 0.0, 0.5)
    assert (energy.quality, energy.energy_mj, energy.idle_power_mw) == ("partial", 100.0, None)


def test_energy_within_one_reading_is_absent_and_not_zero(made_up_host: Callable[..., HostMonitor]) -> None:
    monitor = counted(made_up_host, *({"cpu_package:0": 100.0 * at} for at in range(4)))
    energy = monitor.energy(0.9, 1.1, 0.0, 0.5)
    assert (energy.quality, energy.energy_mj) == ("partial", None)
    assert energy.why == "the window is shorter than two readings"


@pytest.mark.parametrize("quality", ["unsupported", "no_permission"])
def test_energy_that_cannot_be_had_says_why(made_up_host: Callable[..., HostMonitor], quality: Quality) -> None:
    energy = counted(made_up_host, absent=(quality, "no counter here")).energy(0.0, 3.0, 0.0, 0.0)
    assert (energy.quality, energy.energy_mj, energy.why) == (quality, None, "no counter here")


def test_energy_without_any_sensor_is_unsupported(made_up_host: Callable[..., HostMonitor]) -> None:
    energy = made_up_host((0.0, 0.0, ())).energy(0.0, 3.0, 0.0, 0.0)
    assert (energy.quality, energy.energy_mj) == ("unsupported", None)
    assert energy.why == "no energy sensor is registered"


def test_energy_without_one_of_its_packages_is_not_called_ok(made_up_host: Callable[..., HostMonitor]) -> None:
    looks = [{"cpu_package:0": 100.0 * at, "cpu_package:1": None} for at in range(4)]
    assert counted(made_up_host, *looks).energy(0.0, 3.0, 0.0, 0.0).quality != "ok"
