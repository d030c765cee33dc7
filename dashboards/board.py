"""A dashboard: its rows of panels, what is picked at the top, and how it is written down."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import (
    Dashboard,
    DashboardCursorSync,
    DashboardLinkType,
    GridPos,
    Panel,
    RowPanel,
)

from dashboards.panels import FULL
from dashboards.queries import POSTGRESQL, Sql
from dashboards.variables import Variable, data_sources

#: Every dashboard has it, and links to all others that have it.
TAG = "benchfarm"
#: What the SDK writes: the newest form that file provisioning and the old HTTP API take.
SCHEMA_VERSION = 42


@dataclass(frozen=True)
class Row:
    """Panels under one heading, from left to right; a line ends where it is full."""

    title: str
    panels: Sequence[Panel]


@dataclass(frozen=True)
class Annotation:
    """Marks on every chart over time."""

    name: str
    colour: str
    #: Columns time, text, tags, and timeend where it lasts.
    sql: str


@dataclass(frozen=True)
class Board:
    """One dashboard."""

    uid: str
    title: str
    about: str
    variables: Sequence[Variable]
    rows: Sequence[Row]
    annotations: Sequence[Annotation] = ()
    #: How far it looks back at first.
    since: str = "now-24h"
    refresh: str = "1m"
    tags: Sequence[str] = field(default=(TAG,))


def document(board: Board) -> str:
    """The JSON of a dashboard: the same text for the same board."""
    made = (
        builders.Dashboard(board.title)
        .uid(board.uid)
        .description(board.about)
        .tags(list(board.tags))
        .timezone("browser")
        .editable()
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .time(board.since, "now")
        .refresh(board.refresh)
        .version(1)
        .variables([*data_sources(), *board.variables])
        .annotations([_annotation(one) for one in board.annotations])
        .link(_to_the_others())
        .build()
    )
    made.schema_version = SCHEMA_VERSION
    _place(made, board.rows)
    plain = _tidied(json.loads(json.dumps(made, cls=JSONEncoder)))
    return json.dumps(plain, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def _tidied(plain: dict[str, Any]) -> dict[str, Any]:
    """Without what the SDK still writes and Grafana's schema no longer has; with what that wants and the SDK omits."""
    for variable in plain["templating"]["list"]:
        for name in ("auto", "auto_count", "auto_min", "definition"):
            variable.pop(name, None)
    for panel in plain["panels"]:
        if panel["type"] == "table":
            panel["options"].pop("footer", None)
            panel["fieldConfig"]["defaults"]["custom"].setdefault("cellOptions", {"type": "auto"})
    return plain


def _place(made: Dashboard, rows: Sequence[Row]) -> None:
    """Number panels and put them on the grid."""
    placed: list[Panel | RowPanel] = []
    y = 0
    for row in rows:
        head = RowPanel(title=row.title, collapsed=False, id_val=len(placed) + 1, panels=[])
        head.grid_pos = GridPos(h=1, w=FULL, x=0, y=y)
        placed.append(head)
        y += 1
        x = line = 0
        for panel in row.panels:
            assert panel.grid_pos is not None  # every kind sets its size
            width, height = panel.grid_pos.w, panel.grid_pos.h
            if x + width > FULL:
                x, y, line = 0, y + line, 0
            panel.id_val = len(placed) + 1
            panel.grid_pos = GridPos(h=height, w=width, x=x, y=y)
            placed.append(panel)
            x, line = x + width, max(line, height)
        y += line
    made.panels = placed


def _annotation(one: Annotation) -> builders.AnnotationQuery:
    made = builders.AnnotationQuery().name(one.name).datasource(POSTGRESQL).enable(True).icon_color(one.colour)
    # The SDK types targets of Grafana's own source only; what is encoded is the query's JSON.
    return made.target(Sql(one.sql, ref_id="Anno"))


def _to_the_others() -> builders.DashboardLink:
    return (
        builders.DashboardLink("benchfarm")
        .type(DashboardLinkType.DASHBOARDS)
        .tags([TAG])
        .as_dropdown(False)
        .include_vars(True)
        .keep_time(True)
        .icon("external link")
        .target_blank(False)
        .tooltip("")
        .url("")
    )
