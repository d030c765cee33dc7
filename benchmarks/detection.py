"""How well changes are found: false reports and recall of the detector, nightly monitoring with confirmation, speed.

On made-up series with fixed seeds (`histories.py`), beside apache-otava with its defaults on the same series. A cell is
length x noise x kind. Nightly monitoring is the whole chain: the first look at each new point and the look at the whole
history, then processes of both sides in ABBA order, judged by `scheduler.verdicts.compare`.

    python benchmarks/detection.py [--quick] [--without-otava]
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field

import numpy as np
from common import Figure, Interval, at_least, at_most, finish, middle_interval, say
from histories import ASKED, Generator, Noise, generator_of, hits, of_all_kinds, spiky, stepped
from otava import Otava, installed
from scipy.stats import beta

from scheduler.regressions.detect import History, change_points
from scheduler.regressions.screen import screen
from scheduler.verdicts import ROUNDS, Answer, compare

#: Most no-change series of 100 points that may be flagged, at 1, 2 and 5 % noise; of 1,000 points thrice that.
FLAGGED_BARS = {"gaussian": {0.01: 0.01, 0.02: 0.01, 0.05: 0.01}, "spiky": {0.01: 0.02, 0.02: 0.08, 0.05: 0.09}}
RECALL_BAR, RECALL_MARGIN = 0.95, 5
FALSE_NIGHTS_BAR, SEEN_BAR, NIGHTS = 0.001, 0.95, 5
POWER_BARS = {10: 0.95, 30: 0.99}
SPEED_BARS_MS = {1_000: 5.0, 10_000: 100.0}
APPEND_BAR_MS = 1.0
#: Where a figure has no bar in the issue, it is shown beside this.
F1_BAR, F1_MARGIN = 0.90, 3
#: What one fresh process of a confirmation takes, for device minutes.
PROCESS_S = 10.0
_NOISES = (0.01, 0.02, 0.05)
_STEPS = (0.03, 0.05, 0.10)
#: Points before monitoring begins.
_KNOWN = 60


def share(count: int, of: int) -> tuple[float, Interval]:
    """A share and its exact 95 % interval (Clopper & Pearson)."""
    low = float(beta.ppf(0.025, count, of - count + 1)) if count else 0.0
    high = float(beta.ppf(0.975, count + 1, of - count)) if count < of else 1.0
    return count / of, (low, high)


def detector_figures(otava: Otava | None, short: int, long: int) -> list[Figure]:
    """False reports on series without a change, and recall of a step."""
    figures = []
    for length, count, times in ((100, short, 1), (1000, long, 3)):
        for kind, noise in ASKED.items():
            for sigma in _NOISES:
                what = f"no change, {length} points, {kind} {sigma:.0%}"
                made = [_flat(generator_of(what, number), noise, length, sigma) for number in range(count)]
                ours = sum(bool(change_points(values)) for values in made)
                theirs = _of_otava(otava, made, lambda _, found: bool(found))
                bar = times * FLAGGED_BARS[kind][sigma]
                figures.append(at_most(f"{what}: flagged", *share(ours, count), bar, "share", **theirs))
    for kind, noise in ASKED.items():
        for sigma in _NOISES:
            for step in _STEPS:
                what = f"a step of {step:.0%}, 100 points, {kind} {sigma:.0%}"
                makers = [generator_of(what, number) for number in range(short // 2)]
                places = [int(maker.integers(20, 81)) for maker in makers]
                made = [stepped(m, noise, 100, sigma, at, step) for m, at in zip(makers, places, strict=True)]
                found = [change_points(values) for values in made]
                ours = sum(_near(at, one) for at, one in zip(places, found, strict=True))
                exact = sum(at in one for at, one in zip(places, found, strict=True)) / len(made)
                theirs = _of_otava(otava, made, lambda number, one, places=places: _near(places[number], one))
                name, told = f"{what}: found within {RECALL_MARGIN} points", share(ours, len(made))
                if (step, sigma) == (0.05, 0.02):
                    figures.append(at_least(name, *told, RECALL_BAR, "share", exact=exact, **theirs))
                else:
                    figures.append(_shown(name, told, exact=exact, **theirs))
    return figures


def all_kinds_figures(otava: Otava | None, lengths: tuple[int, ...], each: int) -> list[Figure]:
    """F1 over histories of every kind: the mean of what each history has, 1 where nothing is found of nothing."""
    made = list(of_all_kinds(lengths, each))
    ours = [change_points(one.values) for one in made]
    theirs = otava.change_points([one.values for one in made]) if otava else None
    scores = [_f1(one.changes, found) for one, found in zip(made, ours, strict=True)]
    more: dict[str, object] = {"histories": len(made)}
    if theirs is not None:
        beside = [_f1(one.changes, found) for one, found in zip(made, theirs, strict=True)]
        more["otava_defaults"] = float(np.mean(beside))
        say(f"F1 over {len(made)} histories of all kinds, otava: {np.mean(beside):.3f}")
    by_what: defaultdict[str, list[float]] = defaultdict(list)
    for one, score in zip(made, scores, strict=True):
        for part in one.what.split(", "):
            by_what[part].append(score)
    more["by_kind"] = {part: round(float(np.mean(of)), 3) for part, of in sorted(by_what.items())}
    draws = np.random.default_rng(0).choice(scores, (2000, len(scores))).mean(axis=1)
    interval = (float(np.percentile(draws, 2.5)), float(np.percentile(draws, 97.5)))
    name = f"F1 within {F1_MARGIN} points, {len(made)} histories of all kinds"
    return [at_least(name, float(np.mean(scores)), interval, F1_BAR, "F1", **more)]


@dataclass
class Trial:
    """A confirmation: processes of both sides in ABBA order, judged after each round."""

    answer: Answer
    processes: int


def confirm(generator: Generator, noise: Noise, sigma: float, effect: float, rounds: Sequence[int] = ROUNDS) -> Trial:
    """10 + 10; where that does not tell 20 + 20, then 30 + 30."""
    values = 100 * (1 + noise(generator, 2 * max(rounds), sigma))
    candidate = np.isin(np.arange(len(values)) % 4, (1, 2))
    values[candidate] *= 1 + effect
    answer: Answer = "inconclusive"
    for count in rounds:
        now, mine = values[: 2 * count], candidate[: 2 * count]
        answer = compare(now[~mine].tolist(), now[mine].tolist(), alternated=True).answer
        if answer != "inconclusive":
            break
    return Trial(answer, 2 * count)


def confirmation_figures(trials: int) -> list[Figure]:
    """Power for 5 %, and how often a trial of twice the same calls one slower, extensions included."""
    figures = []
    for kind, noise in ASKED.items():
        for most, bar in POWER_BARS.items():
            rounds = [count for count in ROUNDS if count <= most]
            what = f"5 % slower at {kind} 2 %, up to {most} + {most} processes"
            answers = [confirm(generator_of(what, n), noise, 0.02, 0.05, rounds).answer for n in range(trials)]
            told = share(answers.count("slower"), trials)
            if kind == "gaussian":
                figures.append(at_least(f"{what}: confirmed", *told, bar, "share"))
            else:
                figures.append(_shown(f"{what}: confirmed", told))
        for sigma in _NOISES:
            what = f"twice the same at {kind} {sigma:.0%}, 10 + 10 to 30 + 30"
            done = [confirm(generator_of(what, number), noise, sigma, 0.0) for number in range(trials)]
            answers = Counter(trial.answer for trial in done)
            mean = float(np.mean([trial.processes for trial in done]))
            told = share(answers["slower"] + answers["faster"], trials)
            figures.append(_shown(f"{what}: called apart", told, answers=dict(answers), processes_mean=mean))
    return figures


@dataclass
class Watched:
    """A series as the farm watches it: the first look at each new point, and the look at its whole history."""

    history: History
    values: list[float]
    known: set[int] = field(default_factory=set)

    def is_suspicious(self, value: float) -> bool:
        """Add tonight's point; whether a confirmation would be asked for."""
        changes = self.history.change_points
        looked = screen(self.values[changes[-1] if changes else 0 :], value)
        self.values.append(value)
        self.history.append(value)
        new = {at for at in self.history.change_points if not any(abs(at - old) <= 4 for old in self.known)}
        self.known |= new
        return looked.outcome in ("slower", "faster") or bool(new)


