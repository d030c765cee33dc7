"""Asks what a dashboard asks, and gives back what its panels would get."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from urllib.error import HTTPError

import psycopg

from tests.integration.grafana.grafana_text import Picked, Range, promql, sql
from tests.prometheus import PrometheusServer

_LABEL_VALUES = re.compile(r"^label_values\((.+), (\w+)\)$")


@dataclass(frozen=True)
class Answer:
    """What one query of a panel got: columns and rows, or series."""

    columns: tuple[str, ...]
    rows: Sequence[tuple[Any, ...]]

    def numbers(self, column: str) -> list[float]:
        """The numbers of a column that has any."""
        index = self.columns.index(column)
        found = (row[index] for row in self.rows)
        return [float(value) for value in found if isinstance(value, int | float | Decimal)]


class Asker:
    """Both data sources, as Grafana reaches them."""

    def __init__(self, prometheus: PrometheusServer, connection: psycopg.Connection[Any], over: Range) -> None:
        self._prometheus, self._connection, self._over = prometheus, connection, over

    def answer(self, target: Mapping[str, Any], picked: Mapping[str, Picked]) -> Answer:
        """What a query of a panel gets."""
        known = {**self._over.built_in, **picked}
        if "rawSql" in target:
            return self._rows(sql(target["rawSql"], known, self._over))
        expr = promql(target["expr"], known)
        if target.get("instant"):
            found = self._ask("query", query=expr, time=self._over.until)["result"]
            series = [(one["metric"], [one["value"]]) for one in found]
        else:
            ends = {"start": self._over.since, "end": self._over.until, "step": self._over.step_s}
            found = self._ask("query_range", query=expr, **ends)["result"]
            series = [(one["metric"], one["values"]) for one in found]
        labels = sorted({label for metric, _ in series for label in metric})
        value = f"Value #{target['refId']}" if target.get("format") == "table" else "Value"
        rows = [
            (*(metric.get(label) for label in labels), float(number))
            for metric, values in series
            for _, number in values
            if not math.isnan(float(number))
        ]
        return Answer((*labels, value), rows)

    def picks(self, variables: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Picked]]:
        """Every way to pick one option of each variable that takes one; all options of those that take several."""
        yield from self._picks(list(variables), {})

    def _picks(self, left: list[Mapping[str, Any]], picked: dict[str, Picked]) -> Iterator[dict[str, Picked]]:
        if not left:
            yield picked
            return
        variable, name = left[0], left[0]["name"]
        if variable.get("includeAll"):
            options = [Picked(tuple(self.options(variable, picked)), many=True)]
        else:
            options = [Picked(option) for option in self.options(variable, picked)] or [Picked("")]
        for option in options:
            yield from self._picks(left[1:], {**picked, name: option})

    def options(self, variable: Mapping[str, Any], picked: Mapping[str, Picked]) -> list[str]:
        """What a variable offers."""
        if variable["type"] == "datasource":
            return [variable["current"]["value"]]
        if variable["type"] == "custom":
            return [option["value"] for option in variable["options"]]
        if isinstance(variable["query"], str):
            answer = self._rows(sql(variable["query"], picked, self._over))
            index = answer.columns.index("__value") if "__value" in answer.columns else 0
            return [str(row[index]) for row in answer.rows]
        match = _LABEL_VALUES.match(variable["query"]["query"])
        assert match is not None, variable
        ends = {"start": self._over.since, "end": self._over.until}
        selector = promql(match[1], picked)
        return list(self._ask(f"label/{match[2]}/values", **{"match[]": selector}, **ends))

    def _ask(self, path: str, **parameters: Any) -> Any:
        try:
            return self._prometheus.get(path, **parameters)
        except HTTPError as error:
            raise AssertionError(f"{error.read().decode()}\n{parameters}") from error

    def _rows(self, text: str) -> Answer:
        try:
            with self._connection.cursor() as cursor:
                cursor.execute(text.encode())
                columns = tuple(column.name for column in cursor.description or ())
                return Answer(columns, cursor.fetchall())
        except psycopg.Error as error:
            raise AssertionError(f"{error}\n{text}") from error


def check_time_series(answer: Answer) -> None:
    """What Grafana wants of SQL that yields series: a time, in order, at most one text, and numbers."""
    assert "time" in answer.columns, answer.columns
    others = [column for column in answer.columns if column not in ("time", "metric")]
    times = [row[answer.columns.index("time")] for row in answer.rows]
    assert all(isinstance(moment, datetime | Decimal | float) for moment in times)
    assert times == sorted(times)
    for column in others:
        index = answer.columns.index(column)
        assert all(row[index] is None or isinstance(row[index], int | float | Decimal) for row in answer.rows), column
