"""Webhooks: signed, keyed, never followed elsewhere; whatever goes wrong is told without a secret."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporters.notifiers.channel import DeliveryError
from exporters.notifiers.links import Links
from exporters.notifiers.secrets import Secret
from exporters.notifiers.signature import SIGNATURE_HEADER, TIME_HEADER, sign
from exporters.notifiers.webhook import Webhook
from tests.unit.notifiers.documents import incident_document, message
from tests.unit.notifiers.receiver import Answer, Receiver

_SECRET = "k3y-0f-th3-t34m"
_NOW = 1_790_000_000.5
#: What the page tells receivers to do.
_PAGE = (Path(__file__).parents[3] / "docs" / "notifications.md").read_text(encoding="utf-8")
_DOCUMENTED: dict[str, Any] = {}
exec(_PAGE.split("### Is it genuine?")[1].split("```python")[1].split("```")[0], _DOCUMENTED)  # ours
_OPENED = message("incident.opened", incident_document())


def _webhook(url: str, secret: Secret | None = None, **options: Any) -> Webhook:
    tells = frozenset({"incident", "digest"})
    return Webhook(
        name="team",
        url=url,
        tells=tells,
        links=Links(),
        secret=secret,
        clock=lambda: _NOW,
        timeouts_s=(1, 0.3),
        **options,
    )


@pytest.fixture
def secret(tmp_path: Path) -> Secret:
    """A secret in a file."""
    file = tmp_path / "webhook.secret"
    file.write_text(_SECRET + "\n")
    file.chmod(0o600)
    return Secret(file=file)


def _why(webhook: Webhook) -> DeliveryError:
    with pytest.raises(DeliveryError) as caught:
        webhook.send(_OPENED)
    return caught.value


def test_a_message_is_signed_over_its_time_and_body(receiver: Receiver, secret: Secret) -> None:
    assert _webhook(receiver.url, secret).send(_OPENED) is None
    [got] = receiver.got
    timestamp = got.headers["Benchfarm-Timestamp"]
    assert timestamp == "1790000000"
    wanted = hmac.new(_SECRET.encode(), timestamp.encode() + b"." + got.body, hashlib.sha256).hexdigest()
    assert got.headers["Benchfarm-Signature"] == f"v1={wanted}"
    body = json.loads(got.body)
    assert body["idempotency_key"] == got.headers["Idempotency-Key"] == _OPENED.idempotency_key
    assert (body["event"], got.headers["Benchfarm-Event"]) == ("incident.opened", "incident.opened")
    assert (
        body["text"]
        == "Regression: mobilenet_v3_small is 8 % slower on pixel-3. Incident 12: 8.0 % slower (+6.1 to +10.2 %)."
    )
    assert body["document"] == incident_document()
    assert _SECRET not in str(got)


def test_another_try_is_the_same_body_and_key(receiver: Receiver) -> None:
    receiver.wrong.append(Answer(503))
    webhook = _webhook(receiver.url)
    _why(webhook)
    webhook.send(message("incident.opened", incident_document(), attempt=2))
    first, second = receiver.got
    assert (first.body, first.headers["Idempotency-Key"]) == (second.body, second.headers["Idempotency-Key"])
    other = message("incident.opened", incident_document(), created_at=datetime(2026, 1, 1, tzinfo=UTC))
    assert other.idempotency_key != _OPENED.idempotency_key  # of another farm


@given(body=st.binary(max_size=50), late=st.integers(-1000, 1000), key=st.text("abc", min_size=1, max_size=3))
def test_what_is_changed_old_or_signed_by_another_is_not_genuine(body: bytes, late: int, key: str) -> None:
    def is_genuine(secret: str, timestamp: str, signature: str, body: bytes, *, now: float) -> bool:
        headers = {TIME_HEADER: timestamp, SIGNATURE_HEADER: signature}
        return bool(_DOCUMENTED["is_genuine"](secret.encode(), headers, body, now))

    signature = sign(_SECRET, 1000, body)
    assert is_genuine(_SECRET, "1000", signature, body, now=1000 + late) == (abs(late) <= 300)
    assert not is_genuine(key, "1000", signature, body, now=1000)
    assert not is_genuine(_SECRET, "1001", signature, body, now=1000)
    assert not is_genuine(_SECRET, "1000", signature, body + b" ", now=1000)
    assert not is_genuine(_SECRET, "ten", signature, body, now=1000)
    assert not is_genuine(_SECRET, "1000", "v1=ä", body, now=1000)


@pytest.mark.parametrize(
    ("answer", "why", "away"),
    [
        (Answer(500), "127.0.0.1 answers 500", True),
        (Answer(429), "127.0.0.1 answers 429", True),
        (Answer(404, body=b"no_service"), "127.0.0.1 answers 404: no_service", False),
        (Answer(400, body=b"<html>token=abc"), "127.0.0.1 answers 400", False),
        (Answer(0), "127.0.0.1 cannot be reached: the connection was refused or lost", True),
        (Answer(hang=True), "127.0.0.1 does not answer in time", True),
    ],
)
def test_what_goes_wrong_is_told_without_the_path(receiver: Receiver, answer: Answer, why: str, away: bool) -> None:
    receiver.wrong.append(answer)
    error = _why(_webhook(receiver.url))
    assert (str(error), error.away) == (why, away)


def test_nobody_listens(receiver: Receiver) -> None:
    receiver.close()
    error = _why(_webhook(receiver.url))
    assert str(error) == "127.0.0.1 cannot be reached: the connection was refused or lost"


@pytest.mark.parametrize(
    ("asked", "seconds"),
    [
        ("120", 120.0),
        ("x", None),
        ("-5", None),
        ("9" * 400, 999_999_999.0),
        ("Mon, 01 Jan 2030 00:00:00 +99999999999999", None),
    ],
)
def test_a_receiver_may_ask_for_time(receiver: Receiver, asked: str, seconds: float | None) -> None:
    receiver.wrong.append(Answer(429, {"Retry-After": asked}))
    assert _why(_webhook(receiver.url)).asked_s == seconds


def test_a_host_that_is_no_name_is_a_sentence() -> None:
    assert str(_why(_webhook("http://a..b/secret"))) == "a..b cannot be asked: LocationParseError"


def test_a_receiver_may_ask_for_time_by_a_date(receiver: Receiver) -> None:
    later = datetime.now(UTC) + timedelta(hours=1)
    receiver.wrong.append(Answer(503, {"Retry-After": format_datetime(later, usegmt=True)}))
    assert _why(_webhook(receiver.url)).asked_s == pytest.approx(3600, abs=60)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_is_followed(make_receiver: Callable[[], Receiver], status: int) -> None:
    there, elsewhere = make_receiver(), make_receiver()
    there.wrong.append(Answer(status, {"Location": elsewhere.url}))
    error = _why(_webhook(there.url))
    assert str(error) == "127.0.0.1 sends on to another address, which is not followed: give that one"
    assert elsewhere.got == []


def test_an_answer_that_is_cut_off_after_its_status_is_a_receipt(receiver: Receiver) -> None:
    receiver.wrong.append(Answer(200, cut=True))
    _webhook(receiver.url).send(_OPENED)
    assert len(receiver.got) == 1


def test_no_password_of_a_netrc_goes_along(receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password hunter2\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    _webhook(receiver.url).send(_OPENED)
    assert "Authorization" not in receiver.got[0].headers


def test_secrets_that_cannot_be_had_are_told_by_their_place(
    receiver: Receiver, secret: Secret, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert secret.file is not None
    secret.file.chmod(0o640)
    assert f"others can read the file {secret.file}: chmod 600" in str(_why(_webhook(receiver.url, secret)))
    secret.file.unlink()
    assert "cannot be read: No such file" in str(_why(_webhook(receiver.url, secret)))
    monkeypatch.setenv("TEAM_SECRET", "two words")
    why = str(_why(_webhook(receiver.url, Secret(variable="TEAM_SECRET"))))
    assert why == "the secret in the variable TEAM_SECRET is not one line of printable characters without spaces"
    monkeypatch.delenv("TEAM_SECRET")
    why = str(_why(_webhook(receiver.url, Secret(variable="TEAM_SECRET"))))
    assert why == "the variable TEAM_SECRET is not set where the farm runs"
    assert receiver.got == []


def test_slack_gets_blocks(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLACK_URL", receiver.url)
    webhook = Webhook(
        name="slack", url=Secret(variable="SLACK_URL"), tells=frozenset({"digest"}), links=Links(), body="slack"
    )
    webhook.send(_OPENED)
    body = json.loads(receiver.got[0].body)
    assert set(body) == {"text", "blocks"}
    assert [webhook.wants(kind) for kind in ("digest", "incident.opened", "test")] == [True, False, True]
    assert webhook.warnings() == []


def test_plain_http_to_elsewhere_and_no_secret_are_warned_of() -> None:
    far, near = _webhook("http://hooks.example.org/path"), _webhook("http://127.0.0.1:9/path")
    unsigned = "without a secret its receiver cannot know who sent a message"
    assert far.warnings() == [
        "what goes to hooks.example.org by plain http can be read and changed on its way",
        unsigned,
    ]
    assert near.warnings() == [unsigned]
