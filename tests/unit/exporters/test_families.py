"""What is put into metrics, and what Prometheus reads of it."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from exporters import metrics
from exporters.families import Distribution, Family, Filling
from exporters.metrics import DEVICE_INFO, DEVICE_STATE, DEVICE_TEMPERATURE, FARM, OTHER, OWN, RUN


def read(text: bytes) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Series of a text as Prometheus names them."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def test_names_follow_the_conventions() -> None:
    names = [name for metric in (*FARM, *OWN) for name in metric.series_names]
    assert len(names) == len(set(names))
    for metric in (*FARM, *OWN):
        assert metric.name.startswith("benchfarm_")
        assert (metric.kind == "counter") == metric.name.endswith("_total")
        assert len(set(metric.label_names)) == len(metric.labels)
        assert not {"job", "instance", "le"} & set(metric.label_names)  # Prometheus's own
        assert list(metric.buckets) == sorted(metric.buckets)
        assert (metric.kind == "histogram") == bool(metric.buckets)


def test_a_value_outside_its_set_is_other_and_counted() -> None:
    refused: Counter[str] = Counter()
    filling = Filling(refused)
    filling.put(DEVICE_STATE, 1, "d0", "cpu", "idle")
    filling.put(DEVICE_STATE, 1, "d1", "cpu", "dancing")
    filling.add(metrics.DEVICES, 1, "cpu", "dancing")
    filling.add(metrics.DEVICES, 2, "cpu", "singing")
    assert filling.rows[DEVICE_STATE] == {("d0", "cpu", "idle"): 1, ("d1", "cpu", OTHER): 1}
    assert filling.rows[metrics.DEVICES] == {("cpu", OTHER): 3}
    assert refused == {"benchfarm_device_state.state": 1, "benchfarm_devices.state": 2}


@pytest.mark.parametrize("value", [None, math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_not_shown(value: float | None) -> None:
    filling = Filling(Counter())
    filling.put(DEVICE_TEMPERATURE, value, "d0", "cpu", "zone")
    assert filling.rows == {}


def test_of_two_with_the_same_labels_the_first_stays() -> None:
    filling = Filling(Counter())
    filling.put(DEVICE_TEMPERATURE, 50.0, "d0", "cpu", "zone")
    filling.put(DEVICE_TEMPERATURE, 40.0, "d0", "cpu", "zone")
    assert filling.rows[DEVICE_TEMPERATURE] == {("d0", "cpu", "zone"): 50.0}


def test_a_histogram_is_cumulative_and_whole() -> None:
    filling = Filling(Counter())
    empty = (0,) * (len(RUN.buckets) + 1)
    filling.add_distribution(RUN, Distribution((2, *empty[1:]), 0.1), "measure", "cpu")
    filling.add_distribution(RUN, Distribution((1, *empty[1:-1], 3), 99_999.0), "measure", "cpu")
    found = read(Family(RUN, filling.rows[RUN]).text)
    who = {("kind", "measure"), ("device_kind", "cpu")}
    assert found["benchfarm_run_seconds_bucket", frozenset({*who, ("le", "0.1")})] == 3
    assert found["benchfarm_run_seconds_bucket", frozenset({*who, ("le", "20000.0")})] == 3
    assert found["benchfarm_run_seconds_bucket", frozenset({*who, ("le", "+Inf")})] == 6
    assert found["benchfarm_run_seconds_count", frozenset(who)] == 6
    assert found["benchfarm_run_seconds_sum", frozenset(who)] == pytest.approx(99_999.1)
    assert len(found) == len(RUN.buckets) + 3  # and no _created


def test_a_metric_without_series_is_named_all_the_same() -> None:
    text = Family(metrics.ATTEMPTS, {}).text.decode()
    assert "# TYPE benchfarm_attempts_total counter" in text
    assert read(text.encode()) == {}


@given(st.text(), st.text(), st.floats(allow_nan=False, allow_infinity=False))
def test_any_name_comes_back_as_it_was(name: str, model: str, value: float) -> None:
    labels = (name, "cpu", "host", "false", model, "", "")
    found = read(Family(DEVICE_INFO, {labels: value}).text)
    assert found == {("benchfarm_device_info", frozenset(zip(DEVICE_INFO.label_names, labels, strict=True))): value}


def test_the_page_of_metrics_is_that_of_the_registry() -> None:
    text_ = (Path(__file__).parents[3] / "docs" / "observability.md").read_text()
    _, _, after = text_.partition("<!-- made by: python -m exporters.metrics -->\n")
    assert after.partition("<!-- end of what is made by it -->\n")[0] == metrics.page()
