"""workers.contract: what is written is read back the same, and nothing else is read."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from pathlib import Path
from typing import Any, Literal, Union

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.builders import make_measurement, make_order, make_reading
from workers.codec import ContractError, from_dict, read_document, to_dict, write_document
from workers.contract import SCHEMA_VERSION, Conversion, Fidelity, Measurement, Options, Order, Result, Timings
from workers.report import Reading, Report

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=3,
)
SCALARS: dict[Any, st.SearchStrategy[Any]] = {
    Any: json_values,
    bool: st.booleans(),
    int: st.integers(-(2**63), 2**63),
    float: st.floats(allow_nan=False, allow_infinity=False),
    str: st.text(max_size=8),
    types.NoneType: st.none(),
}


def values_of(hint: Any) -> st.SearchStrategy[Any]:
    """Every value that a field of the contract may hold."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint in SCALARS:
        return SCALARS[hint]
    if origin is Literal:
        return st.sampled_from(args)
    if origin in (Union, types.UnionType):
        return st.one_of(*map(values_of, args))
    if origin is tuple and args[-1] is Ellipsis:
        return st.lists(values_of(args[0]), max_size=2).map(tuple)
    if origin is tuple:
        return st.tuples(*map(values_of, args))
    if origin is dict:
        return st.dictionaries(st.text(max_size=4), values_of(args[1]), max_size=2)
    return documents(hint)


def documents(kind: type[Any]) -> st.SearchStrategy[Any]:
    """Every document of a kind."""
    hints = {name: hint for name, hint in typing.get_type_hints(kind).items() if name != "schema_version"}
    return st.builds(kind, **{name: values_of(hint) for name, hint in hints.items()})


@pytest.mark.parametrize("kind", [Order, Result, Report])
@given(data=st.data())
@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_every_document_comes_back_from_json_as_it_was(kind: type[Any], data: st.DataObject) -> None:
    document = data.draw(documents(kind))
    text = json.dumps(to_dict(document), allow_nan=False)
    assert from_dict(kind, json.loads(text)) == document


def test_an_unknown_field_is_refused_where_it_stands() -> None:
    data = to_dict(make_order())
    data["limits"]["speed"] = 1
    with pytest.raises(ContractError, match=r"^Order\.limits: unknown field speed$"):
        from_dict(Order, data)


def test_a_missing_field_is_refused_by_name() -> None:
    data = to_dict(make_order())
    del data["limits"]["deadline_s"]
    with pytest.raises(ContractError, match=r"^Order\.limits: .*deadline_s"):
        from_dict(Order, data)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("limits.memory_bytes", "much", "Order.limits.memory_bytes: expected int, got str"),
        ("limits.memory_bytes", 1.0, "Order.limits.memory_bytes: expected int, got float"),
        ("limits.memory_bytes", True, "Order.limits.memory_bytes: expected int, got bool"),
        ("limits.deadline_s", True, "Order.limits.deadline_s: expected float, got bool"),
        ("limits.deadline_s", None, "Order.limits.deadline_s: expected float, got NoneType"),
        ("token", 1, "Order.token: expected str, got int"),
        ("limits", [], "Order.limits: expected an object"),
        ("own_pids", "12", "Order.own_pids: expected a list"),
        ("own_pids", [1, "2"], "Order.own_pids[1]: expected int, got str"),
        ("inputs", [], "Order.inputs: expected an object"),
        ("inputs", {"artifact": 1}, "Order.inputs.artifact: expected str, got int"),
        ("gate", "later", "Order.gate: 'later' is none of wait, strict, none"),
    ],
)
def test_a_mistyped_field_is_refused_with_its_path(path: str, value: Any, message: str) -> None:
    data = to_dict(make_order())
    *folders, name = path.split(".")
    inner = data
    for folder in folders:
        inner = inner[folder]
    inner[name] = value
    with pytest.raises(ContractError) as refused:
        from_dict(Order, data)
    assert str(refused.value) == message


