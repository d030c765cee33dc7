"""A message in words, with no markup yet: title, paragraphs, lists, commands. Every channel that people read has it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from exporters.escaping import one_line
from exporters.notifiers.links import Links
from exporters.numbers import milliseconds, significant

Document = Mapping[str, Any]
#: Characters of a text.
_MOST_TEXT = 2000
#: Differences of an environment that are listed.
_MOST_DIFFERENCES = 8
_CHANGED = {"opened": "Regression", "resolved": "Resolved", "reopened": "Reopened"}


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line, and where it leads."""

    text: str
    url: str | None = None


@dataclass(frozen=True, kw_only=True)
class Section:
    """Lines under a heading; there may be more than are listed."""

    heading: str
    lines: Sequence[Line]
    count: int

    @property
    def left_out(self) -> int:
        """How many are not listed."""
        return max(0, self.count - len(self.lines))


@dataclass(frozen=True, kw_only=True)
class Words:
    """A message."""

    title: str
    url: str | None = None
    paragraphs: Sequence[str] = ()
    sections: Sequence[Section] = ()
    #: What to type to see more.
    commands: Sequence[str] = field(default=())

    @property
    def summary(self) -> str:
        """One line that says it all."""
        return one_line(" ".join([self.title + ".", *self.paragraphs[:1]]))


def words_of(kind: str, document: Document, links: Links) -> Words:
    """A message in words.

    Args:
        kind: incident.opened, incident.resolved, incident.reopened, digest, trouble or test.
        document: of the outbox.
        links: where it may lead.
    """
    if kind == "digest":
        return digest_words(document, links)
    if kind == "test":
        return Words(title="A test of this channel", paragraphs=["What the farm has to tell will look like this."])
    if kind == "trouble":
        return Words(title=one_line(document["title"]), paragraphs=[one_line(document["text"], _MOST_TEXT)])
    return _incident_words(kind.removeprefix("incident."), document, links)


def digest_words(document: Document, links: Links) -> Words:
    """The digest of a sweep run; a quiet one is one line, and what cannot be seen."""
    run, cases = document["run"], document["cases"]
    name = f"sweep {run['sweep']}" if run["sweep"] else "run"
    revision = f" at {run['revision']}" if run["revision"] else ""
    title = f"{name}, run {run['id']}{revision}" if run["sweep"] else f"run {run['id']}{revision}"
    told = [_count_words(document, name_) for name_ in ("regressed", "improved", "recovered", "failed", "missing")]
    found = ", ".join(word for word in told if word) or "nothing changed"
    return Words(
        title=one_line(f"{title}: {found}"),
        url=links.run(run["id"]),
        paragraphs=list(_digest_paragraphs(document, cases)),
        sections=list(_digest_sections(document, links)),
        commands=document["commands"],
    )


def _count_words(document: Document, name: str) -> str:
    count = document[name]["count"]
    return f"{count:,} {name}" if count else ""


def _digest_paragraphs(document: Document, cases: Document) -> Iterator[str]:
    bad = ", ".join(f"{count:,} {verdict}" for verdict, count in sorted(cases["invalid"].items()))
    told = f"{cases['valid']:,} of {cases['wanted']:,} cases have a valid number"
    yield told + (f" ({bad})" if bad else "") + (f"; {cases['open']:,} are not done yet" if cases["open"] else "") + "."
    if not document["run"]["watched"]:
        yield "This run is not watched: nothing was screened for regressions."
    if count := document["unsupported"]["count"]:
        yield f"{count:,} cells of its matrix are unsupported here."
    if (base := document.get("baseline")) is not None and base["run"] is None:
        yield f"Its baseline is gone: {base['why']}."
    blind = document["cannot_see"]
    if blind["unknown"]:
        yield (
            f"{blind['unknown']:,} series do not know their noise yet: benchfarm noise measures it, "
            f"and says which cannot see {blind['change'] * 100:g} %."
        )


