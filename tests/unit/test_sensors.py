"""workers.sensors on made-up kernel trees: absent, forbidden, dead and 0 are four answers."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.report import Reading
from workers.sensors import cpu_load
from workers.sensors.cpu_frequency import CpuFrequency
from workers.sensors.cpu_load import CpuLoad
from workers.sensors.process_memory import ProcessMemory
from workers.sensors.rapl import Rapl
from workers.sensors.thermal_zones import ThermalZones

NO_PIDS: frozenset[int] = frozenset()
RANGE_UJ = 1_000_000


def add_rapl(root: Path, zone: str, name: str, energy_uj: int) -> Path:
    """A zone of powercap; returns its counter."""
    folder = root / zone
    folder.mkdir(parents=True)
    (folder / "name").write_text(f"{name}\n")
    (folder / "max_energy_range_uj").write_text(f"{RANGE_UJ}\n")
    (folder / "energy_uj").write_text(f"{energy_uj}\n")
    return folder / "energy_uj"


def add_zone(root: Path, number: int, kind: str, temperature: str) -> Path:
    """A thermal zone; returns its temperature file."""
    folder = root / f"thermal_zone{number}"
    folder.mkdir(parents=True)
    (folder / "type").write_text(f"{kind}\n")
    (folder / "temp").write_text(f"{temperature}\n")
    return folder / "temp"


def told(readings: list[Reading]) -> list[tuple[str, float | None, str]]:
    """Domain, value and quality of readings."""
    return [(reading.domain, reading.value, reading.quality) for reading in readings]


@pytest.mark.parametrize("kind", [Rapl, ThermalZones, CpuFrequency])
def test_a_host_without_the_files_is_unsupported_and_never_reads_zero(
    kind: type[Rapl | ThermalZones | CpuFrequency], tmp_path: Path
) -> None:
    why_not = kind(tmp_path).why_not()
    assert why_not is not None
    assert why_not[0] == "unsupported"
    assert "virtual machine" in why_not[1]


def test_rapl_counts_from_its_first_reading_in_millijoules(tmp_path: Path) -> None:
    counter = add_rapl(tmp_path, "intel-rapl:0", "package-0", 500_000)
    rapl = Rapl(tmp_path)
    assert rapl.why_not() is None
    assert told(rapl.read(1.0, NO_PIDS)) == [("cpu_package:0", 0.0, "ok")]
    counter.write_text("512345\n")
    (reading,) = rapl.read(2.0, NO_PIDS)
    assert (reading.value, reading.unit, reading.quantity, reading.at) == (12.345, "mJ", "energy", 2.0)


@given(steps=st.lists(st.integers(0, RANGE_UJ), max_size=12), first=st.integers(0, RANGE_UJ))
@settings(max_examples=20)
def test_rapl_adds_back_every_wraparound(
    steps: list[int], first: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("powercap")
    counter = add_rapl(root, "intel-rapl:0", "package-0", first)
    rapl = Rapl(root)
    total_uj = 0
    rapl.read(0.0, NO_PIDS)
    for step in steps:
        total_uj += step
        counter.write_text(str((first + total_uj) % (RANGE_UJ + 1)))
        (reading,) = rapl.read(1.0, NO_PIDS)
        assert reading.value == total_uj / 1000


def test_rapl_counts_packages_only_for_the_rest_is_part_of_them(tmp_path: Path) -> None:
    add_rapl(tmp_path, "intel-rapl:0", "package-0", 0)
    add_rapl(tmp_path, "intel-rapl:0:0", "core", 0)
    add_rapl(tmp_path, "intel-rapl:1", "package-1", 0)
    add_rapl(tmp_path, "intel-rapl:2", "psys", 0)
    readings = Rapl(tmp_path).read(1.0, NO_PIDS)
    assert [reading.domain for reading in readings] == ["cpu_package:0", "cpu_package:1"]


def test_rapl_that_cannot_be_read_any_more_is_stale_without_a_value(tmp_path: Path) -> None:
    counter = add_rapl(tmp_path, "intel-rapl:0", "package-0", 5)
    rapl = Rapl(tmp_path)
    rapl.read(1.0, NO_PIDS)
    counter.unlink()
    assert told(rapl.read(2.0, NO_PIDS)) == [("cpu_package:0", None, "stale")]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_rapl_that_only_root_may_read_is_no_permission(tmp_path: Path) -> None:
    add_rapl(tmp_path, "intel-rapl:0", "package-0", 5).chmod(0o000)
    why_not = Rapl(tmp_path).why_not()
    assert why_not is not None
    assert why_not[0] == "no_permission"


def test_rapl_asks_for_permission_before_it_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_rapl(tmp_path, "intel-rapl:0", "package-0", 5)
    monkeypatch.setattr("workers.sensors.rapl.os.access", lambda _path, _mode: False)
    why_not = Rapl(tmp_path).why_not()
    assert why_not is not None
    assert why_not[0] == "no_permission"
    assert "root" in why_not[1]


def test_temperatures_are_named_by_their_type(tmp_path: Path) -> None:
    add_zone(tmp_path, 0, "x86_pkg_temp", "45500")
    add_zone(tmp_path, 1, "acpitz", "0")
    zones = ThermalZones(tmp_path)
    assert zones.why_not() is None
    assert told(zones.read(1.0, NO_PIDS)) == [("zone:x86_pkg_temp", 45.5, "ok"), ("zone:acpitz", 0.0, "ok")]


@pytest.mark.parametrize("raw", ["-263200", "200000"])
def test_a_temperature_that_cannot_be_is_implausible_without_a_value(tmp_path: Path, raw: str) -> None:
    add_zone(tmp_path, 0, "acpitz", raw)
    (reading,) = ThermalZones(tmp_path).read(1.0, NO_PIDS)
    assert (reading.value, reading.quality) == (None, "implausible")
    assert reading.why is not None
    assert reading.why.startswith(f"{int(raw) / 1000:g}")


@pytest.mark.parametrize("damage", ["unlink", "text"])
def test_a_temperature_that_cannot_be_read_is_stale_beside_the_others(tmp_path: Path, damage: str) -> None:
    file = add_zone(tmp_path, 0, "acpitz", "30000")
    add_zone(tmp_path, 1, "x86_pkg_temp", "45500")
    zones = ThermalZones(tmp_path)
    if damage == "unlink":
        file.unlink()
    else:
        file.write_text("N/A")
    assert told(zones.read(1.0, NO_PIDS)) == [("zone:acpitz", None, "stale"), ("zone:x86_pkg_temp", 45.5, "ok")]


def test_clock_is_the_mean_over_cpus(tmp_path: Path) -> None:
    for number, khz in enumerate((2_000_000, 3_000_000)):
        (tmp_path / f"cpu{number}" / "cpufreq").mkdir(parents=True)
        (tmp_path / f"cpu{number}" / "cpufreq" / "scaling_cur_freq").write_text(f"{khz}\n")
    clock = CpuFrequency(tmp_path)
    assert clock.why_not() is None
    assert told(clock.read(1.0, NO_PIDS)) == [("cpu", 2500.0, "ok")]
    (tmp_path / "cpu1" / "cpufreq" / "scaling_cur_freq").write_text("<unknown>\n")
    assert told(clock.read(2.0, NO_PIDS)) == [("cpu", None, "stale")]


def test_load_and_stolen_time_are_shares_since_the_reading_before(monkeypatch: pytest.MonkeyPatch) -> None:
    totals = iter([(10.0, 1.0, 0.0), (12.0, 2.0, 0.5)])

    def cpu_times() -> SimpleNamespace:
        user, system, steal = next(totals)
        return SimpleNamespace(user=user, system=system, steal=steal)

    monkeypatch.setattr(cpu_load, "psutil", SimpleNamespace(cpu_times=cpu_times))
    load = CpuLoad()
    assert load.read(100.0, NO_PIDS) == []
    assert {reading.quantity: reading.value for reading in load.read(102.0, NO_PIDS)} == {"busy": 1.5, "steal": 0.25}


def test_a_system_that_tells_no_stolen_time_gives_no_reading_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_load, "psutil", SimpleNamespace(cpu_times=lambda: SimpleNamespace(user=1.0, system=0.0)))
    load = CpuLoad()
    load.read(1.0, NO_PIDS)
    assert [reading.quantity for reading in load.read(2.0, NO_PIDS)] == ["busy"]


def test_memory_is_summed_over_the_measured_processes_only() -> None:
    memory = ProcessMemory()
    (one,) = memory.read(1.0, frozenset({os.getpid()}))
    assert one.value is not None
    assert one.value > 1_000_000
    assert one.unit == "bytes"
    assert memory.read(1.0, NO_PIDS) == []


def test_memory_of_a_process_that_is_gone_is_absent_and_not_zero() -> None:
    assert ProcessMemory().read(1.0, frozenset({2**22 + 1})) == []
