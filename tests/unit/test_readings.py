"""Readings in bulk: what thinning keeps, what crosses to the head, and what is no number."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.reports import read_readings
from workers.codec import to_dict
from workers.errors import AttemptError
from workers.readings import QUALITIES, cleaned, meaning_of, pack, thinned
from workers.report import Reading
from workers.telemetry_block import read_block, write_block

_VALUES = st.one_of(st.none(), st.floats(-1e12, 1e12), st.just(0.0))
_ANY_VALUE = st.one_of(_VALUES, st.sampled_from([math.nan, math.inf, -math.inf]))


def _made(at: float, value: float | None, sensor: str = "s", domain: str = "d", quality: Any = None) -> Reading:
    quality = quality or ("ok" if value is not None else "stale")
    why = None if value is not None else "it was asleep"
    told = {"sensor": sensor, "domain": domain, "quantity": "energy", "unit": "mJ"}
    return Reading(**told, value=value, quality=quality, at=at, why=why)


def _series(values: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Reading]]:
    """Readings of some channels in order of time, at any rate."""
    step = st.one_of(st.floats(0, 3), st.sampled_from([0.0, 0.1, 0.5, 1.0]))
    parts = st.lists(st.tuples(step, st.sampled_from("abc"), values), max_size=60)

    def build(steps: list[tuple[float, str, Any]]) -> list[Reading]:
        at, found = 1_000_000.0, []
        for passed, sensor, value in steps:
            at += passed
            found.append(_made(at, value, sensor))
        return found

    return parts.map(build)


@given(_series(_VALUES))
def test_thinning_keeps_ends_and_what_has_no_value_and_one_value_a_second(readings: list[Reading]) -> None:
    kept = thinned(readings)
    assert [one for one in kept if one.value is None] == [one for one in readings if one.value is None]
    left = iter(readings)
    assert all(any(one is other for other in left) for one in kept), "in order, and nothing new"
    for channel in {meaning_of(one) for one in readings}:
        all_of = [one for one in readings if meaning_of(one) == channel and one.value is not None]
        own = [one for one in kept if meaning_of(one) == channel and one.value is not None]
        if not all_of:
            continue
        assert own[0] is all_of[0]
        assert own[-1].value == all_of[-1].value, "the difference of a counter is the same"
        assert own[-1].at == all_of[-1].at
        seconds = [max(1, math.ceil(one.at - own[0].at)) for one in own[1:]]
        assert len(seconds) == len(set(seconds))
    assert thinned(kept) == kept


def test_thinning_takes_the_last_of_each_second() -> None:
    readings = [_made(100 + tenth / 10, float(tenth)) for tenth in range(25)]
    assert [one.value for one in thinned(readings)] == [0.0, 10.0, 20.0, 24.0]


@given(_series(_ANY_VALUE))
def test_what_crosses_is_what_was_read_and_no_number_never_is_one(readings: list[Reading]) -> None:
    if not readings:
        return
    plain = [to_dict(one) for one in readings]
    columns = read_readings(pack(plain))
    assert len(columns) == len(readings)
    for position, one in enumerate(readings):
        odd = one.value is not None and not math.isfinite(one.value)
        assert columns.value[position] == (None if odd else one.value)
        assert QUALITIES[columns.quality[position]] == ("implausible" if odd else one.quality)
        assert columns.anchor + columns.offset_s[position] == pytest.approx(one.at, abs=2e-6)
        assert columns.channels[columns.channel[position]] == meaning_of(one)
        assert (columns.why.get(position) is None) == (one.why is None and not odd)
    # What an agent cleans is what the head would.
    assert read_readings(pack([to_dict(one) for one in cleaned(readings)])) == columns


def test_a_value_that_is_no_number_says_what_it_was() -> None:
    [nan, infinite] = cleaned([_made(1.0, math.nan), _made(2.0, -math.inf)])
    assert (nan.value, nan.quality, nan.why) == (None, "implausible", "the sensor said nan")
    assert (infinite.value, infinite.quality, infinite.why) == (None, "implausible", "the sensor said -inf")


def test_a_value_whose_quality_promises_none_is_none() -> None:
    columns = read_readings(pack([to_dict(_made(1.0, 5.0, quality="no_permission"))]))
    assert (columns.value, QUALITIES[columns.quality[0]]) == ([None], "no_permission")
    assert columns.values_of("energy", "mJ") == []


def test_values_of_a_quantity_are_those_of_all_its_channels() -> None:
    told = [to_dict(_made(1.0, 5.0, "a")), to_dict(_made(2.0, None, "a")), to_dict(_made(3.0, 7.0, "b"))]
    columns = read_readings(pack(told))
    assert columns.values_of("energy", "mJ") == [5.0, 7.0]
    assert columns.values_of("energy", "J") == columns.values_of("temperature", "C") == []


@pytest.mark.parametrize(
    "change",
    [
        {"value": [1.0]},
        {"channel": [0, 5]},
        {"channel": [0, -1]},
        {"quality": [0, 99]},
        {"offset_s": [0.0, math.nan]},
        {"offset_s": [0.0, math.inf]},
        {"anchor": 1e12},
        {"anchor": math.nan},
        {"anchor": "then"},
        {"channels": [["s", "d"]]},
        {"channels": [["s", "d", 7, "mJ"]]},
        {"value": [True, 2.0]},
        {"why": {"first": "x"}},
    ],
    ids=str,
)
def test_columns_that_do_not_fit_together_are_refused(change: dict[str, Any]) -> None:
    told = json.loads(pack([to_dict(_made(1.0, 1.0)), to_dict(_made(2.0, 2.0))]))
    assert len(read_readings(json.dumps(told))) == 2
    with pytest.raises(ValueError, match=r"."):
        read_readings(json.dumps(told | change))


@given(_series(_VALUES))
def test_a_block_holds_every_reading(readings: list[Reading]) -> None:
    found = read_block(write_block(readings, 999_000.0))
    assert len(found) == len(readings)
    for one, other in zip(found, readings, strict=True):
        assert one.at == pytest.approx(other.at, abs=1e-6)
        assert Reading(**{**vars(one), "at": other.at}) == other


def test_a_block_is_small() -> None:
    readings = [_made(1e9 + tenth / 10, 40 + (tenth % 7) / 8, domain=f"zone:{tenth % 8}") for tenth in range(48_000)]
    assert len(write_block(readings, 1e9)) < len(pack([to_dict(one) for one in readings])) / 3


@pytest.mark.parametrize("damage", ["cut", "garbage", "empty", "pickled", "other"])
def test_a_damaged_block_is_refused_and_never_unpickled(damage: str) -> None:
    import io
    import pickle

    import numpy as np

    data = write_block([_made(1.0, 2.0)], 0.0)
    odd = io.BytesIO()
    if damage == "pickled":
        np.savez(odd, about=np.array([{"a": 1}], dtype=object))
    elif damage == "other":
        np.savez(odd, about=np.frombuffer(b'{"version": 1}', dtype=np.uint8))
    broken = {
        "cut": data[: len(data) // 2],
        "garbage": b"\x00" * 100,
        "empty": b"",
        "pickled": odd.getvalue() if damage == "pickled" else pickle.dumps({}),
        "other": odd.getvalue(),
    }[damage]
    with pytest.raises(AttemptError, match="is damaged"):
        read_block(broken)


def test_a_block_of_a_later_version_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.telemetry_block._VERSION", 2)
    data = write_block([_made(1.0, 2.0)], 0.0)
    monkeypatch.undo()
    with pytest.raises(AttemptError, match="of version 2: upgrade benchfarm"):
        read_block(data)
