"""What of an artifact and its companions an attempt is given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import Connection, select

from device_registry.database import one_of, table_of
from scheduler.tables import Artifact

artifacts = table_of(Artifact)

_INPUTS: Final = select(artifacts.c.key, artifacts.c.sha256, artifacts.c.companions).where(
    one_of(artifacts.c.key, "keys")
)
_FACTS: Final = select(artifacts.c.key, artifacts.c.provenance).where(one_of(artifacts.c.key, "keys"))
#: What a job needs of what comes with its artifact; a conversion everything, for it may train.
_COMPANIONS: Final[Mapping[str, frozenset[str]]] = {
    "measure": frozenset({"examples"}),
    "profile": frozenset({"examples", "sources"}),
    "evaluate": frozenset({"examples", "test"}),
}


def inputs_by_key(connection: Connection, keys: set[str]) -> dict[str, dict[str, str]]:
    """Artifact and companions, role to sha256, by the artifact's key."""
    found = connection.execute(_INPUTS, {"keys": keys})
    return {row.key: {"artifact": row.sha256, **row.companions} for row in found}


def inputs_of(kind: str, known: Mapping[str, str]) -> dict[str, str]:
    """Those that a kind of job needs: a data set is large, and what measures has no use for it."""
    wanted = _COMPANIONS.get(kind)
    return {role: sha for role, sha in known.items() if wanted is None or role == "artifact" or role in wanted}


def facts_by_key(connection: Connection, keys: set[str]) -> dict[str, Any]:
    """What is known of artifacts that conversions start from, by the artifact's key."""
    found = connection.execute(_FACTS, {"keys": keys}) if keys else ()
    return {row.key: row.provenance.get("facts", {}) for row in found}
