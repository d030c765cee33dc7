"""What is set before a run, and how it is put back."""

from __future__ import annotations

import pytest

from tests.unit.android.local_phone import LocalPhone
from tests.unit.android.phone_runs import ALL_STEPS
from workers.android import preparation
from workers.android.leftovers import clean
from workers.android.preparation import FIXED_PERFORMANCE, Step, over_radio, prepare, steps, undo
from workers.android.settings import Prepare
from workers.errors import AttemptError


def test_everything_is_set_and_put_back_as_it_was(phone: LocalPhone) -> None:
    phone.set("global.stay_on_while_plugged_in", "3")
    phone.set("system.screen_brightness", "17")
    phone.set("global.airplane_mode_on", "0")
    phone.set("wakefulness", "Asleep")
    before = phone.settings()
    chosen = steps(Prepare(fixed_performance=True, screen="on", airplane=True))
    prepared = prepare(phone, chosen)
    assert prepared.unsupported == {}
    assert prepared.done == {
        "airplane": "0",
        "stay_awake": "3",
        "brightness_mode": "null",
        "brightness": "17",
        "screen": "Asleep",
        "fixed_performance": "off",
    }
    assert phone.setting("fixed_performance") == "true"
    assert phone.setting("global.airplane_mode_on") == "1"
    assert phone.setting("system.screen_brightness") == "128"
    assert phone.setting("wakefulness") == "Awake"
    assert phone.calls == ["run"]
    assert undo(phone) == ["fixed_performance", "screen", "brightness", "brightness_mode", "stay_awake", "airplane"]
    assert phone.settings() == before
    assert undo(phone) == []


def test_what_is_as_wanted_already_is_not_touched(phone: LocalPhone) -> None:
    phone.set("global.airplane_mode_on", "1")
    phone.set("wakefulness", "Asleep")
    phone.set("global.stay_on_while_plugged_in", "0")
    prepared = prepare(phone, steps(Prepare(fixed_performance=False, screen="off", airplane=True)))
    assert prepared.done == {"airplane": "1", "stay_awake": "0", "screen": "Asleep"}
    assert undo(phone) == []
    assert phone.setting("wakefulness") == "Asleep"


def test_what_the_phone_cannot_do_is_told_in_its_words(phone: LocalPhone) -> None:
    phone.set("no_fixed_performance", "yes")
    phone.set("no_airplane", "yes")
    prepared = prepare(phone, ALL_STEPS)
    assert sorted(prepared.done) == ["screen", "stay_awake"]
    assert prepared.unsupported == {
        "airplane": "Unknown command: airplane-mode",
        "fixed_performance": "Failed to set FIXED_PERFORMANCE mode",
    }
    # Nothing of what was not done is left to be undone: its undo would fail as well, for ever.
    assert undo(phone) == ["screen", "stay_awake"]


def test_what_is_required_and_cannot_be_fails(phone: LocalPhone) -> None:
    phone.set("no_fixed_performance", "yes")
    with pytest.raises(AttemptError, match="fixed_performance: Failed to set") as caught:
        prepare(phone, ALL_STEPS, required=["airplane", "fixed_performance"])
    assert caught.value.code == "cannot_prepare"
    assert clean(phone).undone == ("screen", "stay_awake", "airplane")


def test_prepared_twice_keeps_the_first_old_value(phone: LocalPhone) -> None:
    phone.set("global.stay_on_while_plugged_in", "3")
    off, on = (steps(Prepare(fixed_performance=True, screen=screen)) for screen in ("off", "on"))
    prepare(phone, off)
    prepare(phone, on)
    prepare(phone, off)
    undo(phone)
    assert phone.setting("global.stay_on_while_plugged_in") == "3"
    assert phone.setting("wakefulness") == "Awake"
    assert phone.setting("fixed_performance") == "false"


@pytest.mark.parametrize("old", ["1; touch pwned", "$(touch pwned)", "two words", "'", "a\nb", "cmd: Failure calling"])
def test_an_old_value_that_is_no_plain_word_is_never_put_back(phone: LocalPhone, old: str) -> None:
    phone.set("global.stay_on_while_plugged_in", old)
    prepared = prepare(phone, steps(Prepare(fixed_performance=False, screen="off")))
    assert sorted(prepared.done) == ["screen"]
    assert prepared.unsupported["stay_awake"].split() == old.split()
    assert undo(phone) == ["screen"]
    assert phone.setting("global.stay_on_while_plugged_in") == old
    assert list(phone.folder.rglob("pwned")) == []


def test_a_step_that_changes_nothing_is_no_success(phone: LocalPhone) -> None:
    step = Step(
        name="deaf", read="settings get global deaf", do="echo no", undo="settings delete global deaf", wanted="1"
    )
    assert prepare(phone, [step]).unsupported == {"deaf": "no"}
    assert undo(phone) == []


def test_nothing_wanted_costs_no_call(phone: LocalPhone) -> None:
    assert prepare(phone, steps(Prepare(fixed_performance=False, screen="leave"))).done == {}
    assert phone.calls == []


@pytest.mark.parametrize(
    ("serial", "radio"),
    [
        ("R58M123ABC", False),
        ("emulator-5570", False),
        ("127.0.0.1:15555", False),
        ("192.168.1.20:5555", True),
        ("[fe80::1]:5555", True),
        ("phone.local:37123", True),
        ("adb-R58M123ABC-x7Yz12._adb-tls-connect._tcp", True),
    ],
)
def test_a_phone_on_the_radio_is_never_put_into_airplane_mode(phone: LocalPhone, serial: str, radio: bool) -> None:
    assert over_radio(serial) is radio
    phone.serial = serial
    prepared = prepare(phone, [preparation.AIRPLANE, FIXED_PERFORMANCE])
    assert ("airplane" in prepared.done) is not radio
    assert "fixed_performance" in prepared.done
    if radio:
        assert "cut it off" in prepared.unsupported["airplane"]
        assert phone.setting("global.airplane_mode_on") is None
