"""Rows of values become what prometheus_client prints: labels held to their closed sets, nothing that is no number."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

from prometheus_client import generate_latest
from prometheus_client.metrics_core import Metric as LibraryMetric
from prometheus_client.registry import Collector

from exporters.metrics import OTHER, Metric

Labels = tuple[str, ...]


@dataclass(frozen=True)
class Distribution:
    """What a histogram's series holds: how many fell into each bucket, the last one being +Inf; and the sum of all."""

    counts: tuple[int, ...]
    total: float


Rows = Mapping[Labels, "float | Distribution"]


class Filling:
    """Collects the values of metrics as they are read."""

    def __init__(self, refused: Counter[str]) -> None:
        """Collect nothing yet; `refused` counts values outside closed sets by metric and label."""
        self._refused = refused
        self.rows: dict[Metric, dict[Labels, float | Distribution]] = {}

    def put(self, metric: Metric, value: float | None, *labels: str) -> None:
        """One series. What is absent or no number is left out; of two with the same labels the first stays."""
        if value is not None and math.isfinite(value):
            self.rows.setdefault(metric, {}).setdefault(self._held(metric, labels), value)

    def add(self, metric: Metric, value: float, *labels: str) -> None:
        """The same, and those with the same labels are summed up."""
        rows = self.rows.setdefault(metric, {})
        held = self._held(metric, labels)
        before = rows.get(held, 0.0)
        assert not isinstance(before, Distribution)
        rows[held] = before + value

    def add_distribution(self, metric: Metric, value: Distribution, *labels: str) -> None:
        """The same of a histogram."""
        rows = self.rows.setdefault(metric, {})
        held = self._held(metric, labels)
        before = rows.get(held)
        if isinstance(before, Distribution):
            counts = tuple(map(sum, zip(before.counts, value.counts, strict=True)))
            value = Distribution(counts, before.total + value.total)
        rows[held] = value

    def _held(self, metric: Metric, values: Labels) -> Labels:
        if all(
            label.values is None or value in label.values for label, value in zip(metric.labels, values, strict=True)
        ):
            return values
        held = []
        for label, value in zip(metric.labels, values, strict=True):
            fits = label.values is None or value in label.values
            held.append(value if fits else OTHER)
            if not fits:
                self._refused[f"{metric.name}.{label.name}"] += 1
        return tuple(held)


class Family(LibraryMetric):
    """One metric with its series, for prometheus_client; never changed, so its text is made once."""

    def __init__(self, metric: Metric, rows: Rows) -> None:
        """Of these rows; none is allowed, and says that the metric exists."""
        super().__init__(metric.name.removesuffix("_total"), metric.help, metric.kind)
        self.rows = rows
        names = metric.label_names
        for values, value in rows.items():
            labels = dict(zip(names, values, strict=True))
            if isinstance(value, Distribution):
                self._add_distribution(metric, labels, value)
            else:
                self.add_sample(metric.name, labels, value)

    @cached_property
    def text(self) -> bytes:
        """As Prometheus reads it, in format 0.0.4."""
        return generate_latest(_Alone(self))

    def _add_distribution(self, metric: Metric, labels: dict[str, str], value: Distribution) -> None:
        bounds = (*(str(bound) for bound in metric.buckets), "+Inf")
        for bound, count in zip(bounds, accumulate(value.counts), strict=True):
            self.add_sample(metric.name + "_bucket", {**labels, "le": bound}, count)
        self.add_sample(metric.name + "_sum", labels, value.total)
        self.add_sample(metric.name + "_count", labels, sum(value.counts))


class _Alone(Collector):
    def __init__(self, family: Family) -> None:
        self._family = family

    def collect(self) -> Iterable[LibraryMetric]:
        return [self._family]
