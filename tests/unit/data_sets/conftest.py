"""A model's wishes, and folders of small images."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from workers.data_sets.data_set import Wanted

#: Makes images beneath a folder: class to how many.
MakeImages = Callable[..., Path]

NORMALISED = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}


def wanted(outputs: int = 2, limit: int | None = None, shape: tuple[int, ...] = (3, 8, 8)) -> Wanted:
    """What a small classifier of images asks."""
    return Wanted(inputs={"image": ("float32", shape)}, image=NORMALISED, outputs=outputs, limit=limit)


@pytest.fixture
def images(tmp_path: Path) -> MakeImages:
    """Each image is of the colour (class, number, 0)."""
    if find_spec("PIL") is None:
        pytest.skip("Pillow is not installed")
    from PIL import Image

    def make(*beneath: str, count: int = 5, classes: tuple[str, ...] = ("cat", "dog")) -> Path:
        root = tmp_path / "pets"
        for label, name in enumerate(classes):
            folder = root.joinpath(*beneath, name)
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = np.full((10, 12, 3), (label, number, 0), np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
        return root

    return make
