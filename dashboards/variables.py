"""Variables of dashboards: what is picked at the top, each offering only what fits what was picked before it."""

from __future__ import annotations

from collections.abc import Sequence

from grafana_foundation_sdk.builders.dashboard import CustomVariable, DatasourceVariable, QueryVariable
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models.dashboard import VariableModel, VariableOption, VariableRefresh, VariableSort

from dashboards.queries import POSTGRESQL, PROMETHEUS, checked_promql, checked_sql

Variable = Builder[VariableModel]
#: What Grafana calls the choice of everything.
ALL = VariableOption(selected=True, text="All", value="$__all")
#: The value of the variable `simulated` where simulated devices are shown too: a regular expression, and a list in SQL.
WITH_SIMULATED = "true|false"


def data_sources() -> list[Variable]:
    """The two data sources; the provisioned ones unless others are picked."""
    made: list[Variable] = []
    for name, label, plugin in (
        ("prometheus", "Prometheus", "prometheus"),
        ("postgresql", "PostgreSQL", "grafana-postgresql-datasource"),
    ):
        uid = f"benchfarm-{name}"
        current = VariableOption(selected=True, text=uid, value=uid)
        made.append(DatasourceVariable(name).label(label).type(plugin).current(current).multi(False).include_all(False))
    return made


def label_values(name: str, label: str, selector: str, *, of: str | None = None, multi: bool = True) -> Variable:
    """Values of a label of Prometheus.

    Args:
        name: of the variable.
        label: what people read.
        selector: the series that have it, with the variables before this one.
        of: the label's name; the variable's where None.
        multi: several may be picked, and all are at first.
    """
    query = f"label_values({checked_promql(selector)}, {of or name})"
    made = QueryVariable(name).label(label).datasource(PROMETHEUS)
    made = made.query({"qryType": 1, "query": query, "refId": f"variable-{name}"})
    return _choices(made, multi, VariableSort.NATURAL_ASC)


def rows(
    name: str,
    label: str,
    sql: str,
    *,
    multi: bool = True,
    with_all: bool = True,
    sort: VariableSort = VariableSort.NATURAL_ASC,
) -> Variable:
    """Values from SQL.

    Args:
        name: of the variable.
        label: what people read.
        sql: its first column are the values; or `__value` and `__text`.
        multi: several may be picked.
        with_all: of several all may be, and are at first; else the first is, for all would be too much to draw.
        sort: order of what is offered; as the query has it where disabled.
    """
    text = checked_sql(sql)
    made = QueryVariable(name).label(label).datasource(POSTGRESQL).query(text)
    return _choices(made, multi, sort, with_all=with_all)


def simulated() -> Variable:
    """Whether simulated devices are among those that are compared: they are not unless asked for."""
    left_out = VariableOption(selected=True, text="left out", value="false")
    shown = VariableOption(selected=False, text="shown", value=WITH_SIMULATED)
    return (
        CustomVariable("simulated")
        .label("Simulated devices")
        .values(f"left out : false,shown : {WITH_SIMULATED}")
        .current(left_out)
        .options([left_out, shown])
        .multi(False)
        .include_all(False)
    )


def picked(*names: str, alias: str = "", columns: Sequence[str] = ()) -> str:
    """A condition of SQL: the columns are among what is picked in the variables.

    Args:
        names: variables with several values, called as the columns are.
        alias: of the relation.
        columns: the columns, where they are called otherwise.
    """
    prefix = f"{alias}." if alias else ""
    pairs = zip(columns or names, names, strict=True)
    # An array, for a farm where there is nothing to pick yet: IN () is no SQL.
    return " AND ".join(f"{prefix}{column} = ANY (ARRAY[${{{name}:sqlstring}}]::text[])" for column, name in pairs)


def real_ones(alias: str = "") -> str:
    """A condition of SQL: simulated devices only if they are shown."""
    prefix = f"{alias}." if alias else ""
    return f"{prefix}simulated::text = ANY (string_to_array(${{simulated:sqlstring}}, '|'))"


def _choices(made: QueryVariable, multi: bool, sort: VariableSort, *, with_all: bool = True) -> Variable:
    made = made.refresh(VariableRefresh.ON_DASHBOARD_LOAD)
    every = multi and with_all
    made = made.sort(sort).multi(multi).include_all(every)
    return made.current(ALL) if every else made
