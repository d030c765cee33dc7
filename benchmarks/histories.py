"""Made-up performance histories whose changes are known: the kinds of noise, of steps and of nuisances that CI sees."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]
Generator = np.random.Generator


@dataclass(frozen=True)
class Made:
    """A history and where its levels begin."""

    what: str
    values: list[float]
    changes: tuple[int, ...]


def generator_of(*what: object) -> Generator:
    """The same numbers for the same thing, whatever was made before it."""
    return np.random.default_rng(zlib.crc32(repr(what).encode()))


def autoregressive(generator: Generator, count: int, sigma: float, correlation: float) -> Values:
    """Noise of which each value keeps a part of the last."""
    fresh = generator.normal(0, sigma * (1 - correlation**2) ** 0.5, count + 50)
    for index in range(1, count + 50):
        fresh[index] += correlation * fresh[index - 1]
    return fresh[50:]


def gaussian(generator: Generator, count: int, sigma: float) -> Values:
    """Independent normal noise."""
    return generator.normal(0, sigma, count)


def spiky(generator: Generator, count: int, sigma: float) -> Values:
    """Neighbours correlated by 0.3, and 2 % spikes upwards of 4 to 10 sigma."""
    noise = autoregressive(generator, count, sigma, 0.3)
    spikes = generator.random(count) < 0.02
    noise[spikes] += generator.uniform(4, 10, int(spikes.sum())) * sigma
    return noise


def _wandering(generator: Generator, count: int, sigma: float) -> Values:
    return autoregressive(generator, count, sigma, 0.7)


def _heavy(generator: Generator, count: int, sigma: float) -> Values:
    return generator.standard_t(3, count) * sigma / 1.3


def _skewed(generator: Generator, count: int, sigma: float) -> Values:
    return (generator.lognormal(0, 0.8, count) - 1) * sigma


def _bimodal(generator: Generator, count: int, sigma: float) -> Values:
    mode = np.where(generator.random(count) < generator.uniform(0.1, 0.5), 1.0, -1.0)
    return (mode + generator.normal(0, 0.3, count)) * sigma


def _sticky(generator: Generator, count: int, sigma: float) -> Values:
    mode = np.cumsum(generator.random(count) < 0.35) % 2 * 2.0 - 1
    return (mode + generator.normal(0, 0.3, count)) * sigma


def _bursts(generator: Generator, count: int, sigma: float) -> Values:
    noise = generator.normal(0, sigma, count)
    for _ in range(max(1, count // 60)):
        at = int(generator.integers(0, count))
        noise[at : at + int(generator.integers(1, 4))] += generator.choice([-1, 1]) * generator.uniform(8, 40) * sigma
    return noise


def _weekly(generator: Generator, count: int, sigma: float) -> Values:
    return generator.normal(0, sigma, count) + sigma * np.sin(2 * np.pi * np.arange(count) / 7)


def _louder(generator: Generator, count: int, sigma: float) -> Values:
    noise = generator.normal(0, sigma, count)
    noise[int(generator.integers(count // 4, 3 * count // 4)) :] *= generator.uniform(2, 4)
    return noise


Noise = Callable[[Generator, int, float], Values]
#: Two kinds that figures are asked of.
ASKED: dict[str, Noise] = {"gaussian": gaussian, "spiky": spiky}
ALL: dict[str, Noise] = {
    **ASKED,
    "wandering": _wandering,
    "heavy tails": _heavy,
    "skewed": _skewed,
    "bimodal": _bimodal,
    "sticky modes": _sticky,
    "bursts": _bursts,
    "weekly": _weekly,
    "louder": _louder,
}
#: What the level does, and how it is read.
SHAPES = ("level", "drift", "steps", "quiet steps", "ramps", "coarse", "about zero", "negative", "counts")


def stepped(generator: Generator, noise: Noise, count: int, sigma: float, at: int, step: float) -> list[float]:
    """A level of 100 with one step."""
    values = 100 * (1 + noise(generator, count, sigma))
    values[at:] *= 1 + step
    return [float(value) for value in values]


def of_all_kinds(lengths: tuple[int, ...], each: int) -> Iterator[Made]:
    """`each` history of every shape, noise and length; steps are of 2 to 8 sigma, or of 10 to 50 %."""
    for shape in SHAPES:
        for kind, noise in ALL.items():
            for count in lengths:
                for number in range(each):
                    yield _made(generator_of(shape, kind, count, number), shape, kind, noise, count)


def _made(generator: Generator, shape: str, kind: str, noise: Noise, count: int) -> Made:
    quiet = shape == "quiet steps"
    sigma = 10 ** (generator.uniform(-4.5, -2.7) if quiet else generator.uniform(-2.7, -1.2))
    changes = () if shape in ("level", "drift") else _places(generator, count)
    level = np.ones(count)
    for at in changes:
        least = generator.uniform(0.008, 0.03) if quiet else generator.uniform(0.01, 0.06)
        size = 1 + max(generator.uniform(2, 8) * sigma, least)
        if generator.random() < 0.15:
            size += generator.uniform(0.1, 0.5)
        before = level[at - 1]
        level[at:] = before * size if generator.random() < 0.5 else before / size
        if shape == "ramps":
            width = int(generator.integers(2, 6))
            level[at : at + width] = np.linspace(before, level[-1], width + 1, endpoint=False)[1:]
    if shape == "drift":
        level *= 1 + np.linspace(0, generator.choice([-1, 1]) * generator.uniform(2, 5) * sigma, count)
    values = level * (1 + noise(generator, count, sigma))
    if shape == "coarse":
        grain = sigma * generator.uniform(0.7, 4)
        values = np.round(values / grain) * grain
    elif shape == "about zero":
        values -= generator.uniform(0.9, 1.1)
    elif shape == "negative":
        values = -values
    if shape == "counts":
        values = np.round(values * generator.integers(20, 2000))
    else:
        values *= 10 ** generator.uniform(-6, 9)
    return Made(f"{shape}, {kind}, {count}", [float(value) for value in values], changes)


def _places(generator: Generator, count: int) -> tuple[int, ...]:
    """One to six places, none nearer than eight points to another or to an end (six in short histories)."""
    apart = 8 if count >= 40 else 6
    wanted = int(generator.integers(1, 1 + max(1, min(6, count // 25))))
    found: list[int] = []
    for _ in range(50):
        at = int(generator.integers(apart, count - apart + 1))
        if len(found) < wanted and all(abs(at - other) >= apart for other in found):
            found.append(at)
    return tuple(sorted(found))


def hits(changes: tuple[int, ...], found: list[int], margin: int) -> int:
    """How many changes were found within the margin; what is found counts once."""
    left = list(found)
    count = 0
    for at in changes:
        near = min((place for place in left if abs(place - at) <= margin), key=lambda p: abs(p - at), default=None)
        if near is not None:
            left.remove(near)
            count += 1
    return count
