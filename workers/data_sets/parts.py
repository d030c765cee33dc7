"""Which examples of a data set are used for what: seeded, and by class, so that every part is like the whole."""

from __future__ import annotations

import numpy as np

from workers.data_sets.labelled import Labelled
from workers.examples import Array

#: Never that of a model: models of all seeds are told apart on the same test examples.
_SEED = 0
#: Where a data set does not say which examples are for tests.
TEST_SHARE = 0.2


def mixed(labels: Array) -> Array:
    """An order of all examples, any first part of which has the classes in about the shares of the whole."""
    generator = np.random.default_rng(_SEED)
    place = np.empty(len(labels))
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        place[rows] = (generator.permutation(len(rows)) + generator.uniform(0.25, 0.75)) / len(rows)
    return np.argsort(place, kind="stable")


def parting(labels: Array, share: float = TEST_SHARE, limit: int | None = None) -> tuple[Array, Array]:
    """Which examples are learnt from, and which are for tests, of what is not parted yet.

    Args:
        labels: of all examples.
        share: of them that are for tests.
        limit: at most so many of each part.
    """
    order = mixed(labels)
    tests = min(max(1, round(share * len(order))), max(1, len(order) - 1))
    return order[tests:][:limit], order[:tests][:limit]


def limited(labels: Array, limit: int | None) -> Array:
    """At most so many examples, mixed; all of them in their own order where there are no more."""
    return np.arange(len(labels)) if limit is None or limit >= len(labels) else mixed(labels)[:limit]


def parted(whole: Labelled, share: float = TEST_SHARE, limit: int | None = None) -> tuple[Labelled, Labelled]:
    """`parting` of labelled examples.

    Raises:
        AttemptError: there are too few for two parts.
    """
    train, test = parting(whole.labels, share, limit)
    return whole.taken(train), whole.taken(test)


def first(whole: Labelled, limit: int | None) -> Labelled:
    """`limited` of labelled examples."""
    return whole.taken(limited(whole.labels, limit))
