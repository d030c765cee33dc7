"""A sweep as its file has it, held to the schema and to what benchfarm knows: names, selectors, times."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from device_registry.errors import UsageError
from device_registry.selectors import parse_selector
from scheduler.plan import recipe_text
from scheduler.quantities import bytes_of, located_data
from scheduler.sweeps import schema
from scheduler.sweeps.complaints import Complaint, Position, SweepFileError
from scheduler.sweeps.document import MOST_CHARACTERS, Document, read_document
from scheduler.sweeps.document import Path as DataPath
from scheduler.sweeps.rules import Rule, rule_of
from scheduler.targets import Spread
from workers.contract import GatePolicy, Mode
from workers.plugins import plugins
from workers.runtimes.runtime import Runtime

#: Seconds of the units of time that files and options are written in.
UNITS_S = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
#: Longer is no time that anybody waits for, and more than a date can hold.
LONGEST_S = 10 * 365 * 86400.0
_PARTS = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
#: What tells the path of a model from a name of another kind.
_SUFFIXES = (".onnx", ".tflite", ".pt2", ".mlpackage", ".keras", ".h5", ".hdf5")
_STALE_AFTER = "1d"


@dataclass(frozen=True, kw_only=True)
class SweepFile:
    """What a sweep file asks for."""

    name: str
    #: As listed; paths of files are absolute.
    models: tuple[str, ...]
    recipes: tuple[str, ...] | None
    runtimes: tuple[str, ...] | None
    threads: tuple[int, ...]
    batches: tuple[int, ...]
    modes: tuple[Mode, ...]
    rate_hz: float | None
    max_seconds: float | None
    percentile: int
    affinity: tuple[int, ...] | None
    runtime_options: Mapping[str, tuple[str, ...]]
    selectors: tuple[str, ...]
    spread: Spread
    wait_for_device: bool
    exclude: tuple[Rule, ...]
    include: tuple[Rule, ...]
    repeats: int
    priority: int
    weights: str
    seed: int
    calibration: str | None
    #: How right each variant answers, on which labelled data (paths absolute; None: what comes with the model).
    evaluate: bool
    data: str | None
    #: What a conversion may hold; None: what its host allows.
    max_memory_bytes: int | None
    gate: GatePolicy
    #: The number of a run, or a revision, that the digest compares with, too.
    baseline: int | str | None
    #: Seconds of all devices together, and from when a run is due; None: no limit.
    budget_s: float | None
    deadline_s: float | None
    stale_after_s: float
    #: The file as it was read, what it is called in complaints, and the folder that its relative paths start from.
    text: str = field(repr=False)
    source: str
    folder: Path
    places: Mapping[DataPath, Position] = field(repr=False, compare=False)

    def wrong(self, sentence: str, *path: str | int) -> SweepFileError:
        """A complaint about a part of the file, or about the whole of it."""
        while path and path not in self.places:
            path = path[:-1]
        return SweepFileError(self.source, [Complaint(self.places.get(path, Position()), sentence)])


def load_sweep(path: Path) -> SweepFile:
    """Read a sweep from a file.

    Raises:
        SweepFileError: with everything that is wrong with it, by line and column.
        UsageError: there is no such file.
    """
    source = str(path)
    return read_sweep(text_of(path), path.absolute().parent, source=source)


def text_of(path: Path) -> str:
    """The text of a file, up to a size that is complained of.

    Raises:
        SweepFileError: it is not UTF-8.
        UsageError: there is no such file.
    """
    source = str(path)
    try:
        if not path.is_file():
            raise UsageError(f"{source} is no file" if path.exists() else f"no such file: {source}")
        with path.open("rb") as stream:
            content = stream.read(4 * MOST_CHARACTERS + 1)
    except OSError as error:
        raise UsageError(f"cannot read {source}: {error.strerror}") from error
    except ValueError as error:  # no name that a file could have
        raise UsageError(f"no such file: {source!r}") from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start]
        at = Position(before.count(b"\n") + 1, error.start - (before.rfind(b"\n") + 1) + 1)
        raise SweepFileError(source, [Complaint(at, "not UTF-8")]) from error


def read_sweep(text: str, folder: Path, *, source: str) -> SweepFile:
    """Read a sweep.

    Args:
        text: YAML.
        folder: that its relative paths start from.
        source: what complaints call it, the path as the user typed it.

    Raises:
        SweepFileError: with everything that is wrong with it, by line and column.
    """
    return sweep_of(read_document(text, source), text, folder, source=source)


def sweep_of(document: Document, text: str, folder: Path, *, source: str) -> SweepFile:
    """A sweep of a document that was read already, perhaps as a part of another.

    Args:
        document: the sweep's data, with their places.
        text: YAML of the same data: what a run keeps.
        folder: that its relative paths start from.
        source: what complaints call it.

    Raises:
        SweepFileError: with everything that is wrong with it, by line and column.
    """
    if found := list(schema.complaints(document)):
        raise SweepFileError(source, found)
    if found := [*_unknown(document), *_impossible(document)]:
        raise SweepFileError(source, found)
    return _sweep(document, text, folder, source)


def seconds_of(text: str) -> float:
    """A span of time as the schema has it: 90s, 15m, 6h, 1d, 1h30m."""
    return math.fsum(float(number) * UNITS_S[unit] for number, unit in _PARTS.findall(text))


def located(name: str, folder: Path) -> str:
    """A model's name; of what is a file, its absolute path."""
    if is_path(name) or (folder / name / "saved_model.pb").is_file():
        return str(folder / Path(name).expanduser())
    return name


def is_path(name: str) -> bool:
    """Whether a model's name is written as the path of a file or folder."""
    return name.startswith(("./", "../", "/", "~")) or name.lower().endswith(_SUFFIXES)


