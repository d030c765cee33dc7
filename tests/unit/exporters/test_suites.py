"""exporters.suites: pages, documents and tables of a suite: whose each figure is, and only what was found is drawn."""

from __future__ import annotations

import csv
import io
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from exporters.files import write_csv
from exporters.report.page import chart_library
from exporters.suites.columns import TITLES, arguments_of, known
from exporters.suites.content import SuiteContent, content_of
from exporters.suites.document import document_of, suite_rows
from exporters.suites.gather import BlockFound, SuiteFound
from exporters.suites.page import render
from exporters.suites.series import series_of
from exporters.suites.tables import comparison
from scheduler.suites.file import read_suite
from scheduler.suites.readings import Readings, Row, add_bounds, work_of
from scheduler.suites.shipped import load_named, shipped_names
from tests.browser import Browser, needs_chromium

NOW = datetime(2026, 12, 1, 12, tzinfo=UTC)
HOSTILE = "<script>alert(1)</script>"
SUITE = """
suite: small
title: Small operators
source: a study
sweep: {recipes: [fp32]}
blocks:
  - name: kernels
    title: Kernel sizes
    about: At equal FLOPs.
    sweep: {models: ["op/conv2d(kernel={kernel})"]}
    grid: {kernel: [1, 3, 5]}
    plots:
      - {kind: line, x: kernel, y: p50_ms, log: [y]}
      - {kind: bar, x: kernel, y: gflops_per_s}
      - {kind: roofline}
      - {kind: line, x: kernel, y: energy_mj}
  - name: variants
    title: Variants
    sweep: {models: [net], recipes: [fp32, int8-static]}
    plots:
      - {kind: pareto, y: accuracy_percent}
      - {kind: table}
  - name: copies
    title: Copies
    sweep: {models: [op/copy]}
published:
  - {block: kernels, hardware: "phone <b>", model: "op/conv2d(kernel=3)", mean_ms: 15.1, note: "GPU"}
  - {block: kernels, hardware: "phone <b>", model: "op/conv2d(kernel=5)", latency_ms: 18.9}
  - {block: variants, hardware: phone, latency_ms: [9, 12], accuracy_percent: 76.1}
"""


def row(**changed: Any) -> Row:
    """A valid reading; rates follow from its work."""
    made: Row = dict.fromkeys(
        (
            *("rate_hz", "p50_ci_ms", "std_ms", "p90_ms", "p95_ms", "p99_ms", "first_minute_p50_ms", "bound"),
            *("last_minute_p50_ms", "real_time_factor", "smaller_percent", "memory_mb", "parameters_m", "nodes"),
            *("nonzero_parameters_m", "gmac", "gflop", "moved_mb", "energy_mj", "accuracy_percent", "top1", "top1_ci"),
            *("top5", "f1_macro", "wer", "data", "examples", "snr_db", "identical", "top1_agreement", "speed_up"),
            *("speed_up_ci", "speed_up_over", "speed_up_own", "speed_up_own_ci"),
        )
    )
    made |= {"model": "net", "values": {}, "weights": "random", "device": "d0", "simulated": False, "runtime": "torch"}
    made |= {"recipe": "fp32", "format": "pt2", "threads": 1, "batch": 1, "mode": "burst", "options": "", "flags": []}
    made |= {"verdict": "valid", "reasons": [], "processes": 1, "p50_ms": 10.0, "mean_ms": 10.5, "size_mb": 4.0}
    made |= {"throughput_per_s": 100.0, "energy_quality": "unsupported", "precision": "fp32", "compute_unit": "cpu"}
    made |= {"run": 7, "measured_at": 1e9, **changed}
    work = work_of(made)
    rates = {name: getattr(work, name) for name in ("gflops_per_s", "gb_per_s", "flops_per_byte")}
    return {"listed": made["model"], **made, **rates}


def convolution(kernel: int, runtime: str, ms: float, **changed: Any) -> Row:
    """A reading of the first block."""
    name = f"op/conv2d(kernel={kernel})"
    known = {"model": name, "listed": name, "values": {"kernel": kernel}, "runtime": runtime, "p50_ms": ms}
    return row(**known, gflop=0.1 * kernel, moved_mb=1.0, **changed)


