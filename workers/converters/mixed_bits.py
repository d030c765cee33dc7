"""Which weights get how many bits, so that they have a given average: where a bit takes away most error."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workers.examples import Array

#: Of a larger tensor so many weights are looked at, evenly spread.
_SAMPLE = 8192
_ROUNDS = 12


def choose_bits(weights: Mapping[str, Array], average: float, offered: Sequence[int]) -> dict[str, int]:
    """Bits of each tensor. Greedy: the next step goes where it takes away most error per bit that it adds.

    The error of a tensor is relative to its own size, so that a layer of small weights counts like any other.

    Args:
        weights: by name, of any shape.
        average: bits per weight, over all of these; the choice never lies above it.
        offered: bits that a tensor may have, in rising order.

    Raises:
        ValueError: the average is below the fewest bits.
    """
    if average < offered[0]:
        raise ValueError(f"an average of {average:g} bits is below the fewest there are, {offered[0]}")
    errors = {name: [relative_error(tensor, bits) for bits in offered] for name, tensor in weights.items()}
    at = dict.fromkeys(weights, 0)
    left = (average - offered[0]) * sum(tensor.size for tensor in weights.values())
    steps: list[tuple[float, str]] = []

    def offer(name: str) -> None:
        if at[name] + 1 < len(offered):
            gain = errors[name][at[name]] - errors[name][at[name] + 1]
            heapq.heappush(steps, (-gain / _cost(name), name))

    def _cost(name: str) -> float:
        return float(weights[name].size * (offered[at[name] + 1] - offered[at[name]]))

    for name in sorted(weights):
        offer(name)
    while steps:
        _, name = heapq.heappop(steps)
        if _cost(name) <= left:  # what is too large for what is left is out; a smaller one may still fit
            left -= _cost(name)
            at[name] += 1
            offer(name)
    return {name: offered[index] for name, index in at.items()}


def average_bits(weights: Mapping[str, Array], bits: Mapping[str, int]) -> float:
    """Bits per weight, over all of these."""
    total = sum(tensor.size for tensor in weights.values())
    return sum(tensor.size * bits[name] for name, tensor in weights.items()) / max(1, total)


def relative_error(tensor: Array, bits: int) -> float:
    """Energy of what k-means with a table of 2**bits entries gets wrong, over that of the weights.

    By a few rounds on a sample: to compare layers, not to make the tables that are used.
    """
    import numpy as np

    values = np.asarray(tensor, dtype=np.float64).ravel()
    step = -(-len(values) // _SAMPLE)
    values = np.sort(values[::step])
    energy = float(np.square(values).sum())
    entries = min(2**bits, len(values))
    if energy == 0 or entries == len(values):
        return 0.0
    table = np.quantile(values, (np.arange(entries) + 0.5) / entries)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    borders = np.zeros(entries + 1, dtype=np.int64)
    for _ in range(_ROUNDS):  # of one dimension and sorted, each entry's weights are a stretch
        borders = np.concatenate([[0], np.searchsorted(values, (table[1:] + table[:-1]) / 2), [len(values)]])
        counts = np.diff(borders)
        means = np.diff(sums[borders]) / np.maximum(counts, 1)
        table = np.where(counts > 0, means, table)
    nearest = np.repeat(table, np.diff(borders))
    return float(np.square(values - nearest).sum() / energy)
