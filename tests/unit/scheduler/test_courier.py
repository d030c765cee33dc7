"""The courier, over a real database and real receivers: hours of failure, a receiver that hangs, two couriers."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy.exc import ProgrammingError

from device_registry.database import writing
from exporters.notifiers.courier import Courier
from exporters.notifiers.deliver import deliver_unless_up
from scheduler.home import Home
from scheduler.notifications.outbox import notifications, tell_digest, tell_incident
from tests.unit.notifiers.receiver import Answer, Receiver
from tests.unit.scheduler.builders import Farm
from tests.unit.scheduler.watched import incidents, open_incident, watched_run

_SECRET = "k3y-0f-th3-t34m"


@pytest.fixture
def receivers() -> Iterator[Callable[[], Receiver]]:
    """Make receivers."""
    made: list[Receiver] = []

    def make() -> Receiver:
        made.append(Receiver())
        return made[-1]

    yield make
    for receiver in made:
        receiver.close()


def _home(farm: Farm, **channels: Receiver) -> Home:
    secret = farm.folder / "webhook.secret"
    secret.write_text(_SECRET)
    secret.chmod(0o600)
    lines = [
        f'[channels.{name}]\nkind = "webhook"\nurl = "{receiver.url}"\nsecret_file = "webhook.secret"\n'
        for name, receiver in channels.items()
    ]
    return _with(farm.folder, "".join(lines))


def _with(folder: Path, text: str) -> Home:
    (folder / "notifications.toml").write_text(text)
    return Home(path=folder, database_url="", store_url="")


def _tell(farm: Farm) -> None:
    """An incident and a digest."""
    incident = open_incident(farm, watched_run(farm, salt="1"), watched_run(farm, salt="2"))
    with writing(farm.engine) as connection:
        tell_incident(connection, incident, "opened", farm.clock())
        tell_digest(connection, farm.rows(incidents)[0].sweep_run_id, farm.clock())


def _step(farm: Farm, courier: Courier) -> int:
    begun = courier.step(farm.clock())
    assert courier.wait(60)
    return begun


def _states(farm: Farm) -> list[tuple[str, str, str]]:
    return [(row.channel, row.kind, row.state) for row in farm.rows(notifications) if row.channel]


def test_a_receiver_that_is_down_for_hours_gets_everything_once_and_in_order(
    farm: Farm, receivers: Callable[[], Receiver], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    there = receivers()
    there.usual = Answer(503)
    courier = Courier(farm.engine, _home(farm, team=there))
    _tell(farm)
    for _ in range(5 * 30):
        _step(farm, courier)
        farm.clock.advance(120)
    tried = len(there.got)
    assert 20 <= tried <= 40  # five hours: pauses have grown to a quarter of one; one message asks for both
    there.usual = Answer()
    for _ in range(15):
        _step(farm, courier)
        farm.clock.advance(120)
    arrived = [json.loads(got.body) for got in there.got[tried:]]
    assert [body["event"] for body in arrived] == ["incident.opened", "digest"]
    assert len({body["idempotency_key"] for body in arrived}) == 2
    assert {state for _, _, state in _states(farm)} == {"sent"}
    everything = caplog.text + str(farm.rows(notifications))
    assert _SECRET not in everything
    assert "s3cr3t-p4th" not in everything


def test_what_never_arrives_is_given_up_after_a_day(farm: Farm, receivers: Callable[[], Receiver]) -> None:
    there = receivers()
    there.usual = Answer(404, body=b"no_service")
    courier = Courier(farm.engine, _home(farm, team=there))
    _tell(farm)
    for _ in range(60):
        _step(farm, courier)
        farm.clock.advance(1500)
    assert {state for _, _, state in _states(farm)} == {"given_up"}
    assert farm.rows(notifications, notifications.c.state == "given_up")[0].error == "127.0.0.1 answers 404: no_service"


def test_a_receiver_that_hangs_holds_up_no_other_and_no_caller(farm: Farm, receivers: Callable[[], Receiver]) -> None:
    slow, quick = receivers(), receivers()
    slow.usual = Answer(hang=True)
    courier = Courier(farm.engine, _home(farm, slow=slow, quick=quick))
    _tell(farm)
    assert courier.step(farm.clock()) == 2
    courier._rounds["quick"].thread.join(60)
    assert [state for channel, _, state in _states(farm) if channel == "quick"] == ["sent", "sent"]
    assert [state for channel, _, state in _states(farm) if channel == "slow"] == ["pending", "pending"]
    farm.clock.advance(1)
    assert courier.step(farm.clock()) == 0  # the other's thread is at it
    slow.over.set()
    assert courier.wait(60)


def test_two_couriers_send_nothing_twice(farm: Farm, receivers: Callable[[], Receiver]) -> None:
    there = receivers()
    home = _home(farm, team=there)
    couriers = [Courier(farm.engine, home) for _ in range(2)]
    _tell(farm)
    for courier in couriers:
        courier.step(farm.clock())
    assert all(courier.wait(60) for courier in couriers)
    assert sorted(json.loads(got.body)["event"] for got in there.got) == ["digest", "incident.opened"]


def test_settings_that_cannot_be_read_lose_nothing(
    farm: Farm, receivers: Callable[[], Receiver], caplog: pytest.LogCaptureFixture
) -> None:
    there = receivers()
    courier = Courier(farm.engine, _with(farm.folder, "[channels.team"))
    _tell(farm)
    for _ in range(3):
        assert _step(farm, courier) == 0
    assert caplog.text.count("notifications.toml: ") == 1
    _home(farm, team=there)
    assert _step(farm, courier) == 1
    assert len(there.got) == 2


def test_without_channels_messages_are_done_with(farm: Farm) -> None:
    courier = Courier(farm.engine, Home(path=farm.folder, database_url="", store_url=""))
    _tell(farm)
    assert _step(farm, courier) == 0
    assert {row.state for row in farm.rows(notifications)} == {"addressed"}


def test_who_has_no_channels_leaves_what_others_are_to_be_told(farm: Farm) -> None:
    _tell(farm)
    farm.clock.advance(3600)  # no service is up
    home = Home(path=farm.folder / "laptop", database_url="", store_url="")
    shared = farm.engine.dialect.name != "sqlite"
    assert deliver_unless_up(farm.engine, home, farm.clock()) is not shared
    assert {row.state for row in farm.rows(notifications)} == {"pending" if shared else "addressed"}


def test_who_may_not_deliver_changes_nothing(
    farm: Farm, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise ProgrammingError("UPDATE", {}, Exception("permission denied for table notification"))

    monkeypatch.setattr(Courier, "step", refuse)
    farm.clock.advance(3600)  # no service is up
    assert not deliver_unless_up(farm.engine, _with(farm.folder, ""), farm.clock())
    assert "nobody is told from here: permission denied for table notification" in caplog.text