def _sweep(document: Document, text: str, folder: Path, source: str) -> SweepFile:
    data: dict[str, Any] = document.data
    options, budget = data.get("options", {}), data.get("budget", {})
    models = tuple(dict.fromkeys(located(name, folder) for name in data["models"]))
    calibration, minutes, deadline = data.get("calibration"), budget.get("device_minutes"), budget.get("deadline")
    rules = {
        what: tuple(rule_of(rule, document.at((what, number))) for number, rule in enumerate(data.get(what, ())))
        for what in ("exclude", "include")
    }
    affinity = options.get("affinity")
    return SweepFile(
        name=data["name"],
        models=models,
        recipes=_several(data["recipes"], recipe_text) if "recipes" in data else None,
        runtimes=_several(data["runtimes"]) if "runtimes" in data else None,
        threads=_several(options.get("threads", 1), int),
        batches=_several(options.get("batch", 1), int),
        modes=_several(options.get("mode", "burst")),
        rate_hz=_float(options.get("rate_hz")),
        max_seconds=_float(options.get("max_seconds")),
        percentile=options.get("percentile", 90),
        affinity=tuple(int(cpu) for cpu in affinity) if affinity is not None else None,
        runtime_options={name: _several(values, str) for name, values in data.get("runtime_options", {}).items()},
        selectors=_several(data.get("devices", [""])),
        spread=data.get("spread", "each"),
        wait_for_device=data.get("wait_for_device", False),
        exclude=rules["exclude"],
        include=rules["include"],
        repeats=int(data.get("repeats", 5)),
        priority=int(data.get("priority", 0)),
        weights=data.get("weights", "random"),
        seed=int(data.get("seed", 0)),
        calibration=str(folder / Path(calibration).expanduser()) if calibration is not None else None,
        evaluate=data.get("evaluate", False),
        data=located_data(data["data"], folder) if "data" in data else None,
        max_memory_bytes=bytes_of("max_memory", data["max_memory"]) if "max_memory" in data else None,
        gate=data.get("gate", "wait"),
        baseline=data.get("baseline"),
        budget_s=minutes * 60.0 if minutes is not None else None,
        deadline_s=seconds_of(deadline) if deadline is not None else None,
        stale_after_s=seconds_of(data.get("stale_after", _STALE_AFTER)),
        text=text,
        source=source,
        folder=folder,
        places=document.places,
    )


def _unknown(document: Document) -> Iterator[Complaint]:
    """Names that nothing is called by: of runtimes, recipes, options of runtimes and their values."""
    data: dict[str, Any] = document.data
    known = plugins("runtimes")
    yield from _not_among(document, "runtime", ("runtimes",), known)
    for number, text in enumerate(_several(data.get("recipes", ()))):
        try:
            recipe_text(str(text))
        except UsageError as error:
            path = ("recipes", number) if isinstance(data["recipes"], list) else ("recipes",)
            yield Complaint(document.at(path), str(error))
    named = [name for name in _several(data.get("runtimes", list(known))) if name in known]
    runtimes: list[Runtime] = [known[name].load() for name in named]
    offered = {name for runtime in runtimes for name in runtime.options}
    for name in data.get("runtime_options", {}):
        if name not in offered:
            at = document.at(("runtime_options", name), key=True)
            yield Complaint(at, f"unknown option {name!r}: {_hint(name, sorted(offered))}")
            continue
        values = dict.fromkeys(value for runtime in runtimes for value in runtime.options.get(name, ()))
        yield from _not_among(document, f"value of option {name}", ("runtime_options", name), values)


def _impossible(document: Document) -> Iterator[Complaint]:
    """What each for itself is well written, and cannot be."""
    data: dict[str, Any] = document.data
    for number, selector in enumerate(data.get("devices", ())):
        try:
            parse_selector(selector)
        except UsageError as error:
            yield Complaint(document.at(("devices", number)), f"devices: {str(error).splitlines()[0]}")
    options = data.get("options", {})
    if "rate_hz" in options and "offline" in _several(options.get("mode", "burst")):
        yield Complaint(document.at(("options", "rate_hz"), key=True), "rate_hz has no place in mode offline")
    if "max_memory" in data:
        try:
            bytes_of("max_memory", data["max_memory"])
        except UsageError as error:
            yield Complaint(document.at(("max_memory",)), str(error))
    for path in (("budget", "deadline"), ("stale_after",)):
        text: Any = data
        for part in path:
            text = text.get(part) if isinstance(text, Mapping) else None
        if text is not None and not 0 < seconds_of(text) <= LONGEST_S:
            yield Complaint(document.at(path), f"{path[-1]} {text}: above 0, and ten years at most")


def _not_among(document: Document, what: str, path: DataPath, known: Any) -> Iterator[Complaint]:
    value = document.data
    for part in path:
        value = value.get(part, ())
    for number, name in enumerate(value if isinstance(value, list | tuple) else [value]):
        if str(name) not in known:
            at = document.at((*path, number) if isinstance(value, list) else path)
            yield Complaint(at, f"unknown {what} {name!r}: {_hint(str(name), list(known))}")


def _hint(name: str, known: Sequence[str]) -> str:
    close = get_close_matches(name, known, n=1)
    if close:
        return f"did you mean {close[0]}?"
    return f"known are {', '.join(known)}" if known else "no runtime has any"


def _several(value: Any, kind: Any = lambda one: one) -> tuple[Any, ...]:
    """One or several values, each once, as several."""
    return tuple(dict.fromkeys(kind(one) for one in (value if isinstance(value, list | tuple) else [value])))


def _float(value: float | None) -> float | None:
    return float(value) if value is not None else None