def watched(values: list[float]) -> Watched:
    """A series whose history so far is believed."""
    history = History.of(values)
    return Watched(history, list(values), set(history.change_points))


def nightly_figures(series: int, nights: int, stepped_series: int) -> list[Figure]:
    """Nights without a change, and nights after a step."""
    figures = []
    for kind, noise in ASKED.items():
        for sigma in (0.01, 0.02):
            what = f"{series * nights} series-nights without a change, {kind} {sigma:.0%}"
            asked = false = processes = 0
            for number in range(series):
                generator = generator_of(what, number)
                values = _flat(generator, noise, _KNOWN + nights, sigma)
                one = watched(values[:_KNOWN])
                for value in values[_KNOWN:]:
                    if one.is_suspicious(value):
                        trial = confirm(generator, noise, sigma, 0.0)
                        asked, processes = asked + 1, processes + trial.processes
                        false += trial.answer == "slower"
            per_1000 = 1000 / (series * nights)
            more = {
                "confirmations_per_1000": round(asked * per_1000, 1),
                "device_minutes_per_1000": round(processes * PROCESS_S / 60 * per_1000, 1),
            }
            say(f"{what}: {more}")
            told = share(false, series * nights)
            figures.append(at_most(f"{what}: false incidents", *told, FALSE_NIGHTS_BAR, "share", **more))
    for kind, noise in ASKED.items():
        for step in _STEPS:
            what = f"a step of {step:.0%} at {kind} 2 %"
            after = [_nights_until_confirmed(generator_of(what, n), noise, step) for n in range(stepped_series)]
            told = share(sum(nights is not None for nights in after), stepped_series)
            by_night = {n: sum(x is not None and x <= n for x in after) / stepped_series for n in range(1, NIGHTS + 1)}
            name = f"{what}: confirmed within {NIGHTS} nights"
            if step == 0.05 and kind == "gaussian":
                figures.append(at_least(name, *told, SEEN_BAR, "share", by_night=by_night))
            else:
                figures.append(_shown(name, told, by_night=by_night))
    return figures


