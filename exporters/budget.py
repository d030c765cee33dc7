"""How many series may be shown, and which are left out when there are more: whole metrics, or whole devices of one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from exporters.families import Distribution, Labels, Rows
from exporters.metrics import Metric

#: 2,000 devices with 20 series each, and room.
DEFAULT_SERIES = 50_000


def within(
    found: Mapping[Metric, Rows], order: Sequence[Metric], most: int
) -> tuple[dict[Metric, Rows], dict[Metric, int]]:
    """What is shown, and how many series of each metric are not: the same for the same rows in any order.

    Metrics are taken in their order, each as a whole where it fits. Of one that does not, devices are taken by name,
    each with all its series or none, until one does not fit; one that has no devices is left out.

    Args:
        found: metrics with their series.
        order: what matters most first.
        most: series that may be shown.
    """
    left, kept, dropped = most, dict[Metric, Rows](), dict[Metric, int]()
    for metric in order:
        rows = found.get(metric, {})
        size = _size(rows)
        if size > left:
            rows = _first_devices(metric, rows, left)
        kept[metric] = rows
        taken = _size(rows)
        left -= taken
        dropped[metric] = size - taken
    return kept, dropped


def size_of(found: Mapping[Metric, Rows]) -> int:
    """How many series there are."""
    return sum(map(_size, found.values()))


def _first_devices(metric: Metric, rows: Rows, room: int) -> Rows:
    names = metric.label_names
    if "device" not in names:
        return {}
    at = names.index("device")
    by_device: dict[str, list[Labels]] = {}
    for labels in rows:
        by_device.setdefault(labels[at], []).append(labels)
    kept: list[Labels] = []
    for device in sorted(by_device):
        if len(kept) + len(by_device[device]) > room:
            break
        kept += by_device[device]
    return {labels: rows[labels] for labels in kept}


def _size(rows: Rows) -> int:
    if not rows:
        return 0
    first = next(iter(rows.values()))
    # A bucket each, their sum and their count.
    return len(rows) * (len(first.counts) + 2 if isinstance(first, Distribution) else 1)
