"""Sends dashboards and annotations to a Grafana through grafana-api: what is there and equal is left alone.

grafana-api 1.0.3 knows the paths and sends the token; what came back is looked at here, for it reads every answer as
JSON (an empty one too), trips over refusals that are plain text, and follows redirects.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import urlsplit

from device_registry.errors import BenchfarmError, UsageError
from exporters.escaping import one_line

if TYPE_CHECKING:
    import requests

Outcome = Literal["created", "updated", "unchanged"]
Document = Mapping[str, Any]

#: The folder that all dashboards are in: its uid and its title.
FOLDER: Final = "benchfarm"
#: Seconds for one answer.
_TIMEOUT_S = 15.0
#: Seconds before each further try.
_PAUSES_S = (0.5, 1.0, 2.0)
#: What Grafana sets itself.
_ITS_OWN = frozenset({"id", "version"})
#: Longest part of an answer that is repeated to the user.
_MOST_SAID = 200


class TokenRefusedError(UsageError):
    """Grafana refuses the token."""


class GrafanaError(BenchfarmError):
    """Grafana does not answer as it should."""


class _StatusError(Exception):
    """An answer that is a refusal."""

    def __init__(self, status: int, said: str) -> None:
        super().__init__(said)
        self.status = status
        self.said = said


class _AgainError(Exception):
    """Another try may help."""


@dataclass(frozen=True)
class Published:
    """What became of one dashboard."""

    uid: str
    title: str
    outcome: Outcome


def read_token(text: str) -> str:
    """A token as a file or the environment holds it.

    Raises:
        UsageError: it cannot be one.
    """
    token = text.strip()
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise UsageError("the Grafana token must be one line of printable characters without spaces")
    return token


@dataclass(frozen=True, kw_only=True)
class Annotation:
    """A mark on charts over time."""

    began_ms: int
    #: None: it lasts.
    ended_ms: int | None
    tags: tuple[str, ...]
    text: str
    #: A tag that no other annotation has: what it is found by.
    mark: str


class Publisher:
    """One Grafana, reached with one token."""

    def __init__(
        self,
        url: str,
        token: str,
        *,
        pause: Callable[[float], None] = time.sleep,
        pauses_s: tuple[float, ...] = _PAUSES_S,
        timeout_s: float = _TIMEOUT_S,
    ) -> None:
        """Nothing is sent yet.

        Args:
            url: of Grafana, with the path it is served under, if any.
            token: of a service account that may edit dashboards and folders.
            pause: waits between tries.
            pauses_s: seconds before each further try.
            timeout_s: for one answer.

        Raises:
            UsageError: the address is none, or grafana-api is not installed.
        """
        try:
            from grafana_api.grafana_face import GrafanaFace
        except ModuleNotFoundError as error:
            raise UsageError(
                f"publishing needs {error.name}, which is not installed: pip install 'benchfarm[grafana]'"
            ) from error
        self._where = _Address.parse(url)
        self._pause, self._pauses_s = pause, pauses_s
        self._face = GrafanaFace(
            auth=token,
            host=self._where.host,
            port=self._where.port,
            url_path_prefix=self._where.prefix,
            protocol=self._where.scheme,
            timeout=timeout_s,
        )
        self._face.api.s.hooks["response"].append(_look)

    def publish(self, documents: Iterable[Document], *, dry_run: bool = False) -> list[Published]:
        """Send every dashboard that is not there, or not equal.

        Args:
            documents: classic dashboards with a uid.
            dry_run: only say what would be done.

        Raises:
            TokenRefusedError: the token is refused, or may not do this.
            UsageError: there is no Grafana at this address.
            GrafanaError: it does not answer, or somebody else changes a dashboard at the same time.
        """
        self._ensure_folder(dry_run)
        return [self._publish(document, dry_run) for document in documents]

    def annotate(self, annotation: Annotation, known: int | None = None) -> int:
        """Have an annotation there, once, however often this is tried; returns Grafana's number of it.

        Args:
            annotation: as it should be.
            known: its number, from when it was made; None: it is looked for by its mark.

        Raises:
            TokenRefusedError: the token is refused, or may not do this.
            UsageError: there is no Grafana at this address.
            GrafanaError: it does not answer as it should.
        """
        api = self._face.annotations
        about = {
            "time_from": annotation.began_ms,
            "time_to": annotation.ended_ms or annotation.began_ms,
            "tags": [*annotation.tags, annotation.mark],
            "text": annotation.text,
        }
        if known is None:  # an answer that got lost on its way to us may have made it
            known = self._annotation_of(annotation.mark)
        if known is not None and self._ask(partial(api.update_annotation, known, **about), absent=(404,)) is not None:
            return known
        made = self._ask(partial(api.add_annotation, **about), absent=())
        number = None if made is None else made.get("id")
        if not isinstance(number, int):
            raise GrafanaError(f"Grafana at {self._where} does not say what it calls the annotation")
        return number

    def _annotation_of(self, mark: str) -> int | None:
        found = self._try_again(partial(self._face.annotations.get_annotation, tags=[mark], limit=1), absent=())
        if not isinstance(found, list):
            raise GrafanaError(f"Grafana at {self._where} does not list its annotations")
        return next((one["id"] for one in found if isinstance(one, Mapping) and isinstance(one.get("id"), int)), None)

    def _ensure_folder(self, dry_run: bool) -> None:
        folder = self._face.folder
        if self._ask(partial(folder.get_folder, FOLDER), absent=(404,)) is not None or dry_run:
            return
        # Refused as a duplicate where somebody was faster, or where an answer got lost on its way to us.
        self._ask(partial(folder.create_folder, FOLDER, uid=FOLDER), absent=(409, 412))

    def _publish(self, document: Document, dry_run: bool) -> Published:
        uid, title = str(document["uid"]), str(document["title"])
        wanted = {name: value for name, value in document.items() if name not in _ITS_OWN}
        outcome: Outcome = "unchanged"
        for _ in range(2):  # again if it changes between look and change
            there = self._ask(partial(self._face.dashboard.get_dashboard, uid), absent=(404,))
            if there is not None and _is_equal(there, wanted):
                return Published(uid, title, outcome)
            outcome = "created" if there is None else "updated"
            if dry_run:
                return Published(uid, title, outcome)
            # With its version, so that a change of somebody else's is never overwritten unseen.
            sent = wanted | ({} if there is None else {"version": _part(there, "dashboard").get("version")})
            body = {"dashboard": sent, "folderUid": FOLDER, "overwrite": False, "message": "benchfarm grafana publish"}
            if self._ask(partial(self._face.dashboard.update_dashboard, body), absent=(412,)) is not None:
                return Published(uid, title, outcome)
        raise GrafanaError(f"somebody else changes {title!r} in Grafana at the same time: publish again")

    def _ask(self, call: Callable[[], Any], *, absent: tuple[int, ...]) -> Mapping[str, Any] | None:
        """Ask for an object. An empty answer is an empty document; None for one of the statuses `absent`.

        Raises:
            TokenRefusedError: the token is refused, or may not do this.
            UsageError: there is no Grafana at this address.
            GrafanaError: it does not answer as it should.
        """
        answer = self._try_again(call, absent)
        if answer is None or isinstance(answer, Mapping):
            return answer
        raise UsageError(f"what answers at {self._where} is no Grafana: its answer is not an object")

    def _try_again(self, call: Callable[[], Any], absent: tuple[int, ...]) -> Any:
        """Ask, a few times if need be; None for one of the statuses `absent`."""
        for pause_s in (*self._pauses_s, None):
            try:
                return self._try(call, absent)
            except _AgainError as error:
                if pause_s is None:
                    raise GrafanaError(f"Grafana at {self._where} {error}") from error
                self._pause(pause_s)
        raise AssertionError("the last try returns or raises")

    def _try(self, call: Callable[[], Any], absent: tuple[int, ...]) -> Any:
        import requests

        try:
            answer = call()
        except _StatusError as error:
            if error.status in absent:
                return None
            raise self._refusal(error) from error
        except requests.exceptions.JSONDecodeError as error:
            raise UsageError(f"what answers at {self._where} is no Grafana: its answer is not JSON") from error
        except (requests.exceptions.SSLError, requests.exceptions.InvalidURL) as error:
            raise UsageError(f"Grafana at {self._where} cannot be reached: {_first_line(error)}") from error
        except requests.exceptions.Timeout as error:
            raise _AgainError("does not answer in time") from error
        except requests.exceptions.ConnectionError as error:
            raise _AgainError("cannot be reached: the connection was refused or lost") from error
        return {} if answer is None else answer

    def _refusal(self, error: _StatusError) -> Exception:
        if error.status == 401:
            return TokenRefusedError(f"Grafana at {self._where} refuses the token: make one for a service account")
        if error.status == 403:
            return TokenRefusedError(
                f"the token may not do this at {self._where}: its service account needs the role Editor ({error.said})"
            )
        if 300 <= error.status < 400:
            return UsageError(f"{self._where} sends on to {error.said}: give the address that Grafana itself has")
        if error.status == 429 or error.status >= 500:
            return _AgainError(f"answers {error.status}: {error.said}")
        return GrafanaError(f"Grafana at {self._where} answers {error.status}: {error.said}")


@dataclass(frozen=True)
class _Address:
    """Where a Grafana is."""

    scheme: str
    host: str
    port: int | None
    #: Ends in a slash where it is not empty.
    prefix: str

    @classmethod
    def parse(cls, url: str) -> _Address:
        """Read an address.

        Raises:
            UsageError: it is none.
        """
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise UsageError(f"no address of a Grafana: {error}") from error
        if "@" in parts.netloc:  # not repeated: it holds a password
            raise UsageError("give Grafana's address without a user: the token comes from a file or the environment")
        if parts.scheme not in ("http", "https") or not host or parts.query or parts.fragment:
            raise UsageError(f"no address of a Grafana: {url} (http://HOST:PORT/PATH)")
        prefix = parts.path.strip("/")
        return cls(parts.scheme, f"[{host}]" if ":" in host else host, port, f"{prefix}/" if prefix else "")

    def __str__(self) -> str:
        """As people write it."""
        port = "" if self.port is None else f":{self.port}"
        return f"{self.scheme}://{self.host}{port}/{self.prefix}"


def _look(response: requests.Response, *_: Any, **__: Any) -> requests.Response:
    """See each answer before grafana-api does: refusals and redirects end here, and nothing is a document.

    A redirect is never followed: the token goes to the host that was named, and nowhere else.
    """
    if response.status_code >= 400:
        raise _StatusError(response.status_code, _said(response))
    if 300 <= response.status_code < 400:
        raise _StatusError(response.status_code, one_line(response.headers.get("Location", "nowhere"), _MOST_SAID))
    if not response.content.strip():
        response._content = b"null"
    return response


def _said(response: requests.Response) -> str:
    """What a refusal says."""
    try:
        document = response.json()
    except ValueError:
        document = None
    said = document.get("message") if isinstance(document, Mapping) else response.text
    return one_line(str(said or response.reason or "nothing"), _MOST_SAID)


def _first_line(error: Exception) -> str:
    return one_line(str(error).partition("\n")[0], _MOST_SAID)


def _part(answer: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = answer.get(name)
    return found if isinstance(found, Mapping) else {}


def _is_equal(answer: Mapping[str, Any], wanted: Document) -> bool:
    """Whether what is there is what is wanted, in the folder that is wanted."""
    there = {name: value for name, value in _part(answer, "dashboard").items() if name not in _ITS_OWN}
    return there == wanted and _part(answer, "meta").get("folderUid") == FOLDER
