"""A suite's page: one HTML file that needs nothing else, and the same as JSON and CSV beside it."""

from __future__ import annotations

import json
from datetime import datetime
from importlib.resources import files
from pathlib import Path

from sqlalchemy import Connection

from device_registry.errors import UsageError
from exporters.files import export_rows, whole_file
from exporters.report.page import chart_library, json_text, script_text
from exporters.suites.content import SuiteContent, content_of
from exporters.suites.document import document_of, suite_rows
from exporters.suites.gather import gather
from exporters.suites.tables import OURS, PUBLISHED
from scheduler.suites.suite import Suite


def refuse_report(path: Path) -> None:
    """Refuse a report that could not be written: now, and not when a suite has run for hours.

    Raises:
        UsageError: the page would lie where another of its files goes or in no folder, or the extra `report` is not
            installed.
    """
    if path.suffix.lower() in (".json", ".csv"):
        raise UsageError(f"{path}: the report is a page, FILE.html; {path.suffix} is written beside it")
    if path.is_dir() or not path.parent.is_dir():
        what = f"{path} is a folder" if path.is_dir() else f"there is no folder {path.parent}"
        raise UsageError(f"cannot write the report: {what}")
    chart_library()


def write_suite_report(connection: Connection, suite: Suite, path: Path, now: datetime) -> list[Path]:
    """Write a suite's page, and beside it a file of the same name in `.json` and one in `.csv`.

    Args:
        connection: to read from.
        suite: as its file has it, of the size that was run.
        path: the page; each file stands whole or not at all.
        now: the time.

    Returns:
        The three files.

    Raises:
        UsageError: no block of it was ever run, or see `refuse_report`.
        BenchfarmError: a file cannot be written.
    """
    refuse_report(path)
    library = chart_library()
    found = gather(connection, suite)
    page = render(content_of(found, now), library).encode()
    with whole_file(path) as file:
        file.write(page)
    document, rows = path.with_suffix(".json"), path.with_suffix(".csv")
    text = json.dumps({**document_of(found), "made_at": now.isoformat()}, indent=2, allow_nan=False)
    with whole_file(document) as file:
        file.write(text.encode() + b"\n")
    export_rows(suite_rows(found), "csv", rows)
    return [path, document, rows]


def render(content: SuiteContent, library: str) -> str:
    """The page. Every name in it is text that somebody else chose, and is escaped."""
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined, select_autoescape

    environment = Environment(
        loader=ChoiceLoader([PackageLoader("exporters.suites", "."), PackageLoader("exporters.report", ".")]),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    styles = [files(f"exporters.{package}").joinpath("style.css") for package in ("report", "suites")]
    drawn = [chart for part in content.parts for chart in part.charts if chart.figure is not None]
    return environment.get_template("suite.html.j2").render(
        content=content,
        style=script_text("".join(style.read_text(encoding="utf-8") for style in styles)),
        script=script_text(files("exporters.report").joinpath("page.js").read_text(encoding="utf-8")),
        library=script_text(library) if drawn else "",
        figures=json_text({chart.id: chart.figure for chart in drawn}),
        marks={},
        OURS=OURS,
        PUBLISHED=PUBLISHED,
    )
