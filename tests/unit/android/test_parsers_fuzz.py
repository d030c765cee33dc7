"""Parsers of what phones print answer any text: 10,000 damaged dumps each, and any text at all."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.android.mutations import mutated
from tests.unit.android.snapshots import samples
from workers.android.parsers.battery import read_battery
from workers.android.parsers.cpu_clocks import read_cpu_clocks
from workers.android.parsers.cpu_times import read_cpu_times, read_processes
from workers.android.parsers.memory import read_memory
from workers.android.parsers.power_supply import read_power_supply
from workers.android.parsers.properties import read_properties
from workers.android.parsers.rails import read_rails
from workers.android.parsers.screen import read_screen
from workers.android.parsers.thermal_service import read_thermal_service
from workers.android.parsers.thermal_zones import read_thermal_zones

PARSERS: dict[str, tuple[Callable[[str], object], str]] = {
    "battery": (read_battery, "battery"),
    "power_supply": (read_power_supply, "power_supply"),
    "thermal_service": (read_thermal_service, "thermal"),
    "thermal_zones": (read_thermal_zones, "zones"),
    "cpu_clocks": (read_cpu_clocks, "clocks"),
    "cpu_times": (read_cpu_times, "processes"),
    "processes": (read_processes, "process_stats"),
    "memory": (read_memory, "processes"),
    "rails": (read_rails, "rails"),
    "properties": (read_properties, "properties"),
    "screen": (read_screen, "screen"),
}


@pytest.mark.parametrize("name", PARSERS)
def test_ten_thousand_damaged_dumps(name: str) -> None:
    read, beginning = PARSERS[name]
    texts = samples(beginning)
    assert texts
    for text in mutated(texts):
        read(text)


@given(st.text())
def test_any_text(text: str) -> None:
    for read, _ in PARSERS.values():
        read(text)
