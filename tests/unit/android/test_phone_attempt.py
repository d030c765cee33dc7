"""What an attempt takes from a phone is bounded, and what it quotes of one is printable."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, cast

import pytest

from tests.unit.android import outputs
from tests.unit.android.tasks import task
from workers.android.attempt import PhoneAttempt, Route
from workers.android.history import PhoneHistory
from workers.android.job import Invocation
from workers.android.settings import Settings
from workers.android.tools.ort_perf_test import OrtPerfTest
from workers.contract import Limits, Order
from workers.errors import AttemptError


def attempt(folder: Path) -> PhoneAttempt:
    """An attempt whose phone is away."""
    limits = Limits(deadline_s=60.0, memory_bytes=1 << 30)
    order = Order(attempt_id=1, token="t", place="p", limits=limits, measure=task(), inputs={}, gate="none")
    route = Route(reach=lambda: None, history=PhoneHistory(), abis=(), settings=Settings())
    return PhoneAttempt(order, OrtPerfTest(), route, folder, threading.Event())


def said(output: str, **values: Any) -> Invocation:
    """An invocation that printed this."""
    each = {"number": 1, "exit_code": 0, "cut_short": False, "began_s": None, "ended_s": None, **values}
    return Invocation(output=output, **cast(Any, each))


def test_output_without_end_ends_the_attempt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AttemptError) as caught:
        attempt(tmp_path)._sample(said("x", cut_short=True), 0.0)
    assert caught.value.code == "too_much_output"
    monkeypatch.setattr("workers.android.attempt._MOST_PRINTED", 1.5 * len(outputs.ORT))
    many = attempt(tmp_path)
    many._sample(said(outputs.ORT), 0.0)
    with pytest.raises(AttemptError) as caught:
        many._sample(said(outputs.ORT), 0.0)
    assert caught.value.code == "too_much_output"


def test_a_failure_quotes_no_control_character(tmp_path: Path) -> None:
    with pytest.raises(AttemptError) as caught:
        attempt(tmp_path)._sample(said("\x1b]0;owned\x07 \0 bad" + "!" * 9000, exit_code=1), 0.0)
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 300
