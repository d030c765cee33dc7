"""`benchfarm notifications` and `benchfarm sweep digest` as typed, on an embedded farm whose service is not up."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert

from benchfarm.__main__ import main
from device_registry.database import insert_row, writing
from device_registry.tables import utc_now
from scheduler.farm import Farm
from scheduler.home import Home
from scheduler.notifications.outbox import PATIENCE, notifications, tell_trouble
from scheduler.queue import sweep_runs
from tests.unit.notifiers.receiver import Answer, Receiver


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    def type_(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["benchfarm", *arguments])
        code = 0
        try:
            main()
        except SystemExit as ended:
            code = int(ended.code or 0)
        said = capsys.readouterr()
        return code, said.out, said.err

    return type_


@pytest.fixture
def farm(home: Path, receiver: Receiver) -> Farm:
    """A farm with a channel."""
    home.mkdir()
    (home / "notifications.toml").write_text(
        f'[channels.team]\nkind = "webhook"\nurl = "{receiver.url}"\n'
        '[channels.notes]\nkind = "markdown"\nfolder = "n"\n'
    )
    made = Farm(Home(home, f"sqlite:///{home / 'benchfarm.db'}", f"file://{home / 'artifacts'}"))
    yield made
    made.engine.dispose()


def test_a_test_goes_to_every_channel_and_says_what_came_of_it(
    typed: Any, farm: Farm, receiver: Receiver, home: Path
) -> None:
    code, out, _ = typed("notifications", "test", "--json")
    told = {one["channel"]: one["error"] for one in json.loads(out)}
    assert (code, told) == (0, {"team": None, "notes": None})
    assert json.loads(receiver.got[0].body)["event"] == "test"
    assert "A test of this channel" in (home / "n" / "incidents.md").read_text()
    receiver.usual = Answer(403)
    code, out, _ = typed("notifications", "test", "team")
    assert code == 1
    assert "127.0.0.1 answers 403" in out
    assert "s3cr3t" not in out
    assert typed("notifications", "test", "--dry-run")[0] == 0
    assert len(receiver.got) == 2
    code, _, err = typed("notifications", "test", "pager")
    assert (code, err) == (2, "benchfarm: there is no channel pager in notifications.toml; it has: team, notes\n")


def test_wrong_settings_are_one_sentence(typed: Any, farm: Farm, home: Path) -> None:
    (home / "notifications.toml").write_text("[channels.team]\nkind = 'webhook'\n")
    code, _, err = typed("notifications", "test")
    assert (code, err.count("\n")) == (2, 1)
    assert "channel team: give one of url, url_env and url_file" in err


def test_what_was_given_up_is_listed_and_tried_again(typed: Any, farm: Farm, receiver: Receiver) -> None:
    now = utc_now()
    row = {"channel": "team", "key": "trouble/x", "kind": "trouble", "state": "given_up", "tries": 9, "error": "down"}
    document = {"title": "no run", "text": "why"}
    with writing(farm.engine) as connection:
        late = now - PATIENCE
        connection.execute(insert(notifications).values(**row, document=document, give_up_at=late, created_at=late))
    code, out, _ = typed("notifications", "list", "--state", "given_up", "--json")
    [listed] = json.loads(out)
    assert (code, listed["channel"], listed["tries"], listed["error"]) == (0, "team", 9, "down")
    assert "given_up" in typed("notifications", "list")[1]
    code, out, _ = typed("notifications", "retry", "1")
    assert (code, out) == (0, "message 1 for team: sent\n")
    assert json.loads(receiver.got[0].body)["text"] == "no run. why"
    assert typed("notifications", "retry") == (0, "no message failed\n", "")
    assert typed("notifications", "retry", "1")[0] == 2


def test_a_retry_that_fails_says_so(typed: Any, farm: Farm, receiver: Receiver) -> None:
    receiver.usual = Answer(500)
    with writing(farm.engine) as connection:
        tell_trouble(connection, key="x", title="t", text="x", now=utc_now())
    assert typed("notifications", "retry")[1] == "no message failed\n"  # it was never tried
    farm_now = ("notifications", "list", "--json")
    assert json.loads(typed(*farm_now)[1])[0]["channel"] is None


def test_a_run_of_the_farms_own_has_no_digest(typed: Any, farm: Farm) -> None:
    with writing(farm.engine) as connection:
        row = {"request": {}, "request_digest": "r", "unsupported": [], "owner": "farm", "created_at": utc_now()}
        insert_row(connection, sweep_runs, purpose="confirmation", **row)
    code, out, err = typed("sweep", "digest", "1", "--json")
    assert (code, out) == (2, "")
    assert err == (
        "benchfarm: run 1 is no run of a sweep: the farm made it by itself (confirmation); "
        "benchfarm jobs list --run 1 shows it\n"
    )


def test_a_digest_in_every_form(typed: Any, farm: Farm) -> None:
    with writing(farm.engine) as connection:
        insert_row(
            connection,
            sweep_runs,
            request={},
            request_digest="r",
            unsupported=[],
            owner="ada",
            created_at=utc_now(),
            sweep="nightly",
            watched=True,
        )
    assert typed("sweep", "digest", "1")[1].startswith("sweep nightly, run 1: nothing changed\n")
    assert typed("sweep", "digest", "1", "--markdown")[1].startswith("# sweep nightly, run 1: nothing changed\n")
    assert json.loads(typed("sweep", "digest", "1", "--json")[1])["quiet"] is True
    assert typed("sweep", "digest", "2")[::2] == (2, "benchfarm: there is no run 2; see benchfarm sweep list\n")
