"""Which operations of a tflite file the kernels that ran stand for."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from workers.runtimes.lite_rt_graph import Operation

#: Kinds of events: what is around the operations, one by a kernel of the interpreter, one inside XNNPACK.
AROUND, OPERATION, DELEGATED = 1, 1 << 1, 1 << 3
#: The event around all operations of a run.
INVOKE = "Invoke"
#: Operations that each kernel of XNNPACK may compute, where the names are not the same but for case and blanks.
_COMPUTES = {
    "Convolution": {"CONV_2D", "DEPTHWISE_CONV_2D"},
    "Fully Connected": {"FULLY_CONNECTED", "CONV_2D"},
    "Dynamic Fully Connected": {"FULLY_CONNECTED"},
    "Batch Matrix Multiply": {"BATCH_MATMUL", "FULLY_CONNECTED"},
    "Deconvolution": {"TRANSPOSE_CONV"},
    "Static Reshape": {"RESHAPE", "SQUEEZE", "EXPAND_DIMS"},
    "Static Expand Dims": {"EXPAND_DIMS", "RESHAPE"},
    "Copy": {"RESHAPE", "SQUEEZE", "EXPAND_DIMS", "CONCATENATION", "SPLIT"},
    "Constant Pad": {"PAD", "PADV2"},
    "Max Pooling": {"MAX_POOL_2D"},
    "Average Pooling": {"AVERAGE_POOL_2D", "MEAN"},
    "Clamp": {"RELU", "RELU6", "RELU_N1_TO_1", "RELU_0_TO_1"},
    "Sigmoid": {"LOGISTIC"},
    "ApproxGELU": {"GELU"},
    "Multiply": {"MUL"},
    "Subtract": {"SUB"},
    "Divide": {"DIV"},
    "Negate": {"NEG"},
    "Ceiling": {"CEIL"},
    "Power": {"POW"},
    "Sine": {"SIN"},
    "Cosine": {"COS"},
    "Square Root": {"SQRT"},
    "Reciprocal Square Root": {"RSQRT"},
    "Slice": {"SLICE", "STRIDED_SLICE", "SPLIT"},
    "Convert": {"QUANTIZE", "DEQUANTIZE", "CAST"},
}
#: A convolution found for its kernel outweighs any number of small operations between two.
_MULTIPLYING, _OTHER = 1000, 1


@dataclass(frozen=True)
class Event:
    """What the profiler saw in one place of a run."""

    #: Name of the kernel: "Convolution (NHWC, F32) IGEMM", or the operation's type for one of the interpreter.
    kernel: str
    time_us: int
    #: Number of the operation in the file, or of the kernel inside its part of XNNPACK.
    number: int
    kind: int


def apart(events: Sequence[Event]) -> list[Event]:
    """Events of one run, none inside another: what is left of the event around all operations is a row of its own."""
    within = sum(event.time_us for event in events if event.kind != AROUND)
    return [
        replace(event, kernel=f"{INVOKE} (outside of its operations)", time_us=max(0, event.time_us - within))
        if event.kernel == INVOKE
        else event
        for event in events
    ]


def family_of(kernel: str) -> str:
    """What a kernel does, without layout, types and implementation."""
    return kernel.partition(" (")[0]


def types_of(event: Event) -> list[str]:
    """The types in the name of a kernel of XNNPACK: F32, QC8W, X16 for what only moves values of 16 bits."""
    named = re.search(r"\(([^)]*)\)", event.kernel) if event.kind == DELEGATED else None
    return named[1].split(", ")[1:] if named else []


def precision_of(event: Event) -> str | None:
    """Of a kernel's arithmetic, by the types in its name; None where it names none."""
    types = types_of(event)
    if any(name.startswith("Q") for name in types):
        return "int8"
    return next((p for name, p in (("F16", "fp16"), ("BF16", "bf16"), ("F32", "fp32")) if name in types), None)


