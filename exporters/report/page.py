"""The page itself: what was gathered becomes HTML, with styles, script and the library of its charts inside."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from device_registry.errors import UsageError
from exporters.files import whole_file
from exporters.report.shapes import Chart, Content
from scheduler.cells import Wanted

_PACKAGE = "exporters.report"


def write_report(connection: Connection, wanted: Wanted, run_id: int | None, path: Path, now: datetime) -> int:
    """Write a report; the file stands whole or not at all. Returns its bytes.

    Args:
        connection: to read from.
        wanted: which models and devices.
        run_id: whose telemetry is shown; None: the latest run that fits.
        path: the file.
        now: the time.

    Raises:
        UsageError: something named is not there, nothing was measured yet, or the extra `report` is not installed.
        BenchfarmError: the file cannot be written.
    """
    from exporters.report.content import content_of

    library = chart_library()
    page = render(content_of(connection, wanted, run_id, now), library).encode()
    with whole_file(path) as file:
        file.write(page)
    return len(page)


def chart_library() -> str:
    """The script that draws the charts.

    Raises:
        UsageError: it is not installed.
    """
    try:
        import jinja2  # noqa: F401 - lacking it shall be said now, not half-way
        from plotly.offline import get_plotlyjs
    except ImportError:
        raise UsageError("reports need plotly and jinja2: pip install 'benchfarm[report]'") from None
    return str(get_plotlyjs())


def render(content: Content, library: str) -> str:
    """The page. Every name in it is text that somebody else chose, and is escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

    environment = Environment(
        loader=PackageLoader(_PACKAGE, "."),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    here = files(_PACKAGE)
    drawn = [chart for chart in charts_of(content) if chart.figure is not None]
    return environment.get_template("page.html.j2").render(
        content=content,
        style=script_text(here.joinpath("style.css").read_text(encoding="utf-8")),
        script=script_text(here.joinpath("page.js").read_text(encoding="utf-8")),
        library=script_text(library) if drawn else "",
        figures=json_text({chart.id: chart.figure for chart in drawn}),
        marks={"faster": "▲", "slower": "▼", "same": "=", "inconclusive": "?"},
    )


def charts_of(content: Content) -> Iterator[Chart]:
    """Every chart of a report."""
    yield from content.incident_charts
    yield from content.overview
    for section in content.sections:
        yield from section.charts
    yield from content.telemetry
    if content.coverage is not None:
        yield content.coverage


def script_text(text: str) -> Any:
    """A script of ours or of the library, which cannot end its element early."""
    from markupsafe import Markup

    return Markup(text.replace("</script", "<\\/script"))  # noqa: S704 - nothing in it is anybody else's


def json_text(value: Any) -> Any:
    """JSON inside an element: names in it are anybody's, so that no character opens a tag."""
    from markupsafe import Markup

    return Markup(json.dumps(value, allow_nan=False).replace("<", "\\u003c"))  # noqa: S704 - escaped
