"""Events of torch's profiler: nesting, and what they multiply."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from workers.runtimes.torch_events import (
    Event,
    flops_by_precision,
    integer_flops,
    main_precision,
    multiplication,
    nest,
)

_LIST = "ScalarList"


def _event(name: str, *arguments: tuple[list[int], str, object]) -> Event:
    shapes, types, values = ([argument[index] for argument in arguments] for index in range(3))
    return Event(name, 0, 10, shapes, types, values)  # type: ignore[arg-type]


def _tensor(kind: str, *shape: int) -> tuple[list[int], str, object]:
    return list(shape), kind, None


def _ints(*values: int) -> tuple[list[int], str, object]:
    return [], _LIST, list(values)


def test_a_convolution_counts_two_operations_per_multiply_accumulate() -> None:
    event = _event(
        "aten::convolution",
        *(_tensor("float", 1, 3, 32, 32), _tensor("float", 16, 3, 3, 3), _tensor("float", 16)),
        *(_ints(2, 2), _ints(1, 1), _ints(1, 1), ([], "Scalar", False), _ints(0, 0), ([], "Scalar", 1)),
    )
    found = multiplication(event)
    assert found is not None
    assert (found.flops, found.precision) == (2 * 16 * 16 * 16 * 27, "fp32")


def test_a_transposed_convolution_multiplies_each_input_element() -> None:
    event = _event(
        "aten::convolution",
        *(_tensor("float", 1, 8, 4, 4), _tensor("float", 8, 3, 2, 2), ([], "", None)),
        *(_ints(2, 2), _ints(0, 0), _ints(1, 1), ([], "Scalar", True), _ints(0, 0), ([], "Scalar", 1)),
    )
    found = multiplication(event)
    assert found is not None
    assert found.flops == 2 * 16 * 8 * 3 * 4


def test_a_fused_convolution_is_read_with_and_without_what_is_added() -> None:
    data, weight, bias = _tensor("float", 1, 8, 6, 6), _tensor("float", 4, 8, 3, 3), _tensor("float", 4)
    other = _tensor("float", 1, 4, 6, 6)
    rest = (_ints(1, 1), _ints(1, 1), _ints(1, 1), ([], "Scalar", 1))
    expected = 2 * 4 * 36 * 72
    for event in (
        _event("mkldnn::_convolution_pointwise", data, weight, bias, *rest),
        _event("mkldnn::_convolution_pointwise", data, other, weight, bias, *rest),
        _event("mkldnn::_convolution_pointwise_", other, data, weight, bias, *rest),
    ):
        found = multiplication(event)
        assert found is not None
        assert found.flops == expected


def test_quantised_kernels_multiply_integers() -> None:
    scale, point = _tensor("float"), _tensor("int")
    linear = _event(
        "onednn::qlinear_pointwise", _tensor("unsigned char", 2, 8), scale, point, _tensor("signed char", 8, 5)
    )
    found = multiplication(linear)
    assert found is not None
    assert (found.flops, found.precision) == (2 * 2 * 8 * 5, "int8")


def test_integer_weights_of_a_product_with_floats_are_no_integer_arithmetic() -> None:
    event = _event("aten::_weight_int8pack_mm", _tensor("c10::BFloat16", 2, 8), _tensor("signed char", 5, 8))
    found = multiplication(event)
    assert found is not None
    assert found.precision == "bf16"


def test_attention_counts_both_of_its_products() -> None:
    heads = _tensor("float", 1, 2, 5, 4)
    found = multiplication(_event("aten::_scaled_dot_product_flash_attention_for_cpu", heads, heads, heads))
    assert found is not None
    assert found.flops == 2 * 2 * (2 * 5 * 5 * 4)


def test_what_multiplies_nothing_or_has_no_arguments_counts_nothing() -> None:
    assert multiplication(_event("aten::relu", _tensor("float", 4))) is None
    assert multiplication(Event("aten::mm", 0, 1)) is None


def test_a_product_within_a_product_counts_once() -> None:
    inner = _event("aten::addmm", _tensor("float", 5), _tensor("float", 2, 8), _tensor("float", 8, 5))
    outer = _event("aten::linear", _tensor("float", 2, 8), _tensor("float", 5, 8), _tensor("float", 5))
    outer.children = [inner]
    assert flops_by_precision([outer]).total() == flops_by_precision([inner]).total() == 160


def test_integers_are_the_main_arithmetic_from_half_of_the_work_on() -> None:
    integer = _event("aten::_int_mm", _tensor("signed char", 2, 8), _tensor("signed char", 8, 5))
    float_ = _event("aten::mm", _tensor("float", 2, 8), _tensor("float", 8, 5))
    assert main_precision(flops_by_precision([integer, float_])) == "int8"
    assert main_precision(flops_by_precision([integer, float_, float_])) == "fp32"
    assert integer_flops(flops_by_precision([integer, float_])) == 160
    assert main_precision(flops_by_precision([])) == "unknown"


@st.composite
def _trees(draw: st.DrawFn, start: int = 0, length: int = 1000, depth: int = 3) -> list[Event]:
    cuts = sorted(draw(st.sets(st.integers(start, start + length), max_size=6)))
    events = []
    for begin, end in zip(cuts[::2], cuts[1::2], strict=False):
        event = Event("e", begin, end - begin)
        if depth and end - begin > 2:
            event.children = draw(_trees(begin + 1, end - begin - 2, depth - 1))
        events.append(event)
    return events


def _flat(events: list[Event]) -> list[Event]:
    return [item for event in events for item in (event, *_flat(event.children))]


@given(_trees(), st.randoms())
def test_events_are_nested_as_they_ran_whatever_their_order(tree: list[Event], random: object) -> None:
    loose = [Event(event.name, event.start_ns, event.duration_ns) for event in _flat(tree)]
    random.shuffle(loose)  # type: ignore[attr-defined]
    assert nest(loose) == tree
    assert all(event.own_ns >= 0 for event in _flat(tree))
