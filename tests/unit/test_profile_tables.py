"""exporters.profile_tables: sorted, filtered, and honest about what a profile is."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest
from rich.console import Console

from device_registry.errors import UsageError
from exporters.files import write_csv
from exporters.profile_tables import chosen_ops, comparison_view, csv_rows, profile_view, profiles_table
from scheduler.profiles import compare_profiles


def op(order: int, type_: str, time_us: float, *layers: str, **changed: Any) -> dict[str, Any]:
    """An operation as `scheduler.profiles` makes it."""
    values: dict[str, Any] = {
        "order": order,
        "name": f"op{order}",
        "type": type_,
        "time_us": time_us,
        "layers": list(layers),
        "source": None,
        "compute_unit": "cpu",
        "precision": "fp32",
        "flops": None,
        "bytes": None,
        "share": 0.1,
        "gflops_per_s": None,
        "gbytes_per_s": None,
    }
    return values | changed


def record(*ops: dict[str, Any], **changed: Any) -> dict[str, Any]:
    """A profile as `scheduler.profiles` makes it."""
    values: dict[str, Any] = {
        "profile": 3,
        "model": "net",
        "runtime": "onnxruntime",
        "runtime_options": {},
        "recipe": "fp32",
        "device": "host-cpu",
        "simulated": False,
        "threads": 1,
        "batch": 1,
        "weights": "random",
        "inputs": {},
        "method": "its profiler",
        "runs": 50,
        "operations": len(ops),
        "sum_ms": 0.9,
        "profiled_run_ms": 1.0,
        "unprofiled_run_ms": 0.8,
        "sum_over_profiled_run": 0.9,
        "verdict": "valid",
        "reasons": [],
        "ops": list(ops),
    }
    return values | changed


CONV = op(1, "Conv", 5.0, "features.0", source="pkg/net.py:3", flops=2_000_000, gflops_per_s=400.0, bytes=1000)
RELU = op(2, "Relu", 9.0, "features.1", bytes=5000)
QUANT = op(3, "QuantizeLinear", 1.0)


def printed(view: Any) -> str:
    """What a terminal of 200 characters shows."""
    console = Console(width=200, file=io.StringIO())
    console.print(view)
    return console.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("by", "orders"),
    [
        ("time", [2, 1, 3]),
        ("order", [1, 2, 3]),
        ("flops", [1, 2, 3]),
        ("bytes", [2, 1, 3]),
        ("gflops", [1, 2, 3]),
        ("type", [1, 3, 2]),
    ],
)
def test_operations_are_sorted_by_what_was_asked_for(by: Any, orders: list[int]) -> None:
    assert [item["order"] for item in chosen_ops(record(CONV, RELU, QUANT), by, None)] == orders


def test_a_type_is_found_by_a_part_of_its_name_in_any_case() -> None:
    assert chosen_ops(record(CONV, RELU, QUANT), "time", "quant") == [QUANT]


def test_a_type_that_is_not_there_is_answered_with_those_that_are() -> None:
    with pytest.raises(UsageError, match="no operation of type 'Softmax'; this profile has Conv, QuantizeLinear, Relu"):
        chosen_ops(record(CONV, RELU, QUANT), "time", "Softmax")


def test_a_profile_says_how_it_was_taken_and_that_it_is_no_latency() -> None:
    shown = printed(profile_view(record(CONV, RELU, QUANT), [CONV, RELU, QUANT], None))
    assert "net.py:3" in shown
    assert "(op3)" in shown, "what has no layer is called by the runtime's own name"
    assert "its profiler; operations sum to 0.900 ms, 0.90 of a profiled run (1.00 ms, median of 50)" in shown
    assert "without the profiler a run took 0.800 ms" in shown
    assert "benchfarm run measures latency" in shown


def test_what_is_left_out_is_counted() -> None:
    shown = printed(profile_view(record(CONV, RELU, QUANT), [RELU, CONV, QUANT], 1))
    assert "and 2 more, 6.00 us" in shown
    assert "features.0" not in shown


def test_a_contaminated_profile_says_who_was_in_the_way() -> None:
    shown = printed(profile_view(record(CONV, verdict="contaminated", reasons=["cc1plus took a core"]), [CONV], None))
    assert "contaminated: cc1plus took a core" in shown


def test_a_list_names_the_runtimes_own_options() -> None:
    assert "onnxruntime execution=parallel" in printed(
        profiles_table([record(runtime_options={"execution": "parallel"})])
    )


def test_a_comparison_shows_both_sides_and_what_was_inserted() -> None:
    before = record(CONV, RELU)
    after = record(op(1, "QLinearConv", 2.0, "features.0", "features.1"), QUANT, QUANT)
    after |= {"recipe": "int8-static", "profile": 4, "batch": 4}
    shown = printed(comparison_view(compare_profiles(before, after), None))
    assert "profile 3 (onnxruntime fp32) against 4 (onnxruntime int8-static)" in shown
    assert "features.0, features.1" in shown
    assert "-12.0" in shown
    assert "0.14" in shown
    assert "2 x QuantizeLinear" in shown
    assert "not alike in batch: 1 and 4" in shown


def test_csv_has_one_line_per_operation_and_joins_layers() -> None:
    out = io.StringIO()
    write_csv(csv_rows([CONV, op(2, "Gemm", 1.0, "a", "b")]), out)
    rows = list(csv.DictReader(io.StringIO(out.getvalue())))
    assert [(row["order"], row["layers"], row["flops"]) for row in rows] == [
        ("1", "features.0", "2000000"),
        ("2", "a b", ""),
    ]
