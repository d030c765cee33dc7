"""What Grafana makes of a dashboard's texts before it asks: variables and macros, as its sources have it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

#: $name, [[name]], ${name} and ${name:format}; fields of scoped variables come with a dot.
_VARIABLE = re.compile(r"\$(\w+)|\[\[(\w+?)\]\]|\$\{(\w+)(?::([^}]+))?\}")
#: Macros of the PostgreSQL data source: an identifier, and arguments without a closing bracket.
_MACRO = re.compile(r"\$([_a-zA-Z0-9]+)\(([^)]*)\)")
_INTERVAL = re.compile(r"^(\d+(?:\.\d+)?)(ms|s|m|h|d)$")
_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


@dataclass(frozen=True)
class Picked:
    """What is picked in one variable."""

    #: One value, or several.
    value: str | tuple[str, ...]
    #: Whether it may have several, or all.
    many: bool = False


@dataclass(frozen=True)
class Range:
    """The time range of a dashboard, and the step that follows from it."""

    since: float
    until: float
    step_s: int = 1
    #: Of the data source: how often Prometheus scrapes.
    scrape_s: int = 1

    @property
    def built_in(self) -> dict[str, Picked]:
        """Grafana's own variables."""
        rate_s = max(self.step_s + self.scrape_s, 4 * self.scrape_s)
        return {
            "__interval": Picked(f"{self.step_s}s"),
            "__interval_ms": Picked(str(self.step_s * 1000)),
            "__rate_interval": Picked(f"{rate_s}s"),
            "__range": Picked(f"{round(self.until - self.since)}s"),
        }


def promql(text: str, picked: Mapping[str, Picked]) -> str:
    """PromQL with its variables filled in."""
    return _replaced(text, picked, _for_promql)


def sql(text: str, picked: Mapping[str, Picked], over: Range) -> str:
    """SQL with its variables filled in, then its macros."""
    return _macros(_replaced(text, picked, _for_sql), over)


def _replaced(text: str, picked: Mapping[str, Picked], otherwise: Any) -> str:
    def put(match: re.Match[str]) -> str:
        name = match[1] or match[2] or match[3]
        if name not in picked:
            # What follows is a macro; anything else would reach the database as it is.
            assert name.startswith("__"), f"no variable {name}: {text}"
            return match[0]
        one, format_ = picked[name], match[4]
        return otherwise(one) if format_ is None else _formatted(one, format_)

    return _VARIABLE.sub(put, text)


def _formatted(one: Picked, format_: str) -> str:
    values = (one.value,) if isinstance(one.value, str) else one.value
    if format_ == "sqlstring":
        return ",".join("'" + value.replace("'", "''") + "'" for value in values)
    if format_ == "raw":
        return ",".join(values)
    raise AssertionError(f"format {format_} is not known here")


def _for_promql(one: Picked) -> str:
    if isinstance(one.value, str) and not one.many:
        return one.value.replace("\\", "\\\\").replace("'", "\\'")
    values = (one.value,) if isinstance(one.value, str) else one.value
    escaped = [re.sub(r"[$^*{}\[\]'+?.()|]", r"\\\\\g<0>", value.replace("\\", "\\\\\\\\")) for value in values]
    return escaped[0] if len(escaped) == 1 else f"({'|'.join(escaped)})"


def _for_sql(one: Picked) -> str:
    if isinstance(one.value, str) and not one.many:
        return one.value.replace("'", "''")
    return _formatted(one, "sqlstring")


def _macros(text: str, over: Range) -> str:
    since, until = _rfc3339(over.since), _rfc3339(over.until)

    def put(match: re.Match[str]) -> str:
        name, args = match[1], [arg.strip(" ") for arg in match[2].split(",")]
        if name == "__timeGroup" and text[match.end() : match.end() + 1] == ",":
            name = "__timeGroupAlias"
        if name == "__time":
            return f'{args[0]} AS "time"'
        if name == "__timeFilter":
            return f"{args[0]} BETWEEN '{since}' AND '{until}'"
        if name in ("__timeFrom", "__timeTo"):
            return f"'{since if name == '__timeFrom' else until}'"
        if name in ("__timeGroup", "__timeGroupAlias"):
            seconds = _seconds(args[1].strip("'"))
            group = f"floor(extract(epoch from {args[0]})/{seconds:g})*{seconds:g}"
            return group + (' AS "time"' if name == "__timeGroupAlias" else "")
        raise AssertionError(f"unknown macro {name}")

    return _MACRO.sub(put, text)


def _seconds(interval: str) -> float:
    match = _INTERVAL.match(interval)
    assert match is not None, f"no interval: {interval}"
    return float(match[1]) * _UNITS_S[match[2]]


def _rfc3339(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat().replace("+00:00", "Z")
