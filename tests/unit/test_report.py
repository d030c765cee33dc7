"""exporters.report: one page that needs nothing else, whatever the names in it are."""

from __future__ import annotations

import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from device_registry.errors import UsageError
from exporters.report import figures
from exporters.report.content import _count, _coverage, _freshness, _headline, _measured, _reasons, _Tally
from exporters.report.figures import COLOURS, Line, Spot, Stretch, over_time, pareto_front, plain, state_bars, trade_off
from exporters.report.page import chart_library, charts_of, render
from exporters.report.places import MOST_COLUMNS, MOST_PLACES, places_of
from exporters.report.sections import section_of
from exporters.report.shapes import Chart, Content, Facts
from exporters.report.telemetry import MOST_POINTS, Reading, thinned
from scheduler.cells import Row
from tests.browser import Browser, needs_chromium
from tests.unit.scheduler.cell_rows import kept, made, make_coverage, make_latest

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>&\"'</title>"
TEN = tuple(10 + number / 100 for number in range(10))


def device_rows(number: int, **changed: Any) -> list[Row]:
    """A baseline and two variants on a device, with energy, fidelity and size."""
    where = {"device_id": number, "device": f"d{number}", **changed}
    fast: dict[str, Any] = {"runtime": "litert", "format": "tflite", "unconverted": False}
    return [
        make_latest(**({"point_id": 10 * number, "energy_per_inference_mj": 40.0, "energy_quality": "ok"} | where)),
        make_latest(
            **(
                {**fast, "point_id": 10 * number + 1, "p50_ms": 5.0, "snr_db": 90.0, "artifact_bytes": 3_000_000}
                | where
            )
        ),
        make_latest(
            **(
                {**fast, "point_id": 10 * number + 2, "recipe": "int8", "p50_ms": 2.5, "snr_db": 20.0}
                | {"energy_per_inference_mj": 8.0, "energy_quality": "ok", "artifact_bytes": 1_000_000}
                | where
            )
        ),
    ]


def processes_of(rows: list[Row]) -> dict[int, list[list[Any]]]:
    """Ten processes of each point."""
    return {row["point_id"]: kept(*[row["p50_ms"] * value / 10 for value in TEN]) for row in rows}


def content_with(rows: list[Row], coverage: list[Row] | None = None, model: str = "net") -> Content:
    """A report of one model."""
    cells = made(rows, coverage, processes_of(rows))
    tally = _Tally()
    _count(tally, model, cells)
    content = Content(made_at="2026-11-30 12:00 UTC", scope=model, headline=_headline(tally))
    content.sections = [section_of(model, cells, 0)]
    content.overview, content.coverage = [_freshness(tally)], _coverage(tally)
    content.reasons, content.measured = _reasons(tally), _measured(tally)
    bands = [Stretch(10, 20, ""), Stretch(30, 40, "throttled", throttled=True)]
    line = Line(name=f"cpu {model}", seconds=[0, 10, 20], values=[40.0, None, 55.0])
    content.run = "7"
    content.telemetry = [Chart(id="telemetry-1", title=f"{model}: temperature", figure=over_time([line], bands, "C"))]
    content.environment = Facts(columns=["what", "value"], rows=[["os", model]])
    return content


