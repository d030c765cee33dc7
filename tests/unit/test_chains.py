"""scheduler.chains: a recipe asked for by name leads through steps, and why it cannot be had names the step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_registry.capabilities import BackendCapability
from scheduler.chains import Backends, Offer, Subject
from scheduler.conversions import Variant, chain
from workers.converters.converter import Route
from workers.plugins import Plugin
from workers.recipes import parse_recipe

ROOT = Variant("pt2", "fp32", "root-key", "zoo:Zoo", None, {"torch": "2"})


@dataclass(frozen=True)
class Fake:
    """A registered backend that is nothing but its routes."""

    name: str
    routes: tuple[Route, ...] = ()
    revision: int = 1

    @property
    def entry(self) -> str:
        return f"fake:{self.name}"

    def load(self) -> Fake:
        return self


CONVERTERS = (
    Fake("export", (Route("pt2", "fp32", "onnx", "fp32"), Route("pt2", "fp32", "mlpackage", "fp16"))),
    Fake("quantise", (Route("onnx", "fp32", "onnx", "int8-static"), Route("onnx", "fp32", "onnx", "fp16"))),
    Fake("fuse", (Route("onnx", "fp32", "onnx", "onnx-optimize"),)),
    Fake("palettise", (Route("mlpackage", "fp16", "mlpackage", "palettize"),)),
)
COMPRESSIONS = (Fake("prune-structured"), Fake("distill"), Fake("qat"))


def _registered(*backends: Fake) -> dict[str, Plugin]:
    return cast("dict[str, Plugin]", {backend.name: backend for backend in backends})


def offer(*recipes: str, lacks: str | None = None, **about: Any) -> Offer:
    """What can be made of a model on a host that has all packages but those of one backend."""
    can = [
        BackendCapability(name=backend.name, versions={backend.name: "1"}, why_not="not installed")
        if backend.name == lacks
        else BackendCapability(name=backend.name, versions={backend.name: "1"})
        for backend in (*CONVERTERS, *COMPRESSIONS)
    ]
    backends = Backends(
        converters=_registered(*CONVERTERS),
        compressions=_registered(*COMPRESSIONS),
        converting=can,
        compressing=can,
    )
    subject = Subject(**{"name": "net", "root": ROOT, "fixed": None, "has_data": True, **about})
    return Offer(subject, [parse_recipe(text) for text in recipes], backends)


def way(made: Offer, format_: str, recipe: str) -> list[tuple[str, str]]:
    """The steps that lead to a variant: format and what is done."""
    return [
        (link.format, link.step or link.recipe)
        for link in chain(made.variants[format_, recipe], made.variants.values())
    ]


def test_a_chain_leads_through_its_steps() -> None:
    recipe = "prune-structured(0.5)+onnx-optimize+int8-static"
    made = offer(recipe)
    assert way(made, "onnx", recipe) == [
        ("pt2", "fp32"),
        ("pt2", "prune-structured(0.5)"),
        ("onnx", "fp32"),
        ("onnx", "onnx-optimize"),
        ("onnx", "int8-static"),
    ]
    assert made.variants["pt2", "prune-structured(0.5)"].before == ()
    assert ("onnx", "prune-structured(0.5)+onnx-optimize") in made.variants


def test_steps_on_a_module_remember_what_was_done_before() -> None:
    recipe = "prune-structured(0.5)+distill(digits/cnn)"
    found = offer(recipe).variants["pt2", recipe]
    assert (found.step, found.before) == ("distill(digits/cnn)", ("prune-structured(0.5)",))
    assert found.versions == {"torch": "2", "distill": "1"}


def test_parameters_reach_the_converter_that_has_the_step() -> None:
    made = offer("palettize(3.5)")
    assert way(made, "mlpackage", "palettize(3.5)") == [
        ("pt2", "fp32"),
        ("mlpackage", "fp16"),
        ("mlpackage", "palettize(3.5)"),
    ]


def test_what_is_on_request_is_not_in_the_default_matrix() -> None:
    assert set(offer().variants) == {
        ("pt2", "fp32"),
        ("onnx", "fp32"),
        ("onnx", "int8-static"),
        ("onnx", "fp16"),
        ("mlpackage", "fp16"),
    }


def test_chains_leave_the_default_matrix_as_it_is() -> None:
    made, plain = offer("prune-structured(0.5)+int8-static", "onnx-optimize+fp16").variants, offer().variants
    assert {place: made[place].key for place in plain} == {place: variant.key for place, variant in plain.items()}


_TEXTS = ["prune-structured(0.5)", "prune-structured(0.3)", "onnx-optimize", "onnx-optimize+fp16", "palettize(2)"]
_TEXTS += [f"{text}+int8-static" for text in ("prune-structured(0.5)", "prune-structured(0.3)", "qat(1)")]


@given(st.lists(st.sampled_from(_TEXTS), unique=True, max_size=5))
def test_every_artifact_has_a_key_of_its_own_whatever_else_is_asked_for(texts: list[str]) -> None:
    made = offer(*texts).variants
    assert len({variant.key for variant in made.values()}) == len(made)
    for text in texts:
        alone = offer(text).variants
        assert {made[place].key for place in alone} == {variant.key for variant in alone.values()}


@pytest.mark.parametrize(
    ("recipe", "about", "why"),
    [
        ("prune-structured(0.5)", {"fixed": "it is a file"}, "it is a file"),
        (
            "prune-structured(0.5)+int8-static",
            {"fixed": "it is a file"},
            "step 1 of prune-structured(0.5)+int8-static, prune-structured: it is a file",
        ),
        ("qat(1)+int8-static", {"has_data": False}, "labelled data, and there is none: --data"),
        ("distill(other)", {"refused": {"distill(other)": "no such teacher"}}, "no such teacher"),
        ("onnx-optimize+palettize(2)", {}, "step 2 of onnx-optimize+palettize(2), palettize: no format of net has it"),
        ("int4-weight", {}, "no converter does it"),
    ],
)
def test_why_a_recipe_cannot_be_had_names_the_step(recipe: str, about: dict[str, Any], why: str) -> None:
    made = offer(recipe, **about)
    said = made.why_not(parse_recipe(recipe).text, ("onnx",))
    assert said is not None
    assert why in said


def test_a_format_that_has_no_such_recipe_names_those_that_have() -> None:
    assert offer("palettize(2)").why_not("palettize(2)", ("onnx",)) == "only mlpackage has palettize(2)"


def test_a_step_whose_package_is_missing_can_be_made_nowhere() -> None:
    made = offer("prune-structured(0.5)+int8-static", lacks="prune-structured")
    assert made.variants["onnx", "prune-structured(0.5)+int8-static"].why_not == "not installed"


def test_another_teacher_makes_another_artifact() -> None:
    one = offer("distill(t)", details={"distill(t)": "weights 1"}).variants["pt2", "distill(t)"]
    other = offer("distill(t)", details={"distill(t)": "weights 2"}).variants["pt2", "distill(t)"]
    assert one.key != other.key


def test_fp32_of_a_users_file_is_not_to_be_had_and_no_mistake() -> None:
    made = offer("fp32", "int8-static", root=Variant("onnx", "original", "file-key", "files:File", None, {}))
    assert ("onnx", "fp32") not in made.variants
    assert ("onnx", "int8-static") in made.variants
    assert made.why_not("fp32", ("onnx",)) is None
