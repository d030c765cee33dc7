"""What the benchmarks share: figures with intervals, alternation, the one JSON object.

A figure is `resolved` when its 95 % interval lies wholly on one side of the bar; then `met` says on which. An interval
that straddles the bar, or is wider than a band to hold, decides nothing: `met` is null.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from workers.statistics import LEAST_FOR_INTERVAL, bootstrap_ratio_interval

Figure = dict[str, Any]
Interval = tuple[float, float]

#: Exit codes of docs/measurement.md.
DONE, INCONCLUSIVE, WORSE = 0, 3, 4
#: Samples of each side with --quick: the fewest that have an interval.
QUICK = LEAST_FOR_INTERVAL
_RESAMPLES = 4000


def arguments(description: str | None, **counts: int) -> argparse.Namespace:
    """`--quick`, and counts that a flag of their own name overrides."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help="few and short samples: shows that it works, no more")
    for name, default in counts.items():
        parser.add_argument(f"--{name}", type=int, default=None, help=f"default {default}; {QUICK} with --quick")
    parsed = parser.parse_args()
    for name, default in counts.items():
        if getattr(parsed, name) is None:
            setattr(parsed, name, QUICK if parsed.quick else default)
    return parsed


def say(text: str) -> None:
    """One line of progress."""
    print(text, file=sys.stderr, flush=True)


def at_most(name: str, effect: float, interval: Interval | None, bar: float, unit: str, **more: Any) -> Figure:
    """A figure with an upper bar. Too few samples for an interval decide nothing."""
    met = None if interval is None else True if interval[1] <= bar else False if interval[0] > bar else None
    return _figure(name, effect, interval, f"<= {bar:g}", unit, met, more)


def at_least(name: str, effect: float, interval: Interval | None, bar: float, unit: str, **more: Any) -> Figure:
    """A figure with a lower bar."""
    met = None if interval is None else True if interval[0] >= bar else False if interval[1] < bar else None
    return _figure(name, effect, interval, f">= {bar:g}", unit, met, more)


def within(name: str, effect: float, interval: Interval | None, band: Interval, **more: Any) -> Figure:
    """A ratio that must lie in a band."""
    met = None
    if interval is not None:
        inside = band[0] <= interval[0] and interval[1] <= band[1]
        outside = interval[1] < band[0] or interval[0] > band[1]
        met = True if inside else False if outside else None
    return _figure(name, effect, interval, f"{band[0]:g} to {band[1]:g}", "ratio", met, more)


def counted(name: str, count: float, bar: float, unit: str, **more: Any) -> Figure:
    """A figure that is counted, not sampled: it has no interval and is always resolved."""
    return _figure(name, count, None, f"<= {bar:g}", unit, count <= bar, more)


def _figure(
    name: str, effect: float, interval: Interval | None, target: str, unit: str, met: bool | None, more: dict[str, Any]
) -> Figure:
    shown = "" if interval is None else f" [{interval[0]:.4g}, {interval[1]:.4g}]"
    answer = {True: "met", False: "MISSED", None: "not resolved"}[met]
    say(f"{name}: {effect:.4g}{shown} {unit}, target {target}: {answer}")
    return {
        "name": name,
        "effect": effect,
        "interval_95": interval,
        "unit": unit,
        "target": target,
        "resolved": met is not None,
        "met": met,
        **more,
    }


def finish(benchmark: str, quick: bool, figures: list[Figure], **context: Any) -> int:
    """Print the one JSON object; returns the exit code: worse before inconclusive before done."""
    print(json.dumps({"benchmark": benchmark, "quick": quick, "figures": figures, **context}, allow_nan=False))
    answers = [figure["met"] for figure in figures]
    return WORSE if False in answers else INCONCLUSIVE if None in answers else DONE


def alternate(
    count: int, first: Callable[[], Any], second: Callable[[], Any], what: str
) -> tuple[list[Any], list[Any]]:
    """`count` of each, in ABBA order."""
    ours: list[Any] = []
    theirs: list[Any] = []
    for index in range(count):
        say(f"{what}: {index + 1} of {count}")
        steps = [(first, ours), (second, theirs)]
        for act, taken in steps if index % 2 == 0 else steps[::-1]:
            taken.append(act())
    return ours, theirs


def ratio_interval(numerator: Sequence[float], denominator: Sequence[float]) -> Interval | None:
    """Bootstrap interval of the ratio of two medians; None below six samples, as everywhere in benchfarm."""
    if min(len(numerator), len(denominator)) < LEAST_FOR_INTERVAL:
        return None
    return bootstrap_ratio_interval(numerator, denominator)


def bootstrap_interval(statistic: Callable[[Any], Any], rows: Any, seed: int = 0) -> Interval | None:
    """Percentile bootstrap over rows (numbers, or pairs that are drawn together); None below six of them.

    `statistic` gets an array of shape (resamples, rows, ...) and answers one value per resample.
    """
    if len(rows) < LEAST_FOR_INTERVAL:
        return None
    values = np.asarray(rows, dtype=np.float64)
    picks = np.random.default_rng(seed).integers(0, len(values), size=(_RESAMPLES, len(values)))
    low, high = np.percentile(statistic(values[picks]), [2.5, 97.5])
    return float(low), float(high)


def mean_interval(rows: Sequence[float]) -> Interval | None:
    """Bootstrap interval of a mean."""
    return bootstrap_interval(lambda drawn: drawn.mean(axis=1), rows)


def middle_interval(rows: Sequence[float]) -> Interval | None:
    """Bootstrap interval of a median."""
    return bootstrap_interval(lambda drawn: np.median(drawn, axis=1), rows)
