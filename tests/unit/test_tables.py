"""exporters.tables, as they are printed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from rich.console import Console, RenderableType

from exporters.tables import results_view, show, simple_table
from tests.unit.builders import make_row
from workers.errors import UPSTREAM

FIDELITY = {"finite": True, "snr_db": 42.4, "identical": False, "cosine": 0.999, "top1_agreement": 0.875, "examples": 8}
RERUN = "benchfarm run torchvision/resnet18 --repeats 5"


def printed(renderable: RenderableType, *, width: int = 250) -> str:
    """What a terminal without colours shows."""
    console = Console(width=width, color_system=None, no_color=True)
    with console.capture() as capture:
        console.print(renderable)
    return capture.get()


def view(
    results: Sequence[dict[str, Any]] = (),
    failed: Sequence[dict[str, Any]] = (),
    unsupported: Sequence[dict[str, Any]] = (),
    rerun: str | None = RERUN,
) -> str:
    """The end of a run, as it is printed."""
    return printed(results_view(results, failed, unsupported, rerun=rerun))


def cells(text: str, runtime: str) -> dict[str, str]:
    """The row of a runtime by column; columns begin and end where their name and its rule stand."""
    lines = text.splitlines()
    head = next(number for number, line in enumerate(lines) if line.split()[:2] == ["runtime", "recipe"])
    row = next(line for line in lines[head:] if line.split()[:1] == [runtime])
    return dict(zip(split(lines[head]), split(row), strict=True))


def split(line: str) -> list[str]:
    """Cells are two blanks apart, or more."""
    return [cell for cell in (part.strip() for part in line.split("  ")) if cell]


def test_a_row_without_an_interval_is_marked_as_such_and_says_how_to_get_one() -> None:
    text = view([make_row(), make_row(runtime="onnxruntime", p50_ms=6.17, speedup=2.0)])
    assert "~12.3" in text
    assert "~6.17" in text
    assert "~2.00x" in text
    assert "rank" not in cells(text, "torch")
    assert f"no interval between processes, no ranks; for both: {RERUN}" in text


def test_a_row_with_an_interval_shows_it_and_needs_no_mark() -> None:
    rows = [
        make_row(runtime="onnxruntime", p50_ms=6.0, p50_ci_ms=[5.9, 6.1], speedup=2.0, speedup_ci=[1.9, 2.1]),
        make_row(p50_ms=12.0, p50_ci_ms=[11.8, 12.2], speedup=1.0),
    ]
    text = view(rows)
    assert "6.00 [5.90, 6.10]" in text
    assert "2.00x [1.90, 2.10]" in text
    assert "1.00x" in text
    assert "~" not in text


def ranks_of(*intervals: list[float]) -> list[str]:
    """Ranks of rows with these intervals, as printed."""
    rows = [
        make_row(runtime=f"runtime-{number}", p50_ms=sum(interval) / 2, p50_ci_ms=interval, speedup=None)
        for number, interval in enumerate(intervals)
    ]
    text = view(rows)
    return [line.split()[2] for line in text.splitlines() if line.strip().startswith("runtime-")]


def test_ranks_are_shared_by_rows_whose_intervals_overlap() -> None:
    assert ranks_of([1, 2], [3, 4], [5, 6]) == ["1", "2", "3"]
    assert ranks_of([1, 3], [2, 4], [5, 6]) == ["1", "1", "3"]
    assert ranks_of([1, 2], [2, 3]) == ["1", "1"]


def test_a_chain_of_overlaps_does_not_pull_the_slowest_up_to_the_fastest() -> None:
    assert ranks_of([1, 3], [2, 5], [4, 6]) == ["1", "1", "3"]


@pytest.mark.parametrize("unranked", [{"p50_ci_ms": None}, {"p50_ci_ms": [12.0, 12.5], "verdict": "throttled"}])
def test_a_row_without_an_interval_or_not_valid_has_no_rank(unranked: dict[str, Any]) -> None:
    text = view([make_row(p50_ci_ms=[12.0, 12.5]), make_row(runtime="litert", **unranked)])
    assert (cells(text, "torch")["rank"], cells(text, "litert")["rank"]) == ("1", "—")


def test_the_best_of_the_ranked_rows_is_first() -> None:
    rows = [make_row(runtime="litert", p50_ms=5.0), make_row(p50_ci_ms=[12.0, 12.5])]
    assert cells(view(rows), "torch")["rank"] == "1"


def test_absent_values_are_dashes_and_never_zero() -> None:
    row = make_row(
        artifact_bytes=None, load_ms=None, first_inference_ms=None, p90_ms=None, peak_rss_bytes=None, speedup=None
    )
    shown = cells(view([row]), "torch")
    for column in ("size", "load ms", "first ms", "p90 ms", "p99 ms", "memory", "SNR dB", "top-1", "speed-up"):
        assert shown[column] == "—", column
    assert shown["energy mJ"] == "unsupported"


@pytest.mark.parametrize(
    ("quality", "energy", "shown"),
    [
        ("ok", 4.5, "4.50"),
        ("ok", 0.0, "0"),
        ("partial", 4.5, "4.50"),
        ("unsupported", None, "unsupported"),
        ("no_permission", None, "no_permission"),
        (None, None, "—"),
    ],
)
def test_energy_unsupported_forbidden_and_zero_are_three_answers(
    quality: str | None, energy: float | None, shown: str
) -> None:
    row = make_row(energy_quality=quality, energy_per_inference_mj=energy)
    assert cells(view([row]), "torch")["energy mJ"] == shown


def test_the_reason_why_there_is_no_energy_stands_below_once() -> None:
    rows = [make_row(energy_why="no RAPL here"), make_row(runtime="litert", energy_why="no RAPL here")]
    assert view(rows).count("energy: no RAPL here") == 1


def test_fidelity_in_decibels_and_agreement() -> None:
    rows = [
        make_row(),
        make_row(runtime="onnxruntime", fidelity=FIDELITY),
        make_row(runtime="litert", fidelity={**FIDELITY, "identical": True, "snr_db": None, "top1_agreement": None}),
        make_row(runtime="coreml", fidelity={**FIDELITY, "snr_db": None, "top1_agreement": 0.0}),
    ]
    text = view(rows)
    shown = {runtime: cells(text, runtime) for runtime in ("torch", "onnxruntime", "litert", "coreml")}
    assert {runtime: row["SNR dB"] for runtime, row in shown.items()} == {
        "torch": "—",
        "onnxruntime": "42",
        "litert": "exact",
        "coreml": "—",
    }
    assert {runtime: row["top-1"] for runtime, row in shown.items()} == {
        "torch": "—",
        "onnxruntime": "88%",
        "litert": "—",
        "coreml": "0%",
    }


def test_outputs_that_are_no_numbers_are_no_dash_and_get_no_rank() -> None:
    broken = {**FIDELITY, "finite": False, "snr_db": None, "top1_agreement": None}
    ranked = {"p50_ci_ms": [1.0, 1.1], "p50_ms": 1.05}
    text = view([make_row(fidelity=broken, flags=["outputs_wrong"], **ranked), make_row(runtime="litert", **ranked)])
    assert "not finite" in text
    assert cells(text, "litert")["rank"] == "1"


def test_what_rows_have_in_common_stands_in_the_title() -> None:
    text = view([make_row(rate_hz=30.0, affinity=[0, 1])])
    assert "30 per second, on CPUs 0,1: image 1x3x224x224" in text


def test_verdict_flags_and_the_process_in_the_way_are_shown() -> None:
    reasons = ["during the run 50% of a core went to cc1plus (42) 50%"]
    text = view([make_row(verdict="contaminated", flags=["noisy", "cpu_stolen"], reasons=reasons)])
    assert "contaminated (noisy, cpu_stolen)" in text
    assert f"contaminated: {reasons[0]}" in text


def test_each_model_device_and_number_of_threads_has_a_table_of_its_own() -> None:
    rows = [make_row(), make_row(threads=2), make_row(device="lab-2"), make_row(batch=8, mode="sustained")]
    text = view(rows)
    assert text.count("runtime") == 4
    for title in (
        "torchvision/resnet18 (random weights) on host-1-cpu, 1 thread, batch 1",
        "on host-1-cpu, 2 threads, batch 1",
        "on lab-2, 1 thread, batch 1",
        "1 thread, batch 8, sustained",
    ):
        assert title in text


def test_brackets_in_the_name_of_a_model_are_shown() -> None:
    assert "model[v2].onnx" in view([make_row(model="model[v2].onnx")])


def test_brackets_in_a_cell_are_shown() -> None:
    assert "[v2]" in view([make_row(runtime="torch[v2]")])
    assert "[/b]" in printed(simple_table("t", ["a"], [["x[/b]"]]))


def failed_row(job: int, code: str = "does_not_convert") -> dict[str, Any]:
    """A row of failures."""
    case = {"kind": "measure", "model": "m", "runtime": "litert", "format": "tflite", "recipe": "fp16"}
    return {"job": job, **case, "why": "no such op", "code": code}


def test_a_failed_conversion_says_to_which_format() -> None:
    assert "m: conversion to tflite fp16" in view(failed=[{**failed_row(7), "kind": "convert"}])


def test_failures_say_what_and_why() -> None:
    text = view(failed=[failed_row(7)])
    assert "Failed" in text
    assert "m: litert fp16" in text
    assert "no such op (does_not_convert)" in text


def test_failures_that_follow_from_one_are_told_with_it() -> None:
    text = view(failed=[failed_row(7), failed_row(8, UPSTREAM), failed_row(9, UPSTREAM)])
    assert text.count("no such op") == 1
    assert "Failed with them, for they needed one of these: 2" in text


def test_failed_and_unsupported_stay_apart() -> None:
    unsupported = [{"model": "m", "runtime": "coreml", "recipe": "fp16", "device": "d", "why": "macOS only"}]
    text = view(failed=[failed_row(7)], unsupported=unsupported)
    assert text.index("Failed") < text.index("no such op") < text.index("Unsupported here") < text.index("macOS only")


def test_unsupported_recipes_of_one_runtime_and_reason_share_a_line() -> None:
    def entry(recipe: str, why: str = "macOS only", **more: Any) -> dict[str, Any]:
        return {"model": "m", "runtime": "coreml", "recipe": recipe, "device": "d", "why": why, **more}

    text = view(unsupported=[entry("fp32"), entry("fp16", artifact_bytes=2_000_000), entry("int8", "no such recipe")])
    lines = [split(line) for line in text.splitlines() if "coreml" in line]
    assert lines == [
        ["m", "coreml", "fp32, fp16 (converted, 2.00 MB)", "macOS only"],
        ["m", "coreml", "int8", "no such recipe"],
    ]


@pytest.mark.parametrize("width", [80, 100, 140])
def test_columns_that_do_not_fit_are_left_out_by_name_and_none_is_cut(width: int) -> None:
    rows = [make_row(runtime="onnxruntime", recipe="int8-static", p50_ms=6.17, speedup=2.0)]
    text = printed(results_view(rows, [], [], width=width), width=width)
    note = " ".join(text.split()).partition("no room for ")[2].partition(": widen the terminal")[0]
    left_out = note.split(", ")
    shown = cells(text, "onnxruntime")
    assert set(left_out) == set(cells(view(rows), "onnxruntime")) - set(shown)
    assert "…" not in text
    assert (shown["p50 ms"], shown["speed-up"], shown["verdict"]) == ("~6.17", "~2.00x", "valid")


def test_a_run_with_nothing_to_show_prints_nothing_wrong() -> None:
    assert view().strip() == ""


def test_nothing_is_cut_where_no_terminal_says_how_wide_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    show(results_view([make_row(flags=["warm_up_unstable"])], [], [], rerun=None))
    assert "valid (warm_up_unstable)" in capsys.readouterr().out