KERNELS = [
    *(convolution(kernel, "torch", 2.0 * kernel) for kernel in (1, 3, 5)),
    convolution(1, "litert", 1.0, p50_ci_ms=[0.9, 1.2]),
    convolution(3, "litert", 2.0, verdict="contaminated", reasons=["a core went to others"]),
]
VARIANTS = [
    row(accuracy_percent=98.0, top1_ci=[0.97, 0.99], examples=360, snr_db=None, identical=True),
    row(recipe="int8-static", p50_ms=5.0, accuracy_percent=97.5, top1_ci=[0.96, 0.98], examples=360, speed_up=2.0),
]
COPY = row(model="op/copy", listed="op/copy", p50_ms=1.0, gflop=0.001, moved_mb=10.0)


def found_with(kernels: list[Row], variants: list[Row], copies: list[Row]) -> SuiteFound:
    """What the suite found."""
    suite = read_suite(SUITE, Path(), source="small.yaml")
    lacking = {"model": "net", "runtime": "coreml", "recipe": "fp32", "why": HOSTILE}
    blocks = tuple(
        BlockFound(
            block=block,
            readings=Readings(rows=rows, failed=[], unsupported=[lacking] if rows else [], run_ids=[7] if rows else []),
            published=tuple(theirs for theirs in suite.published if theirs.block == block.name),
        )
        for block, rows in zip(suite.blocks, (kernels, variants, copies), strict=True)
    )
    roofs = add_bounds([*kernels, *variants, *copies])
    return SuiteFound(suite=suite, blocks=blocks, roofs=roofs)


@pytest.fixture
def found() -> SuiteFound:
    """All of it."""
    return found_with([dict(one) for one in KERNELS], [dict(one) for one in VARIANTS], [dict(COPY)])


@pytest.fixture
def content(found: SuiteFound) -> SuiteContent:
    """As a page tells it."""
    return content_of(found, NOW)


def test_ours_and_published_stand_side_by_side_and_are_told_apart(found: SuiteFound) -> None:
    block = found.blocks[0]
    table = comparison(block.readings.rows, block.published, block.models)
    model, hardware, latency = (table.columns.index(name) for name in ("model", "hardware", "latency ms"))
    told = [(line.whose, line.texts[model][-2], line.texts[hardware], line.texts[latency]) for line in table.lines]
    assert told == [
        ("ours", "1", "d0", "~2.00"),
        ("ours", "1", "d0", "1.00 [0.900, 1.20]"),
        ("ours", "3", "d0", "~6.00"),
        ("ours", "3", "d0", "~2.00"),
        ("published", "3", "phone <b>", "15.1 (mean)"),
        ("ours", "5", "d0", "~10.0"),
        ("published", "5", "phone <b>", "18.9 (statistic not said)"),
    ]
    assert [line.doubtful for line in table.lines].count(True) == 1
    assert "energy" not in " ".join(table.columns)
    assert any(note == "No energy here: unsupported." for note in table.notes)


def test_a_line_joins_one_runtime_and_marks_what_is_not_valid_or_not_ours(content: SuiteContent) -> None:
    [line] = [chart for chart in content.parts[0].charts if chart.id == "block-kernels-0"]
    assert line.figure is not None
    traces = {trace["name"]: trace for trace in line.figure["data"]}
    assert {name: trace["x"] for name, trace in traces.items()} == {
        "torch": [1, 3, 5],
        "litert": [1, 3],
        "published: phone &lt;b&gt;": [3, 5],
    }
    assert [symbol.endswith("-open") for symbol in traces["litert"]["marker"]["symbol"]] == [False, True]
    assert traces["litert"]["error_y"]["array"] == pytest.approx([0.2, 0])
    assert traces["published: phone &lt;b&gt;"]["line"]["dash"] == "dash"


def test_what_has_no_value_is_not_drawn_and_says_so(content: SuiteContent) -> None:
    [energy] = [chart for chart in content.parts[0].charts if chart.id == "block-kernels-3"]
    assert energy.figure is None
    assert "no reading here has a value of energy" in energy.empty


