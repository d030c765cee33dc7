"""The expansion that the proof rests on, against what Grafana's own sources say of it."""

from __future__ import annotations

import pytest

from tests.integration.grafana.grafana_text import Picked, Range, promql, sql

HOUR = Range(1_700_000_000.0, 1_700_003_600.0, step_s=15, scrape_s=15)


@pytest.mark.parametrize(
    ("text", "becomes"),
    [
        (
            "WHERE $__timeFilter(at)",
            "WHERE at BETWEEN '2023-11-14T22:13:20Z' AND '2023-11-14T23:13:20Z'",
        ),
        ("$__timeFrom()::date", "'2023-11-14T22:13:20Z'::date"),
        ("GROUP BY $__timeGroup(at,'5m')", "GROUP BY floor(extract(epoch from at)/300)*300"),
        ("SELECT $__timeGroup(at , '5m'), 1", 'SELECT floor(extract(epoch from at)/300)*300 AS "time", 1'),
        ("$__timeGroupAlias(at, $__interval)", 'floor(extract(epoch from at)/15)*15 AS "time"'),
        ("IN ($many)", "IN ('a','b''c')"),
        ("IN (${many:sqlstring})", "IN ('a','b''c')"),
        ("= '$one'", "= 'o''ne'"),
        ("= ${one:sqlstring}", "= 'o''ne'"),
        ("ARRAY[${none:sqlstring}]::text[]", "ARRAY[]::text[]"),
    ],
)
def test_sql(text: str, becomes: str) -> None:
    picked = {"many": Picked(("a", "b'c"), many=True), "one": Picked("o'ne"), "none": Picked((), many=True)}
    assert sql(text, {**HOUR.built_in, **picked}, HOUR) == becomes


@pytest.mark.parametrize(
    ("text", "becomes"),
    [
        ('up{host=~"$many"}', 'up{host=~"(a|b\\\\.c)"}'),
        ('up{host=~"$single"}', 'up{host=~"lab\\\\.1"}'),
        ('up{host="$one"}', 'up{host="a.b"}'),
        ('up{simulated=~"$toggle"}', 'up{simulated=~"true|false"}'),
        ("rate(x[$__rate_interval])", "rate(x[60s])"),
    ],
)
def test_promql(text: str, becomes: str) -> None:
    picked = {
        "many": Picked(("a", "b.c"), many=True),
        "single": Picked(("lab.1",), many=True),
        "one": Picked("a.b"),
        "toggle": Picked("true|false"),
    }
    assert promql(text, {**HOUR.built_in, **picked}) == becomes


def test_what_is_not_known_is_no_silence() -> None:
    with pytest.raises(AssertionError, match="no variable"):
        promql("up{host=~'$hots'}", {"host": Picked("a")})
    with pytest.raises(AssertionError, match="unknown macro"):
        sql("$__timeGruop(at)", {}, HOUR)
