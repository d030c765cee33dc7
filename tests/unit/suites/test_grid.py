"""Templates of models and the grids that fill them."""

from __future__ import annotations

import pytest

from scheduler.suites.grid import GridError, points_of, values_of


def test_a_mapping_makes_every_combination_of_the_words_of_a_template() -> None:
    grid = {"blocks": [1, 2], "linear": [0, 1], "other": [7]}
    assert [model for model, _ in points_of("p(blocks={blocks},linear={linear})", grid)] == [
        "p(blocks=1,linear=0)",
        "p(blocks=1,linear=1)",
        "p(blocks=2,linear=0)",
        "p(blocks=2,linear=1)",
    ]
    assert list(points_of("p(blocks={blocks})", grid)) == [
        ("p(blocks=1)", {"blocks": 1}),
        ("p(blocks=2)", {"blocks": 2}),
    ]
    assert list(points_of("plain", grid)) == [("plain", {})]


def test_a_list_makes_its_points() -> None:
    grid = [{"kernel": 1, "hw": 128}, {"kernel": 3, "hw": 44}]
    assert [model for model, _ in points_of("c(hw={hw},kernel={kernel})", grid)] == [
        "c(hw=128,kernel=1)",
        "c(hw=44,kernel=3)",
    ]


@pytest.mark.parametrize(
    ("axis", "values"),
    [
        ([3, 1, 3], [3, 1]),
        ({"from": 248, "to": 251}, [248, 249, 250, 251]),
        ({"from": 2, "to": 9, "step": 3}, [2, 5, 8]),
        ({"from": 64, "to": 600, "times": 2}, [64, 128, 256, 512]),
        ({"from": -1, "to": 1}, [-1, 0, 1]),
    ],
)
def test_an_axis_is_a_list_or_a_range(axis: object, values: list[int]) -> None:
    assert values_of("n", axis) == values


@pytest.mark.parametrize(
    ("template", "grid", "says"),
    [
        ("m({n})", {}, "m({n}): the grid has no n"),
        ("m({})", {"n": [1]}, "m({}): the grid has no word between empty braces"),
        ("m({n!r})", {"n": [1]}, "m({n!r}): the grid has no n!r"),
        ("m({n})", [{"n": 1}, {"k": 1}], "m({n}): point 2 of the grid has no n"),
        ("m({n})", {"n": {"from": 2, "to": 1}}, "n: from 2 to 1: from is the smaller one"),
        ("m({n})", {"n": {"from": 0, "to": 8, "times": 2}}, "n: from 0, times 2: from is 1 or more"),
        ("m({n})", {"n": {"from": 0, "to": 10**9}}, "n: more than 500 values"),
        (
            "m({a},{b})",
            {"a": {"from": 1, "to": 100}, "b": {"from": 1, "to": 100}},
            "m({a},{b}): the grid makes more than 500 models of it",
        ),
    ],
)
def test_a_grid_that_makes_no_sense_is_refused_in_a_sentence(template: str, grid: object, says: str) -> None:
    with pytest.raises(GridError) as refused:
        list(points_of(template, grid))  # type: ignore[arg-type]
    assert str(refused.value) == says


def test_braces_that_are_no_word_stay() -> None:
    assert list(points_of("m({n} {", {"n": [1]})) == [("m(1 {", {"n": 1})]