def _nights_until_confirmed(generator: Generator, noise: Noise, step: float) -> int | None:
    values = stepped(generator, noise, _KNOWN + NIGHTS, 0.02, _KNOWN, step)
    one = watched(values[:_KNOWN])
    for night, value in enumerate(values[_KNOWN:], 1):
        if one.is_suspicious(value) and confirm(generator, noise, 0.02, step).answer == "slower":
            return night
    return None


def speed_figures(repeats: int) -> list[Figure]:
    """Spiky noise of 2 %, a step of 5 % up or down every 200 points."""
    figures = []
    values = spiky(generator_of("speed"), 11_000, 0.02)
    series = [float(v) for v in 100 * (1 + values) * (1 + 0.05 * (np.arange(len(values)) // 200 % 2))]
    for count, bar in SPEED_BARS_MS.items():
        taken = [_ms(lambda count=count: change_points(series[:count])) for _ in range(repeats)]
        name = f"change points of {count:,} points"
        figures.append(at_most(name, float(np.median(taken)), middle_interval(taken), bar, "ms"))
    history = History.of(series[:1_000])
    taken = []
    for value in series[1_000 : 1_000 + 10 * repeats]:
        taken.append(_ms(lambda value=value: (history.append(value), history.change_points)))
    name = "a point more at 1,000 points, with its change points"
    figures.append(at_most(name, float(np.median(taken)), middle_interval(taken), APPEND_BAR_MS, "ms"))
    return figures


def _ms(act: Callable[[], object]) -> float:
    began = time.perf_counter()
    act()
    return (time.perf_counter() - began) * 1000


def _flat(generator: Generator, noise: Noise, count: int, sigma: float) -> list[float]:
    return stepped(generator, noise, count, sigma, count, 0.0)


def _near(at: int, found: Iterable[int]) -> bool:
    return any(abs(place - at) <= RECALL_MARGIN for place in found)


def _f1(changes: tuple[int, ...], found: list[int]) -> float:
    hit = hits(changes, found, F1_MARGIN)
    return 2 * hit / (len(changes) + len(found)) if changes or found else 1.0


def _of_otava(
    otava: Otava | None, made: list[list[float]], counts: Callable[[int, list[int]], bool]
) -> dict[str, float]:
    """The share of these series that counts, by Otava's change points; nothing without it."""
    if otava is None:
        return {}
    found = otava.change_points(made)
    told = sum(counts(number, one) for number, one in enumerate(found)) / len(made)
    say(f"  otava defaults: {told:.4g}")
    return {"otava_defaults": told}


def _shown(name: str, told: tuple[float, Interval], **more: object) -> Figure:
    """A figure that has no bar: beside the others, always resolved."""
    effect, interval = told
    say(f"{name}: {effect:.4g} [{interval[0]:.4g}, {interval[1]:.4g}]")
    bare = {"name": name, "effect": effect, "interval_95": interval, "unit": "share", "target": None}
    return {**bare, "resolved": True, "met": True, **more}


def main() -> int:
    """Run all; the exit code of docs/measurement.md."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="few series: shows that it works, no more")
    parser.add_argument("--without-otava", action="store_true", help="no environment for apache-otava is made")
    asked = parser.parse_args()
    few = asked.quick
    figures = []
    with nullcontext() if asked.without_otava else installed() as otava:
        figures += detector_figures(otava, 60 if few else 1200, 10 if few else 400)
        figures += all_kinds_figures(otava, (20, 60, 200) if few else (20, 40, 60, 100, 200, 400, 1000), 1)
    figures += confirmation_figures(20 if few else 600)
    figures += nightly_figures(5 if few else 100, 20 if few else 60, 20 if few else 400)
    figures += speed_figures(6 if few else 30)
    # A month's A/A run of each series, 10 + 10, by the night.
    noise_minutes = 1000 * 2 * ROUNDS[0] * PROCESS_S / 60 / 30
    context = {"process_s": PROCESS_S, "noise_runs_device_minutes_per_1000_series_nights": round(noise_minutes, 1)}
    return finish("detection", few, figures, compared_with_otava=otava is not None, **context)


if __name__ == "__main__":
    sys.exit(main())
