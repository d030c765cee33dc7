"""`benchfarm grafana` as typed."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchfarm.__main__ import main
from benchfarm.cli.grafana import TOKEN_VARIABLE
from dashboards.documents import texts
from tests.unit.grafana.fake_grafana import TOKEN, FakeGrafana


@pytest.fixture
def grafana() -> Iterator[FakeGrafana]:
    server = FakeGrafana()
    yield server
    server.close()


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> object:
    def type_(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["benchfarm", "grafana", *arguments])
        code = 0
        try:
            main()
        except SystemExit as ended:
            code = int(ended.code or 0)
        said = capsys.readouterr()
        return code, said.out, said.err

    return type_


@pytest.fixture
def token_file(tmp_path: Path) -> str:
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n")
    return str(path)


def test_export_writes_every_dashboard(typed, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    code, out, _ = typed("export", str(tmp_path / "new"), "--json")
    assert code == 0
    assert all(one["changed"] for one in json.loads(out))
    assert {path.name: path.read_text() for path in (tmp_path / "new").iterdir()} == texts()
    code, out, _ = typed("export", str(tmp_path / "new"))
    assert code == 0
    assert out.count("(unchanged)") == len(texts())


def test_publish_takes_the_token_from_a_file(typed, grafana: FakeGrafana, token_file: str) -> None:  # type: ignore[no-untyped-def]
    command = ("publish", "--url", grafana.url, "--token-file", token_file)
    code, out, _ = typed(*command, "--dry-run")
    assert (code, out.count("would be created")) == (0, len(texts()))
    assert grafana.writes == []
    code, out, _ = typed(*command, "--json")
    assert code == 0
    assert {one["outcome"] for one in json.loads(out)} == {"created"}
    code, out, _ = typed(*command)
    assert (code, out.count(": unchanged")) == (0, len(texts()))


def test_publish_takes_the_token_from_the_environment(  # type: ignore[no-untyped-def]
    typed, grafana: FakeGrafana, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, TOKEN)
    assert typed("publish", "--url", grafana.url)[0] == 0


def test_a_refused_token_exits_with_2_and_is_not_told(  # type: ignore[no-untyped-def]
    typed, grafana: FakeGrafana, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TOKEN_VARIABLE, "glsa_stale")
    code, out, err = typed("publish", "--url", grafana.url)
    assert code == 2
    assert err.count("\n") == 1
    assert "refuses the token" in err
    assert "glsa_stale" not in out + err


@pytest.mark.parametrize(
    ("options", "said"),
    [((), "no token"), (("--token-file", "/nowhere"), "cannot read the token file"), (("--token-file", "."), "cannot")],
)
def test_without_a_token_nothing_is_sent(  # type: ignore[no-untyped-def]
    typed, grafana: FakeGrafana, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], said: str
) -> None:
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    code, _, err = typed("publish", "--url", grafana.url, *options)
    assert code == 2
    assert said in err
    assert grafana.requests == []


def test_without_the_extra_it_says_what_to_install(  # type: ignore[no-untyped-def]
    typed, grafana: FakeGrafana, token_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "grafana_api", None)
    monkeypatch.setitem(sys.modules, "grafana_api.grafana_face", None)
    code, _, err = typed("publish", "--url", grafana.url, "--token-file", token_file)
    assert code == 2
    assert "benchfarm[grafana]" in err
