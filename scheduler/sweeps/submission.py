"""What a sweep is run with that does not stand in its file: for whom, of which revision, with which models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from device_registry.errors import UsageError
from scheduler.interventions import known_run
from scheduler.plan import Plan, resolve_model
from scheduler.request import Request
from scheduler.sweeps.file import SweepFile, is_path, located, read_sweep

#: Of a revision and of what a user tells of a build.
_LONGEST = 200
_MOST_FACTS = 50


@dataclass(frozen=True, kw_only=True)
class Submission:
    """How a sweep is submitted."""

    #: The schedule that it is due by, and when; None: a user's wish.
    schedule: str | None = None
    due_at: datetime | None = None
    #: What is measured, by its version control, and more about its build.
    revision: str | None = None
    build: Mapping[str, Any] | None = None
    owner: str | None = None
    allow_code: bool = False
    #: Whether its points belong to the history that is watched.
    watched: bool = True
    #: Leave out cases with a fresh point.
    fresh_only: bool = False
    #: Leave out what is beyond the budget, instead of refusing.
    trim: bool = False
    #: Refuse where a runtime or recipe is named that no case can have; else that is listed as unsupported.
    strict: bool = True
    #: Count only points of runs of this same sweep as fresh.
    own_points: bool = False

    def check(self) -> None:
        """Refuse what no row could hold.

        Raises:
            UsageError: with what is wrong.
        """
        if self.revision is not None and not (self.revision.isprintable() and 0 < len(self.revision) <= _LONGEST):
            raise UsageError(f"revision {self.revision[:40]!r}: 1 to {_LONGEST} printable characters")
        if len(build := self.build or {}) > _MOST_FACTS:
            raise UsageError(f"{len(build)} facts of a build: {_MOST_FACTS} at most")
        for name, value in build.items():
            if not (name and name.isprintable() and len(name) <= _LONGEST and len(str(value)) <= 10 * _LONGEST):
                raise UsageError(f"build {name[:40]!r}: a name of 1 to {_LONGEST} printable characters, and its value")


def with_models(sweep: SweepFile, given: Sequence[str], folder: Path, *, allow_code: bool = False) -> SweepFile:
    """A sweep with other models.

    Args:
        sweep: as its file has it.
        given: "NAME=MODEL": what NAME, which the sweep lists, is measured by now, a file or another build of it; or
            "MODEL": only this model, instead of all.
        folder: that relative paths start from.
        allow_code: whether factories may be named.

    Raises:
        UsageError: the sweep lists no such model, or what is given is known by another name: another series.
    """
    models = {_called(name): name for name in sweep.models}
    only: list[str] = []
    for text in given:
        name, equals, other = text.partition("=")
        if not equals or (folder / text).exists():
            only.append(located(text, folder))
            continue
        if (called := _called(name)) not in models:
            raise UsageError(f"--model {text}: {sweep.name} lists no {name}, only {', '.join(models)}")
        models[called] = located(other, folder)
        known_as = _known_as(models[called], folder, allow_code)
        if known_as != called:
            raise UsageError(f"--model {text}: {other} is known as {known_as}: its points would make other series")
    if only and len(only) < len(given):
        raise UsageError("--model MODEL and --model NAME=MODEL exclude each other")
    return replace(sweep, models=tuple(dict.fromkeys(only or models.values())))


def programs(made: Plan) -> list[str]:
    """Keys of the canonical programs of a plan."""
    return sorted({item.variant.key for item in made.conversions if item.variant.parent is None})


def kept(sweep: SweepFile, submission: Submission, made: Plan) -> dict[str, Any]:
    """What a run keeps of its sweep."""
    return {
        "name": sweep.name,
        "text": sweep.text,
        "source": sweep.source,
        "folder": str(sweep.folder),
        "models": list(sweep.models),
        "allow_code": submission.allow_code,
        "strict": submission.strict,
        # By which is told whether a model is still the same when the run is taken up again.
        "programs": programs(made),
    }


def taken(document: Mapping[str, Any]) -> SweepFile:
    """The sweep that a run kept.

    Raises:
        SweepFileError: this benchfarm cannot run it any more.
    """
    sweep = read_sweep(document["text"], Path(document["folder"]), source=document["source"])
    return replace(sweep, name=document.get("name", sweep.name), models=tuple(document["models"]))


def sweep_of_run(connection: Connection, run_id: int) -> SweepFile | None:
    """The sweep of a run as it was when it was submitted; None: the run is of no sweep.

    Raises:
        UsageError: there is no such run, or this benchfarm cannot run its sweep any more.
    """
    document = known_run(connection, run_id).request.get("sweep")
    return taken(document) if document is not None else None


def _called(name: str) -> str:
    """What the series of a listed model are known by: of a file, its name."""
    return Path(name).name if is_path(name) else name


def _known_as(model: str, folder: Path, allow_code: bool) -> str:
    request = Request(models=(model,), allow_code=allow_code, search_path=(str(folder),))
    return resolve_model(request, model)[1].name
