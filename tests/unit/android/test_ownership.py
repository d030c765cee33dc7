"""Whose a phone is: one call where it is nobody's, and whoever lives keeps it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.android.local_phone import LocalPhone
from tests.unit.children import sleeper, started_of
from workers.android import ownership, preparation
from workers.android.leftovers import clean
from workers.devices.cpu import machine_key
from workers.errors import AttemptError


def owner(phone: LocalPhone) -> Path:
    return phone.root / "owner"


def test_what_is_nobodys_is_taken_in_one_call_and_given_back_when_it_is_clean(phone: LocalPhone) -> None:
    for _ in range(2):
        before = len(phone.calls)
        ownership.take(phone)
        assert len(phone.calls) == before + 1
    assert owner(phone).read_text().split()[0] == machine_key()
    clean(phone)
    assert owner(phone).exists()
    clean(phone, release=True)
    assert not owner(phone).exists()


def test_what_somebody_else_has_is_left_to_him_as_long_as_he_lives(phone: LocalPhone) -> None:
    ownership.take(phone)
    with sleeper() as other:
        owner(phone).write_text(f"{machine_key()} {other.pid} {started_of(other.pid)!r}\n")
        for ask in (ownership.take, ownership.refuse_owned):
            with pytest.raises(AttemptError, match=f"process {other.pid} of this host is at work") as caught:
                ask(phone)
            assert caught.value.code == "phone_in_use"
    ownership.refuse_owned(phone)
    ownership.take(phone)
    assert str(other.pid) not in owner(phone).read_text().split()


def test_what_cannot_be_cleaned_stays_whose_it_is(phone: LocalPhone) -> None:
    ownership.take(phone)
    preparation.prepare(phone, [preparation.FIXED_PERFORMANCE])
    phone.set("no_fixed_performance", "")
    with pytest.raises(AttemptError, match="could not be undone"):
        clean(phone, release=True)
    assert owner(phone).exists()
