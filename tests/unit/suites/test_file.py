"""Suite files: blocks become sweeps, and what is wrong is told where it stands."""

from __future__ import annotations

from pathlib import Path

import pytest

from device_registry.errors import UsageError
from scheduler.suites.file import read_suite
from scheduler.suites.shipped import load_named
from scheduler.suites.suite import Suite
from scheduler.sweeps.complaints import SweepFileError
from scheduler.sweeps.file import read_sweep

FOLDER = Path("/lab")
SUITE = """\
suite: lab
title: In the lab
source: somebody
sweep: {recipes: fp32, repeats: 5, options: {max_seconds: 3, threads: 2}}
quick:
  sweep: {repeats: 1, options: {max_seconds: 1}}
blocks:
  - name: small
    title: Small ones
    sweep: {models: ["sim/tiny@{slow}", sim/mobilenet], options: {threads: 1}}
    grid: {slow: {from: 1, to: 2}}
    quick: {grid: {slow: [1]}, sweep: {gate: none}}
    plots: [{kind: line, x: slow, y: p50_ms, series: [runtime], log: [x]}]
  - name: large
    title: Large ones
    sweep: {models: [sim/detector], recipes: [fp32, int8-static]}
published:
  - {block: small, hardware: a phone, model: sim/mobilenet, mean_ms: 8.5, note: long ago}
  - {block: large, hardware: a phone, recipe: int8-static, speed_up: [2, 4]}
"""


def read(text: str = SUITE, *, quick: bool = False) -> Suite:
    return read_suite(text, FOLDER, source="s.yaml", quick=quick)


def said(text: str) -> list[str]:
    with pytest.raises(SweepFileError) as refused:
        read(text)
    return str(refused.value).splitlines()


def test_blocks_are_sweeps_with_what_the_suite_shares_below() -> None:
    suite = read()
    small, large = suite.blocks
    assert (small.sweep.name, large.sweep.name) == ("suite/lab/small", "suite/lab/large")
    assert small.sweep.models == ("sim/tiny@1", "sim/tiny@2", "sim/mobilenet")
    assert [point.values for point in small.points] == [{"slow": 1}, {"slow": 2}, {}]
    assert (small.sweep.threads, small.sweep.max_seconds, small.sweep.repeats) == ((1,), 3.0, 5)
    assert (large.sweep.threads, large.sweep.recipes) == ((2,), ("fp32", "int8-static"))
    assert small.plots[0].log == ("x",)
    assert [(row.figures, row.note) for row in suite.published] == [
        ({"mean_ms": 8.5}, "long ago"),
        ({"speed_up": (2.0, 4.0)}, None),
    ]


def test_the_quick_size_changes_what_it_says_and_has_runs_of_its_own() -> None:
    small, large = read(quick=True).blocks
    assert small.sweep.name == "suite/lab/small/quick"
    assert small.sweep.models == ("sim/tiny@1", "sim/mobilenet")
    assert (small.sweep.max_seconds, small.sweep.threads, small.sweep.gate) == (1.0, (1,), "none")
    assert (large.sweep.repeats, large.sweep.gate) == (1, "wait")


def test_what_a_run_keeps_reads_as_the_same_sweep() -> None:
    for block in read().blocks:
        again = read_sweep(block.sweep.text, FOLDER, source="s.yaml")
        for name in ("models", "recipes", "threads", "max_seconds", "repeats", "gate"):
            assert getattr(again, name) == getattr(block.sweep, name)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("suite: lab", "suite: lab/x", 's.yaml:1:8: suite: "lab/x": a name is small letters, digits, dashes and under'),
        ("title: In the lab", "titel: In the lab", 's.yaml:2:1: unknown field "titel": did you mean title?'),
        ("name: large", "name: small", "s.yaml:14:11: two blocks are called small, the first in line 8"),
        ("recipes: fp32,", "recipes: fp23,", "s.yaml:4:18: unknown recipe 'fp23': did you mean fp32?"),
        ("{models: [sim/detector]", "{name: x, models: [sim/detector]", "s.yaml:16:12: blocks.sweep: "),
        ("sim/tiny@{slow}", "sim/tiny@{fast}", "s.yaml:10:22: sim/tiny@{fast}: the grid has no fast"),
        ("to: 2}}", "to: 2}, n: [1]}", "s.yaml:11:36: grid: no model has {n}"),
        ("to: 2}}", "to: x}}", 's.yaml:11:18: blocks.grid.slow: {"from": 1, "to": "x"}: a list of values, or from, to'),
        ("threads: 1}", "threads: 0}", "s.yaml:10:76: options.threads: 0: a whole number from 1 to 65536"),
        ("kind: line", "kind: lines", 's.yaml:13:20: blocks.plots.kind: "lines": a plot is line, bar, roofline,'),
        ("model: sim/mobilenet,", "model: sim/mobile,", "s.yaml:18:46: block small lists no sim/mobile"),
        ("block: large,", "block: huge,", "s.yaml:19:13: no block is called huge"),
        (", speed_up: [2, 4]", "", "s.yaml:19:5: a published row has figures: mean_ms,"),
        ("recipe: int8-static, speed", "recipe: int9, speed", "s.yaml:19:47: unknown recipe 'int9'"),
        ("mean_ms: 8.5", "mean_ms: fast", 's.yaml:18:70: published.mean_ms: "fast": a number, or the two ends'),
    ],
)
def test_a_mistake_is_told_where_it_stands(old: str, new: str, says: str) -> None:
    assert old in SUITE
    found = said(SUITE.replace(old, new, 1))
    assert any(line.startswith(says) for line in found), found


def test_a_suite_of_ones_own_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text(SUITE)
    assert load_named(str(tmp_path / "own.yaml")).name == "lab"
    with pytest.raises(UsageError, match=r"no such file: .*none\.yaml"):
        load_named(str(tmp_path / "none.yaml"))


def test_an_unknown_suite_is_refused_with_a_close_one() -> None:
    with pytest.raises(UsageError, match="unknown suite lader: did you mean ladder"):
        load_named("lader")


def test_more_than_anybody_would_wait_for_is_refused_before_it_is_planned() -> None:
    text = "suite: s\ntitle: t\nblocks:\n"
    text += '  - {name: a, title: a, sweep: {models: ["sim/tiny@{n}"]}, grid: {n: {from: 1, to: 500}}}\n'
    many = text.replace('["sim/tiny@{n}"]', "[{}]".format(", ".join(f'"{name}{{n}}"' for name in "abc")))
    assert said(many) == ["s.yaml:4:41: models: with the grid they are 1500; a block has 1000 at most"]
    large = text.replace(
        "]}, ", "], options: {threads: [1, 2, 4, 8], batch: [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024]}}, "
    )
    assert said(large) == ["s.yaml:4:5: with block a there are 22000 cases or more; a suite has 20000 at most"]