def _digest_sections(document: Document, links: Links) -> Iterator[Section]:
    def listed(heading: str, name: str, line: Callable[[Document], Line]) -> Iterator[Section]:
        part = document[name]
        if part["count"]:
            yield Section(heading=heading, lines=[line(one) for one in part["first"]], count=part["count"])

    def incident(one: Document) -> Line:
        return Line(text=one_line(_incident_line(one)), url=links.incident(one))

    def changed(one: Document) -> Line:
        return _series_line(one, change_words(one["change"], one.get("change_interval")), links)

    yield from listed("Regressed", "regressed", incident)
    yield from listed("Improved", "improved", changed)
    yield from listed("Recovered", "recovered", incident)
    yield from listed("Failed", "failed", _failed_line)
    yield from listed("Missing", "missing", lambda one: _series_line(one, _state_words(one), links))
    yield from listed("Still open from earlier runs", "still_open", incident)
    yield from listed(
        "Suspects without an answer",
        "undecided",
        lambda one: _series_line(one, f"{change_words(one['change'])} at first sight, {_state_words(one)}", links),
    )
    if (base := document.get("baseline")) is not None and base["run"] is not None:
        yield from listed(
            f"Apart from the baseline, run {base['run']} (medians, no verdicts)",
            "baseline",
            lambda one: _series_line(one, _times_words({"change_interval": None, **one}), links),
        )
    sight = document["cannot_see"]["change"]
    yield from listed(
        f"Cannot see {sight * 100:g} %", "cannot_see", lambda one: _series_line(one, _blind_words(one), links)
    )


def _failed_line(one: Document) -> Line:
    many = f" ({one['cases']:,} cases)" if one["cases"] > 1 else ""
    return Line(text=one_line(f"{one['what']}{many}: {one['why'] or one['code'] or 'no reason'} (job {one['job']})"))


def _state_words(one: Document) -> str:
    return f"{one['state']}: {one['why']}" if one["why"] else str(one["state"])


def _blind_words(one: Document) -> str:
    least = one["least_visible_change"]
    seen = "shows no change at all" if least is None else f"shows changes from {_percent(least)} up"
    return f"noise {_percent(one['noise'])}, {seen}"


def _incident_line(one: Document) -> str:
    return (
        f"incident {one['id']}: {one['title']} ({change_words(one['change'], one['change_interval'])}, {one['cause']})"
    )


def _incident_words(change: str, document: Document, links: Links) -> Words:
    incident = document["incident"]
    return Words(
        title=one_line(f"{_CHANGED.get(change, change)}: {incident['title']}"),
        url=links.incident(incident),
        paragraphs=[one_line(text) for text in _incident_paragraphs(change, document)],
        sections=[
            Section(
                heading="Series",
                lines=[_series_line(one, _times_words(one), links) for one in document["series"]["first"]],
                count=document["series"]["count"],
            )
        ],
        commands=document["commands"],
    )


def _incident_paragraphs(change: str, document: Document) -> Iterator[str]:
    incident = document["incident"]
    yield f"Incident {incident['id']}: {change_words(incident['change'], incident['change_interval'])}."
    if change == "resolved" and incident["resolved_by"]:
        by = incident["resolved_by"]
        yield "A later level is back where it was." if by == "farm" else f"Resolved by {by}."
    yield f"Suspected cause: {incident['cause']}; {incident['cause_why']}"
    if incident["revision_bad"]:
        good = f"after {incident['revision_good']}, " if incident["revision_good"] else ""
        yield f"Revisions: {good}up to {incident['revision_bad']}."
    for name, (before, after) in list(document["environment"].items())[:_MOST_DIFFERENCES]:
        yield f"Environment: {name} {before or 'none'} -> {after or 'none'}"
    if document["note"]:
        yield f"Note: {document['note']}"


def _times_words(one: Document) -> str:
    return (
        f"{milliseconds(one['before_ms'])} -> {milliseconds(one['after_ms'])} ms, "
        f"{change_words(one['change'], one['change_interval'])}"
    )


def _series_line(one: Document, said: str, links: Links) -> Line:
    made_up = " (simulated)" if one["simulated"] else ""
    who = f"{one['model']} {one['runtime']} {one['recipe']}, {one['options']}, on {one['device']}{made_up}"
    return Line(text=one_line(f"{who}: {said}"), url=links.series(one))


def change_words(change: float | None, interval: Sequence[float | None] | None = None) -> str:
    """A change of a time, 0.05: "5.0 % slower"; with its interval."""
    if change is None:
        return "changed by an unknown amount"
    said = f"{_percent(abs(change))} {'slower' if change > 0 else 'faster'}" if change else "unchanged"
    if interval is None or interval[0] is None or interval[1] is None:
        return said
    low, high = (f"{end * 100:+.1f}" for end in interval if end is not None)
    return f"{said} ({low} to {high} %)"


def _percent(share: float) -> str:
    return f"{significant(share * 100, 2)} %"
