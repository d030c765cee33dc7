"""How right: outputs against the fp32 reference, by ratio and agreement, never by absolute difference."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from workers.contract import Fidelity
from workers.examples import Array


def compare_outputs(
    reference: Sequence[Sequence[Array]], actual: Sequence[Sequence[Array]], *, classification: bool
) -> Fidelity:
    """Compare outputs of several examples.

    Args:
        reference: per example the reference outputs.
        actual: per example the outputs to judge, of the same shapes.
        classification: whether the last axis of the first output is classes.

    Returns:
        SNR in dB over all values, 10 log10(sum r^2 / sum (r - a)^2); cosine; share of equal largest classes.

    Raises:
        ValueError: shapes differ.
    """
    signal = noise = dot = energy = 0.0
    agree = total = 0
    for wanted, got in zip(reference, actual, strict=True):
        for index, (r, a) in enumerate(zip(wanted, got, strict=True)):
            if r.size != a.size:
                raise ValueError(f"output {index} has {a.size} values, the reference {r.size}")
            x, y = r.astype(np.float64).ravel(), a.astype(np.float64).ravel()
            signal += float(x @ x)
            noise += float((x - y) @ (x - y))
            dot += float(x @ y)
            energy += float(y @ y)
        if classification:
            wanted_class = wanted[0].reshape(-1, wanted[0].shape[-1]).argmax(axis=-1)
            got_class = got[0].reshape(-1, wanted[0].shape[-1]).argmax(axis=-1)
            agree += int(np.count_nonzero(wanted_class == got_class))
            total += len(wanted_class)
    finite = math.isfinite(noise) and math.isfinite(energy)
    comparable = signal > 0 and finite
    return Fidelity(
        snr_db=10 * math.log10(signal / noise) if comparable and noise > 0 else None,
        identical=noise == 0,
        finite=finite,
        cosine=dot / math.sqrt(signal * energy) if comparable and energy > 0 else None,
        top1_agreement=agree / total if total and finite else None,  # the largest of NaN is no class
        examples=len(reference),
    )
