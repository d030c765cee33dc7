"""The result file of benchmark_model (`--result_file_path`), where a build writes one.

Message and field numbers are those of `tflite/tools/benchmark/proto/benchmark_result.proto`. Only what is needed of
the wire format is read: nested messages, 32-bit floats and varints.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
#: Field of the outer message to its fields: number to name.
_FIELDS: dict[int, dict[int, str]] = {
    2: {
        1: "avg_ms",
        2: "min_ms",
        3: "max_ms",
        4: "stddev_ms",
        5: "median_ms",
        6: "p5_ms",
        7: "p95_ms",
        8: "init_ms",
        9: "first_inference_ms",
        10: "average_warm_up_ms",
    },
    3: {1: "init_footprint_kb", 2: "overall_footprint_kb", 3: "peak_mem_mb"},
    4: {1: "model_size_mb", 2: "num_runs", 3: "num_warmup_runs", 4: "model_throughput_in_mb_per_sec"},
}


def read_result_proto(data: bytes) -> dict[str, float]:
    """Numbers of a result file by their names in the proto; what is damaged or unknown is left out."""
    found: dict[str, float] = {}
    for number, kind, value in _fields(data):
        if kind != _BYTES or not isinstance(value, bytes):
            continue
        names = _FIELDS.get(number, {})
        for inner, _, inner_value in _fields(value):
            if inner in names and not isinstance(inner_value, bytes) and 0 <= inner_value < 2**53:
                found[names[inner]] = float(inner_value)
    return found


def _fields(data: bytes) -> Iterator[tuple[int, int, float | bytes]]:
    """Fields of one message as (number, wire type, value), up to the first byte that makes no sense."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        if key is None:
            return
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, at = _varint(data, at)
            if value is None:
                return
            yield number, kind, value
            continue
        if kind == _BYTES:
            length, at = _varint(data, at)
        else:
            length = {_FIXED32: 4, _FIXED64: 8}.get(kind)
        if length is None or length > len(data) - at:
            return
        raw, at = data[at : at + length], at + length
        if kind == _BYTES:
            yield number, kind, raw
        else:
            yield number, kind, struct.unpack("<f" if kind == _FIXED32 else "<d", raw)[0]


def _varint(data: bytes, at: int) -> tuple[int | None, int]:
    """A varint and where it ends; None where there is none."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            return None, at
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    return None, at
