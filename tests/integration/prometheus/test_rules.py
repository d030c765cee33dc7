"""What deploy/ ships for Prometheus: valid, tested, of metrics that exist, and each alert with its page."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from exporters.metrics import by_name
from tests.prometheus import needs_prometheus, promtool

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "deploy" / "prometheus"
RULES = sorted((FOLDER / "rules").glob("*.yml"))
#: A metric of ours with what selects its series: `benchfarm_jobs{state="queued"}`.
_SELECTOR = re.compile(r"\b(benchfarm_[a-z0-9_]+)\s*(?:\{([^}]*)\})?")
_MATCHER = re.compile(r'\s*([a-z_]+)\s*(=~|!~|!=|=)\s*"([^"]*)"\s*')
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)")
#: Labels that Prometheus adds.
_ADDED = {"job", "instance", "le"}


def rules() -> list[dict[str, Any]]:
    """Every rule."""
    return [
        rule
        for file in RULES
        for group in yaml.safe_load(file.read_text())["groups"]
        for rule in group["rules"]
    ]  # fmt: skip


def selectors(expression: str) -> Iterator[tuple[str, list[tuple[str, str, str]]]]:
    """Names of our metrics in an expression, with their matchers."""
    for name, inside in _SELECTOR.findall(expression):
        yield name, [match for part in re.split(r",(?=\s*[a-z_]+\s*[=!])", inside) for match in _MATCHER.findall(part)]


@needs_prometheus
def test_promtool_finds_nothing_wrong() -> None:
    promtool("check", "config", "--lint-fatal", str(FOLDER / "prometheus.yml"))
    promtool("check", "rules", "--lint-fatal", *map(str, RULES))


@needs_prometheus
def test_promtool_runs_the_rules_tests() -> None:
    said = promtool("test", "rules", *map(str, sorted((FOLDER / "tests").glob("*.test.yml"))))
    assert said.count("SUCCESS") == 4


def test_every_alert_has_a_test_and_a_page() -> None:
    tests = "".join(file.read_text() for file in (FOLDER / "tests").glob("*.test.yml"))
    page = (ROOT / "docs" / "operations.md").read_text()
    for rule in rules():
        if "alert" in rule:
            assert f"alertname: {rule['alert']}\n" in tests
            assert rule["annotations"]["runbook"] == f"docs/operations.md#{rule['alert'].lower()}"
            assert f"\n### {rule['alert']}\n" in page
            assert rule["labels"]["severity"] in ("warning", "critical")
        else:
            assert rule["record"] in tests


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule.get("alert") or rule["record"])
def test_rules_name_only_what_is_exported(rule: dict[str, Any]) -> None:
    known = by_name()
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    labels = set(_ADDED)
    found = list(selectors(rule["expr"]))
    for name, matchers in found:
        labels |= set(known[name].label_names)
        by_label = {label.name: label for label in known[name].labels}
        for label, operator, text in matchers:
            assert label in by_label, f"{name} has no label {label}"
            values = by_label[label].values
            if values is not None and operator in ("=", "=~"):
                assert set(text.split("|")) <= set(values), f"{name}.{label} is never {text}"
    for inside in _GROUPING.findall(rule["expr"]):
        assert {name.strip() for name in inside.split(",") if name.strip()} <= labels
    assert found or 'up{job="benchfarm"}' in rule["expr"] or any(name in rule["expr"] for name in recorded)
    summary = rule.get("annotations", {}).get("summary", "")
    assert set(re.findall(r"\$labels\.([a-z_]+)", summary)) <= labels


def test_the_test_above_would_see_a_wrong_name() -> None:
    [(name, matchers)] = selectors('sum(rate(benchfarm_nothing_total{state=~"a|b", kind!="c"}[5m]))')
    assert name == "benchfarm_nothing_total"
    assert name not in by_name()
    assert matchers == [("state", "=~", "a|b"), ("kind", "!=", "c")]


def test_ray_is_scraped_without_what_says_nothing() -> None:
    configuration = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    [ray] = [job for job in configuration["scrape_configs"] if job["job_name"] == "ray"]
    [relabel] = ray["metric_relabel_configs"]
    assert relabel["action"] == "labeldrop"
    dropped = re.compile(f"^(?:{relabel['regex']})$")
    for name in ("SessionName", "otel_scope_name", "otel_scope_version", "otel_scope_schema_url"):
        assert dropped.match(name)
    assert not dropped.match("NodeAddress")
