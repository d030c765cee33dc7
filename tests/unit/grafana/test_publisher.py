"""The publisher against a Grafana that is played over HTTP: what it sends, when it tries again, what it says."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboards.documents import documents
from device_registry.errors import BenchfarmError, UsageError
from exporters.grafana import FOLDER, GrafanaError, Publisher, TokenRefusedError, read_token
from tests.unit.grafana.fake_grafana import TOKEN, Answer, FakeGrafana, saying

BOARDS: list[Mapping[str, Any]] = [{"uid": uid, "title": f"board {uid}", "panels": [], "version": 1} for uid in "ab"]
BROKEN: Answer = (0, b"", {})


@pytest.fixture
def grafana() -> Iterator[FakeGrafana]:
    server = FakeGrafana()
    yield server
    server.close()


@pytest.fixture
def pauses() -> list[float]:
    """How long was waited between tries."""
    return []


@pytest.fixture
def publisher(grafana: FakeGrafana, pauses: list[float]) -> Publisher:
    return Publisher(grafana.url, TOKEN, pause=pauses.append)


def outcomes(publisher: Publisher, boards: list[Mapping[str, Any]] = BOARDS, **options: bool) -> list[str]:
    return [one.outcome for one in publisher.publish(boards, **options)]


def test_what_is_not_there_is_created_in_its_folder(grafana: FakeGrafana, publisher: Publisher) -> None:
    assert outcomes(publisher) == ["created", "created"]
    assert grafana.folders == {FOLDER: FOLDER}
    assert grafana.folder_of == {"a": FOLDER, "b": FOLDER}
    assert set(grafana.authorisations) == {f"Bearer {TOKEN}"}


def test_the_real_dashboards_are_the_same_the_second_time(grafana: FakeGrafana, publisher: Publisher) -> None:
    assert set(outcomes(publisher, documents())) == {"created"}
    before = len(grafana.writes)
    assert set(outcomes(publisher, documents())) == {"unchanged"}
    assert len(grafana.writes) == before


def test_only_what_differs_is_written(grafana: FakeGrafana, publisher: Publisher) -> None:
    outcomes(publisher)
    grafana.dashboards["b"]["title"] = "somebody's"
    assert outcomes(publisher) == ["unchanged", "updated"]
    assert grafana.dashboards["b"]["title"] == "board b"
    assert grafana.dashboards["b"]["version"] == 2


def test_what_lies_in_another_folder_is_moved(grafana: FakeGrafana, publisher: Publisher) -> None:
    outcomes(publisher)
    grafana.folder_of["a"] = "elsewhere"
    assert outcomes(publisher) == ["updated", "unchanged"]
    assert grafana.folder_of["a"] == FOLDER


def test_a_dry_run_only_looks(grafana: FakeGrafana, publisher: Publisher) -> None:
    assert outcomes(publisher, dry_run=True) == ["created", "created"]
    assert grafana.writes == []
    outcomes(publisher)
    grafana.dashboards["a"]["title"] = "somebody's"
    before = len(grafana.writes)
    assert outcomes(publisher, dry_run=True) == ["updated", "unchanged"]
    assert len(grafana.writes) == before


def test_it_may_be_served_under_a_path(pauses: list[float]) -> None:
    server = FakeGrafana(prefix="/monitoring/grafana")
    try:
        assert outcomes(Publisher(f"{server.url}/", TOKEN, pause=pauses.append)) == ["created", "created"]
    finally:
        server.close()


@pytest.mark.parametrize("wrong", [saying(500), saying(503), (502, b"<html>message</html>", {}), saying(429), BROKEN])
def test_what_passes_is_tried_again(
    grafana: FakeGrafana, publisher: Publisher, pauses: list[float], wrong: Answer
) -> None:
    grafana.wrong.extend([wrong, wrong])
    assert outcomes(publisher) == ["created", "created"]
    assert pauses == sorted(pauses)
    assert len(pauses) == 2


def test_a_write_whose_answer_got_lost_is_found_done(grafana: FakeGrafana, publisher: Publisher) -> None:
    """It is written, then the answer is an error: the second try finds another version, and looks."""
    save = grafana.save
    answers = [saying(500)]

    def lose(body: dict[str, Any]) -> Answer:
        told = save(body)
        return answers.pop() if answers else told

    grafana.save = lose  # type: ignore[method-assign]
    assert outcomes(publisher) == ["created", "created"]
    assert [board["version"] for board in grafana.dashboards.values()] == [1, 1]


def test_what_stays_wrong_is_told_after_a_few_tries(
    grafana: FakeGrafana, publisher: Publisher, pauses: list[float]
) -> None:
    grafana.wrong.extend([saying(500, "database is locked")] * 9)
    with pytest.raises(GrafanaError, match="answers 500: database is locked") as error:
        outcomes(publisher)
    assert error.value.exit_code == 1
    assert len(grafana.requests) == len(pauses) + 1 == 4


@pytest.mark.parametrize(("status", "said"), [(401, "refuses the token"), (403, "may not do this")])
def test_a_refused_token_is_one_sentence_and_not_tried_again(
    grafana: FakeGrafana, publisher: Publisher, status: int, said: str
) -> None:
    grafana.wrong.append(saying(status, "Permission denied"))
    with pytest.raises(TokenRefusedError, match=said) as error:
        outcomes(publisher)
    assert error.value.exit_code == 2
    assert TOKEN not in str(error.value)
    assert len(grafana.requests) == 1


def test_a_wrong_token_is_refused(grafana: FakeGrafana) -> None:
    with pytest.raises(TokenRefusedError):
        outcomes(Publisher(grafana.url, "glsa_other"))


def test_a_change_of_somebody_elses_is_looked_at_again(grafana: FakeGrafana, publisher: Publisher) -> None:
    outcomes(publisher)
    grafana.dashboards["a"]["title"] = "somebody's"
    faster = [5]

    def meanwhile() -> None:
        if faster:
            grafana.dashboards["a"]["version"] = faster.pop()

    grafana.meanwhile = meanwhile
    assert outcomes(publisher) == ["updated", "unchanged"]
    assert grafana.dashboards["a"]["version"] == 6


def test_who_keeps_changing_it_is_not_overwritten(grafana: FakeGrafana, publisher: Publisher) -> None:
    outcomes(publisher)
    grafana.dashboards["a"]["title"] = "somebody's"

    def meanwhile() -> None:
        grafana.dashboards["a"]["version"] += 1

    grafana.meanwhile = meanwhile
    with pytest.raises(GrafanaError, match="somebody else changes 'board a'") as error:
        outcomes(publisher)
    assert error.value.exit_code == 1
    assert grafana.dashboards["a"]["title"] == "somebody's"


def test_a_folder_that_somebody_made_meanwhile_will_do(grafana: FakeGrafana, publisher: Publisher) -> None:
    grafana.folders[FOLDER] = FOLDER
    grafana.wrong.append(saying(404))
    assert outcomes(publisher) == ["created", "created"]


def test_an_empty_answer_is_an_answer(grafana: FakeGrafana, publisher: Publisher) -> None:
    grafana.wrong.extend([saying(404), (204, b"", {}), saying(404), (204, b"", {})])
    assert outcomes(publisher) == ["created", "created"]


@pytest.mark.parametrize(
    "body", [b"<html>sign in</html>", b"\xff\xfe\x00", b"[1, 2]", b'"message"', b"12", b'{"dashboard": {']
)
def test_what_is_no_grafana_is_told(grafana: FakeGrafana, publisher: Publisher, body: bytes) -> None:
    grafana.wrong.append((200, body, {}))
    with pytest.raises(UsageError, match="is no Grafana"):
        outcomes(publisher)


@pytest.mark.parametrize("body", [b"message", b"<html>message</html>", b"\xff\xfe", b"", b'["message"]'])
def test_a_refusal_that_is_no_document_is_told(grafana: FakeGrafana, publisher: Publisher, body: bytes) -> None:
    """grafana-api looks for a message in whatever came, and trips over text."""
    grafana.wrong.append((418, body, {}))
    with pytest.raises(GrafanaError, match="answers 418"):
        outcomes(publisher)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_told_and_the_token_stays_here(grafana: FakeGrafana, publisher: Publisher, status: int) -> None:
    other = FakeGrafana()
    try:
        grafana.wrong.append((status, b"", {"Location": f"{other.url}/api/folders/benchfarm"}))
        with pytest.raises(UsageError, match="sends on to"):
            outcomes(publisher)
        assert other.requests == []
    finally:
        other.close()


def test_nobody_there_is_told(pauses: list[float]) -> None:
    with socket.socket() as taken:  # bound, and nobody listens
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(GrafanaError, match="cannot be reached") as error:
            outcomes(Publisher(url, TOKEN, pause=pauses.append))
    assert error.value.exit_code == 1
    assert len(pauses) == 3


def test_a_server_that_never_answers_is_given_up(pauses: list[float]) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(GrafanaError, match="does not answer in time"):
            outcomes(Publisher(url, TOKEN, pause=pauses.append, timeout_s=0.05))


@pytest.mark.parametrize(
    "url",
    ["", "grafana", "ftp://grafana", "http://", "http://grafana:port", "http://grafana/?org=1", "file:///etc/passwd"],
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="no address of a Grafana"):
        Publisher(url, TOKEN)


def test_a_password_in_the_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(UsageError) as error:
        Publisher("http://admin:secret@grafana", TOKEN)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("text", ["", " \n", "two words", "two\nlines", "t\u00f6ken", "bell\x07"])
def test_what_cannot_be_a_token_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(UsageError) as error:
        read_token(text)
    assert not text.strip() or text not in str(error.value)


def test_a_token_may_end_in_a_line() -> None:
    assert read_token(f"{TOKEN}\n") == TOKEN


@pytest.fixture(scope="module")
def played() -> Iterator[FakeGrafana]:
    """One for many examples."""
    server = FakeGrafana()
    yield server
    server.close()


@given(body=st.binary(max_size=64), status=st.sampled_from([200, 204, 400, 404, 409, 422, 500]))
def test_whatever_is_answered_ends_in_a_sentence(played: FakeGrafana, body: bytes, status: int) -> None:
    played.wrong.clear()
    played.wrong.extend([(status, b"" if status == 204 else body, {})] * 40)
    said = "done"
    try:
        Publisher(played.url, TOKEN, pause=lambda _: None).publish(BOARDS)
    except BenchfarmError as error:
        said = str(error)
    assert said.isprintable()
    assert TOKEN not in said
