"""Queries of panels. What names a metric or view that nobody offers is an error when the dashboards are made."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, Literal

from grafana_foundation_sdk.builders import prometheus
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models.common import DataSourceRef
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from exporters.metrics import by_name
from scheduler.views import VIEWS

Format = Literal["time_series", "table"]
#: Prometheus and PostgreSQL are whatever the two variables of every dashboard say.
PROMETHEUS: Final = DataSourceRef("prometheus", "${prometheus}")
POSTGRESQL: Final = DataSourceRef("grafana-postgresql-datasource", "${postgresql}")

#: Metrics that are not ours: Prometheus's own of each target, and Ray's (a test looks for them in the installed Ray).
FOREIGN_METRICS: Final = frozenset(
    {
        "up",
        "scrape_duration_seconds",
        "ray_cluster_active_nodes",
        "ray_node_cpu_utilization",
        "ray_node_mem_used",
        "ray_node_mem_total",
    }
)
#: Ours, as queries name them.
METRICS: Final = by_name()
_VIEWS: Final = frozenset(view.name for view in VIEWS)
_METRIC = re.compile(r"\b((?:benchfarm|ray)_[a-z0-9_]+|up|scrape_duration_seconds)\b(?!\s*=)")
_RELATION = re.compile(r"\b(?:FROM|JOIN)\s+([a-z_][a-z0-9_]*)\b(?!\s*\()")
#: `extract(epoch FROM at)` reads nothing.
_OF_TIME = re.compile(r"\(epoch FROM ")
_COMMON_TABLE = re.compile(r"\b([a-z_]+) AS (?:MATERIALIZED )?\(")


class _SqlQuery(Dataquery):
    """A query of Grafana's PostgreSQL data source; the SDK has no type for it."""

    def __init__(self, sql: str, format_: Format, ref_id: str) -> None:
        self.sql, self.format, self.ref_id = sql, format_, ref_id

    def to_json(self) -> dict[str, object]:
        """As Grafana's editor saves it."""
        return {
            "datasource": POSTGRESQL.to_json(),
            "editorMode": "code",
            "format": self.format,
            "rawQuery": True,
            "rawSql": self.sql,
            "refId": self.ref_id,
        }


class Sql(Builder[Dataquery]):
    """SQL over the views of `scheduler.views`."""

    def __init__(self, sql: str, *, format_: Format = "table", ref_id: str = "A") -> None:
        """Check and keep a query.

        Args:
            sql: the text, macros and variables as Grafana writes them.
            format_: time_series wants a column `time` in order, and may have one of text, `metric`.
            ref_id: name within its panel.

        Raises:
            ValueError: it reads something that is no view.
        """
        self._query = _SqlQuery(checked_sql(sql), format_, ref_id)

    def build(self) -> Dataquery:
        """See `Builder`."""
        return self._query


def prom(
    expr: str, legend: str = "", *, ref_id: str = "A", instant: bool = False, table: bool = False
) -> Builder[Dataquery]:
    """PromQL over the metrics of `exporters.metrics`.

    Args:
        expr: the text, variables as Grafana writes them.
        legend: what a series is called, `{{label}}` for a label.
        ref_id: name within its panel.
        instant: the value now; else over the dashboard's range.
        table: labels become columns; only of an instant query.

    Raises:
        ValueError: it names a metric that nobody exports.
    """
    query = prometheus.Dataquery().datasource(PROMETHEUS).expr(checked_promql(expr)).ref_id(ref_id)
    query = query.instant().legend_format(legend) if instant else query.range().legend_format(legend)
    return query.format(PromQueryFormat.TABLE) if table else query


def once(expr: str) -> str:
    """Each series of the farm once, however many exporters tell of it: a stand-by tells the same."""
    return f"max without (instance, job) ({expr})"


def hourly(counter: str) -> str:
    """A counter of the farm as a rate per hour."""
    return f"{once(f'rate({counter}[$__rate_interval])')} * 3600"


def source_of(queries: Sequence[Builder[Dataquery]]) -> DataSourceRef:
    """The data source of a panel with these queries."""
    sql = {isinstance(query, Sql) for query in queries}
    if len(sql) == 2:
        return DataSourceRef("datasource", "-- Mixed --")
    return POSTGRESQL if sql == {True} else PROMETHEUS


def checked_promql(expr: str) -> str:
    """The text on one line.

    Raises:
        ValueError: it names a metric that nobody exports.
    """
    text = " ".join(expr.split())
    if unknown := sorted(name for name in metrics_in(text) if name not in METRICS and name not in FOREIGN_METRICS):
        raise ValueError(f"no metric {', '.join(unknown)}: {text}")
    return text


def metrics_in(expr: str) -> set[str]:
    """The metrics that PromQL names."""
    return set(_METRIC.findall(re.sub(r'"[^"]*"', '""', expr)))


def checked_sql(sql: str) -> str:
    """The text without the indentation of the program.

    Raises:
        ValueError: it reads something that is no view.
    """
    lines = [line.strip() for line in sql.strip().splitlines()]
    text = "\n".join(line for line in lines if line)
    if unknown := sorted(views_in(text) - _VIEWS):
        raise ValueError(f"no view {', '.join(unknown)}: {text}")
    return text


def views_in(sql: str) -> set[str]:
    """The relations that SQL reads, but those which it names itself."""
    return set(_RELATION.findall(_OF_TIME.sub("(", sql))) - set(_COMMON_TABLE.findall(sql))
