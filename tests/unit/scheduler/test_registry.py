"""Hosts and devices that come and go keep who they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import Engine

from device_registry.capabilities import Attribute, DeviceDescription, HostDescription
from device_registry.database import reading, writing
from device_registry.registry import (
    PresenceChange,
    RegisteredDevice,
    list_devices,
    list_hosts,
    record_devices,
    record_hello,
    set_host_presence,
)
from device_registry.selectors import parse_selector
from scheduler.arrivals import arrive
from scheduler.roster import ReachedHost
from scheduler.schema import open_database
from tests.unit.scheduler.databases import Databases
from workers.agent import AGENT_VERSION

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def engine(databases: Databases, tmp_path: Path) -> Iterator[Engine]:
    """An empty registry."""
    url = databases.fresh(tmp_path)
    engine = open_database(url)
    yield engine
    engine.dispose()
    databases.drop(url)


def host(name: str) -> HostDescription:
    return HostDescription(
        key=name,
        name=name,
        system="s",
        architecture="a",
        cpu_model="c",
        cpu_count=2,
        memory_bytes=1,
        labels={"rack": f"rack of {name}"},
    )


def phones(*names: str, presence: str = "online", simulated: bool = False) -> list[DeviceDescription]:
    attributes: dict[str, Attribute] = {"simulated": True} if simulated else {}
    return [
        DeviceDescription(key=name, name=name, kind="android", driver="d", presence=presence, attributes=attributes)
        for name in names
    ]


def hello(
    engine: Engine, name: str, found: Sequence[DeviceDescription], told: list[PresenceChange] | None = None
) -> int:
    with writing(engine) as connection:
        return record_hello(connection, host(name), found, "3", NOW, (told if told is not None else []).append)


def known(engine: Engine) -> dict[str, RegisteredDevice]:
    with reading(engine) as connection:
        return {device.name: device for device in list_devices(connection)}


def test_what_comes_and_goes_is_told_once(engine: Engine) -> None:
    told: list[PresenceChange] = []
    host_id = hello(engine, "lab-1", phones("a", "b"), told)
    ids = {name: device.id for name, device in known(engine).items()}
    assert [(change.entity, change.before, change.after) for change in told] == [
        ("host", None, "online"),
        ("device", None, "online"),
        ("device", None, "online"),
    ]
    told.clear()
    hello(engine, "lab-1", phones("a", "b"), told)
    assert told == []
    with writing(engine) as connection:
        record_devices(connection, host_id, phones("a"), NOW, told.append)
    assert [(change.entity_id, change.after) for change in told] == [(ids["b"], "offline")]
    assert {name: device.id for name, device in known(engine).items()} == ids


def test_a_device_that_is_plugged_in_elsewhere_is_the_same_device(engine: Engine) -> None:
    first = hello(engine, "lab-1", phones("a", "b"))
    before = known(engine)["a"].id
    second = hello(engine, "lab-2", phones("a"))
    with writing(engine) as connection:  # the first host has not noticed yet, or says that it is offline
        record_devices(connection, first, [*phones("b"), *phones("a", presence="offline")], NOW)
    moved = known(engine)["a"]
    assert (moved.id, moved.host_id, moved.presence) == (before, second, "online")


def test_devices_of_a_lost_host_are_offline_until_it_says_hello(engine: Engine) -> None:
    told: list[PresenceChange] = []
    host_id = hello(engine, "lab-1", phones("a"))
    with writing(engine) as connection:
        set_host_presence(connection, host_id, "lost", "no answer", NOW, told.append)
        set_host_presence(connection, host_id, "lost", "no answer", NOW, told.append)
    with reading(engine) as connection:
        [row] = list_hosts(connection)
    assert (row.presence, row.why) == ("lost", "no answer")
    assert known(engine)["a"].presence == "offline"
    assert [(change.entity, change.after, change.why) for change in told] == [
        ("host", "lost", "no answer"),
        ("device", "offline", "its host is lost"),
    ]
    hello(engine, "lab-1", phones("a"))
    assert known(engine)["a"].presence == known(engine)["a"].host_presence == "online"


def test_a_host_that_is_refused_again_and_again_is_told_of_once(engine: Engine) -> None:
    told: list[PresenceChange] = []

    def refuse(why: str) -> None:
        with writing(engine) as connection:
            record_hello(connection, host("lab-1"), [], "2", NOW, told.append, refused=why)

    hello(engine, "lab-1", phones("a"))
    for _ in range(3):
        refuse("its agent has version 2")
    assert known(engine)["a"].presence == "offline"
    assert [(change.entity, change.before, change.after, change.why) for change in told] == [
        ("host", "online", "refused", "its agent has version 2"),
        ("device", "online", "offline", "its host is refused"),
    ]
    refuse("it does not see the store")
    hello(engine, "lab-1", phones("a"), told)
    assert [change.after for change in told[2:]] == ["refused", "online", "online"]


def test_selectors_see_labels_of_the_host_and_what_is_simulated(engine: Engine) -> None:
    hello(engine, "lab-1", [*phones("a"), *phones("b", simulated=True)])
    hello(engine, "lab-2", phones("c"))

    def matching(text: str) -> list[str]:
        with reading(engine) as connection:
            return [device.name for device in list_devices(connection, parse_selector(text))]

    assert matching("host.rack=rack of lab-1,simulated=false") == ["a"]
    assert matching("simulated=true") == ["b"]
    assert matching("host=lab-2") == ["c"]
    assert [device.label for device in known(engine).values()] == ["a", "b (simulated)", "c"]


@pytest.mark.parametrize("key", ["phone\0", "p" * 201, "\ud800"])
def test_a_device_whose_key_cannot_be_kept_is_left_out_and_the_others_stay(engine: Engine, key: str) -> None:
    hello = {"version": AGENT_VERSION, "host": asdict(host("a")), "devices": [asdict(p) for p in phones("p1", key)]}
    with writing(engine) as connection:
        elsewhere = ReachedHost(id=0, reached_as="b", name="b", key="b", memory_bytes=1, slots=1)
        arrival = arrive(connection, "a", hello, [elsewhere], None, who="test", now=NOW)
        record_devices(connection, arrival.host.id, phones(key, "p2"), NOW)
    with reading(engine) as connection:
        assert {device.key: device.presence for device in list_devices(connection)} == {"p1": "offline", "p2": "online"}
