"""workers.recipes: recipes are texts with one meaning, and what makes no sense is told with its step."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.contract import promises_integers
from workers.recipes import Recipe, RecipeError, arithmetic_of, canonical, parse_recipe

_SPARSITY = st.integers(1, 99).map(lambda percent: percent / 100)
_STRUCTURE = st.one_of(
    _SPARSITY.map(lambda share: f"prune-structured({share:g})"),
    _SPARSITY.map(lambda share: f"prune-unstructured(sparsity={share:g})"),
    st.tuples(_SPARSITY, st.integers(1, 5)).map(lambda two: f"prune-iterative({two[0]:g},steps={two[1]},epochs=1)"),
    st.sampled_from(["distill(digits/cnn)", "distill(teacher=digits/cnn,alpha=0.5,kind=feature)"]),
)
_CHAINS = st.builds(
    lambda structure, graph, arithmetic: "+".join([*structure, *graph, *arithmetic]),
    st.lists(_STRUCTURE, max_size=2),
    st.sampled_from([[], ["onnx-optimize"]]),
    st.sampled_from([[], ["int8-static"], ["fp16"], ["palettize(3.5)"], ["a-third-partys"]]),
).filter(bool)


@given(_CHAINS)
def test_a_recipes_canonical_text_means_the_same(text: str) -> None:
    recipe = parse_recipe(text)
    assert parse_recipe(recipe.text) == recipe
    assert canonical(recipe.text) == recipe.text


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        recipe = parse_recipe(text)
    except RecipeError:
        return
    assert parse_recipe(recipe.text) == recipe


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("fp32", "fp32"),
        ("original", "original"),
        ("prune-structured(sparsity=0.50)", "prune-structured(0.5)"),
        ("int8-qat(epochs=2)", "qat(2)+int8-static"),
        ("distill(teacher=digits/cnn,alpha=0.7,temperature=4)", "distill(digits/cnn)"),
        (" prune-structured(0.5) + int8-static ", "prune-structured(0.5)+int8-static"),
    ],
)
def test_equal_recipes_have_equal_texts(text: str, meaning: str) -> None:
    assert canonical(text) == meaning


def test_a_recipe_has_parts() -> None:
    recipe = parse_recipe("prune-structured(0.3)+distill(digits/cnn)+onnx-optimize+int8-dynamic")
    assert [step.name for step in recipe.structure] == ["prune-structured", "distill"]
    assert [step.name for step in recipe.graph] == ["onnx-optimize"]
    assert recipe.arithmetic == "int8-dynamic"
    assert recipe.structure[0]["sparsity"] == 0.3
    assert recipe.structure[1].get("epochs") is None
    assert Recipe().text == Recipe().arithmetic == "fp32"


def test_what_is_promised_is_the_last_steps() -> None:
    assert promises_integers("prune-structured(0.5)+int8-static")
    assert not promises_integers("prune-structured(0.5)+int8-weight")
    assert not promises_integers("original")
    assert arithmetic_of("prune-structured(0.5)") == "fp32"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("prune-structured(1.0)", "prune-structured: sparsity 1.0 is not above 0 and below 1"),
        ("prune-structured(0)", "sparsity 0 is not above 0"),
        ("prune-structured(nan)", "sparsity nan is not"),
        ("prune-structured(half)", "sparsity is a number, not half"),
        ("prune-structured", "prune-structured needs its sparsity: prune-structured(sparsity=...)"),
        ("prune-structured(0.5,0.6)", "takes no such argument: 0.6"),
        ("prune-structured(0.5,sparsity=0.6)", "sparsity is given twice"),
        ("prune-structured(0.5,steps=2)", "has no parameter steps; it has sparsity"),
        ("prune-structurd(0.5)", "unknown step prune-structurd; did you mean prune-structured?"),
        ("distill(digits/cnn,kind=other)", "kind is response or feature or relation, not other"),
        (
            "int8-static+prune-structured(0.5)",
            "step 2 of int8-static+prune-structured(0.5): prune-structured after int8",
        ),
        ("fp16+int8-static", "step 2 of fp16+int8-static: int8-static after fp16: fp16 ends a recipe, nothing can"),
        ("onnx-optimize+prune-structured(0.5)", "works on the model's module and goes before it"),
        ("qat(1)", "must be followed by"),
        ("qat(1)+fp16", "fp16 after qat: qat prepares for int8-static"),
        ("qat(epochs=1,seconds=2)+int8-static", "give epochs or seconds, not both"),
        ("fp16+", "step 2 of fp16+"),
        ("+".join(["prune-structured(0.5)"] * 20), "200 is the most"),
    ],
)
def test_what_makes_no_sense_is_told_with_its_step(text: str, said: str) -> None:
    with pytest.raises(RecipeError) as caught:
        parse_recipe(text)
    assert said in str(caught.value)
