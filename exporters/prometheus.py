"""The farm for Prometheus: a collector over the last picture of its database, and what the exporter says of itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import Metric as LibraryMetric
from prometheus_client.registry import Collector

from exporters import metrics
from exporters.budget import DEFAULT_SERIES
from exporters.families import Family, Labels
from exporters.keeper import Keeper
from exporters.metrics import Metric
from exporters.reader import Snapshot

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
#: A scrape waits no longer for the database.
WAIT_S = 1.5
#: A picture older than this is shown no more: its devices would look alive for as long as the database is away.
SHOWN_S = 600.0


class FarmCollector(Collector):
    """Shows the farm as it is when it is asked; series vanish with their device."""

    def __init__(self, keeper: Keeper[Snapshot], *, budget: int = DEFAULT_SERIES, wait_s: float = WAIT_S) -> None:
        """Show what `keeper` holds.

        Args:
            keeper: of the farm's pictures.
            budget: series that may be shown, for the record.
            wait_s: for a new picture.
        """
        self._keeper, self._budget, self._wait_s = keeper, budget, wait_s

    def describe(self) -> Iterable[LibraryMetric]:
        """Nothing: asking what there is would mean looking."""
        return []

    def collect(self) -> Iterator[Family]:
        """All families; of each scrape anew."""
        held = self._keeper.latest(self._wait_s)
        if held is None:
            yield _own(metrics.SCRAPE_SUCCESS, 0)
            yield _own(metrics.SERIES_BUDGET, self._budget)
            return
        shown = held.picture if held.age_s <= SHOWN_S else None
        if shown is not None:
            yield from shown.families
        yield _own(metrics.SCRAPE_SUCCESS, held.current)
        yield _own(metrics.SNAPSHOT_AGE, held.age_s)
        yield _own(metrics.SNAPSHOT_SECONDS, held.took_s)
        yield _own(metrics.SERIES, shown.series if shown is not None else 0)
        yield _own(metrics.SERIES_BUDGET, self._budget)
        yield Family(metrics.SERIES_DROPPED, {(name,): count for name, count in held.picture.dropped.items()})
        yield Family(metrics.LABELS_REFUSED, {(name,): count for name, count in held.picture.refused.items()})
        yield _own(metrics.EVENTS_BEHIND, held.picture.events_behind)


class Exposition:
    """What a scrape gets. A registry of its own: what else this process counts is not shown."""

    def __init__(self, keeper: Keeper[Snapshot], *, budget: int = DEFAULT_SERIES, wait_s: float = WAIT_S) -> None:
        """As `FarmCollector`."""
        self.keeper = keeper
        self.registry = CollectorRegistry(auto_describe=False)
        self.registry.register(FarmCollector(keeper, budget=budget, wait_s=wait_s))

    def text(self) -> bytes:
        """All metrics as Prometheus reads them. The text of what has not changed was made before."""
        return b"".join(family.text for family in self.registry.collect() if isinstance(family, Family))


def _own(metric: Metric, value: float) -> Family:
    rows: dict[Labels, float] = {(): float(value)}
    return Family(metric, rows)
