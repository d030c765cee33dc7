"""Labels as data sets have them, numbers or names, as indices into the names of classes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from workers.data_sets.labelled import bad_data
from workers.examples import Array


def classes_of(labels: Sequence[Array], named: Iterable[str] | None, outputs: int | None) -> tuple[str, ...]:
    """Names of classes: as given, as the labels are, or numbers up to what the model answers with.

    Args:
        labels: of each part.
        named: names that the data set gives.
        outputs: how many classes the model tells apart.
    """
    if named is not None:
        return tuple(str(name) for name in named)
    if all(part.dtype.kind == "U" for part in labels):
        return tuple(sorted({str(label) for part in labels for label in part.reshape(-1)}))
    most = max((int(part.max()) for part in labels if part.size and part.dtype.kind in "iu"), default=0)
    return tuple(str(index) for index in range(max(most + 1, outputs or 0)))


def indices(labels: Array, classes: tuple[str, ...], name: str) -> Array:
    """Labels as indices into the classes; numbers are ones already.

    Raises:
        AttemptError: a label is the name of none.
    """
    if labels.dtype.kind != "U":
        return labels
    places = {label: index for index, label in enumerate(classes)}
    if unknown := sorted({str(label) for label in labels.reshape(-1)} - set(places)):
        raise bad_data(f"{name} has the label {unknown[0]}, which is none of its classes")
    return np.array([places[str(label)] for label in labels.reshape(-1)]).reshape(labels.shape)
