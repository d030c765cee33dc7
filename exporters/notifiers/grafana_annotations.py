"""Grafana annotations: a mark where an incident began, which gets its end when the incident is resolved."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from device_registry.errors import BenchfarmError
from exporters.grafana import Annotation, Publisher
from exporters.notifiers.channel import DeliveryError
from exporters.notifiers.links import Links
from exporters.notifiers.secrets import Secret
from exporters.notifiers.slack import escape
from exporters.notifiers.words import words_of
from scheduler.notifications.delivery import Message

#: Every annotation has it, for dashboards that show them.
TAG = "benchfarm"
_TIMEOUT_S = 10.0


@dataclass(frozen=True, kw_only=True)
class GrafanaAnnotations:
    """One Grafana."""

    name: str
    url: str
    token: Secret
    links: Links

    def wants(self, kind: str) -> bool:
        """See `Channel`: incidents only."""
        return kind == "test" or kind.startswith("incident.")

    def warnings(self) -> list[str]:
        """See `Channel`."""
        return []

    def send(self, message: Message) -> str | None:
        """See `Channel`. Its receipt is Grafana's number of the annotation."""
        token = self.token.read()
        known = None if message.receipt is None else int(message.receipt)
        try:
            # No tries of its own: the outbox has them.
            publisher = Publisher(self.url, token, pauses_s=(), timeout_s=_TIMEOUT_S)
            return str(publisher.annotate(self.annotation(message), known))
        except BenchfarmError as error:
            raise DeliveryError(str(error).replace(token, "...")) from error

    def annotation(self, message: Message) -> Annotation:
        """What is to be there: after a reopening without an end again."""
        words = words_of(message.kind, message.document, self.links)
        text = "\n".join(escape(line) for line in (words.title, *words.paragraphs))
        incident = message.document.get("incident")
        if incident is None:
            began_ms = _ms(message.created_at)
            return Annotation(began_ms=began_ms, ended_ms=None, tags=(TAG, "test"), text=text, mark=_mark(message))
        resolved_at = incident["resolved_at"] if message.kind == "incident.resolved" else None
        devices = {series["device"] for series in message.document["series"]["first"]}
        return Annotation(
            began_ms=_ms(datetime.fromisoformat(message.document["began_at"])),
            ended_ms=None if resolved_at is None else _ms(datetime.fromisoformat(resolved_at)),
            tags=(TAG, "incident", f"cause:{incident['cause']}", *(f"device:{device}" for device in sorted(devices))),
            text=text if words.url is None else f'{text}\n<a href="{escape(words.url)}">incident {incident["id"]}</a>',
            mark=_mark(message),
        )


def _mark(message: Message) -> str:
    """One for each incident of a farm: what opened it and what resolved it are the same annotation."""
    document: dict[str, Any] = dict(message.document)
    incident = document.get("incident")
    if incident is None:
        return f"benchfarm:{message.idempotency_key}"
    return f"benchfarm:incident:{incident['id']}:{_ms(datetime.fromisoformat(incident['opened_at']))}"


def _ms(at: datetime) -> int:
    return round(at.timestamp() * 1000)
