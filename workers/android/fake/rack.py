"""The process that plays a rack, and what it is told while it does: JSON, one command a line."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from workers.android.fake.description import Description
from workers.android.fake.phone import FakePhone
from workers.android.fake.root import Base
from workers.android.fake.tools import write_tools


class Rack:
    """Phones, each with what it is told by its name."""

    def __init__(self, described: Sequence[Description], adb_port: int | None) -> None:
        """Build the phones, none plugged in.

        Args:
            described: the phones.
            adb_port: of the adb server that shall find them; None: somebody connects to them.

        Raises:
            RootError: see `workers.android.fake.root`.
        """
        self._folder = Path(tempfile.mkdtemp(prefix="fake-phones-"))
        tools = self._folder / "bin"
        write_tools(tools)
        self._base = Base(self._folder, tools)
        self.phones: dict[str, FakePhone] = {}
        for each in described:
            folder = self._folder / each.name
            folder.mkdir()
            phone = self.phones[each.name] = FakePhone(each, folder, self._base)
            phone.adb_port = adb_port

    async def obey(self, command: dict[str, Any]) -> object:
        """Do what a line says: `do` names it, `phone` whom, `with` how.

        Raises:
            ValueError: it says what cannot be done.
        """
        phone = self.phones[command["phone"]]
        given: dict[str, Any] = command.get("with", {})
        match command["do"]:
            case "plug":
                await phone.plug()
            case "unplug":
                await phone.unplug()
            case "cut":
                await phone.cut()
            case "restart":
                await phone.restart()
            case "break":
                _assign(phone.faults, given)
            case "become":
                phone.texts.refresh()
                _assign(phone.texts.condition, given)
            case "leave_free":
                await asyncio.to_thread(phone.root.leave_free, given["bytes"])
            case "look":
                phone.texts.refresh()
            case unknown:
                raise ValueError(f"a phone cannot {unknown}")
        return {"port": phone.port, "root": phone.root.visible_at(), **asdict(phone.texts.condition)}

    async def close(self) -> None:
        """Take all phones apart."""
        await asyncio.gather(*(phone.close() for phone in self.phones.values()))
        self._base.close()
        shutil.rmtree(self._folder, ignore_errors=True)


def _assign(target: object, given: dict[str, Any]) -> None:
    for name, value in given.items():
        if not hasattr(target, name):
            raise ValueError(f"{type(target).__name__} has no {name}")
        setattr(target, name, value)


async def play(description: dict[str, Any]) -> None:
    """Play a rack until the commands end, or a signal comes.

    Args:
        description: `phones`, a list of `Description`'s entries; `adb_port`; `unplugged`, if none is plugged in yet.

    Raises:
        ValueError: it cannot be read.
        RootError: see `Rack`.
    """
    described = [Description.of(entry) for entry in description["phones"]]
    rack = Rack(described, description.get("adb_port"))
    over = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, over.set)
    try:
        if not description.get("unplugged", False):
            await asyncio.gather(*(phone.plug() for phone in rack.phones.values()))
        _say({name: {"port": phone.port, "root": phone.root.visible_at()} for name, phone in rack.phones.items()})
        listening = asyncio.create_task(_listen(rack))
        stopping = asyncio.create_task(over.wait())
        await asyncio.wait([listening, stopping], return_when=asyncio.FIRST_COMPLETED)
        for task in (listening, stopping):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
    finally:
        await rack.close()


async def _listen(rack: Rack) -> None:
    commands = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    running: set[asyncio.Task[None]] = set()
    while line := await commands.readline():
        # Each in a task: a phone that takes its time must not hold up the others.
        task = asyncio.create_task(_answer(rack, json.loads(line)))
        running.add(task)
        task.add_done_callback(running.discard)


async def _answer(rack: Rack, command: dict[str, Any]) -> None:
    try:
        _say({"id": command["id"], "state": await rack.obey(command)})
    except Exception as error:  # whoever asked must hear of it
        _say({"id": command["id"], "error": f"{type(error).__name__}: {error}"})


def _say(document: dict[str, Any]) -> None:
    print(json.dumps(document), flush=True)
