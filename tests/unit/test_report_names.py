"""Axes and values of a report that could deceive: names that are cut alike, and a latency of nothing."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from exporters.report.figures import short_names
from exporters.report.sections import section_of
from tests.unit.scheduler.cell_rows import made, make_latest


@given(st.lists(st.text("ab<", min_size=30, max_size=60) | st.text(max_size=40), unique=True, max_size=8))
def test_names_that_differ_differ_when_they_are_cut(names: list[str]) -> None:
    """Names of line ends only are one in a picture anyway."""
    names = list(dict.fromkeys(name.replace("\n", " ") for name in names))
    found = short_names(names)
    assert len(set(found)) == len(names)


def test_variants_that_differ_at_their_ends_have_fields_of_their_own() -> None:
    rows = [
        make_latest(device_id=device, device=f"d{device}", point_id=10 * device + spin, p50_ms=10.0 + spin,
                    runtime="onnxruntime", recipe="int8-static", options_text=f"intra_op_spinning={spin}")
        for device in (1, 2) for spin in (0, 1)
    ]  # fmt: skip
    [chart] = [chart for chart in section_of("net", made(rows), 0).charts if chart.id.endswith("-devices")]
    assert chart.figure is not None
    names = chart.figure["data"][0]["y"]
    assert [name[-2:] for name in names] == ["=0", "=1"]
    assert all(len(name) <= 34 for name in names)


def test_a_latency_of_nothing_is_compared_with_nothing() -> None:
    """A tool that prints two decimals says 0.00 ms of a small model."""
    rows = [make_latest(device_id=number, device=f"d{number}", p50_ms=p50) for number, p50 in ((1, 0.0), (2, 5.0))]
    [chart] = [chart for chart in section_of("net", made(rows), 0).charts if chart.id.endswith("-devices")]
    assert chart.figure is not None
    assert chart.figure["data"][0]["z"] == [[None, 1.0]]
