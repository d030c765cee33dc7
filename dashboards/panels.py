"""Panels: one function for each kind, so that all have a description, a unit, and say why they are empty."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from grafana_foundation_sdk.builders import common, stat, table, text
from grafana_foundation_sdk.builders.dashboard import FieldColor, ThresholdsConfig
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models import common as shared
from grafana_foundation_sdk.models.dashboard import (
    DataTransformerConfig,
    DynamicConfigValue,
    FieldColorModeId,
    Panel,
    ValueMap,
)
from grafana_foundation_sdk.models.text import TextMode

from dashboards.queries import source_of
from dashboards.style import ABSENT, Column, plain

Query = Builder[Dataquery]
Targets = Query | Sequence[Query]
#: Width of the grid.
FULL = 24
_EVERY = ".*"


def stat_panel(
    title: str,
    targets: Targets,
    *,
    about: str,
    empty: str,
    unit: str = "none",
    steps: ThresholdsConfig | None = None,
    words: list[ValueMap] | None = None,
    links: Sequence[dict[str, object]] = (),
    decimals: int | None = None,
    shown: Sequence[str] = (),
    names_only: bool = False,
    width: int = 4,
    height: int = 4,
) -> Panel:
    """One number, or one for each series, in the colour of its threshold.

    Args:
        title: of the panel.
        targets: its queries.
        about: what it shows, and where the number comes from.
        empty: shown where there is no number: why.
        unit: Grafana's name of it.
        steps: colours of values; one colour for all where None.
        words: what is shown for some values.
        links: where a click leads.
        decimals: of the number.
        shown: columns of a table, a number each; every number where empty. Others are there for links.
        names_only: the series' names instead of their values.
        width: of 24.
        height: in rows of the grid.
    """
    panel = common_parts(stat.Panel(), title, targets, about, empty, unit, steps, decimals, width, height)
    panel = panel.graph_mode(shared.BigValueGraphMode.NONE)
    panel = panel.color_mode(shared.BigValueColorMode.VALUE if steps or words else shared.BigValueColorMode.NONE)
    panel = panel.text_mode(shared.BigValueTextMode.NAME if names_only else shared.BigValueTextMode.AUTO)
    fields = f"/^({'|'.join(shown)})$/" if shown else ""
    panel = panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).fields(fields).values(False))
    if words:
        panel = panel.mappings(words)
    return finished(panel, links=links)


def table_panel(
    title: str,
    targets: Targets,
    *,
    about: str,
    empty: str,
    columns: Mapping[str, Column],
    transformations: Sequence[tuple[str, Mapping[str, object]]] = (),
    sort: tuple[str, bool] | None = None,
    unit: str = "none",
    width: int = FULL,
    height: int = 9,
) -> Panel:
    """Rows.

    Args:
        title: of the panel.
        targets: its queries.
        about: what it shows, and where the rows come from.
        empty: shown where there is none: why.
        columns: by name, as the query or the transformations name them.
        transformations: (Grafana's name, options) in order.
        sort: name of a column as shown, and whether the largest comes first.
        unit: of the columns that are not named.
        width: of 24.
        height: in rows of the grid.
    """
    panel = common_parts(table.Panel(), title, targets, about, empty, unit, None, None, width, height)
    panel = panel.show_header(True).cell_height(shared.TableCellHeight.SM).filterable(True)
    panel = panel.align(shared.FieldTextAlignment.AUTO).inspect(False)
    for name, options in transformations:
        panel = panel.with_transformation(DataTransformerConfig(id_val=name, options=dict(options)))
    # The panel says why there are no rows; a cell without a value is just absent.
    panel = panel.override_by_regexp(_EVERY, [DynamicConfigValue(id_val="noValue", value=ABSENT)])
    for name, column in columns.items():
        if properties := column.properties():
            panel = panel.override_by_name(name, properties)
    if sort is not None:
        panel = panel.sort_by([common.TableSortByFieldState().display_name(sort[0]).desc(sort[1])])
    return finished(panel)


def matrix_panel(
    title: str,
    target: Query,
    *,
    about: str,
    empty: str,
    row: str,
    column: str,
    value: str,
    unit: str = "none",
    steps: ThresholdsConfig | None = None,
    words: list[ValueMap] | None = None,
    decimals: int | None = None,
    height: int = 10,
) -> Panel:
    """A table of rows by columns, from a query with one row for each cell.

    Args:
        title: of the panel.
        target: its query; later rows of one cell replace earlier ones.
        about: what it shows, and where the numbers come from.
        empty: shown where there is no cell: why.
        row: column of the query that names a row.
        column: column of the query that names a column.
        value: column of the query with the value of the cell.
        unit: Grafana's name of it.
        steps: colours of values.
        words: colours of words.
        decimals: of the numbers.
        height: in rows of the grid.
    """
    panel = common_parts(table.Panel(), title, target, about, empty, unit, steps, decimals, FULL, height)
    panel = panel.show_header(True).cell_height(shared.TableCellHeight.SM).filterable(True)
    panel = panel.align(shared.FieldTextAlignment.AUTO).inspect(False)
    options = {"columnField": column, "rowField": row, "valueField": value, "emptyValue": "null"}
    panel = panel.with_transformation(DataTransformerConfig(id_val="groupingToMatrix", options=options))
    properties = [DynamicConfigValue(id_val="noValue", value=ABSENT)]
    if steps is not None or words:
        properties.append(DynamicConfigValue(id_val="custom.cellOptions", value={"type": "color-text"}))
    if words:
        panel = panel.mappings(words)
    panel = panel.override_by_regexp(_EVERY, properties)
    panel = panel.override_by_name(
        f"{row}\\{column}",
        [
            DynamicConfigValue(id_val="displayName", value=f"{row} \\ {column}"),
            DynamicConfigValue(id_val="custom.width", value=420),
            DynamicConfigValue(id_val="color", value={"mode": "fixed", "fixedColor": "text"}),
        ],
    )
    return finished(panel)


def text_panel(content: str, *, title: str = "", width: int = FULL, height: int = 3) -> Panel:
    """Markdown, for what has no number.

    Args:
        content: the text.
        title: of the panel.
        width: of 24.
        height: in rows of the grid.
    """
    panel: Any = text.Panel().title(title).mode(TextMode.MARKDOWN).content(content).span(width).height(height)
    return finished(panel)


def common_parts(
    panel: Any,
    title: str,
    targets: Targets,
    about: str,
    empty: str,
    unit: str,
    steps: ThresholdsConfig | None,
    decimals: int | None,
    width: int,
    height: int,
) -> Any:
    """What every kind of panel has; their builders have no type in common."""
    panel = panel.title(title).description(about).span(width).height(height).unit(unit).no_value(empty)
    queries = targets if isinstance(targets, Sequence) else [targets]
    for query in queries:
        panel = panel.with_target(query)
    panel = panel.datasource(source_of(queries))
    if decimals is not None:
        panel = panel.decimals(decimals)
    panel = panel.color_scheme(FieldColor().mode(FieldColorModeId.THRESHOLDS))
    return panel.thresholds(steps or plain())


def finished(panel: Any, *, links: Sequence[dict[str, object]] = ()) -> Panel:
    """The panel, with links of its values."""
    made: Panel = panel.build()
    if links:
        assert made.field_config is not None
        assert made.field_config.defaults is not None
        made.field_config.defaults.links = list(links)  # type: ignore[arg-type]  # data links, which the SDK types as any
    return made
