"""Panels: one function for each kind, so that all have a description, a unit, and say why they are empty."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from grafana_foundation_sdk.builders import bargauge, common, stat, statetimeline, table, text, timeseries, xychart
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
from grafana_foundation_sdk.models.xychart import SeriesMapping, XYShowMode

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
    panel = _common(stat.Panel(), title, targets, about, empty, unit, steps, decimals, width, height)
    panel = panel.graph_mode(shared.BigValueGraphMode.NONE)
    panel = panel.color_mode(shared.BigValueColorMode.VALUE if steps or words else shared.BigValueColorMode.NONE)
    panel = panel.text_mode(shared.BigValueTextMode.NAME if names_only else shared.BigValueTextMode.AUTO)
    fields = f"/^({'|'.join(shown)})$/" if shown else ""
    panel = panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).fields(fields).values(False))
    if words:
        panel = panel.mappings(words)
    return _finish(panel, links=links)


def series_panel(
    title: str,
    targets: Targets,
    *,
    about: str,
    empty: str,
    unit: str,
    steps: ThresholdsConfig | None = None,
    links: Sequence[dict[str, object]] = (),
    overrides: Mapping[str, Mapping[str, object]] | None = None,
    points: bool = False,
    bars: bool = False,
    stacked: bool = False,
    low: float | None = None,
    high: float | None = None,
    decimals: int | None = None,
    interval: str | None = None,
    width: int = 12,
    height: int = 8,
) -> Panel:
    """Values over time.

    Args:
        title: of the panel.
        targets: its queries.
        about: what it shows, and where the numbers come from.
        empty: shown where there is none: why.
        unit: Grafana's name of it.
        steps: limits, drawn as dashed lines.
        links: where a click on a point leads.
        overrides: for series whose name matches a regular expression: property -> value.
        points: dots joined by thin lines: each is a measurement.
        bars: for counts by time.
        stacked: on one another.
        low: least value of the axis.
        high: greatest value of the axis.
        decimals: of numbers.
        interval: least step of `$__interval`.
        width: of 24.
        height: in rows of the grid.
    """
    panel = _common(timeseries.Panel(), title, targets, about, empty, unit, steps, decimals, width, height)
    panel = panel.color_scheme(FieldColor().mode(FieldColorModeId.PALETTE_CLASSIC))
    panel = panel.legend(
        common.VizLegendOptions()
        .display_mode(shared.LegendDisplayMode.TABLE)
        .placement(shared.LegendPlacement.BOTTOM)
        .show_legend(True)
        .calcs(["lastNotNull", "max"])
    )
    panel = panel.tooltip(_tooltip(shared.TooltipDisplayMode.MULTI))
    panel = panel.draw_style(shared.GraphDrawStyle.BARS if bars else shared.GraphDrawStyle.LINE)
    panel = panel.line_width(1).fill_opacity(60 if bars else 0)
    panel = panel.show_points(shared.VisibilityMode.ALWAYS if points else shared.VisibilityMode.AUTO).point_size(6)
    if interval is not None:
        panel = panel.interval(interval)
    if points:  # a measurement is joined with the next however long ago it was
        panel = panel.span_nulls(True)
    if stacked:
        panel = panel.stacking(common.StackingConfig().mode(shared.StackingMode.NORMAL).group("A"))
    if steps is not None:
        panel = panel.thresholds_style(common.GraphThresholdsStyleConfig().mode(shared.GraphThresholdsStyleMode.DASHED))
    if low is not None:
        panel = panel.min(low)
    if high is not None:
        panel = panel.max(high)
    for pattern, properties in (overrides or {}).items():
        made = [DynamicConfigValue(id_val=name, value=value) for name, value in properties.items()]
        panel = panel.override_by_regexp(pattern, made)
    return _finish(panel, links=links)


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
    panel = _common(table.Panel(), title, targets, about, empty, unit, None, None, width, height)
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
    return _finish(panel)


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
    panel = _common(table.Panel(), title, target, about, empty, unit, steps, decimals, FULL, height)
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
    return _finish(panel)


def timeline_panel(
    title: str,
    targets: Targets,
    *,
    about: str,
    empty: str,
    words: list[ValueMap],
    links: Sequence[dict[str, object]] = (),
    width: int = FULL,
    height: int = 8,
) -> Panel:
    """States over time, a line each.

    Args:
        title: of the panel.
        targets: its queries.
        about: what it shows, and where the states come from.
        empty: shown where there is none: why.
        words: text and colour of each value.
        links: where a click leads.
        width: of 24.
        height: in rows of the grid.
    """
    panel = _common(statetimeline.Panel(), title, targets, about, empty, "none", None, None, width, height)
    panel = panel.show_value(shared.VisibilityMode.NEVER).row_height(0.8).merge_values(True).mappings(words)
    panel = panel.fill_opacity(80).line_width(0)
    panel = panel.legend(
        common.VizLegendOptions()
        .display_mode(shared.LegendDisplayMode.LIST)
        .placement(shared.LegendPlacement.BOTTOM)
        .show_legend(True)
        .calcs([])
    )
    panel = panel.tooltip(_tooltip(shared.TooltipDisplayMode.SINGLE))
    return _finish(panel, links=links)


def bars_panel(
    title: str,
    targets: Targets,
    *,
    about: str,
    empty: str,
    unit: str,
    steps: ThresholdsConfig | None = None,
    low: float | None = None,
    high: float | None = None,
    every_row: bool = False,
    links: Sequence[dict[str, object]] = (),
    width: int = 12,
    height: int = 8,
) -> Panel:
    """The latest value of each series, or each row's value, as a bar.

    Args:
        title: of the panel.
        targets: its queries.
        about: what it shows, and where the numbers come from.
        empty: shown where there is none: why.
        unit: Grafana's name of it.
        steps: colours of values.
        low: least value of the bars.
        high: greatest value of the bars.
        every_row: a bar for each row of a table, named by its text.
        links: where a click leads.
        width: of 24.
        height: in rows of the grid.
    """
    panel = _common(bargauge.Panel(), title, targets, about, empty, unit, steps, None, width, height)
    panel = panel.display_mode(shared.BarGaugeDisplayMode.BASIC).orientation(shared.VizOrientation.HORIZONTAL)
    panel = panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).fields("").values(every_row))
    panel = panel.value_mode(shared.BarGaugeValueMode.COLOR).show_unfilled(True)
    if low is not None:
        panel = panel.min(low)
    if high is not None:
        panel = panel.max(high)
    return _finish(panel, links=links)


def scatter_panel(
    title: str,
    target: Query,
    *,
    about: str,
    empty: str,
    x: tuple[str, str],
    y: tuple[str, str],
    by: str,
    links: Sequence[dict[str, object]] = (),
    width: int = 12,
    height: int = 11,
) -> Panel:
    """Points of two numbers, both on logarithmic axes, a colour for each group.

    Args:
        title: of the panel.
        target: its query; the first two numbers of a row are x and y, in this order.
        about: what it shows, and where the numbers come from.
        empty: shown where there is none: why.
        x: column and unit.
        y: column and unit.
        by: column of groups.
        links: where a click leads.
        width: of 24.
        height: in rows of the grid.
    """
    panel = _common(xychart.Panel(), title, target, about, empty, "none", None, None, width, height)
    panel = panel.mapping(SeriesMapping.AUTO).series([]).show(XYShowMode.POINTS)
    panel = panel.with_transformation(
        DataTransformerConfig(
            id_val="partitionByValues",
            options={"fields": [by], "keepFields": True, "naming": {"asLabels": False, "append": False}},
        )
    )
    panel = panel.legend(
        common.VizLegendOptions()
        .display_mode(shared.LegendDisplayMode.LIST)
        .placement(shared.LegendPlacement.BOTTOM)
        .show_legend(True)
        .calcs([])
    )
    panel = panel.tooltip(_tooltip(shared.TooltipDisplayMode.SINGLE))
    scale = {"type": "log", "log": 10}
    for column, unit in (x, y):
        shown = [
            DynamicConfigValue(id_val="unit", value=unit),
            DynamicConfigValue(id_val="custom.axisLabel", value=column),
            DynamicConfigValue(id_val="custom.scaleDistribution", value=scale),
        ]
        panel = panel.override_by_name(column, shown)
    return _finish(panel, links=links)


def text_panel(content: str, *, title: str = "", width: int = FULL, height: int = 3) -> Panel:
    """Markdown, for what has no number.

    Args:
        content: the text.
        title: of the panel.
        width: of 24.
        height: in rows of the grid.
    """
    panel: Any = text.Panel().title(title).mode(TextMode.MARKDOWN).content(content).span(width).height(height)
    return _finish(panel)


def _common(
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
    """What every kind has; their builders have it too, but no type in common."""
    panel = panel.title(title).description(about).span(width).height(height).unit(unit).no_value(empty)
    queries = targets if isinstance(targets, Sequence) else [targets]
    for query in queries:
        panel = panel.with_target(query)
    panel = panel.datasource(source_of(queries))
    if decimals is not None:
        panel = panel.decimals(decimals)
    panel = panel.color_scheme(FieldColor().mode(FieldColorModeId.THRESHOLDS))
    return panel.thresholds(steps or plain())


def _finish(panel: Any, *, links: Sequence[dict[str, object]] = ()) -> Panel:
    made: Panel = panel.build()
    if links:
        assert made.field_config is not None
        assert made.field_config.defaults is not None
        made.field_config.defaults.links = list(links)  # type: ignore[arg-type]  # data links, which the SDK types as any
    return made


def _tooltip(mode: shared.TooltipDisplayMode) -> common.VizTooltipOptions:
    order = shared.SortOrder.DESCENDING if mode is shared.TooltipDisplayMode.MULTI else shared.SortOrder.NONE
    return common.VizTooltipOptions().mode(mode).sort(order)
