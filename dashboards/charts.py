"""Panels that draw: over time, states, bars, points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from grafana_foundation_sdk.builders import bargauge, common, statetimeline, timeseries, xychart
from grafana_foundation_sdk.builders.dashboard import FieldColor, ThresholdsConfig
from grafana_foundation_sdk.models import common as shared
from grafana_foundation_sdk.models.dashboard import (
    DataTransformerConfig,
    DynamicConfigValue,
    FieldColorModeId,
    Panel,
    ValueMap,
)
from grafana_foundation_sdk.models.xychart import SeriesMapping, XYShowMode

from dashboards.panels import FULL, Query, Targets, common_parts, finished


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
    panel = common_parts(timeseries.Panel(), title, targets, about, empty, unit, steps, decimals, width, height)
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
    return finished(_overridden(panel, overrides), links=links)


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
    panel = common_parts(statetimeline.Panel(), title, targets, about, empty, "none", None, None, width, height)
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
    return finished(panel, links=links)


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
    overrides: Mapping[str, Mapping[str, object]] | None = None,
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
        overrides: for bars whose name matches a regular expression: property -> value.
        links: where a click leads.
        width: of 24.
        height: in rows of the grid.
    """
    panel = common_parts(bargauge.Panel(), title, targets, about, empty, unit, steps, None, width, height)
    panel = panel.display_mode(shared.BarGaugeDisplayMode.BASIC).orientation(shared.VizOrientation.HORIZONTAL)
    panel = panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).fields("").values(every_row))
    panel = panel.value_mode(shared.BarGaugeValueMode.COLOR).show_unfilled(True)
    if low is not None:
        panel = panel.min(low)
    if high is not None:
        panel = panel.max(high)
    return finished(_overridden(panel, overrides), links=links)


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
    panel = common_parts(xychart.Panel(), title, target, about, empty, "none", None, None, width, height)
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
    return finished(panel, links=links)


def _overridden(panel: Any, overrides: Mapping[str, Mapping[str, object]] | None) -> Any:
    for pattern, properties in (overrides or {}).items():
        made = [DynamicConfigValue(id_val=name, value=value) for name, value in properties.items()]
        panel = panel.override_by_regexp(pattern, made)
    return panel


def _tooltip(mode: shared.TooltipDisplayMode) -> common.VizTooltipOptions:
    order = shared.SortOrder.DESCENDING if mode is shared.TooltipDisplayMode.MULTI else shared.SortOrder.NONE
    return common.VizTooltipOptions().mode(mode).sort(order)
