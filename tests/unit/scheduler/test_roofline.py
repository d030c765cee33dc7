"""scheduler.roofline: roofs are the best that was measured, and say which one bounds a model."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.roofline import Work, roofline

COPY = Work(flops=1_000, bytes=8_000_000, seconds=1e-3)  # 8 GB/s
MATMUL = Work(flops=2_000_000_000, bytes=12_000_000, seconds=20e-3)  # 100 GFLOP/s
ROOFS = [("op/copy(hw=64)", COPY), ("op/matmul", MATMUL)]
works = st.builds(
    Work,
    flops=st.none() | st.integers(0, 10**15),
    bytes=st.none() | st.integers(0, 10**12),
    seconds=st.floats(1e-7, 1e3),
)
readings = st.lists(st.tuples(st.sampled_from(["op/copy(hw=8)", "op/matmul", "op/relu", "torchvision/x"]), works))


def test_the_roofs_are_the_best_readings_and_the_ridge_lies_between() -> None:
    cached = Work(flops=10, bytes=4_000_000, seconds=1e-4)
    other = Work(flops=10**15, bytes=1, seconds=1e-3)
    roofs = roofline([*ROOFS, ("op/copy(hw=8)", cached), ("torchvision/resnet18", other)])
    assert roofs.gb_per_s is not None
    assert roofs.gflops_per_s is not None
    assert (roofs.gb_per_s.by, roofs.gflops_per_s.by) == ("op/copy(hw=64)", "op/matmul")
    assert (roofs.gb_per_s.value, roofs.gflops_per_s.value) == pytest.approx((8, 100))
    assert roofs.ridge_flops_per_byte == pytest.approx(12.5)
    assert roofs.attainable_gflops_per_s(1) == pytest.approx(8)
    assert roofs.attainable_gflops_per_s(100) == pytest.approx(100)
    assert [roofs.bound(work) for work in (COPY, MATMUL)] == ["memory", "compute"]


def test_what_is_not_known_is_none_and_not_nought() -> None:
    only_flops = roofline(ROOFS[1:])
    assert only_flops.gb_per_s is None
    assert only_flops.ridge_flops_per_byte is None
    assert only_flops.attainable_gflops_per_s(1) is None
    assert only_flops.bound(MATMUL) is None
    nothing = Work(flops=None, bytes=None, seconds=1)
    assert (nothing.gflops_per_s, nothing.gb_per_s, nothing.flops_per_byte) == (None, None, None)
    assert roofline(ROOFS).bound(nothing) is None
    assert roofline(ROOFS).bound(Work(flops=0, bytes=100, seconds=1)) == "memory"


@given(readings, st.randoms())
def test_order_does_not_matter_and_no_operator_is_above_its_roof(found: list[tuple[str, Work]], order: object) -> None:
    roofs = roofline(found)
    order.shuffle(found)  # type: ignore[attr-defined]
    assert roofline(found) == roofs
    for model, work in found:
        if model == "op/matmul" and work.gflops_per_s is not None:
            assert roofs.gflops_per_s is not None
            assert work.gflops_per_s <= roofs.gflops_per_s.value
