"""From rows in the database to the files of a suite's report."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rich.console import Console

from device_registry.database import reading
from device_registry.errors import UsageError
from exporters.suites.document import suite_document
from exporters.suites.gather import gather
from exporters.suites.page import refuse_report, write_suite_report
from exporters.suites.terminal import suite_view
from scheduler.suites.file import read_suite
from tests.unit.scheduler.builders import INT8, ONNX, TORCH, Farm
from tests.unit.scheduler.test_suite_readings import run, taking

SUITE = read_suite(
    """
suite: small
title: Small
blocks:
  - {name: latency, title: Latency, sweep: {models: [net]}, plots: [{kind: bar, x: recipe}]}
  - {name: other, title: Other, sweep: {models: [net]}}
published:
  - {block: latency, hardware: phone, model: net, recipe: "qat(epochs=2)+int8-static", latency_ms: 3.75897}
  - {block: latency, hardware: phone, latency_ms: 5}
""",
    Path(),
    source="small.yaml",
)


def test_a_suite_that_was_never_run_has_no_report(farm: Farm, tmp_path: Path) -> None:
    with reading(farm.engine) as connection, pytest.raises(UsageError, match="benchfarm suite run small"):
        write_suite_report(connection, SUITE, tmp_path / "small.html", datetime.now(UTC))
    assert list(tmp_path.glob("small*")) == []


@pytest.mark.parametrize(
    ("name", "says"),
    [("r.json", "FILE.html"), ("r.CSV", "FILE.html"), ("none/r.html", "no folder"), ("", "is a folder")],
)
def test_where_no_report_can_be_is_said_before_anything_runs(tmp_path: Path, name: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        refuse_report(tmp_path / name)


def test_a_report_is_three_files_of_the_same(farm: Farm, tmp_path: Path) -> None:
    run(farm, taking(torch=8.0, onnxruntime=4.0, int8_static=1.0), TORCH, ONNX, INT8, repeats=5)
    with reading(farm.engine) as connection:
        found = gather(connection, SUITE)
        written = write_suite_report(connection, SUITE, tmp_path / "small.html", datetime.now(UTC))
        view = suite_view(connection, SUITE)
        told = suite_document(connection, SUITE)
    assert [theirs.recipe for theirs in found.blocks[0].published] == ["qat(2)+int8-static", None]
    assert [path.name for path in written] == ["small.html", "small.json", "small.csv"]
    document = json.loads(written[1].read_text())
    assert document["blocks"] == json.loads(json.dumps(told["blocks"]))
    assert [row["speed_up"] for row in document["blocks"][0]["ours"]] == pytest.approx([2, 8, 1])
    assert len(written[2].read_text().splitlines()) == 1 + 3 + 2
    page = written[0].read_text()
    assert "3.75897 (statistic not said)" in page
    assert "1.00 [1.00, 1.00]" in page
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(view)
    shown = console.export_text()
    assert "published" in shown
    assert "Other: not run yet" in shown