def test_a_pair_of_three_is_refused() -> None:
    data = to_dict(make_measurement())
    data["timings"]["p50_within_ci_ms"] = [1.0, 2.0, 3.0]
    with pytest.raises(ContractError, match=r"p50_within_ci_ms: expected 2 items, got 3"):
        from_dict(Measurement, data)


@pytest.mark.parametrize("data", [None, [], "order", 1])
def test_what_is_no_object_is_no_document(data: Any) -> None:
    with pytest.raises(ContractError, match="expected an object"):
        from_dict(Order, data)


@given(data=json_values)
def test_any_json_is_either_the_document_or_a_contract_error(data: Any) -> None:
    try:
        answer = repr(from_dict(Options, data))
    except ContractError as error:
        answer = str(error)
    assert answer.startswith("Options")


def test_a_whole_number_is_read_where_a_float_is_wanted() -> None:
    options = from_dict(Options, {"min_seconds": 3, "rate_hz": 30})
    assert (options.min_seconds, options.rate_hz) == (3.0, 30.0)
    assert isinstance(options.min_seconds, float)


def test_a_whole_number_beyond_the_floats_is_refused() -> None:
    with pytest.raises(ContractError, match="min_seconds"):
        from_dict(Options, {"min_seconds": 10**400})


@pytest.mark.parametrize("version", [0, SCHEMA_VERSION + 1, "1", None])
@pytest.mark.parametrize("kind", [Order, Result, Report])
def test_another_schema_version_is_refused(kind: type[Any], version: Any) -> None:
    with pytest.raises(ContractError, match=r"schema"):
        from_dict(kind, {"schema_version": version})


def test_absent_and_zero_stay_apart() -> None:
    absent, zero = make_reading("power", None, quality="unsupported"), make_reading("power", 0.0)
    assert [from_dict(Reading, to_dict(reading)).value for reading in (absent, zero)] == [None, 0.0]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_is_no_number_cannot_be_written_and_leaves_the_old_document(value: float, tmp_path: Path) -> None:
    path = tmp_path / "reading.json"
    good = make_reading("power", 1.5)
    write_document(good, path)
    with pytest.raises(ValueError, match="JSON compliant"):
        write_document(make_reading("power", value), path)
    assert read_document(Reading, path) == good


@pytest.mark.parametrize("value", ["NaN", "Infinity"])
def test_what_is_no_number_cannot_be_read(value: str, tmp_path: Path) -> None:
    path = tmp_path / "reading.json"
    text = json.dumps(to_dict(make_reading("power", 1.5)))
    path.write_text(text.replace("1.5", value), encoding="ascii")
    with pytest.raises(ContractError, match=r"reading\.json"):
        read_document(Reading, path)


def test_a_written_document_is_whole_and_alone(tmp_path: Path) -> None:
    order, path = make_order(), tmp_path / "order.json"
    write_document(make_order(7), path)
    write_document(order, path)
    assert read_document(Order, path) == order
    assert [file.name for file in tmp_path.iterdir()] == ["order.json"]


def test_a_reader_sees_the_old_document_until_the_new_one_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "order.json"
    write_document(make_order(1), path)
    seen = []
    monkeypatch.setattr("workers.codec.os.fsync", lambda _: seen.append(read_document(Order, path).attempt_id))
    write_document(make_order(2), path)
    assert seen == [1]
    assert read_document(Order, path).attempt_id == 2


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[]"])
def test_a_damaged_file_is_a_contract_error(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "order.json"
    path.write_bytes(content)
    with pytest.raises(ContractError):
        read_document(Order, path)


def test_a_file_that_is_not_there_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_document(Order, tmp_path / "order.json")


@pytest.mark.parametrize("kind", [Timings, Fidelity, Conversion, Measurement])
def test_units_stand_in_the_names_of_durations(kind: type[Any]) -> None:
    names = {field.name for field in dataclasses.fields(kind)}
    assert not names & {"time", "latency", "duration", "p50", "mean", "memory", "energy"}
