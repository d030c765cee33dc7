"""What a request is measured on, and what the hosts of a farm can do together."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from device_registry.errors import UsageError
from device_registry.registry import RegisteredDevice
from device_registry.selectors import parse_selector
from scheduler.farm import chosen_devices
from scheduler.offers import device_offers, merged, need, own_offers, slot_offers
from scheduler.plan import Plan, plan
from scheduler.request import Request
from scheduler.targets import Spread, targets_of
from tests.unit.builders import make_device, make_host_description

RESNET = "torchvision/resnet18"


def phone(number: int, model: str | None, **changed: Any) -> RegisteredDevice:
    return make_device(number, attributes={"model": model}, **changed)


PHONES = [phone(1, "Pixel 8"), phone(2, "Pixel, 9"), phone(3, "Pixel 8"), phone(4, None)]


def of(spread: Spread, text: str = "kind=cpu") -> list[tuple[str, str, list[int]]]:
    selector = parse_selector(text)
    return [(t.label, t.selector, [d.id for d in t.devices]) for t in targets_of(spread, selector, PHONES)]


def test_each_is_every_device_by_itself() -> None:
    assert of("each") == [(device.name, "", [device.id]) for device in PHONES]


def test_any_is_whichever_matches() -> None:
    assert of("any") == [("any of kind=cpu", "kind=cpu", [1, 2, 3, 4])]
    assert of("any", "") == [("any device", "", [1, 2, 3, 4])]


def test_per_model_is_one_of_each_and_what_has_no_model_is_one_of_its_own() -> None:
    found = of("per-model")
    assert [(label, ids) for label, _, ids in found] == [
        ("any Pixel 8", [1, 3]),
        ("any Pixel, 9", [2]),
        ("host-4-cpu", [4]),
    ]
    for (_, text, ids), model in zip(found, ("Pixel 8", "Pixel, 9"), strict=False):
        selector = parse_selector(text)
        assert [device.id for device in PHONES if selector.matches(device.selectable)] == ids, model


def planned(spread: Spread, **changed: Any) -> Plan:
    return plan(Request(models=(RESNET,), runtimes=("torch",), recipes=("fp32",), spread=spread, **changed), PHONES)


def test_what_may_move_is_one_measurement_that_needs_its_runtime() -> None:
    [item] = planned("any").measurements
    assert (item.device, item.selector, item.needs) == (None, "", (need("runtimes", "torch"),))
    assert len(planned("each").measurements) == 4
    assert [item.device for item in planned("each").measurements if item.needs] == []


def test_a_case_that_may_move_has_no_device_in_its_key() -> None:
    def keys(spread: Spread) -> set[str]:
        return {item.case_key for item in planned(spread).measurements}

    assert len(keys("any")) == 1
    assert len(keys("per-model")) == 3
    assert keys("any").isdisjoint(keys("each"))


def test_a_conversion_needs_a_host_with_the_versions_in_its_key() -> None:
    [root] = planned("any").conversions
    assert root.needs == (need("sources", "torchvision", {"torchvision": "1"}),)
    assert set(root.needs) <= slot_offers(make_host_description())


def test_what_any_host_can_convert_can_be_had() -> None:
    here = make_host_description(why_not={"onnx-export": "onnx not installed"})
    request = Request(models=(RESNET,), runtimes=("onnxruntime",), recipes=("fp32",))
    device = make_device(1, host_description=here)
    with pytest.raises(UsageError, match="onnx not installed"):
        plan(request, [device])
    assert plan(request, [device], [here, make_host_description()]).measurements


def test_hosts_together_can_what_most_of_them_can() -> None:
    def description(version: str, why_not: str | None = None) -> dict[str, Any]:
        return {"converters": [{"name": "x", "versions": {"x": version}, "why_not": why_not, "fix": None}]}

    assert merged("converters", [description("1"), description("2"), description("2")])["x"].versions == {"x": "2"}
    assert merged("converters", [description("1", "broken"), description("2")])["x"].why_not is None
    assert merged("converters", [description("1", "broken")])["x"].why_not == "broken"
    assert need("converters", "x", {"x": "1"}) not in slot_offers(description("2"))


def test_a_device_is_offered_what_runs_on_its_kind() -> None:
    description = make_host_description()
    assert need("runtimes", "torch") in device_offers(description, "cpu")
    assert need("runtimes", "torch") not in device_offers(description, "toaster")


@pytest.mark.parametrize("make", [list, tuple])
def test_a_phone_offers_only_the_runtimes_that_there_is_a_tool_for(make: type) -> None:
    offers = frozenset({need("runtimes", "benchmark-model"), need("runtimes", "ort-perf-test")})
    assert own_offers(offers, {}) == offers
    assert own_offers(offers, {"runtimes": make(["ort-perf-test", "torch"])}) == {need("runtimes", "ort-perf-test")}
    assert own_offers(offers, {"runtimes": make([])}) == frozenset()


def refusal(request: Request, known: list[RegisteredDevice]) -> str:
    with pytest.raises(UsageError) as refused:
        chosen_devices(request, known)
    return str(refused.value)


def test_devices_that_take_no_work_now_are_left_out_or_waited_for() -> None:
    known = [phone(1, "a"), phone(2, "a", admin="draining"), phone(3, "b", presence="offline")]
    request = Request(models=(RESNET,))
    assert [device.id for device in chosen_devices(request, known)] == [1]
    waiting = dataclasses.replace(request, wait_for_device=True)
    assert [device.id for device in chosen_devices(waiting, known)] == [1, 2, 3]
    assert "host-2-cpu is draining, host-3-cpu is offline" in refusal(request, known[1:])


def test_nothing_that_matches_is_refused_with_what_there_is() -> None:
    known = [phone(number, "a") for number in range(1, 15)]
    request = Request(models=(RESNET,), selector="kind=toaster")
    said = refusal(request, known)
    assert "no device matches 'kind=toaster'" in said
    assert said.count("host-") == 10
    assert "and 4 more" in said
    assert "no device is known yet" in refusal(request, [])
    waiting = dataclasses.replace(request, wait_for_device=True)
    assert "--any queues" in refusal(waiting, known)
    assert chosen_devices(dataclasses.replace(waiting, spread="any"), known) == []


def test_for_devices_yet_to_come_a_runtime_is_named() -> None:
    request = Request(models=(RESNET,), spread="any", selector="kind=toaster", recipes=("fp32",))
    with pytest.raises(UsageError, match="--runtime"):
        plan(request, [], [make_host_description()])
    [item] = plan(dataclasses.replace(request, runtimes=("torch",)), [], [make_host_description()]).measurements
    assert (item.device, item.selector) == (None, "kind=toaster")


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"models": ()}, "at least one model"),
        ({"repeats": 0}, "1 is the least"),
        ({"priority": 10**6}, "from -1000 to 1000"),
        ({"owner": " "}, "1 to 100 printable"),
        ({"owner": "a\nb"}, "1 to 100 printable"),
        ({"queue_timeout_s": 0.0}, "must be above 0"),
        ({"run_timeout_s": float("nan")}, "must be above 0"),
    ],
)
def test_what_no_farm_could_do_is_refused(changed: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        plan(dataclasses.replace(Request(models=(RESNET,)), **changed), PHONES)
