"""A receiver for each test that wants one."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.unit.notifiers.receiver import Receiver


@pytest.fixture
def make_receiver() -> Iterator[Callable[[], Receiver]]:
    """Make receivers."""
    made: list[Receiver] = []

    def make() -> Receiver:
        made.append(Receiver())
        return made[-1]

    yield make
    for receiver in made:
        receiver.close()


@pytest.fixture
def receiver(make_receiver: Callable[[], Receiver]) -> Receiver:
    """One receiver."""
    return make_receiver()
