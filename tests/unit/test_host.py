"""workers.host: what a driver cannot say does not silence the others."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from device_registry.capabilities import DeviceDescription
from workers.host import discover


def driver(find: Callable[[], list[DeviceDescription]]) -> Any:
    return SimpleNamespace(discover=find)


def device(name: str, **changes: Any) -> DeviceDescription:
    return DeviceDescription(key=name, name=name, kind="phone", driver=name.partition("-")[0], **changes)


def broken() -> list[DeviceDescription]:
    raise OSError("the tool of its devices does not answer")


def test_devices_of_a_driver_that_cannot_say_are_offline_until_it_can(caplog: pytest.LogCaptureFixture) -> None:
    good, bad = [device("good-1")], [device("bad-1"), device("bad-2")]
    whole = discover({"good": driver(lambda: good), "bad": driver(lambda: bad)}, None)
    assert list(whole.values()) == [*good, *bad]
    failing = {"good": driver(lambda: good), "bad": driver(broken)}
    silent = discover(failing, whole)
    assert list(silent.values()) == [*good, *(device(name, presence="offline") for name in ("bad-1", "bad-2"))]
    assert discover(failing, silent) == silent
    assert caplog.text.count("driver bad cannot say which devices it has: the tool of its devices") == 1
    assert discover({"good": driver(lambda: good), "bad": driver(lambda: bad)}, silent) == whole


def test_a_driver_that_never_could_say_is_not_passed_over() -> None:
    with pytest.raises(OSError, match="does not answer"):
        discover({"bad": driver(broken)}, None)
