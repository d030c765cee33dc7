"""What differs between the environments of two points: of the run, and of the conversion of their artifacts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select

from scheduler.ingest import results
from scheduler.queue import artifacts
from scheduler.states import jobs

#: Before the name of a version that the conversion had, not the run.
CONVERSION = "conversion: "


@dataclass(frozen=True, kw_only=True)
class Made:
    """How a point came about: by the job that it is a template of."""

    #: Key of its artifact, and of what that was made from: the program, which is the model's.
    artifact_key: str | None
    program_key: str | None
    environment: Mapping[str, str]
    #: Versions that made the artifact.
    conversion: Mapping[str, str]

    @staticmethod
    def unknown() -> Made:
        """Of a point whose job is gone."""
        return Made(artifact_key=None, program_key=None, environment={}, conversion={})


def made_by(connection: Connection, job_id: int) -> Made:
    """How the point of a job came about; what is not known any more is empty."""
    key = connection.execute(select(jobs.c.needs_key).where(jobs.c.id == job_id)).scalar()
    document = connection.execute(
        select(results.c.document["environment"]).where(results.c.job_id == job_id).order_by(results.c.id.desc())
    ).scalar()
    program = conversion = None
    if key is not None:
        maker = select(jobs.c.needs_key).where(jobs.c.makes_key == key).order_by(jobs.c.id.desc()).limit(1)
        program = connection.execute(maker).scalar()
        provenance = connection.execute(select(artifacts.c.provenance).where(artifacts.c.key == key)).scalar()
        conversion = (provenance or {}).get("versions")
    return Made(
        artifact_key=key,
        program_key=program or key,
        environment=_text(document),
        conversion=_text(conversion),
    )


def difference(before: Mapping[str, str], after: Mapping[str, str]) -> dict[str, list[str | None]]:
    """Names whose values differ: {name: [before, after]}; None where one has no such name."""
    return {
        name: [before.get(name), after.get(name)]
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    }


def _text(values: Any) -> dict[str, str]:
    if not isinstance(values, Mapping):
        return {}
    return {str(name): str(value) for name, value in values.items()}
