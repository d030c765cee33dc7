"""What an operator says of the phones of a host: tools, delegates, limits; read from one TOML file, strictly."""

from __future__ import annotations

import os
import re
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from device_registry.errors import UsageError
from workers.android.gate import GateLimits

#: Names the file.
VARIABLE = "BENCHFARM_ANDROID"
_HOME_VARIABLE = "BENCHFARM_HOME"
_FILE = "android.toml"
_SHA256 = re.compile(r"[0-9a-f]{64}")
_ABI = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
#: What a delegate's library is called, and a tool's: they become file names on the phone.
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}")


@dataclass(frozen=True, kw_only=True)
class File:
    """A file on this host that is pushed to phones, and the digest that it must have."""

    path: Path
    sha256: str

    @property
    def name(self) -> str:
        """Its name on the phone."""
        return self.path.name


@dataclass(frozen=True, kw_only=True)
class Tool:
    """One tool's binary for one ABI."""

    name: str
    abi: str
    binary: File
    #: Shared libraries that it needs beside it.
    libraries: tuple[File, ...] = ()
    #: As its owner calls it; None: its digest stands for it.
    version: str | None = None

    @property
    def label(self) -> str:
        """The version that results carry: the owner's word, and always the start of the digest that proves it."""
        digest = self.binary.sha256[:12]
        return f"{self.version} ({digest})" if self.version else f"sha256:{digest}"


@dataclass(frozen=True, kw_only=True)
class Delegate:
    """A vendor's delegate: a library that is pushed, or one that the phone has."""

    name: str
    library: File | None = None
    #: Path of the library on the phone, instead.
    on_phone: str | None = None
    #: What it loads itself: backends, and the DSP's part.
    libraries: tuple[File, ...] = ()
    #: Passed to it: "key:value;key:value" for TFLite, "key|value key|value" for ONNX Runtime.
    options: str = ""


@dataclass(frozen=True, kw_only=True)
class Prepare:
    """What is done to a phone before a run, and undone after it."""

    #: Lower clocks that it can hold (`cmd power set-fixed-performance-mode-enabled`); where the phone has them.
    fixed_performance: bool = True
    #: off: the screen is switched off for the run; on: it shines, at a fixed brightness; leave: as it is.
    screen: Literal["off", "on", "leave"] = "off"
    #: Radios off. A phone reached over Wi-Fi would go.
    airplane: bool = False


@dataclass(frozen=True, kw_only=True)
class Adb:
    """The adb server."""

    #: None: adb's own default, or ANDROID_ADB_SERVER_PORT.
    port: int | None = None
    #: None: the adb that adbutils carries, else the one on the path.
    path: str | None = None
    #: HOST:PORT of phones that are reached over the network.
    addresses: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All of it. Without a file: no tools, and the defaults for everything else."""

    #: Tool to ABI to what to push.
    tools: Mapping[str, Mapping[str, Tool]] = field(default_factory=dict)
    delegates: Mapping[str, Delegate] = field(default_factory=dict)
    gate: GateLimits = field(default_factory=GateLimits)
    prepare: Prepare = field(default_factory=Prepare)
    adb: Adb = field(default_factory=Adb)
    #: The lab's command that takes the power off a phone's USB port and gives it back: program and arguments, in which
    #: {serial}, {port}, {hub} and {hub_port} stand for the phone's; empty: there is none.
    usb_power: tuple[str, ...] = ()
    #: Where it was read; None: there is no file.
    path: Path | None = None

    def tool(self, name: str, abis: tuple[str, ...]) -> Tool | None:
        """The build for the first of a phone's ABIs (the best first) that there is one for."""
        builds = self.tools.get(name, {})
        return next((builds[abi] for abi in abis if abi in builds), None)


def settings_path(home: Path | None = None) -> Path | None:
    """The file that counts: what BENCHFARM_ANDROID names, else android.toml in the data directory, if there is one.

    Args:
        home: the data directory; None: BENCHFARM_HOME, else the user's.
    """
    if named := os.environ.get(VARIABLE):
        return Path(named).expanduser().absolute()
    folder = home or Path(os.environ.get(_HOME_VARIABLE) or _user_home())
    path = folder.expanduser().absolute() / _FILE
    return path if path.is_file() else None


def _user_home() -> Path:
    """Where `benchfarm.config` puts the data directory by platformdirs, which hosts need not have."""
    if sys.platform == "darwin":
        return Path("~/Library/Application Support/benchfarm")
    return Path(os.environ.get("XDG_DATA_HOME") or "~/.local/share") / "benchfarm"


def load_settings(path: Path | None = None) -> Settings:
    """Read the settings; without a file, the defaults.

    Args:
        path: of the file; None: `settings_path()`.

    Raises:
        UsageError: the file cannot be read, is no TOML, or says something that is not known: which, and where.
    """
    path = path or settings_path()
    if path is None:
        return Settings()
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"{path} is no TOML: {error}") from error
    try:
        return _read(_Table(data, "", path.parent), path)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error


def _read(root: _Table, path: Path) -> Settings:
    root.only("tools", "delegates", "gate", "prepare", "adb", "lab")
    return Settings(
        tools={name: _tools(name, builds) for name, builds in root.tables("tools").items()},
        delegates={name: _delegate(name, table) for name, table in root.tables("delegates").items()},
        gate=_gate(root.table("gate")),
        prepare=_prepare(root.table("prepare")),
        adb=_adb(root.table("adb")),
        usb_power=_lab(root.table("lab")),
        path=path,
    )


