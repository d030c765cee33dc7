"""notifications.toml in the data directory: which channels there are. Secrets are not in it, only where they are."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from device_registry.errors import UsageError
from exporters.notifiers.channel import Channel, DeliveryError
from exporters.notifiers.grafana_annotations import GrafanaAnnotations
from exporters.notifiers.links import Links
from exporters.notifiers.markdown import MarkdownFolder
from exporters.notifiers.secrets import Secret
from exporters.notifiers.webhook import Webhook, checked
from scheduler.home import Home

NAME: Final = "notifications.toml"
_MOST_CHANNELS = 50
#: Names of channels are labels of a metric.
_CHANNEL = re.compile(r"[a-z0-9][a-z0-9_-]{0,49}\Z")
#: What a channel may be told: incidents, digests of sweep runs, and what the farm could not do.
_TELLS = {"incidents": "incident", "digests": "digest", "trouble": "trouble"}


class SettingsError(UsageError):
    """notifications.toml cannot be used."""


@dataclass(frozen=True)
class Settings:
    """What the file says."""

    links: Links
    channels: Mapping[str, Channel]


def read_settings(home: Home) -> Settings:
    """The channels of a data directory; none where it has no such file.

    Raises:
        SettingsError: the file cannot be used; the text never repeats a value of it.
    """
    file = home.path / NAME
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return Settings(Links(), {})
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text"
        raise SettingsError(f"{file} cannot be read: {why}") from error
    try:
        return settings_of(tomllib.loads(text), home.path)
    except (tomllib.TOMLDecodeError, SettingsError) as error:
        raise SettingsError(f"{file}: {error}") from error


def settings_of(told: Mapping[str, Any], folder: Path) -> Settings:
    """Settings of what a file says.

    Args:
        told: the file, parsed.
        folder: that relative paths start from.

    Raises:
        SettingsError: in words that follow the file's name.
    """
    top = _Table(told, "it")
    links = _Table(top.take("links", dict, {}), "links")
    grafana = links.take("grafana", str, None)
    links.end()
    channels = _Table(top.take("channels", dict, {}), "channels")
    top.end()
    if grafana is not None:
        grafana = _address(grafana, "links").rstrip("/")
    made = {name: _channel(name, one, folder, Links(grafana)) for name, one in channels.rest().items()}
    if len(made) > _MOST_CHANNELS:
        raise SettingsError(f"{len(made)} channels are more than {_MOST_CHANNELS}")
    return Settings(Links(grafana), made)


def _channel(name: str, told: Any, folder: Path, links: Links) -> Channel:
    if not _CHANNEL.match(name):
        raise SettingsError("names of channels are small letters, digits, - and _, fifty at most")
    where = f"channel {name}"
    if not isinstance(told, dict):
        raise SettingsError(f"{where} must be a table, [channels.{name}]")
    table = _Table(told, where)
    kind = table.take("kind", str, None)
    if kind not in _KINDS:
        raise SettingsError(f"{where}: kind must be one of {', '.join(_KINDS)}")
    made = _KINDS[kind](name, table, folder, links)
    table.end()
    return made


def _webhook(name: str, table: _Table, folder: Path, links: Links) -> Channel:
    url = table.take("url", str, None)
    hidden = table.secret("url", folder)
    if (url is None) == (hidden is None):
        raise SettingsError(f"{table.where}: give one of url, url_env and url_file")
    body = table.take("body", str, "benchfarm")
    if body not in ("benchfarm", "slack"):
        raise SettingsError(f"{table.where}: body must be benchfarm or slack")
    return Webhook(
        name=name,
        url=hidden or _address(url, table.where),
        tells=table.tells(),
        links=links,
        secret=table.secret("secret", folder),
        body=body,
    )


def _markdown(name: str, table: _Table, folder: Path, links: Links) -> Channel:
    told = table.take("folder", str, None)
    if told is None:
        raise SettingsError(f"{table.where}: folder is missing")
    return MarkdownFolder(name=name, folder=folder / Path(told).expanduser(), tells=table.tells(), links=links)


def _grafana(name: str, table: _Table, folder: Path, links: Links) -> Channel:
    url, token = table.take("url", str, None), table.secret("token", folder)
    if url is None or token is None:
        raise SettingsError(f"{table.where}: url and one of token_env and token_file are needed")
    return GrafanaAnnotations(name=name, url=_address(url, table.where), token=token, links=links)


_KINDS: Final[Mapping[str, Callable[[str, _Table, Path, Links], Channel]]] = {
    "webhook": _webhook,
    "markdown": _markdown,
    "grafana": _grafana,
}


def _address(url: str, where: str) -> str:
    try:
        checked(url)
    except DeliveryError as error:
        raise SettingsError(f"{where}: {error}") from error
    return url


_TYPES: Final[Mapping[type, str]] = {str: "a text", dict: "a table", list: "a list"}


class _Table:
    """A table of the file: what is taken from it has the type that is wanted, and nothing may be left."""

    def __init__(self, told: Mapping[str, Any], where: str) -> None:
        self._left = dict(told)
        self.where = where

    def take(self, key: str, kind: type, default: Any) -> Any:
        value = self._left.pop(key, default)
        if value is not default and (not isinstance(value, kind) or value in ("", {})):
            raise SettingsError(f"{self.where}: {key} must be {_TYPES[kind]}")
        if isinstance(value, str) and not value.isprintable():
            raise SettingsError(f"{self.where}: {key} holds a character that cannot be printed")
        return value

    def tells(self) -> frozenset[str]:
        told = self.take("tells", list, list(_TELLS))
        unknown = [one for one in told if not isinstance(one, str) or one not in _TELLS]
        if unknown or not told:
            raise SettingsError(f"{self.where}: tells is a list of {', '.join(_TELLS)}")
        return frozenset(_TELLS[one] for one in told)

    def secret(self, key: str, folder: Path) -> Secret | None:
        if key != "url" and key in self._left:
            raise SettingsError(f"{self.where}: {key} does not belong here: name a file that has it, {key}_file")
        variable, file = self.take(f"{key}_env", str, None), self.take(f"{key}_file", str, None)
        if variable is not None and file is not None:
            raise SettingsError(f"{self.where}: give one of {key}_env and {key}_file")
        if file is not None:
            return Secret(file=folder / Path(file).expanduser())
        return None if variable is None else Secret(variable=variable)

    def rest(self) -> dict[str, Any]:
        return self._left

    def end(self) -> None:
        if self._left:
            raise SettingsError(f"{self.where}: unknown key {sorted(self._left)[0]}")
