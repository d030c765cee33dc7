"""Core ML programs that take images and give labels: how examples become images, and labels outputs again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np

from workers.examples import Array

#: Metadata of an mlpackage: its `ImageInterface` as JSON.
INTERFACE = "benchfarm.image"


@dataclass(frozen=True)
class ImageInterface:
    """A program computes with (pixel / 255 - mean) / std of each channel."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    #: One for each output, in order; None: the outputs are numbers.
    labels: tuple[str, ...] | None = None

    @property
    def text(self) -> str:
        """As metadata."""
        return json.dumps(asdict(self))

    def to_pixels(self, image: Array) -> Array:
        """A normalised image, shape (1, channels, height, width), as (height, width, channels) of 8 bits.

        What lies outside 0 to 255 is cut off, and all is rounded: a picture cannot hold it.
        """
        mean, std = (np.asarray(values, dtype=np.float32).reshape(-1, 1, 1) for values in (self.mean, self.std))
        pixels = (np.asarray(image[0], dtype=np.float32) * std + mean) * 255
        return np.asarray(np.clip(np.rint(pixels), 0, 255), dtype=np.uint8).transpose(1, 2, 0)

    def to_scores(self, answer: Mapping[str, float]) -> Array:
        """Core ML's dictionary of label to score as an output, shape (1, classes)."""
        assert self.labels is not None
        return np.asarray([[answer[label] for label in self.labels]], dtype=np.float32)


def read_interface(metadata: Mapping[str, str]) -> ImageInterface | None:
    """What our converter noted; None: the program takes no image."""
    if INTERFACE not in metadata:
        return None
    told = json.loads(metadata[INTERFACE])
    labels = told["labels"]
    return ImageInterface(tuple(told["mean"]), tuple(told["std"]), None if labels is None else tuple(labels))
