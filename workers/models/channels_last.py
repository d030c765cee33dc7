"""Seeded images with their channels last, as Keras and TFLite models take them."""

from __future__ import annotations

import numpy as np

from workers.examples import Array
from workers.models.source import images

#: The statistics that `images` normalises with.
_MEAN = np.array([0.485, 0.456, 0.406], dtype=np.float32)
_DEVIATION = np.array([0.229, 0.224, 0.225], dtype=np.float32)


def photographs(generator: np.random.Generator, count: int, shape: tuple[int, ...]) -> Array:
    """Images in the range of normalised photographs: (count, batch, height, width, 3)."""
    batch, height, width, channels = shape
    return np.ascontiguousarray(np.moveaxis(images(generator, count, (batch, channels, height, width)), 2, -1))


def pixels(generator: np.random.Generator, count: int, shape: tuple[int, ...]) -> Array:
    """The same images as files hold them: float32 from 0 to 255."""
    shares = np.clip(photographs(generator, count, shape) * _DEVIATION + _MEAN, 0, 1)
    return np.asarray(shares * np.float32(255))
