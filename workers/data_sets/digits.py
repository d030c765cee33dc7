"""`digits`: scikit-learn's 1,797 images of handwritten digits, 8 x 8, which come with the package."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

import numpy as np

from device_registry.errors import UsageError
from workers.data_sets.data_set import DataSet, Identity, Split, Wanted
from workers.data_sets.fitting import fitted
from workers.data_sets.labelled import Labelled
from workers.data_sets.parts import first, parted
from workers.models.source import file_digest

NAME = "digits"
CLASSES = tuple("0123456789")
#: A third: few examples make wide intervals, and 1,200 are enough to learn from.
_TEST_SHARE = 1 / 3
#: Values are counts of dark pixels in blocks of 4 x 4.
_LARGEST = 16


class Digits(DataSet):
    """Images have the shape (1, 8, 8) and values from 0 to 1."""

    packages: ClassVar[tuple[str, ...]] = ("scikit-learn",)
    extra: ClassVar[str] = "torch"

    def identify(self, rest: str, limit: int | None) -> Identity:
        """See `DataSet.identify`."""
        if rest:
            raise UsageError(f"unknown data set {NAME}:{rest}: nothing follows {NAME}")
        return Identity(name=NAME, digest=digest(), spec=NAME)

    def load(self, rest: str, wanted: Wanted) -> Split:
        """See `DataSet.load`."""
        split = digits()
        assert split.train is not None
        return Split(
            train=first(fitted(split.train, wanted), wanted.limit),
            test=first(fitted(split.test, wanted), wanted.limit),
        )


def digest() -> str:
    """sha256 of the file of scikit-learn that holds them."""
    spec = find_spec("sklearn")
    if spec is None or spec.origin is None:
        raise UsageError("digits come with scikit-learn, which is not installed; pip install 'benchfarm[torch]'")
    return file_digest(Path(spec.origin).parent / "datasets" / "data" / "digits.csv.gz")


@cache
def digits() -> Split:
    """All of them: 1,198 to learn from and 599 for tests, the same ones always."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = (bunch.images / _LARGEST).astype(np.float32).reshape(-1, 1, 8, 8)
    train, test = parted(Labelled({"image": images}, bunch.target.astype(np.int64), CLASSES, NAME), _TEST_SHARE)
    return Split(train=train, test=test)
