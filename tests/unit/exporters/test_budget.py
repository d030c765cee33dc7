"""Which series are left out when there are too many."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from exporters.budget import size_of, within
from exporters.families import Distribution, Rows
from exporters.metrics import DEVICE_TEMPERATURE, DEVICE_UP, JOBS, RUN, Metric

ORDER = (JOBS, RUN, DEVICE_UP, DEVICE_TEMPERATURE)


def found(devices: int, domains: int = 3) -> dict[Metric, Rows]:
    """A farm of devices with some temperatures each."""
    empty = Distribution((0,) * (len(RUN.buckets) + 1), 0.0)
    return {
        JOBS: {("measure", "queued"): 1.0, ("measure", "running"): 2.0},
        RUN: {("measure", "cpu"): empty},
        DEVICE_UP: {(f"d{n:02d}", "cpu", "here", "false"): 1.0 for n in range(devices)},
        DEVICE_TEMPERATURE: {(f"d{n:02d}", "cpu", f"zone{d}"): 40.0 for n in range(devices) for d in range(domains)},
    }


def test_all_fits() -> None:
    given_ = found(4)
    kept, dropped = within(given_, ORDER, size_of(given_))
    assert kept == given_
    assert set(dropped.values()) == {0}
    assert size_of(given_) == 2 + len(RUN.buckets) + 3 + 4 + 12


def test_devices_go_whole_and_what_matters_most_stays() -> None:
    kept, dropped = within(found(4), ORDER, 2 + len(RUN.buckets) + 3 + 4 + 7)
    assert {labels[0] for labels in kept[DEVICE_TEMPERATURE]} == {"d00", "d01"}
    assert len(kept[DEVICE_TEMPERATURE]) == 6
    assert dropped == {JOBS: 0, RUN: 0, DEVICE_UP: 0, DEVICE_TEMPERATURE: 6}


def test_a_metric_without_devices_goes_whole() -> None:
    kept, dropped = within(found(4), ORDER, 10)
    assert kept[RUN] == {}
    assert dropped[RUN] == len(RUN.buckets) + 3
    assert len(kept[DEVICE_UP]) == 4  # smaller ones after it still fit


@given(st.integers(0, 12), st.integers(0, 80), st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(devices: int, most: int, luck: random.Random) -> None:
    given_ = found(devices)
    kept, dropped = within(given_, ORDER, most)
    assert size_of(kept) <= most
    assert size_of(kept) + sum(dropped.values()) == size_of(given_)
    shuffled = {metric: dict(luck.sample(list(rows.items()), len(rows))) for metric, rows in given_.items()}
    assert within(shuffled, ORDER, most) == (kept, dropped)
