"""Webhooks: one POST of JSON, signed where there is a secret; as benchfarm words it, or as Slack takes it."""

from __future__ import annotations

import ipaddress
import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import SplitResult, urlsplit

from exporters.notifiers.channel import DeliveryError
from exporters.notifiers.links import Links
from exporters.notifiers.secrets import Secret
from exporters.notifiers.signature import EVENT_HEADER, KEY_HEADER, SIGNATURE_HEADER, TIME_HEADER, sign
from exporters.notifiers.slack import slack_body
from exporters.notifiers.words import words_of
from scheduler.notifications.delivery import Message

if TYPE_CHECKING:
    import requests

Body = Literal["benchfarm", "slack"]
#: Seconds to connect, and for each part of an answer; the courier bounds the whole.
_TIMEOUTS_S: Final = (5.0, 10.0)
#: Version of the body as benchfarm words it.
_BODY_VERSION: Final = 1
#: A word of Slack's about what it refuses; nothing else of an answer is repeated, for it may hold anything.
_SAID = re.compile(rb"[a-z]+(_[a-z]+){1,5}\Z")


@dataclass(frozen=True, kw_only=True)
class Webhook:
    """One receiver."""

    name: str
    #: Its address, or where that is: Slack's are secrets.
    url: str | Secret
    tells: frozenset[str]
    links: Links
    secret: Secret | None = None
    body: Body = "benchfarm"
    #: Tells the time; seconds since 1970.
    clock: Callable[[], float] = time.time
    timeouts_s: tuple[float, float] = _TIMEOUTS_S

    def wants(self, kind: str) -> bool:
        """See `Channel`."""
        return kind == "test" or kind.partition(".")[0] in self.tells

    def warnings(self) -> list[str]:
        """See `Channel`."""
        found = []
        try:
            address = checked(self._url())
        except DeliveryError as error:
            found.append(str(error))
        else:
            if address.scheme == "http" and not _is_loopback(address.hostname or ""):
                found.append(f"what goes to {address.hostname} by plain http can be read and changed on its way")
        if self.secret is None and self.body == "benchfarm":
            found.append("without a secret its receiver cannot know who sent a message")
        return found

    def send(self, message: Message) -> str | None:
        """See `Channel`."""
        address = self._url()
        where = checked(address).hostname
        body = json.dumps(self.document(message), separators=(",", ":"), allow_nan=False).encode()
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "benchfarm",
            KEY_HEADER: message.idempotency_key,
            EVENT_HEADER: message.kind,
        }
        if self.secret is not None:
            timestamp = int(self.clock())
            headers[TIME_HEADER] = str(timestamp)
            headers[SIGNATURE_HEADER] = sign(self.secret.read(), timestamp, body)
        _post(address, body, headers, self.timeouts_s, where or "")
        return None

    def document(self, message: Message) -> dict[str, Any]:
        """The body of a message: the same at every try."""
        words = words_of(message.kind, message.document, self.links)
        if self.body == "slack":
            return slack_body(words, message.key)
        return {
            "version": _BODY_VERSION,
            "idempotency_key": message.idempotency_key,
            "event": message.kind,
            "key": message.key,
            "created_at": message.created_at.isoformat(),
            "text": words.summary,
            "url": words.url,
            "commands": list(words.commands),
            "document": dict(message.document),
        }

    def _url(self) -> str:
        return self.url if isinstance(self.url, str) else self.url.read()


def checked(url: str) -> SplitResult:
    """An address in parts; what is wrong with it is told without its path.

    Raises:
        DeliveryError: it is no address that messages can go to.
    """
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise DeliveryError("its url is no address") from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise DeliveryError("its url must begin with https:// or http:// and name a host")
    if "@" in parts.netloc:
        raise DeliveryError("its url must hold no user and no password: put the whole of it into a file, url_file")
    return parts


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _post(url: str, body: bytes, headers: dict[str, str], timeouts_s: tuple[float, float], where: str) -> None:
    """POST once. An answer of 2xx is a receipt, whatever follows it; no redirect is followed.

    Raises:
        DeliveryError: there was no such answer. Nothing of the url but its host is in the text.
    """
    import requests

    try:
        with requests.Session() as session:
            session.auth = _nobody
            with session.post(
                url, data=body, headers=headers, timeout=timeouts_s, allow_redirects=False, stream=True
            ) as answer:
                _check(answer, where)
    except requests.exceptions.SSLError as error:
        raise DeliveryError(f"{where} has no certificate that is trusted here") from error
    except requests.exceptions.ProxyError as error:
        raise DeliveryError(f"the proxy to {where} does not let it through") from error
    except requests.exceptions.Timeout as error:
        raise DeliveryError(f"{where} does not answer in time") from error
    except requests.exceptions.ConnectionError as error:
        raise DeliveryError(f"{where} cannot be reached: the connection was refused or lost") from error
    except (requests.exceptions.RequestException, ValueError) as error:  # "a..b", say
        raise DeliveryError(f"{where} cannot be asked: {type(error).__name__}") from error


def _nobody(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Send no password from a .netrc along, as requests would."""
    return request


def _check(answer: requests.Response, where: str) -> None:
    status = answer.status_code
    if 200 <= status < 300:
        return
    if 300 <= status < 400:
        raise DeliveryError(f"{where} sends on to another address, which is not followed: give that one", away=True)
    busy = status in (408, 425, 429) or status >= 500
    said = f": {word}" if not busy and (word := _word_of(answer)) else ""
    raise DeliveryError(f"{where} answers {status}{said}", away=busy, asked_s=_asked_s(answer) if busy else None)


def _word_of(answer: requests.Response) -> str | None:
    import requests

    try:
        begin = answer.raw.read(64).strip()
    except (OSError, requests.exceptions.RequestException):
        return None
    return begin.decode() if _SAID.match(begin) else None


def _asked_s(answer: requests.Response) -> float | None:
    """Retry-After: seconds, or a date."""
    told = (answer.headers.get("Retry-After") or "").strip()
    if told.isascii() and told.isdigit():
        return float(told[:9])
    try:
        until = parsedate_to_datetime(told)
        if until.tzinfo is None:
            until = until.replace(tzinfo=UTC)
        return max(0.0, (until - datetime.now(UTC)).total_seconds())
    except (ValueError, OverflowError):  # no date, or one of another age
        return None
