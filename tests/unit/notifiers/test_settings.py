"""notifications.toml: what it may say, and the one sentence for everything else, which repeats no value."""

from __future__ import annotations

from pathlib import Path

import pytest

from exporters.notifiers.grafana_annotations import GrafanaAnnotations
from exporters.notifiers.markdown import MarkdownFolder
from exporters.notifiers.settings import SettingsError, read_settings
from exporters.notifiers.webhook import Webhook
from scheduler.home import Home

_GOOD = """
[links]
grafana = "https://grafana.example.org/"

[channels.team]
kind = "webhook"
url = "https://hooks.example.org/benchfarm"
secret_file = "webhook.secret"
tells = ["incidents", "trouble"]

[channels.slack]
kind = "webhook"
body = "slack"
url_env = "SLACK_URL"

[channels.notes]
kind = "markdown"
folder = "notes"

[channels.marks]
kind = "grafana"
url = "https://grafana.example.org"
token_env = "BENCHFARM_GRAFANA_TOKEN"
"""


def _home(folder: Path, text: str | None) -> Home:
    folder.mkdir(exist_ok=True)
    if text is not None:
        (folder / "notifications.toml").write_text(text)
    return Home(path=folder, database_url="", store_url="")


def test_without_a_file_nobody_is_told(tmp_path: Path) -> None:
    assert read_settings(_home(tmp_path / "data", None)).channels == {}


def test_every_kind_of_channel(tmp_path: Path) -> None:
    settings = read_settings(_home(tmp_path / "data", _GOOD))
    assert settings.links.grafana == "https://grafana.example.org"
    team, slack, notes, marks = settings.channels.values()
    assert isinstance(team, Webhook)
    assert team.secret is not None
    assert team.secret.file == tmp_path / "data" / "webhook.secret"
    assert [team.wants(kind) for kind in ("incident.opened", "digest", "trouble")] == [True, False, True]
    assert isinstance(slack, Webhook)
    assert (slack.body, slack.wants("digest")) == ("slack", True)
    assert isinstance(notes, MarkdownFolder)
    assert notes.folder == tmp_path / "data" / "notes"
    assert isinstance(marks, GrafanaAnnotations)
    assert [marks.wants(kind) for kind in ("incident.resolved", "digest")] == [True, False]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[channels.a\n", "(at line 1, column 12)"),
        ("chanels = 1", "it: unknown key chanels"),
        ("[channels]\na = 1", "channel a must be a table, [channels.a]"),
        ("[channels.'A b']\nkind = 'webhook'", "names of channels are small letters, digits, - and _, fifty at most"),
        ("[channels.a]\nkind = 'pager'", "channel a: kind must be one of webhook, markdown, grafana"),
        ("[channels.a]\nkind = 'webhook'", "channel a: give one of url, url_env and url_file"),
        (
            "[channels.a]\nkind = 'webhook'\nurl = 'http://h'\ntells = [['digests']]",
            "channel a: tells is a list of incidents, digests, trouble",
        ),
        (
            '[channels.a]\nkind = "markdown"\nfolder = "a\\u0000b"',
            "channel a: folder holds a character that cannot be printed",
        ),
        ("[channels.a]\nkind = 'webhook'\nurl = 5", "channel a: url must be a text"),
        (
            "[channels.a]\nkind = 'webhook'\nurl = 'ftp://x/s3cr3t'",
            "must begin with https:// or http:// and name a host",
        ),
        ("[channels.a]\nkind = 'webhook'\nurl = 'https://me:s3cr3t@x/'", "must hold no user and no password"),
        ("[channels.a]\nkind = 'webhook'\nurl = 'https://x:s3cr3t/'", "its url is no address"),
        ("[channels.a]\nkind = 'webhook'\nurl = 'https://x'\nurl_env = 'U'", "give one of url, url_env and url_file"),
        ("[channels.a]\nkind = 'webhook'\nurl = 'https://x'\nbody = 'teams'", "body must be benchfarm or slack"),
        (
            "[channels.a]\nkind = 'webhook'\nurl = 'https://x'\nsecret = 's3cr3t'",
            "secret does not belong here: name a file that has it, secret_file",
        ),
        ("[channels.a]\nkind = 'webhook'\nurl = 'https://x'\nsecrets = 's3cr3t'", "channel a: unknown key secrets"),
        (
            "[channels.a]\nkind = 'webhook'\nurl = 'https://x'\ntells = ['news']",
            "tells is a list of incidents, digests, trouble",
        ),
        ("[channels.a]\nkind = 'markdown'", "channel a: folder is missing"),
        ("[channels.a]\nkind = 'grafana'\nurl = 'https://x'", "url and one of token_env and token_file are needed"),
        ("[links]\ngrafana = 'x'", "links: its url must begin with"),
    ],
)
def test_what_is_wrong_is_one_sentence(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read_settings(_home(tmp_path / "data", text))
    assert why in str(caught.value)
    assert "s3cr3t" not in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path / "data" / "notifications.toml"))


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    home = _home(tmp_path / "data", None)
    (home.path / "notifications.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match="cannot be read: it is not text"):
        read_settings(home)
