"""scheduler.conversions: what can be made, by the shortest chain, under keys that change with all they depend on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device_registry.capabilities import BackendCapability
from scheduler.conversions import Variant, chain, digest, variants_of
from workers.converters.converter import Route
from workers.plugins import Plugin

ROOT = Variant("pt2", "fp32", "root-key", "zoo:Zoo", None, {"torch": "2"})
Target = tuple[str, str]


@dataclass(frozen=True)
class FakeConverter:
    """A registered converter that is nothing but its routes."""

    name: str
    routes: tuple[Route, ...]
    revision: int = 1

    @property
    def entry(self) -> str:
        return f"fake:{self.name}"

    def load(self) -> FakeConverter:
        return self


def made(
    *converters: FakeConverter,
    root: Variant = ROOT,
    why_not: dict[str, str] | None = None,
    versions: dict[str, str] | None = None,
    unknown: tuple[str, ...] = (),
) -> dict[Target, Variant]:
    """The variants that these converters offer on a host that has all their packages."""
    capabilities = [
        BackendCapability(
            name=converter.name,
            versions={converter.name: (versions or {}).get(converter.name, "1")},
            why_not=(why_not or {}).get(converter.name),
            fix="pip install it" if converter.name in (why_not or {}) else None,
        )
        for converter in converters
        if converter.name not in unknown
    ]
    registered = cast("dict[str, Plugin]", {converter.name: converter for converter in converters})
    return variants_of(root, registered, capabilities)


EXPORT = FakeConverter("export", (Route("pt2", "fp32", "onnx", "fp32"),))
QUANTISE = FakeConverter("quantise", (Route("onnx", "fp32", "onnx", "fp16"), Route("onnx", "fp32", "onnx", "int8")))


def test_what_is_reachable_is_found_with_its_chain() -> None:
    variants = made(EXPORT, QUANTISE)
    assert set(variants) == {("pt2", "fp32"), ("onnx", "fp32"), ("onnx", "fp16"), ("onnx", "int8")}
    links = chain(variants["onnx", "int8"], variants.values())
    assert [(link.format, link.recipe, link.entry) for link in links] == [
        ("pt2", "fp32", "zoo:Zoo"),
        ("onnx", "fp32", "fake:export"),
        ("onnx", "int8", "fake:quantise"),
    ]
    assert chain(ROOT, variants.values()) == [ROOT]


def test_what_no_converter_leads_to_is_not_there() -> None:
    assert set(made(QUANTISE)) == {("pt2", "fp32")}


def test_a_file_of_a_user_is_converted_as_fp32_is() -> None:
    file = replace(ROOT, format="onnx", recipe="original")
    assert set(made(EXPORT, QUANTISE, root=file)) == {("onnx", "original"), ("onnx", "fp16"), ("onnx", "int8")}


def test_a_missing_package_is_told_of_all_that_comes_after() -> None:
    variants = made(EXPORT, QUANTISE, why_not={"export": "onnx not installed"})
    whys = {target: variant.why_not for target, variant in variants.items()}
    assert whys[("pt2", "fp32")] is None
    assert {whys["onnx", recipe] for recipe in ("fp32", "fp16", "int8")} == {"onnx not installed: pip install it"}


def test_a_converter_that_the_host_does_not_know_is_why_not() -> None:
    assert made(EXPORT, unknown=("export",))["onnx", "fp32"].why_not == "no host offers its converter"


def test_the_shortest_chain_wins_over_the_name() -> None:
    direct = FakeConverter("z-direct", (Route("pt2", "fp32", "onnx", "fp16"),))
    assert made(EXPORT, QUANTISE, direct)["onnx", "fp16"].parent == "root-key"


def test_equally_long_chains_are_decided_by_name_whatever_the_order() -> None:
    other = FakeConverter("another", EXPORT.routes)
    assert made(EXPORT, other) == made(other, EXPORT)
    assert made(EXPORT, other)["onnx", "fp32"].entry == "fake:another"


@pytest.mark.parametrize(
    "changed",
    [
        made(EXPORT, QUANTISE, root=replace(ROOT, key="another-program")),
        made(EXPORT, QUANTISE, versions={"export": "2"}),
        made(EXPORT, QUANTISE, versions={"quantise": "2"}),
        made(EXPORT, replace(QUANTISE, revision=2)),
        made(replace(EXPORT, revision=2), QUANTISE),
    ],
)
def test_a_key_changes_with_all_that_its_bytes_depend_on(changed: dict[Target, Variant]) -> None:
    first = made(EXPORT, QUANTISE)
    assert first == made(EXPORT, QUANTISE)
    assert changed["onnx", "int8"].key != first["onnx", "int8"].key


def test_a_key_does_not_change_with_the_version_of_what_took_no_part() -> None:
    exported = made(EXPORT, QUANTISE)["onnx", "fp32"].key
    assert made(EXPORT, QUANTISE, versions={"quantise": "2"})["onnx", "fp32"].key == exported


formats = st.sampled_from("abcd")
routes = st.lists(st.builds(Route, formats, st.just("fp32"), formats, st.just("fp32")), max_size=3).map(tuple)


@given(offered=st.lists(routes, max_size=4))
def test_every_chain_is_a_shortest_one_and_every_key_is_its_own(offered: list[tuple[Route, ...]]) -> None:
    root = replace(ROOT, format="a")
    variants = made(*(FakeConverter(f"converter-{n}", own) for n, own in enumerate(offered)), root=root)
    distance = {"a": 0}
    for _ in range(4):
        for route in (route for own in offered for route in own):
            if route.source_format in distance:
                reached = distance[route.source_format] + 1
                distance[route.format] = min(distance.get(route.format, reached), reached)
    assert {name for name, _ in variants} == set(distance)
    assert len({variant.key for variant in variants.values()}) == len(variants)
    for variant in variants.values():
        links = chain(variant, variants.values())
        assert links[0] == root
        assert len(links) - 1 == distance[variant.format]


@given(value=st.dictionaries(st.text(max_size=3), st.integers() | st.text(max_size=3) | st.none(), max_size=4))
def test_a_digest_does_not_depend_on_the_order_of_keys(value: dict[str, Any]) -> None:
    assert digest(value) == digest(dict(reversed(value.items())))
    assert digest(value) != digest({**value, "one-more": 1})
    assert len(digest(value)) == 64
