"""Two sets of process medians compared: faster, slower, same or inconclusive (docs/measurement.md, "Comparing")."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Literal

import numpy as np

from workers.statistics import mann_whitney_p, process_ratio_interval

Answer = Literal["faster", "slower", "same", "inconclusive"]
Better = Literal["lower", "higher"]

#: Above this p of Mann-Whitney nothing is called faster or slower.
P_LIMIT = 0.01
#: Of the bootstrap interval of the ratio of medians.
CONFIDENCE = 0.99
#: Effects below are not worth a name, and intervals inside are the same.
LEAST_EFFECT = 0.02
#: Fewer processes on a side show nothing at that p, and give no interval.
LEAST_PROCESSES = 5
#: What a comparison is run with: first, and when that does not tell.
ROUNDS = (10, 20, 30)
#: Where more processes would be needed, lower noise is the better advice.
_MOST_NEEDED = 100
#: Effects looked for, when asked what the least is that could have been shown: a factor of eleven.
_MOST_EFFECT = 10.0
#: No two cases lie so far apart: a second and thirty thousand years.
_MOST_RATIO = 1e12
#: Up to so many pairs the exact distribution is used where no value occurs twice.
_MOST_EXACT = 2500


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The answer and everything that it rests on. Ratios above 1 are in favour of the candidate."""

    answer: Answer
    #: Speed-up of the medians; None where a side has no value, or one that is not above zero.
    ratio: float | None
    #: 99 % bootstrap interval of that ratio; None under five processes on a side.
    interval: tuple[float, float] | None = None
    #: Two-sided, of Mann-Whitney.
    p: float | None = None
    #: The least effect that is called faster or slower: 2 %, or the noise between the processes.
    least_effect: float = LEAST_EFFECT
    #: Where the interval lies inside +-bound they are the same.
    bound: float = LEAST_EFFECT
    #: The smallest effect that these processes could have shown; None where they could have shown none.
    detectable: float | None = None
    #: Of the baseline and of the candidate.
    processes: tuple[int, int]
    #: The two did not alternate within the hour: what drifts between them counts as a difference.
    not_alternated: bool = True
    #: One sentence.
    why: str


def compare(
    baseline: Sequence[float | None],
    candidate: Sequence[float | None],
    *,
    better: Better = "lower",
    noise_floor: float | None = None,
    least_effect: float = LEAST_EFFECT,
    alternated: bool = False,
) -> Verdict:
    """Compare process medians of one device. Pure; the same values give the same answer, and swapped ones its opposite.

    Args:
        baseline: one median per fresh process; what is absent or not finite is left out.
        candidate: likewise.
        better: whether lower or higher values are.
        noise_floor: relative noise of the series, as its A/A runs taught; None where it is not known. Only a known
            floor widens what counts as the same: one guessed from these very values would let noise buy that answer.
        least_effect: the least that is worth a name to who asks.
        alternated: whether the processes ran in ABBA order within the hour.
    """
    before, after = _known(baseline), _known(candidate)
    counts = (len(before), len(after))
    if before and after and max(*before, *after) > _MOST_RATIO * min(*before, *after) > 0:
        why = "the values are too far apart for anything that was measured"
        return Verdict(answer="inconclusive", ratio=None, processes=counts, not_alternated=not alternated, why=why)
    if not (before and after) or min(*before, *after) <= 0:
        why = "a side has no value" if not (before and after) else "a value is not above zero: there is no ratio"
        return Verdict(answer="inconclusive", ratio=None, processes=counts, not_alternated=not alternated, why=why)
    slow, fast = (before, after) if better == "lower" else (after, before)
    ratio = statistics.median(slow) / statistics.median(fast)
    if min(counts) < LEAST_PROCESSES:
        return Verdict(
            answer="inconclusive",
            ratio=ratio,
            processes=counts,
            not_alternated=not alternated,
            why=f"{_plus(counts)} processes show nothing at p < {P_LIMIT:g}: {LEAST_PROCESSES} + "
            f"{LEAST_PROCESSES} are the fewest, {ROUNDS[0]} + {ROUNDS[0]} the rule",
        )
    interval = process_ratio_interval(slow, fast, CONFIDENCE)
    p, favours_candidate = _mann_whitney(slow, fast)
    noise = max(noise_floor or 0.0, math.hypot(relative_noise(before), relative_noise(after)) / math.sqrt(2))
    bound = max(least_effect, 2 * (noise_floor or 0.0))
    least_effect = max(least_effect, noise)
    effect = max(ratio, 1 / ratio) - 1
    apart = (interval[0] > 1 or interval[1] < 1) and favours_candidate == (ratio > 1)
    answer: Answer = "inconclusive"
    if p < P_LIMIT and apart and effect >= least_effect:
        answer = "faster" if ratio > 1 else "slower"
    elif 1 / (1 + bound) <= interval[0] and interval[1] <= 1 + bound:
        answer = "same"
    half = max(interval[1] / ratio, ratio / interval[0]) - 1
    return Verdict(
        answer=answer,
        ratio=ratio,
        interval=interval,
        p=p,
        least_effect=least_effect,
        bound=bound,
        detectable=_detectable(slow, fast, ratio, half, least_effect),
        processes=counts,
        not_alternated=not alternated,
        why=_why(answer, effect, half, least_effect, bound, counts),
    )


