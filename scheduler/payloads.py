"""What attempts are told of their work, as rows that many jobs share: a sweep has many jobs and few payloads."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any, Final

from sqlalchemy import Connection, Label, Text, cast, select

from device_registry.database import one_of, shared_row, table_of
from scheduler.conversions import digest
from scheduler.tables import Payload

payloads = table_of(Payload)


def payload_id(connection: Connection, document: dict[str, Any]) -> int:
    """The row of a payload, made if there is none yet."""
    return shared_row(connection, payloads, digest(document), document=document)


def payload_text() -> Label[str]:
    """A payload as it is stored, for `read_payload`."""
    return cast(payloads.c.document, Text).label("payload_text")


@lru_cache(maxsize=4096)
def read_payload(text: str) -> dict[str, Any]:
    """A payload from its text; shared, so not to be changed."""
    payload: dict[str, Any] = json.loads(text)
    return payload


def payload_texts(connection: Connection, ids: set[int]) -> dict[int, str]:
    """Texts of these payloads, some of which may be shared by many jobs."""
    return {row.id: row.payload_text for row in connection.execute(_TEXTS, {"ids": ids})}


_TEXTS: Final = select(payloads.c.id, payload_text()).where(one_of(payloads.c.id, "ids"))