def precision_run(event: Event, operation: Operation, *, forced_fp16: bool) -> str | None:
    """Of a kernel that computes an operation: as it names it, else by the types in the file.

    Those are what would run without the fp16 flag. Under the flag a kernel of XNNPACK that names no type works on fp16.
    """
    named = precision_of(event)
    if named is None and forced_fp16 and event.kind == DELEGATED and operation.precision == "fp32":
        return "fp16" if set(types_of(event)) <= {"X16"} else "fp32"
    return named or operation.precision


def computed(events: Sequence[Event], graph: Sequence[Operation]) -> list[int | None]:
    """The number of the operation that each event computes; None for what XNNPACK inserted.

    The interpreter's kernels say it. XNNPACK's say only what they are, in the order of the operations of their part of
    the graph, some of which it fused into their neighbours or needs not run: the two orders are laid side by side.
    """
    found: list[int | None] = [event.number if event.kind == OPERATION else None for event in events]
    outside = {event.number for event in events if event.kind == OPERATION}
    places = [place for place, event in enumerate(events) if event.kind == DELEGATED]
    starts = [i for i, place in enumerate(places) if events[place].number == 0]
    kernels = [places[start:end] for start, end in itertools.pairwise([*starts, len(places)])]
    taken = delegated_parts(graph, outside)
    if len(kernels) != len(taken):
        kernels, taken = [places], [[number for part in taken for number in part]]
    for part, numbers in zip(kernels, taken, strict=True):
        names = [events[place].kernel for place in part]
        running = [number for number in numbers if not graph[number].at_load]
        for place, match in zip(part, lay_side_by_side(names, [graph[number] for number in running]), strict=True):
            found[place] = None if match is None else running[match]
    for place, event in enumerate(events[1:], 1):
        # An activation fused in the file that XNNPACK runs by itself, right after.
        before = found[place - 1]
        if event.kind == DELEGATED and found[place] is None and before is not None and graph[before].activated:
            found[place] = before if family_of(event.kernel) == "Clamp" else None
    return found


def delegated_parts(graph: Sequence[Operation], outside: set[int]) -> list[list[int]]:
    """Operations that XNNPACK took, in the parts that the interpreter cuts a graph into, in the order they run.

    A part takes all it can: whatever is of its side and depends on nothing that has not run.
    """
    pending = {number for operation in graph for number in operation.outputs}
    left = list(range(len(graph)))
    parts: list[list[int]] = []
    while left:
        part: list[int] = []
        grown = True
        while grown:
            grown = False
            for number in tuple(left):
                same_side = not part or (number in outside) == (part[0] in outside)
                if same_side and pending.isdisjoint(graph[number].inputs):
                    pending -= set(graph[number].outputs)
                    part.append(number)
                    left.remove(number)
                    grown = True
        if not part:
            break
        if part[0] not in outside:
            parts.append(part)
    return parts


def lay_side_by_side(kernels: Sequence[str], graph: Sequence[Operation]) -> list[int | None]:
    """The operation of each kernel: the heaviest matching that keeps both orders."""
    weights = [[_weight(family_of(kernel), operation) for operation in graph] for kernel in kernels]
    best = [[0] * (len(graph) + 1) for _ in range(len(kernels) + 1)]
    for i in reversed(range(len(kernels))):
        for j in reversed(range(len(graph))):
            together = weights[i][j] + best[i + 1][j + 1] if weights[i][j] else 0
            best[i][j] = max(together, best[i + 1][j], best[i][j + 1])
    found: list[int | None] = [None] * len(kernels)
    i = j = 0
    while i < len(kernels) and j < len(graph):
        if weights[i][j] and best[i][j] == weights[i][j] + best[i + 1][j + 1]:
            found[i] = j
            i, j = i + 1, j + 1
        elif best[i][j] == best[i + 1][j]:
            i += 1
        else:
            j += 1
    return found


def _weight(family: str, operation: Operation) -> int:
    """How much speaks for a kernel computing an operation; 0: it cannot."""
    same = family.replace(" ", "").lower() == operation.type.replace("_", "").lower()
    if not same and operation.type not in _COMPUTES.get(family, ()):
        return 0
    return _OTHER if operation.macs is None else _MULTIPLYING
