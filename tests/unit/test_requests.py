"""Options of the command line that are more than a word."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchfarm.cli.requests import data_set, memory, own_options, seconds, spread_of, thread_counts
from device_registry.errors import UsageError


@pytest.mark.parametrize(
    ("text", "expected_s"), [("90s", 90), ("15m", 900), ("2h", 7200), ("1d", 86400), ("1h30m", 5400), ("0.5h", 1800)]
)
def test_spans_of_time_are_read(text: str, expected_s: float) -> None:
    assert seconds("--queue-timeout", text) == expected_s


@pytest.mark.parametrize("text", ["", "90", "s", "1w", "-1s", "0s", "1h x", "1e3s", "1.s"])
def test_what_is_no_span_of_time_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--queue-timeout"):
        seconds("--queue-timeout", text)


@given(st.text())
def test_any_text_is_a_span_above_zero_or_refused(text: str) -> None:
    try:
        found = seconds("--timeout", text)
    except UsageError:
        return
    assert found is not None
    assert found > 0


def test_spreads_exclude_each_other() -> None:
    assert spread_of(False, False, False) == spread_of(True, False, False) == "each"
    assert spread_of(False, True, False) == "any"
    assert spread_of(False, False, True) == "per-model"
    with pytest.raises(UsageError, match="exclude"):
        spread_of(False, True, True)


def test_threads_of_a_farm_are_not_bounded_by_this_machine() -> None:
    assert thread_counts("1,4096,1", here=False) == (1, 4096)
    with pytest.raises(UsageError, match="1 is the least"):
        thread_counts("0", here=False)
    with pytest.raises(UsageError, match="this machine has"):
        thread_counts("4096")


def test_sizes_are_decimal_or_binary_and_large_enough() -> None:
    assert memory(None) is None
    assert [memory(text) for text in ("512MB", "8GB", "8GiB", "1.5GB")] == [
        512_000_000,
        8_000_000_000,
        8 * 2**30,
        1_500_000_000,
    ]
    for wrong in ("8", "8 gigs", "-8GB", "1MB", "GB"):
        with pytest.raises(UsageError, match="--max-memory"):
            memory(wrong)


def test_the_path_of_a_data_set_is_made_absolute_and_no_other_name() -> None:
    here = Path.cwd()
    assert data_set(None) is None
    assert data_set("digits") == "digits"
    assert data_set("npz:a/b.npz") == f"npz:{here}/a/b.npz"
    assert data_set("folder:/lab/photos") == "folder:/lab/photos"
    assert data_set("hf:cifar10:plain") == "hf:cifar10:plain"


def test_values_of_an_option_are_gathered() -> None:
    assert own_options(["a=1,2", "a=3", "b=x"]) == {"a": ("1", "2", "3"), "b": ("x",)}