def test_roofs_of_all_blocks_lie_above_the_readings_of_one(content: SuiteContent) -> None:
    rooflines = {chart.title: chart for chart in content.parts[0].charts if "Roofline" in chart.title}
    torch, litert = rooflines["Roofline: torch on d0, 1 thread"], rooflines["Roofline: litert on d0, 1 thread"]
    assert torch.figure is not None
    assert litert.figure is not None
    assert "10.0 GB/s by op/copy" in torch.caption
    assert [trace["name"] for trace in torch.figure["data"]] == ["roof as measured", "conv2d"]
    assert "No roof" in litert.caption
    assert [trace["name"] for trace in litert.figure["data"]] == ["conv2d"]


def test_a_front_is_drawn_of_accuracy(content: SuiteContent) -> None:
    [front] = content.parts[1].charts
    assert front.facts is not None
    assert [line[-1] for line in front.facts.rows] == ["yes", "yes"]


@pytest.mark.parametrize(
    ("x", "wanted", "names"),
    [
        ("kernel", (), {"torch", "litert"}),
        ("kernel", ("operator",), {"conv2d · torch", "conv2d · litert"}),
        ("runtime", ("kernel",), {"kernel 1", "kernel 3", "kernel 5"}),
        (
            "recipe",
            (),
            {"torch · kernel 1", "torch · kernel 3", "torch · kernel 5", "litert · kernel 1", "litert · kernel 3"},
        ),
    ],
)
def test_series_part_whatever_would_stand_twice_at_one_place(x: str, wanted: tuple[str, ...], names: set[str]) -> None:
    assert set(series_of(KERNELS, x, wanted)) == names


def test_documents_are_json_and_csv_has_the_same_columns_in_every_row(found: SuiteFound) -> None:
    document = json.loads(json.dumps(document_of(found), allow_nan=False))
    kernels, variants, _ = document["blocks"]
    assert (len(kernels["ours"]), len(kernels["published"])) == (5, 2)
    assert variants["published"][0]["latency_ms"] == [9, 12]
    out = io.StringIO()
    write_csv(suite_rows(found), out)
    lines = list(csv.DictReader(io.StringIO(out.getvalue())))
    assert [line["whose"] for line in lines].count("published") == 3
    assert [line["published_latency_ms"] for line in lines if line["published_latency_ms"]] == ["18.9", "9.0 to 12.0"]
    assert all(None not in line and None not in line.values() for line in lines)


def test_names_are_text_in_the_page_and_a_block_without_runs_says_how_to_run_it() -> None:
    page = render(content_of(found_with([row(model=HOSTILE, listed="op/conv2d(kernel=1)")], [], []), NOW), "/* */")
    assert HOSTILE not in page
    assert "not run yet" in page
    assert "benchfarm suite run small" in page
    assert page.count('class="whose published"') >= 4
    [text] = re.findall(r'<script type="application/json" id="figures">(.*?)</script>', page, re.DOTALL)
    assert "<" not in text


@needs_chromium
def test_the_page_is_drawn_without_a_network_and_without_complaint(content: SuiteContent, tmp_path: Path) -> None:
    path = tmp_path / "suite.html"
    path.write_text(render(content, chart_library()))
    with Browser() as browser:
        seen = browser.open(path, width=1400)
        assert int(browser.value("document.documentElement.dataset.drawn")) == 5
        assert seen.console == []
        assert [url for url in seen.requests if not url.startswith(("file:", "data:", "blob:"))] == []
        assert browser.value("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize("name", shipped_names())
def test_every_plot_that_comes_with_the_package_asks_for_columns_that_there_are(name: str, quick: bool) -> None:
    suite = load_named(name, quick=quick)
    for block in suite.blocks:
        words = {word for point in block.points for word in (*point.values, *arguments_of(point.model))}
        for plot in block.plots:
            asked = {known(column) for column in (plot.x, plot.y, *plot.series) if column is not None}
            assert asked <= {*TITLES, *row(), "operator", *words}, f"{block.name}: {plot}"
            assert plot.y is None or known(plot.y) in TITLES, f"{block.name}: {plot.y} is no figure"
    for theirs in suite.published:
        listed = {point.model for block in suite.blocks for point in block.points if block.name == theirs.block}
        assert quick or theirs.model is None or theirs.model in listed, f"{theirs.block} lists no {theirs.model}"
