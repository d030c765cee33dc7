"""scheduler.cells: the cells of a matrix, without a database."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from scheduler.cells import Row, Wanted, cells, variant_label
from tests.unit.scheduler.cell_rows import NOW, kept, made, make_coverage, make_latest

TEN = (10.0, 10.1, 9.9, 10.05, 9.95, 10.02, 9.98, 10.03, 9.97, 10.01)
HALF = tuple(value / 2 for value in TEN)


def litert(**changed: Any) -> Row:
    """Twice as fast as the baseline."""
    return make_latest(
        **{"runtime": "litert", "format": "tflite", "point_id": 2, "p50_ms": 5.0, "unconverted": False} | changed
    )


def of(rows: list[Row], runtime: str = "litert") -> Row:
    """The one cell of a runtime."""
    [row] = [row for row in rows if row["runtime"] == runtime]
    return row


def test_a_cell_is_compared_with_its_baseline_by_what_is_kept_of_their_processes() -> None:
    row = of(made([make_latest(), litert()], processes={1: kept(*TEN), 2: kept(*HALF)}))
    assert (row["answer"], row["baseline"], row["speedup"]) == ("faster", "torch/fp32", pytest.approx(2.0))
    assert row["speedup_ci"][0] > 1.9
    assert row["detectable"] < 0.05
    assert not row["not_alternated"]


def test_repeats_of_different_runs_did_not_alternate() -> None:
    row = of(made([make_latest(), litert(sweep_run_id=2)], processes={1: kept(*TEN), 2: kept(*HALF)}))
    assert row["not_alternated"]


def test_the_baseline_is_marked_and_compared_with_nothing() -> None:
    row = of(made([make_latest(), litert()]), "torch")
    assert (row["is_baseline"], row["speedup"], row["answer"]) == (True, 1.0, None)


@pytest.mark.parametrize(
    "other",
    [
        {"device_id": 2},
        {"threads": 2},
        {"batch": 8},
        {"mode": "sustained"},
        {"weights": "pretrained"},
        {"statistic": "median of process medians of invocation means"},
        {"protocol_version": "2"},
        {"options_text": "rate_hz=10"},
    ],
)
def test_what_is_not_alike_is_not_compared(other: dict[str, Any]) -> None:
    row = of(made([make_latest(), litert(**other)], processes={1: kept(*TEN), 2: kept(*HALF)}))
    assert (row["speedup"], row["baseline"], row["note"]) == (None, None, "no baseline on this device")


def test_a_runtime_s_own_options_are_compared_with_the_baseline_without_them() -> None:
    row = of(made([make_latest(), litert(options_text="delegate=gpu")]))
    assert (row["baseline"], variant_label(row)) == ("torch/fp32", "litert fp32 delegate=gpu")


def test_options_of_every_runtime_are_no_part_of_a_variant_s_name() -> None:
    base = make_latest(options_text="rate_hz=10")
    row = of(made([base, litert(options_text="rate_hz=10 delegate=gpu")]))
    assert (row["baseline"], variant_label(row)) == ("torch/fp32", "litert fp32 delegate=gpu")


def test_wrong_outputs_are_nobody_s_baseline_and_have_no_speed_up() -> None:
    assert of(made([make_latest(flags="outputs_wrong"), litert()]))["speedup"] is None
    row = of(made([make_latest(), litert(flags="noisy, outputs_wrong")]))
    assert (row["speedup"], row["note"]) == (None, "its outputs are wrong")


def test_one_process_on_a_side_is_a_ratio_and_no_verdict() -> None:
    row = of(made([make_latest(), litert()], processes={1: kept(10.0), 2: kept(5.0)}))
    assert (row["answer"], row["speedup"], row["speedup_ci"]) == ("inconclusive", 2.0, None)
    assert "5 + 5" in row["note"]


def test_processes_that_were_judged_invalid_do_not_count_beside_valid_ones() -> None:
    spoilt = kept(*[value * 9 for value in TEN], verdict="contaminated")
    row = of(made([make_latest(), litert()], processes={1: kept(*TEN), 2: [*spoilt, *kept(*HALF)]}))
    assert row["speedup"] == pytest.approx(2.0)


def test_energy_is_compared_by_the_processes_own_energies() -> None:
    rows = [make_latest(energy_per_inference_mj=30.0), litert(energy_per_inference_mj=10.0)]
    processes = {1: kept(*TEN, energy_per_inference_mj=3.0), 2: kept(*HALF, energy_per_inference_mj=2.0)}
    row = of(made(rows, processes=processes, metric="energy"))
    assert (row["value"], row["unit"], row["answer"]) == (10.0, "mJ", "faster")
    assert row["speedup"] == pytest.approx(3.0)
    assert row["value_ci"] is not None


def test_points_of_an_older_benchfarm_kept_medians_only() -> None:
    row = of(made([make_latest(), litert()], processes={1: [[10.0, "valid"]], 2: [[5.0, "valid"]]}, metric="p99"))
    assert (row["answer"], row["speedup"]) == (None, None)
    assert row["note"] == "a side has no value"


def test_sizes_are_exact() -> None:
    row = of(made([make_latest(), litert(artifact_bytes=1_000_000)], metric="size"))
    assert (row["speedup"], row["answer"], row["value_ci"]) == (4.0, None, None)


def test_offline_is_compared_by_throughput() -> None:
    rows = [make_latest(mode="offline"), litert(mode="offline", throughput_per_s=300.0)]
    row = of(made(rows))
    assert (row["speedup"], row["note"]) == (3.0, "by throughput")


@pytest.mark.parametrize(
    ("metric", "changed", "why"),
    [
        ("energy", {"energy_quality": "no_permission"}, "no_permission"),
        ("energy", {"energy_quality": None}, "no energy was read"),
        ("p99", {}, "too few samples for a p99"),
        ("memory", {"peak_rss_bytes": None}, "the runtime does not tell"),
    ],
)
def test_a_valid_result_without_the_figure_says_why(metric: str, changed: dict[str, Any], why: str) -> None:
    row = of(made([litert(**changed)], metric=metric))
    assert (row["value"], row["why"]) == (None, why)


@pytest.mark.parametrize("state", ["failed", "unsupported", "missing", "invalid"])
def test_a_cell_without_a_valid_value_keeps_its_state_and_reason_apart(state: str) -> None:
    row = of(made([], [make_coverage(runtime="litert", state=state, why="so it is")]))
    assert (row["state"], row["value"], row["speedup"], row["why"]) == (state, None, None, "so it is")


def test_a_value_older_than_a_week_is_stale_even_where_no_cell_says_so() -> None:
    old, young = NOW - timedelta(days=8), NOW - timedelta(days=6)
    assert of(made([litert(at=old)]))["state"] == "stale"
    assert of(made([litert(at=young)]))["state"] == "valid"


def test_a_cell_that_failed_since_shows_the_value_it_had_and_that_it_failed() -> None:
    failed = make_coverage(runtime="litert", format="tflite")
    row = of(made([litert()], [failed]))
    assert (row["state"], row["value"], row["why"]) == ("failed", 5.0, "no such op")


def test_what_was_judged_invalid_is_shown_and_compared_only_when_asked_for() -> None:
    cell = make_coverage(runtime="litert", format="tflite", state="invalid", verdict="contaminated", why="cc1plus")
    spoilt = [litert()]
    base = make_latest()
    processes = {1: kept(10.0), 2: kept(5.0, verdict="contaminated")}
    row = of(made([base], [cell], processes, spoilt))
    assert (row["value"], row["invalid_value"], row["speedup"]) == (None, 5.0, None)
    row = of(made([base], [cell], processes, spoilt, baseline=None, invalid=True))
    assert (row["value"], row["state"], row["speedup"]) == (5.0, "invalid", 2.0)


def test_invalid_processes_have_an_interval_when_they_are_asked_for() -> None:
    cell = make_coverage(runtime="litert", format="tflite", state="invalid", verdict="contaminated")
    processes = {1: kept(*TEN), 2: kept(*HALF, verdict="contaminated")}
    row = of(made([make_latest()], [cell], processes, [litert()], baseline=None, invalid=True))
    assert row["value_ci"] is not None
    assert (row["answer"], row["state"]) == ("faster", "invalid")


def test_a_valid_value_is_preferred_to_an_invalid_one_that_came_later() -> None:
    cell = make_coverage(runtime="litert", format="tflite", state="invalid", verdict="throttled")
    row = of(made([litert()], [cell], spoilt=[litert(p50_ms=99.0)], invalid=True))
    assert (row["value"], row["state"], row["verdict"]) == (5.0, "invalid", "throttled")


def test_of_two_protocols_the_later_measurement_is_shown() -> None:
    old = litert(protocol_version="0", p50_ms=7.0, at=NOW - timedelta(days=2))
    assert of(made([old, litert()]))["value"] == 5.0


def test_the_view_says_what_the_baseline_is_where_none_is_named() -> None:
    row = litert()
    key = (1, "random", "tflite", "fp32", "litert", 1, 1, "burst", "", row["statistic"])
    found = cells([make_latest(), row], [], {key: ("torch", "fp32")}, {}, Wanted(), NOW)
    assert of(found)["baseline"] == "torch/fp32"
    assert of(cells([make_latest(), row], [], {}, {}, Wanted(), NOW))["baseline"] is None


def test_filters_leave_the_baseline_in_place() -> None:
    rows = made([make_latest(), litert()], runtimes=("litert",))
    assert [(row["runtime"], row["baseline"]) for row in rows] == [("litert", "torch/fp32")]
    assert made([make_latest(), litert()], recipes=("int8",)) == []


def test_simulated_devices_are_marked() -> None:
    row = of(made([litert(simulated=True)]))
    assert (row["simulated"], row["device_label"]) == (True, "d0 (simulated)")
