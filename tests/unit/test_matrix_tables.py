"""exporters.matrix_tables, as they are printed."""

from __future__ import annotations

from typing import Any

import pytest
from rich.console import Console

from exporters.matrix_tables import MOST_DEVICES, age_text, matrix_view
from scheduler.cells import Row
from tests.unit.scheduler.cell_rows import kept, made, make_coverage, make_latest

TEN = tuple(10 + number / 100 for number in range(10))


def printed(rows: list[Row], *, width: int = 200) -> str:
    """What a terminal without colours shows."""
    console = Console(width=width, color_system=None, no_color=True)
    with console.capture() as capture:
        console.print(matrix_view("net", rows, width=width))
    return capture.get()


def device(number: int, **changed: Any) -> list[Row]:
    """A baseline and a variant twice as fast on a device."""
    where = {"device_id": number, "device": f"d{number}"}
    base = make_latest(**where, point_id=2 * number, **changed)
    fast = {"runtime": "litert", "format": "tflite", "p50_ms": 5.0, "point_id": 2 * number + 1, "unconverted": False}
    return [base, make_latest(**where, **fast, **changed)]


def farm(count: int, **changed: Any) -> list[Row]:
    """Cells of so many devices."""
    return made([row for number in range(count) for row in device(number, **changed)])


def test_a_single_device_has_a_column_of_everything() -> None:
    processes = {0: kept(*TEN), 1: kept(*[value / 2 for value in TEN])}
    text = printed(made(device(0), processes=processes))
    assert "net: random weights, 1 thread, batch 1: latency p50 (ms), on d0" in text
    [line] = [line for line in text.splitlines() if line.strip().startswith("litert")]
    assert "2.00x [" in line
    assert "faster" in line
    assert "1 h" in line
    assert "baseline" in text


def test_few_processes_are_marked_and_say_how_to_get_more() -> None:
    text = printed(farm(1))
    assert "~5.00" in text
    assert "fewer than 5 valid processes" in text
    assert "--repeats 5" in text


@pytest.mark.parametrize("width", [60, 80, 120])
def test_wide_matrices_fold_and_no_line_is_cut(width: int) -> None:
    text = printed(farm(8), width=width)
    assert max(len(line.rstrip()) for line in text.splitlines()[3:]) <= width
    assert "…" not in text
    assert text.count("variant") == {60: 3, 80: 2, 120: 1}[width]
    assert ("of 8" in text) is (width < 120)
    for number in range(8):
        assert f"d{number}" in text


def test_many_devices_are_summed_up_by_their_model() -> None:
    text = printed(farm(MOST_DEVICES + 1))
    assert f"{MOST_DEVICES + 1} devices by model" in text
    assert "13 units" in text
    assert "EPYC" in text
    assert "d7" not in text.split("Without")[0].replace("inconclusive", "")


def test_simulated_devices_have_a_table_of_their_own_after_the_real_ones() -> None:
    rows = made([*device(0), *device(1, simulated=True)])
    text = printed(rows)
    assert text.count("variant") == 2
    assert text.index("on d0") < text.index("on d1 (simulated)")


def test_settings_have_tables_of_their_own() -> None:
    rows = made([*device(0), *device(0, threads=4), *device(0, options_text="rate_hz=10")])
    text = printed(rows)
    assert "4 threads" in text
    assert "batch 1, rate_hz=10" in text
    assert text.count("variant") == 3


def test_states_stay_apart_with_their_reasons_below() -> None:
    states = ("failed", "unsupported", "missing", "invalid")
    coverage = [
        make_coverage(runtime=state, state=state, verdict="throttled" if state == "invalid" else None, why=f"{state}!")
        for state in states
    ]
    text = printed(made([], coverage))
    above, _, below = text.partition("Without a valid value")
    for state in states:
        assert above.count(state) >= 2  # the variant and its state
        assert f"{state}!" in below
    assert "invalid: throttled" in above


def test_what_was_measured_but_judged_invalid_stands_in_brackets() -> None:
    cell = make_coverage(state="invalid", verdict="contaminated", why="cc1plus")
    text = printed(made([], [cell], spoilt=[make_latest()]))
    assert "(10.0)" in text
    assert "--invalid" in text


def test_verdicts_from_different_runs_say_that_they_did_not_alternate() -> None:
    processes = {0: kept(*TEN), 1: kept(*[value / 2 for value in TEN])}
    base, fast = device(0)
    assert "did not alternate" not in printed(made([base, fast], processes=processes))
    assert "did not alternate" in printed(made([base, {**fast, "sweep_run_id": 9}], processes=processes))


def test_an_inconclusive_answer_says_how_many_processes_would_tell() -> None:
    noisy = [10 + (number % 5) / 4 for number in range(10)]
    text = printed(made(device(0), processes={0: kept(*noisy), 1: kept(*[value * 0.98 for value in noisy])}))
    assert "inconclusive" in text
    assert "would tell" in text


def test_the_words_fit_the_metric() -> None:
    rows = [{**row, "energy_per_inference_mj": energy} for row, energy in zip(device(0), (30.0, 10.0), strict=True)]
    processes = {0: kept(*TEN, energy_per_inference_mj=3.0), 1: kept(*TEN, energy_per_inference_mj=1.0)}
    text = printed(made(rows, processes=processes, metric="energy"))
    assert "energy per inference (mJ)" in text
    assert "less" in text
    assert "faster" not in text


def test_brackets_in_names_are_shown() -> None:
    assert "litert[v2]" in printed(made([make_latest(runtime="litert[v2]")]))


@pytest.mark.parametrize(
    ("age_s", "shown"), [(0.4, "0 s"), (59, "59 s"), (61, "1 min"), (7200, "2 h"), (9 * 86400, "9 d"), (None, "—")]
)
def test_ages(age_s: float | None, shown: str) -> None:
    assert age_text(age_s) == shown
