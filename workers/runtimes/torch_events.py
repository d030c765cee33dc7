"""What torch's profiler saw of a run: events by nesting, and the multiplications among them by operand type."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

#: The profiler's names of types; whatever multiplies integers counts as quantised.
_PRECISIONS = {
    "float": "fp32",
    "double": "fp64",
    "c10::BFloat16": "bf16",
    "c10::Half": "fp16",
    "signed char": "int8",
    "unsigned char": "int8",
    "int": "int32",
    "long": "int64",
    "long int": "int64",
}
#: Matrix products: positions of the two operands. The second may be stored transposed, or packed in its logical shape.
_PRODUCTS = {
    "aten::linear": (0, 1),
    "aten::mm": (0, 1),
    "aten::addmm": (1, 2),
    "aten::_addmm_activation": (1, 2),
    "aten::mv": (0, 1),
    "aten::_int_mm": (0, 1),
    "aten::_weight_int8pack_mm": (0, 1),
    "mkl::_mkl_linear": (0, 2),
    "onednn::qlinear_pointwise": (0, 3),
}
_BATCHED_PRODUCTS = {"aten::bmm": (0, 1), "aten::baddbmm": (1, 2)}
_QUANTISED_CONVOLUTIONS = {
    "onednn::qconv_pointwise",
    "onednn::qconv1d_pointwise",
    "onednn::qconv2d_pointwise",
    "onednn::qconv3d_pointwise",
}
#: Name of the range around each recorded run.
_RUN = "benchfarm::run"


@dataclass
class Event:
    """One event of the profiler, with those it contains. Shapes, types and values are of its arguments, by position."""

    name: str
    start_ns: int
    duration_ns: int
    shapes: list[list[int]] = field(default_factory=list)
    types: list[str] = field(default_factory=list)
    #: Arguments that are no tensors.
    values: list[Any] = field(default_factory=list)
    children: list[Event] = field(default_factory=list)

    @property
    def own_ns(self) -> int:
        """Its time without that of the events it contains."""
        return self.duration_ns - sum(child.duration_ns for child in self.children)


@dataclass(frozen=True)
class Multiplication:
    """Floating-point or integer multiply-accumulates of one event: two operations each."""

    flops: int
    precision: str


def record(run: Callable[[], object], runs: int, *, shapes: bool) -> tuple[list[Event], tuple[float, ...]]:
    """Run so often under torch's profiler.

    Args:
        run: what to run.
        runs: how often.
        shapes: record arguments too, which costs time.

    Returns:
        One event per run around all of its events, and the wall time of each run in milliseconds.
    """
    from torch.profiler import ProfilerActivity, profile, record_function

    wall_ms = []
    with profile(activities=[ProfilerActivity.CPU], record_shapes=shapes) as profiler:
        for _ in range(runs):
            with record_function(_RUN):
                began = time.perf_counter_ns()
                run()
                wall_ms.append((time.perf_counter_ns() - began) / 1e6)
    # The profiler's own list: torch's conversion of it to Python objects takes seconds.
    seen = profiler.profiler.kineto_results.events()
    thread = next(event.start_thread_id() for event in seen if event.name() == _RUN)
    events = [
        Event(event.name(), event.start_ns(), event.duration_ns(), *_arguments(event, shapes))
        for event in seen
        if event.start_thread_id() == thread
    ]
    return [event for event in nest(events) if event.name == _RUN], tuple(wall_ms)


def _arguments(event: Any, shapes: bool) -> tuple[Any, ...]:
    return (event.shapes(), event.dtypes(), event.concrete_inputs()) if shapes else ()


def nest(events: Iterable[Event]) -> list[Event]:
    """Put each event of one thread into the innermost that contains it; returns the outermost, in order of time."""
    roots: list[Event] = []
    open_: list[Event] = []
    for event in sorted(events, key=lambda item: (item.start_ns, -item.duration_ns)):
        while open_ and event.start_ns >= open_[-1].start_ns + open_[-1].duration_ns:
            open_.pop()
        (open_[-1].children if open_ else roots).append(event)
        open_.append(event)
    return roots


def multiplications(events: Iterable[Event]) -> Iterator[Multiplication]:
    """Convolutions, matrix products and attention among events, each counted once: at its outermost known event."""
    for event in events:
        found = multiplication(event)
        if found is None:
            yield from multiplications(event.children)
        else:
            yield found


def flops_by_precision(events: Iterable[Event]) -> Counter[str]:
    """FLOPs of the multiplications among events by the type of their operands."""
    flops: Counter[str] = Counter()
    for item in multiplications(events):
        flops[item.precision] += item.flops
    return flops


def integer_flops(flops: Counter[str]) -> int:
    """Those of them that were done in integers."""
    return sum(count for precision, count in flops.items() if precision.startswith("int"))


def main_precision(flops: Counter[str]) -> str:
    """Integers where they did at least half of the work, else the commonest type of the rest; unknown without any."""
    integers = integer_flops(flops) * 2 >= flops.total()
    counted = Counter({name: count for name, count in flops.items() if name.startswith("int") == integers})
    return counted.most_common(1)[0][0] if counted else "unknown"


def multiplication(event: Event) -> Multiplication | None:
    """What an event multiplies, from its recorded arguments; None for one that is no multiplication we know."""
    operands = _operands(event)
    if operands is None or max(operands[:2]) >= len(event.shapes):
        return None
    first, second, flops_of = operands
    if not event.shapes[first] or not event.shapes[second]:
        return None
    types = [event.types[index] for index in (first, second)]
    named = [_PRECISIONS.get(name, name) for name in types]
    # Integer weights of a product with floats are floats by the time they are multiplied.
    floats = [name for name in named if not name.startswith("int")]
    return Multiplication(flops_of(event), floats[0] if floats else named[0])


def _operands(event: Event) -> tuple[int, int, Callable[[Event], int]] | None:
    """Positions of the two operands, and the formula of the FLOPs."""
    name = event.name
    if name in _PRODUCTS:
        first, second = _PRODUCTS[name]
        return first, second, lambda item: _product(item.shapes[first], item.shapes[second])
    if name in _BATCHED_PRODUCTS:
        first, second = _BATCHED_PRODUCTS[name]
        return first, second, lambda item: 2 * math.prod(item.shapes[first]) * item.shapes[second][-1]
    if name == "mkldnn::_linear_pointwise":  # (x, weight, bias, ...) or (x, other, weight, bias, ...)
        second = 2 if len(event.shapes) > 2 and len(event.shapes[2]) > 1 else 1
        return 0, second, lambda item: _product(item.shapes[0], item.shapes[second])
    if name == "aten::convolution":
        return 0, 1, _convolution
    if name in _QUANTISED_CONVOLUTIONS:
        return 0, 3, lambda item: _window(item, 0, 3, stride_first=True)
    if name in ("mkldnn::_convolution_pointwise", "mkldnn::_convolution_pointwise_"):
        # (x, weight, bias, padding, ...), (x, other, weight, bias, padding, ...) or, in place, (other, x, weight, ...)
        second = event.types.index("ScalarList") - 2 if "ScalarList" in event.types else 1
        first = 1 if name.endswith("_") else 0
        return first, second, lambda item: _window(item, first, second, stride_first=False)
    if name.startswith("aten::_scaled_dot_product_") and not name.endswith("_math"):
        return 0, 1, _attention
    return None


def _product(first: list[int], second: list[int]) -> int:
    return 2 * math.prod(first) * (math.prod(second) // max(first[-1], 1))


def _attention(event: Event) -> int:
    query, key, value = event.shapes[:3]
    return 2 * math.prod(query[:-1]) * key[-2] * (query[-1] + value[-1])


def _convolution(event: Event) -> int:
    transposed = event.values[6]
    if transposed:  # each input element meets every weight of its channel
        data, weight = event.shapes[0], event.shapes[1]
        return 2 * data[0] * math.prod(data[2:]) * math.prod(weight)
    return _window(event, 0, 1, stride_first=True)


def _window(event: Event, first: int, second: int, *, stride_first: bool) -> int:
    """A convolution whose stride, padding and dilation are the first three lists among its arguments."""
    lists = [value for value, kind in zip(event.values, event.types, strict=True) if kind == "ScalarList"]
    (stride, padding) = (lists[0], lists[1]) if stride_first else (lists[1], lists[0])
    data, weight = event.shapes[first], event.shapes[second]
    spatial = len(data) - 2
    sizes: list[int] = [
        (size + 2 * pad - hole * (window - 1) - 1) // step + 1
        for size, window, step, pad, hole in zip(
            data[2:],
            weight[2:],
            *(_each(value, spatial) for value in (stride, padding, lists[2])),
            strict=True,
        )
    ]
    return 2 * data[0] * weight[0] * math.prod(sizes) * math.prod(weight[1:])


def _each(value: list[int], dimensions: int) -> list[int]:
    return value * dimensions if len(value) == 1 else value