class Reader(HTMLParser):
    """Elements, attributes and text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._raw = 0
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._raw += tag in ("script", "style")

    def handle_endtag(self, tag: str) -> None:
        self._raw -= tag in ("script", "style")

    def handle_data(self, data: str) -> None:
        self.text += "" if self._raw else data

    def named(self, tag: str) -> list[dict[str, str | None]]:
        """Attributes of the elements of a name."""
        return [attributes for name, attributes in self.elements if name == tag]


def page_of(content: Content, library: str = "/* library */") -> Reader:
    """A page without the weight of its library."""
    return Reader(render(content, library))


def test_names_are_text_whatever_they_are() -> None:
    rows = device_rows(1, model=HOSTILE, device=HOSTILE, runtime=HOSTILE)
    coverage = [make_coverage(model=HOSTILE, device=HOSTILE, device_id=2, runtime=HOSTILE, why=HOSTILE)]
    page = page_of(content_with(rows, coverage, model=HOSTILE))
    assert len(page.named("script")) == 3
    assert page.named("img") == []
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    assert page.text.count(HOSTILE) > 3
    assert page.named("title") == [{}]


def test_figures_survive_the_way_through_the_page_and_open_no_tag() -> None:
    page = render(content_with(device_rows(1), model="</script><!--"), "/* library */")
    [text] = re.findall(r'<script type="application/json" id="figures">(.*?)</script>', page, re.DOTALL)
    assert "<" not in text
    assert json.loads(text)["telemetry-1"]["data"][0]["x"] == [0, 10, 20]


def test_labels_of_charts_are_text_and_no_html_of_plotly_s() -> None:
    section = section_of("net", made(device_rows(1, runtime="<b>bold</b>")), 0)
    figure = next(chart.figure for chart in section.charts if chart.figure)
    assert "&lt;b&gt;" in json.dumps(figure)
    assert "<b>" not in json.dumps(figure)
    assert plain("a<b>\n") == "a&lt;b&gt; "


def test_the_page_loads_nothing_and_forbids_it() -> None:
    page = page_of(content_with(device_rows(1)))
    for _, attributes in page.elements:
        for name in ("src", "href", "action", "data", "poster", "srcset"):
            if name in attributes:
                assert str(attributes[name]).startswith(("#", "data:"))
    [policy] = [one for one in page.named("meta") if one.get("http-equiv") == "Content-Security-Policy"]
    assert str(policy["content"]).startswith("default-src 'none'")
    style = Path(figures.__file__).with_name("style.css").read_text()
    assert "url(" not in style
    assert "@import" not in style


def test_the_library_cannot_end_its_element() -> None:
    page = page_of(content_with(device_rows(1)), "'</script>'")
    assert len(page.named("script")) == 3
    assert "</script" not in chart_library()


def test_a_page_without_a_chart_carries_no_library() -> None:
    content = content_with([], [make_coverage()])
    content.telemetry, content.coverage, content.overview = [], None, []
    assert "library" not in render(content, "/* library */").split("<body>")[1].replace("How it was measured", "")


def test_every_chart_has_a_title_a_table_or_says_why_it_is_not_there() -> None:
    content = content_with(device_rows(1))
    for chart in charts_of(content):
        assert chart.title
        assert (chart.figure is None) == bool(chart.empty)
    page = page_of(content)
    drawn = [chart for chart in charts_of(content) if chart.figure]
    plots = [one for one in page.named("div") if "data-chart" in one]
    assert [one["role"] for one in plots] == ["img"] * len(drawn)
    assert len({one["id"] for _, one in page.elements if "id" in one}) == len(
        [one for _, one in page.elements if "id" in one]
    )
    assert page.named("html")[0]["lang"] == "en"
    assert "Not drawn: one device, so there is nothing to compare it with." in page.text


def test_what_has_no_energy_says_why() -> None:
    section = section_of("net", made(device_rows(1, energy_per_inference_mj=None, energy_quality="no_permission")), 0)
    assert "Not drawn: energy: no_permission." in [chart.empty for chart in section.charts]


def test_what_nothing_beats_is_the_front() -> None:
    def spot(x: float, y: float) -> Spot:
        return Spot(x=x, y=y, family="f", name=f"{x:g} {y:g}", detail="")

    spots = [spot(1, 9), spot(2, 5), spot(3, 5), spot(3, 6), spot(4, 1), spot(1, 10)]
    assert [one.name for one in pareto_front(spots, higher_is_better=False)] == ["1 9", "2 5", "4 1"]
    assert [one.name for one in pareto_front(spots, higher_is_better=True)] == ["1 10"]


def test_simulated_devices_have_matrices_and_pictures_of_their_own() -> None:
    rows = [*device_rows(1), *device_rows(2, simulated=True, device="s2")]
    section = section_of("net", made(rows), 0)
    assert [grid.simulated for grid in section.grids] == [False, True]
    for chart in section.charts:
        shown = json.dumps([chart.figure, chart.facts.rows if chart.facts else []])
        assert not ("d1" in shown and "s2" in shown)
        assert ("simulated" in chart.title) is ("simulated" in chart.id)


def test_a_fleet_is_told_by_models_of_device_and_stays_small() -> None:
    rows = [row for n in range(300) for row in device_rows(n, device_model=f"model {n % 50}")]
    section = section_of("net", made(rows), 0)
    [grid] = section.grids
    assert len(grid.columns) == MOST_COLUMNS
    assert "10 more models of device" in grid.left_out
    for chart in section.charts:
        if chart.figure is not None:
            assert len(chart.figure["data"]) <= 45
            assert len(json.dumps(chart.figure)) < 120_000


def test_places_are_devices_or_models_of_device() -> None:
    few = made([row for n in range(MOST_PLACES) for row in device_rows(n)])
    many = made([row for n in range(MOST_PLACES + 1) for row in device_rows(n)])
    assert (places_of(few).summed, len(places_of(few).names)) == (False, MOST_PLACES)
    assert (places_of(many).summed, places_of(many).names) == (True, ("EPYC",))


def test_wrong_outputs_are_in_no_picture() -> None:
    section = section_of("net", made(device_rows(1, flags="outputs_wrong")), 0)
    assert all(chart.figure is None for chart in section.charts)


def test_states_have_patterns_beside_their_colours() -> None:
    figure = state_bars(["cpu"], {state: [2] for state in ("valid", "stale", "invalid", "failed", "missing")})
    looks = {(t["marker"]["color"], t["marker"]["pattern"]["shape"]) for t in figure["data"]}
    assert len(looks) == len({pattern for _, pattern in looks}) == 5


def test_families_have_symbols_beside_their_colours() -> None:
    spots = [Spot(x=1 + n, y=1 + n, family=f"f{n}", name="n", detail="") for n in range(len(COLOURS))]
    figure = trade_off(spots, "x", "y", higher_is_better=False, log_y=True)
    points = [trace for trace in figure["data"] if trace["mode"] == "markers+text"]
    assert len({trace["marker"]["symbol"][0] for trace in points}) == len(COLOURS)


@pytest.mark.parametrize("values", [[5.0], [5.0, 5.001], [0.01, 3.0], [1.0, 9e6]])
def test_logarithmic_axes_have_a_few_round_ticks_around_every_point(values: list[float]) -> None:
    axis = figures.log_axis(values)
    low, high = (10**end for end in axis["range"])
    assert low < min(values) <= max(values) < high
    assert 1 <= len(axis["tickvals"]) <= 10
    assert all(low <= tick <= high for tick in axis["tickvals"])


def test_figures_are_such_as_the_library_knows() -> None:
    graph_objects = pytest.importorskip("plotly.graph_objects")
    rows = [row for n in range(3) for row in device_rows(n, device=f"d{n}", p50_ms=5.0 + n)]
    drawn = [chart for chart in charts_of(content_with(rows)) if chart.figure]
    assert {trace["type"] for chart in drawn for trace in chart.figure["data"]} >= {"scatter", "heatmap", "bar"}  # type: ignore[index]
    for chart in drawn:
        graph_objects.Figure(chart.figure)  # raises on a property that it does not know


def test_a_long_line_keeps_its_peaks() -> None:
    readings = [Reading(at=n / 10, value=99.0 if n == 12_345 else n % 7) for n in range(50_000)]
    line = thinned("cpu", readings)
    assert len(line.values) <= MOST_POINTS + 2
    assert max(value for value in line.values if value is not None) == 99.0
    assert list(line.seconds) == sorted(line.seconds)


def test_a_line_breaks_where_nothing_was_read() -> None:
    line = thinned("cpu", [Reading(0, 1.0), Reading(1, None), Reading(2, 1.0), Reading(60, 2.0)])
    assert list(line.values) == [1.0, None, 1.0, None, 2.0]


def test_reasons_keep_failed_and_unsupported_apart() -> None:
    coverage = [
        make_coverage(runtime="a", state="unsupported", why="no kernel"),
        make_coverage(runtime="b", state="failed", why="no kernel"),
        make_coverage(runtime="c", state="failed", why="no kernel"),
        make_coverage(runtime="d", state="missing", why=None),
    ]
    tally = _Tally()
    _count(tally, "net", made([], coverage))
    facts = _reasons(tally)
    assert facts is not None
    assert [(row[0], row[3]) for row in facts.rows] == [("failed", "no kernel"), ("unsupported", "no kernel")]
    assert facts.rows[0][1] == "net: b fp32, net: c fp32"


#: Whether a plot holds marks: lines, points, bars or shaded fields.
MARKS = "plot => plot.querySelector('.scatterlayer .trace path, .heatmaplayer image, .barlayer .point path') !== null"


@needs_chromium
def test_a_browser_draws_every_chart_and_asks_for_nothing(tmp_path: Path) -> None:
    rows = [row for n in range(3) for row in device_rows(n, device=f"d{n} {HOSTILE}", p50_ms=5.0 + n)]
    content = content_with(rows, [make_coverage(why=HOSTILE)], model=HOSTILE)
    path = tmp_path / "report.html"
    path.write_text(render(content, chart_library()), encoding="utf-8")
    count = sum(chart.figure is not None for chart in charts_of(content))
    with Browser() as browser:
        for width in (400, 1600):
            for dark in (False, True):
                seen = browser.open(path, width=width, dark=dark)
                assert seen.console == []
                asked = [one for one in seen.requests if not one.startswith("data:")]
                assert asked == [path.as_uri()]
                assert browser.value("document.documentElement.dataset.drawn") == str(count)
                assert (
                    browser.value(f"[...document.querySelectorAll('.js-plotly-plot')].filter({MARKS}).length") == count
                )
                # Nothing is wider than the screen, and the ground is that of the scheme.
                assert browser.value("document.documentElement.scrollWidth") == width
                ground = browser.value("getComputedStyle(document.body).backgroundColor")
                ink = browser.value("getComputedStyle(document.querySelector('.xtick text')).fill")
                assert (sum(map(int, re.findall(r"\d+", ground)[:3])) < 200) is dark
                assert (sum(map(int, re.findall(r"\d+", ink)[:3])) > 400) is dark


def test_without_its_packages_a_report_says_how_to_get_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    with pytest.raises(UsageError, match=r"pip install 'benchfarm\[report\]'"):
        chart_library()