def _tools(name: str, builds: _Table) -> dict[str, Tool]:
    known = ("benchmark-model", "executor-runner", "ort-perf-test")
    if name not in known:
        raise UsageError(f"{builds.where}: unknown tool; known are {', '.join(known)}")
    found = {}
    for abi, table in builds.inner().items():
        if not _ABI.fullmatch(abi):
            raise UsageError(f"{table.where}: no ABI is called so; a phone's are in getprop ro.product.cpu.abilist")
        table.only("path", "sha256", "libraries", "version")
        found[abi] = Tool(
            name=name,
            abi=abi,
            binary=table.file("path"),
            libraries=table.files("libraries"),
            version=table.text("version"),
        )
    return found


def _delegate(name: str, table: _Table) -> Delegate:
    known = ("qnn", "neuron", "tensor")
    if name not in known:
        raise UsageError(f"{table.where}: unknown delegate; known are {', '.join(known)}")
    table.only("library", "sha256", "on_phone", "libraries", "options")
    on_phone = table.text("on_phone")
    if ("library" in table.data) == (on_phone is not None):
        raise UsageError(f"{table.where}: say either library (a file here, with its sha256) or on_phone (a path there)")
    return Delegate(
        name=name,
        library=table.file("library") if on_phone is None else None,
        on_phone=on_phone,
        libraries=table.files("libraries"),
        options=table.text("options") or "",
    )


def _gate(table: _Table) -> GateLimits:
    names = ("battery_min_percent", "battery_max_percent", "skin_limit_c", "thermal_status_max")
    table.only(*names)
    default = GateLimits()
    low = table.number("battery_min_percent", 0, 100, default.battery_min_percent)
    high = table.number("battery_max_percent", 0, 100, default.battery_max_percent)
    if low > high:
        raise UsageError(f"{table.where}: battery_min_percent is above battery_max_percent")
    return GateLimits(
        battery_min_percent=low,
        battery_max_percent=high,
        skin_limit_c=table.number("skin_limit_c", 0, 100, default.skin_limit_c),
        thermal_status_max=round(table.number("thermal_status_max", 0, 6, default.thermal_status_max)),
    )


def _prepare(table: _Table) -> Prepare:
    table.only("fixed_performance", "screen", "airplane")
    screens: dict[str, Literal["off", "on", "leave"]] = {"off": "off", "on": "on", "leave": "leave"}
    screen = table.text("screen") or "off"
    if screen not in screens:
        raise UsageError(f"{table.where}.screen: {screen!r} is none of {', '.join(screens)}")
    return Prepare(
        fixed_performance=table.flag("fixed_performance", default=True),
        screen=screens[screen],
        airplane=table.flag("airplane", default=False),
    )


def _adb(table: _Table) -> Adb:
    table.only("port", "path", "addresses")
    port = round(table.number("port", 1, 65535, 0)) or None
    return Adb(port=port, path=table.text("path"), addresses=table.texts("addresses"))


def _lab(table: _Table) -> tuple[str, ...]:
    table.only("usb_power")
    return table.texts("usb_power")


class _Table:
    """One table of the file, which knows where it is."""

    def __init__(self, data: Mapping[str, Any], where: str, folder: Path) -> None:
        self.data = data
        self.where = where
        self._folder = folder

    def only(self, *names: str) -> None:
        """Refuse every other key: a word with a slip in it would be a setting that nobody has."""
        for name in self.data:
            if name not in names:
                raise UsageError(f"unknown key {self._at(name)}; known here are {', '.join(names)}")

    def table(self, name: str) -> _Table:
        value = self.data.get(name, {})
        if not isinstance(value, dict):
            raise UsageError(f"{self._at(name)} must be a table")
        return _Table(value, self._at(name), self._folder)

    def inner(self) -> dict[str, _Table]:
        return {name: self.table(name) for name in self.data}

    def tables(self, name: str) -> dict[str, _Table]:
        return self.table(name).inner()

    def text(self, name: str) -> str | None:
        value = self.data.get(name)
        if value is not None and (not isinstance(value, str) or not value or not value.isprintable()):
            raise UsageError(f"{self._at(name)} must be a text in one line")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        values = self.data.get(name, [])
        if not isinstance(values, list) or not all(isinstance(one, str) and one.isprintable() for one in values):
            raise UsageError(f"{self._at(name)} must be a list of texts")
        return tuple(values)

    def flag(self, name: str, *, default: bool) -> bool:
        value = self.data.get(name, default)
        if not isinstance(value, bool):
            raise UsageError(f"{self._at(name)} must be true or false")
        return value

    def number(self, name: str, low: float, high: float, default: float) -> float:
        if name not in self.data:
            return default
        value = self.data[name]
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise UsageError(f"{self._at(name)} must be a number from {low:g} to {high:g}")
        return value

    def file(self, name: str) -> File:
        path, sha256 = self.text(name), self.text("sha256")
        if path is None or sha256 is None:
            raise UsageError(f"{self.where} needs {name} and sha256")
        return self._file(path, sha256, self.where)

    def files(self, name: str) -> tuple[File, ...]:
        rows = self.data.get(name, [])
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise UsageError(f"{self._at(name)} must be a list of {{path = ..., sha256 = ...}}")
        tables = [_Table(row, f"{self._at(name)}[{index}]", self._folder) for index, row in enumerate(rows)]
        for table in tables:
            table.only("path", "sha256")
        return tuple(table.file("path") for table in tables)

    def _file(self, path: str, sha256: str, where: str) -> File:
        if not _SHA256.fullmatch(sha256):
            raise UsageError(f"{where}.sha256 must be 64 hexadecimal digits in lower case")
        found = self._folder / Path(path).expanduser()
        if not _FILE_NAME.fullmatch(found.name):
            raise UsageError(f"{where}: a file named {found.name!r} cannot be pushed; use letters, digits and ._+-")
        return File(path=found, sha256=sha256)

    def _at(self, name: str) -> str:
        return f"{self.where}.{name}" if self.where else name