def relative_noise(values: Sequence[float]) -> float:
    """Robust standard deviation between processes over their median.

    Where most values are equal (a coarse clock), half of them lie at the median and their spread tells instead.
    """
    centre = statistics.median(values)
    distances = sorted(abs(value - centre) for value in values)
    mad = statistics.median(distances)
    sigma = 1.4826 * mad if mad > 0 else distances[math.ceil(0.9 * len(distances)) - 1] / 1.645
    return sigma / centre if centre > 0 else 0.0


def mann_whitney_exact_p(first: Sequence[float], second: Sequence[float]) -> float:
    """Two-sided p of the Mann-Whitney U test: exact without ties, by the normal approximation with them.

    At five against five the approximation never comes below 0.01, the exact p does (2 of 252 orders).
    """
    together = [*first, *second]
    if len(set(together)) < len(together) or len(first) * len(second) > _MOST_EXACT:
        return mann_whitney_p(first, second)
    u = _wins(first, second)
    counts = _orders(len(first), len(second))
    tail = counts[int(min(u, len(first) * len(second) - u))]
    return min(1.0, 2 * tail / math.comb(len(together), len(first)))


def _mann_whitney(slow: Sequence[float], fast: Sequence[float]) -> tuple[float, bool]:
    """p, and whether most pairs are in favour of the candidate."""
    return mann_whitney_exact_p(slow, fast), 2 * _wins(slow, fast) > len(slow) * len(fast)


def _wins(first: Sequence[float], second: Sequence[float]) -> float:
    """Pairs of which the first is larger; a tie is half of one."""
    a, b = np.asarray(first), np.sort(second)
    return float(np.searchsorted(b, a, "left").sum() + np.searchsorted(b, a, "right").sum()) / 2


@lru_cache(maxsize=256)
def _orders(n: int, m: int) -> tuple[int, ...]:
    """How many orders of n and m values have each U or a lower one: sums of the Gaussian binomial's coefficients."""
    size = n * m + 1
    counts = [1] + [0] * (size - 1)
    for i in range(1, n + 1):
        for u in range(size - 1, m + i - 1, -1):
            counts[u] -= counts[u - m - i]
        for u in range(i, size):
            counts[u] += counts[u - i]
    return tuple(accumulate(counts))


def _detectable(
    slow: Sequence[float], fast: Sequence[float], ratio: float, half: float, least_effect: float
) -> float | None:
    """The least effect that would have been told, had these values lain just so about medians that far apart."""
    level = [value * ratio for value in fast]  # both medians alike

    def told(effect: float) -> bool:
        raised = [value * (1 + effect) for value in slow]
        lowered = [value / (1 + effect) for value in slow]
        return max(mann_whitney_exact_p(raised, level), mann_whitney_exact_p(lowered, level)) < P_LIMIT

    if not told(_MOST_EFFECT):
        return None
    low, high = 0.0, max(half, least_effect)
    while not told(high):
        low, high = high, min(2 * high, _MOST_EFFECT)
    if low > 0 or not told(max(half, least_effect)):
        for _ in range(12):
            middle = (low + high) / 2
            low, high = (low, middle) if told(middle) else (middle, high)
    return max(high, half, least_effect)


def _why(answer: Answer, effect: float, half: float, least_effect: float, bound: float, counts: tuple[int, int]) -> str:
    if answer == "same":
        return f"the 99 % interval lies inside +-{bound:.1%}"
    if answer != "inconclusive":
        return f"by {effect:.1%}, more than {least_effect:.1%}; p < {P_LIMIT:g} and the 99 % interval excludes 1"
    # A half-width shrinks with the root of the number of processes.
    targets = [target for target in (effect if effect >= least_effect else 0.0, bound - effect) if target > 0]
    needed = math.ceil(min(counts) * (half / max(targets)) ** 2) if targets else _MOST_NEEDED + 1
    rounds = [number for number in ROUNDS if number > min(counts)]
    if needed > _MOST_NEEDED:
        advice = f"not even {_MOST_NEEDED} + {_MOST_NEEDED} would tell at this noise: lower the noise"
    else:
        needed = max([needed, *rounds[:1]])
        advice = f"about {needed} + {needed} would tell"
    return f"neither apart nor inside +-{bound:.1%} with {_plus(counts)} processes: {advice}"


def _plus(counts: tuple[int, int]) -> str:
    return f"{counts[0]} + {counts[1]}"


def _known(values: Iterable[float | None]) -> list[float]:
    return sorted(value for value in values if value is not None and math.isfinite(value))
