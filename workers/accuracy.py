"""How right answers are: shares with their intervals, and whether two sets of answers differ (docs/accuracy.md).

Pure; the figures of tables are made here, too, so that nothing is imported until arrays are given.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

#: All intervals here are of this confidence.
CONFIDENCE = 0.95
#: Two-sided quantile of the normal distribution at that confidence.
_Z = 1.959963984540054
#: Halvings of [0, 1]: below the precision of a float.
_HALVINGS = 60


@lru_cache(maxsize=4096)
def proportion_interval(right: int, of: int) -> tuple[float, float]:
    """Clopper-Pearson interval of a share: it covers the truth with 95 % or more, also where nearly all is right.

    The bounds are the shares at which so many right, or more (fewer), would come with 2.5 % (Clopper & Pearson 1934).

    Args:
        right: examples that were answered right.
        of: all examples, at least one.

    Raises:
        ValueError: no such share.
    """
    if not 0 <= right <= of or of < 1:
        raise ValueError(f"{right} of {of} is no share")
    tail = (1 - CONFIDENCE) / 2
    low = 0.0 if right == 0 else _solve(lambda share: _beta(share, right, of - right + 1), tail)
    high = 1.0 if right == of else 1 - _solve(lambda share: _beta(share, of - right, right + 1), tail)
    return low, high


def mcnemar(only_a: int, only_b: int) -> float:
    """McNemar's exact test, two-sided: whether two variants are right equally often.

    Where they are, an example that just one of them answers right is as likely the one's as the other's, so that the
    counts are binomial with 1/2. Exact, hence conservative: p is never too small.

    Args:
        only_a: examples that only the first answers right.
        only_b: examples that only the second answers right.

    Returns:
        The probability of counts at least so uneven; 1 where both are right on the same examples.
    """
    fewer, discordant = min(only_a, only_b), only_a + only_b
    if 2 * fewer == discordant:
        return 1.0
    return min(1.0, 2 * _beta(0.5, discordant - fewer, fewer + 1))


def difference_interval(both: int, only_a: int, only_b: int, neither: int) -> tuple[float, float]:
    """95 % interval of the difference (b - a) of two shares over the same examples.

    Wald's with one example added to each discordant cell (Bonett & Price 2012), which keeps its confidence where few
    examples or none are discordant (Fagerland, Lydersen & Laake 2014).

    Args:
        both: examples that both answer right.
        only_a: examples that only the first answers right.
        only_b: examples that only the second answers right.
        neither: examples that neither answers right.
    """
    count = both + only_a + only_b + neither + 2
    a, b = (only_a + 1) / count, (only_b + 1) / count
    half = _Z * math.sqrt((a + b - (b - a) ** 2) / count)
    return max(-1.0, b - a - half), min(1.0, b - a + half)


def top_k(scores: Array, labels: Array, k: int) -> Array:
    """Which examples have their label among the k largest scores; of equal scores the first is the larger.

    Args:
        scores: (examples, classes). A row with NaN or infinity is wrong.
        labels: (examples,), each below classes.
        k: how many of a row count.

    Returns:
        (examples,) of bool.
    """
    import numpy as np

    own = np.take_along_axis(scores, labels.astype(np.int64)[:, np.newaxis], axis=1)
    before = np.arange(scores.shape[1]) < labels[:, np.newaxis]
    rank = ((scores > own) | ((scores == own) & before)).sum(axis=1)
    right: Array = np.isfinite(scores).all(axis=1) & (rank < k)
    return right


def macro_f1(labels: Array, predicted: Array, classes: int) -> float:
    """Mean of the F1 of all classes that are among the labels or the answers.

    Args:
        labels: (examples,).
        predicted: (examples,); -1 is no answer, and wrong.
        classes: how many there are.
    """
    import numpy as np

    hits = np.bincount(labels[labels == predicted], minlength=classes)
    told = np.bincount(predicted[predicted >= 0], minlength=classes)
    count = np.bincount(labels, minlength=classes) + told
    there = count > 0
    return float((2 * hits[there] / count[there]).mean())


def word_error_rate(references: Sequence[str], hypotheses: Sequence[str]) -> float:
    """Words to insert, drop or replace, over the words of all references; above 1 where too much was said.

    Words are what stands between spaces: whoever compares without case or punctuation removes them before.

    Raises:
        ValueError: there is no word in the references, or not one hypothesis for each.
    """
    said = [text.split() for text in references]
    words = sum(len(reference) for reference in said)
    if words == 0:
        raise ValueError("the references hold no word")
    heard = [text.split() for text in hypotheses]
    return sum(_edits(*pair) for pair in zip(said, heard, strict=True)) / words


def pack_outcomes(right: Array) -> str:
    """Which examples were answered right, one bit each, the first in the highest bit of the first byte; as base64."""
    import numpy as np

    return base64.b64encode(np.packbits(right.astype(bool)).tobytes()).decode("ascii")


def unpack_outcomes(packed: str, examples: int) -> str:
    """Of each example, in order, 1: answered right, or 0."""
    return "".join(f"{byte:08b}" for byte in base64.b64decode(packed))[:examples]


def _edits(reference: Sequence[str], hypothesis: Sequence[str]) -> int:
    """Levenshtein distance."""
    row = list(range(len(hypothesis) + 1))
    for index, word in enumerate(reference, 1):
        diagonal, row[0] = row[0], index
        for at, other in enumerate(hypothesis, 1):
            diagonal, row[at] = row[at], min(row[at] + 1, row[at - 1] + 1, diagonal + (word != other))
    return row[-1]


def _solve(rising: Any, value: float) -> float:
    """Where a function that rises over [0, 1] has a value."""
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < value else (low, middle)
    return (low + high) / 2


def _beta(x: float, a: int, b: int) -> float:
    """Regularised incomplete beta function: the probability of a or more of a + b - 1 that each come with x.

    By its continued fraction (DLMF 8.17.22, evaluated by Lentz's method), in about the square root of as many steps as
    the sum has terms.
    """
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):  # the fraction converges fast on the other side
        return 1 - _beta(1 - x, b, a)
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    c, d = 1.0, 1 / (1 - (a + b) * x / (a + 1))
    fraction = d
    m = 0
    while True:
        m += 1
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            c, d = 1 + term / c, 1 / (1 + term * d)
            fraction *= c * d
        if abs(c * d - 1) < 1e-14:
            return math.exp(log_front) * fraction / a
