"""Artifacts on a phone: pushed once, proven there, the least recently used evicted."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.android.local_phone import Cut, LocalPhone
from tests.unit.android.phone_runs import LIMIT, wanted_file
from workers.android.cache import MARGIN_BYTES, Kept, Room, ensure, read_room, victims
from workers.android.leftovers import clean
from workers.android.phone import Output, PhoneFullError, PhoneLostError
from workers.android.scripts import lines_of
from workers.errors import AttemptError


def kept_on(phone: LocalPhone) -> set[str]:
    return {path.name for path in (phone.root / "cache").iterdir() if not path.suffix}


def test_a_file_is_pushed_once_and_costs_one_call_afterwards(phone: LocalPhone, tmp_path: Path) -> None:
    files = [wanted_file(tmp_path, b"model"), wanted_file(tmp_path, b"inputs")]
    assert ensure(phone, files, LIMIT) == 11
    phone.calls.clear()
    assert ensure(phone, files, LIMIT) == 0
    assert phone.calls == ["run"]
    for file in files:
        assert Path(file.remote.replace("/data/local/tmp/benchfarm", str(phone.root))).read_bytes() == (
            file.local.read_bytes()
        )


@pytest.mark.parametrize("damage", [b"mod", b"madel", b""])
def test_a_damaged_file_is_pushed_again(phone: LocalPhone, tmp_path: Path, damage: bytes) -> None:
    file = wanted_file(tmp_path, b"model")
    ensure(phone, [file], LIMIT)
    there = phone.root / "cache" / file.sha256
    there.write_bytes(damage)
    phone.reboot()  # within one boot a file of the right size is believed
    assert ensure(phone, [file], LIMIT) == 5
    assert there.read_bytes() == b"model"


def test_a_digest_is_computed_once_for_each_boot(phone: LocalPhone, tmp_path: Path) -> None:
    file = wanted_file(tmp_path, b"model")
    ensure(phone, [file], LIMIT)
    proof = phone.root / "cache" / f"{file.sha256}.whole"
    first = proof.read_text()
    phone.reboot()
    assert ensure(phone, [file], LIMIT) == 0
    assert proof.read_text() != first


def test_a_push_that_is_cut_leaves_no_file_of_that_name(phone: LocalPhone, tmp_path: Path) -> None:
    file = wanted_file(tmp_path, b"model" * 1000)
    phone.cut = Cut(1, "inside")
    with pytest.raises(PhoneLostError):
        ensure(phone, [file], LIMIT)
    assert len(list((phone.root / "cache").iterdir())) == 1
    phone.cut = None
    assert clean(phone).half_files == 1
    assert list((phone.root / "cache").iterdir()) == []
    assert ensure(phone, [file], LIMIT) == 5000


def test_a_file_that_arrives_damaged_twice_is_told(phone: LocalPhone, tmp_path: Path) -> None:
    file = wanted_file(tmp_path, b"model")
    file.local.write_bytes(b"madel")
    with pytest.raises(AttemptError, match="arrived damaged") as caught:
        ensure(phone, [file], LIMIT)
    assert caught.value.code == "transfer_damaged"
    assert phone.calls.count("push") == 2
    assert list((phone.root / "cache").iterdir()) == []


def test_the_least_recently_used_goes_first(phone: LocalPhone, tmp_path: Path) -> None:
    old, used, new = (wanted_file(tmp_path, name * 1000) for name in (b"old", b"use", b"new"))
    ensure(phone, [old], LIMIT)
    ensure(phone, [used], LIMIT)
    for file, age in ((old, 100), (used, 200)):
        path = phone.root / "cache" / file.sha256
        os.utime(path, (path.stat().st_mtime - age,) * 2)
    ensure(phone, [used], LIMIT)
    ensure(phone, [new], limit_bytes=7000)
    assert kept_on(phone) == {used.sha256, new.sha256}
    assert len(list((phone.root / "cache").iterdir())) == 4


def test_what_the_job_needs_is_never_evicted_for_it(phone: LocalPhone, tmp_path: Path) -> None:
    first, second = wanted_file(tmp_path, b"a" * 3000), wanted_file(tmp_path, b"b" * 3000)
    ensure(phone, [first], LIMIT)
    ensure(phone, [first, second], limit_bytes=4000)
    assert kept_on(phone) == {first.sha256, second.sha256}


def test_a_full_phone_says_what_is_wanted_and_what_there_is(phone: LocalPhone, tmp_path: Path) -> None:
    file = wanted_file(tmp_path, b"x" * 5000)
    phone.set_capacity(MARGIN_BYTES // 2)
    with pytest.raises(PhoneFullError, match=r"0 MiB wanted and 256 MiB to stay free, but the phone has 12[78] MiB"):
        ensure(phone, [file], LIMIT)
    assert "push" not in phone.calls


def test_the_cache_gives_way_on_a_phone_that_runs_full(phone: LocalPhone, tmp_path: Path) -> None:
    wanted, other = wanted_file(tmp_path, b"w" * (2 << 20)), wanted_file(tmp_path, b"o" * (2 << 20))
    ensure(phone, [wanted, other], LIMIT)
    phone.set_capacity(MARGIN_BYTES + (3 << 20))
    assert ensure(phone, [wanted], LIMIT) == 0
    assert kept_on(phone) == {wanted.sha256}


def test_a_script_that_finds_no_room_says_so() -> None:
    with pytest.raises(PhoneFullError, match="taking the phone"):
        lines_of(Output(1, "", "sh: can't create id: No space left on device\n"), "taking the phone")


def test_a_phone_that_fills_up_meanwhile_keeps_no_half_file(phone: LocalPhone, tmp_path: Path) -> None:
    file = wanted_file(tmp_path, b"x" * 50_000)
    phone._capacity = 10_000  # other than what df says
    with pytest.raises(PhoneFullError):
        ensure(phone, [file], LIMIT)
    assert list((phone.root / "cache").iterdir()) == []


@pytest.mark.parametrize(
    "df",
    [
        "/dev/block/dm-5 112345678 90000000 1000 81% /data/user/0",
        "112345678 90000000 1000 81% /data",  # a long name of a device wraps the line
        "/dev/fuse 1 2 1000 100% /storage/emulated",
    ],
)
def test_room_is_read_from_the_end_of_the_line(df: str) -> None:
    assert read_room([f"df {df}"]).free_bytes == 1_024_000


def test_no_room_told_is_an_error() -> None:
    with pytest.raises(AttemptError, match="does not say how much room"):
        read_room(["df", "df sh: df: inaccessible or not found"])


DIGESTS = st.text("0123456789abcdef", min_size=64, max_size=64)


@given(st.lists(st.text()))
def test_any_text_at_all_is_read_or_refused(lines: list[str]) -> None:
    try:
        room = read_room(lines)
    except AttemptError:
        return
    assert room.free_bytes >= 0


@given(
    kept=st.dictionaries(DIGESTS, st.tuples(st.integers(0, 1 << 32), st.integers(0, 99)), max_size=12),
    free=st.integers(0, 1 << 33),
    need=st.integers(0, 1 << 33),
    limit=st.integers(0, 1 << 33),
    kept_back=st.integers(0, 3),
)
def test_no_more_is_evicted_than_it_takes(
    kept: dict[str, tuple[int, int]], free: int, need: int, limit: int, kept_back: int
) -> None:
    room = Room(
        free_bytes=free,
        kept=tuple(Kept(sha256=name, bytes=size, last_used=used) for name, (size, used) in kept.items()),
    )
    keep = set(list(kept)[:kept_back])
    sizes = {name: size for name, (size, _) in kept.items()}
    try:
        gone = victims(room, need, limit, keep)
    except PhoneFullError:
        assert free + sum(size for name, size in sizes.items() if name not in keep) < need + MARGIN_BYTES
        return
    assert not keep & set(gone)
    assert free + sum(sizes[name] for name in gone) >= need + MARGIN_BYTES
    held = sum(sizes.values()) - sum(sizes[name] for name in gone)
    assert held + need <= limit or set(gone) | keep == set(sizes)
    if gone:
        # Without the last one it would not have fitted.
        fewer = gone[:-1]
        fits = free + sum(sizes[name] for name in fewer) >= need + MARGIN_BYTES
        assert not (fits and sum(sizes.values()) - sum(sizes[name] for name in fewer) + need <= limit)
    age = [kept[name][1] for name in gone]
    assert age == sorted(age)
    spared = [kept[name][1] for name in sizes if name not in gone and name not in keep]
    assert not gone or all(used >= age[-1] for used in spared)
