"""The device side of adb's transport: packets, and the streams inside one connection.

A packet is a header of six little-endian words and a payload. The host opens streams to services by name; in each
stream one WRTE is on its way at a time, and OKAY asks for the next (adb's protocol.txt).
"""

from __future__ import annotations

import asyncio
import os
import struct
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

_HEADER = struct.Struct("<6I")
#: From the second on nobody checks the sum over the payload.
_OLD_VERSION, _VERSION = 0x01000000, 0x01000001
#: What we offer; the smaller of both sides' offers rules.
_MOST_PAYLOAD = 1 << 20
_OLD_PAYLOAD = 4096
_TOKEN, _SIGNATURE, _PUBLIC_KEY = 1, 2, 3


def _word(name: bytes) -> int:
    return int.from_bytes(name, "little")


_CNXN, _AUTH, _OPEN, _OKAY, _CLSE, _WRTE = map(_word, (b"CNXN", b"AUTH", b"OPEN", b"OKAY", b"CLSE", b"WRTE"))


class StreamClosedError(ConnectionError):
    """The host closed the stream, or the connection is gone."""


@dataclass(slots=True)
class Faults:
    """What a test breaks; each may change while the phone is in use."""

    #: Cut the connection once so many more bytes came from the host; the phone stays plugged, so adb comes back.
    cut_after_bytes: int | None = None
    #: Before each packet to the host.
    latency_s: float = 0.0
    #: Every transfer of a file fails with this number of errno.h.
    sync_errno: int | None = None
    #: Nothing is answered any more, nor is a new connection.
    mute: bool = False
    #: What the phone makes of the host's key: none is asked for, any is accepted, none is.
    key: str = "unasked"


@dataclass(frozen=True, slots=True)
class Greeting:
    """What a phone says of itself when a host connects."""

    banner: str
    faults: Faults


class Stream:
    """One conversation of a host with one service."""

    def __init__(self, connection: Connection, local: int, remote: int) -> None:
        """`local` and `remote` are both sides' numbers of it."""
        self._connection, self._local, self._remote = connection, local, remote
        self._arrived = bytearray()
        self._news = asyncio.Event()
        self._owes_okay = False
        self._ready = asyncio.Event()
        self._ready.set()
        self._writing = asyncio.Lock()
        self.closed = False
        self.accepted = False

    @property
    def payload_limit(self) -> int:
        """Most bytes of one packet."""
        return self._connection.payload_limit

    def accept(self) -> None:
        """Tell the host that its service is there."""
        self.accepted = True
        self._connection.post(_OKAY, self._local, self._remote)

    async def read(self) -> bytes:
        """All that has arrived, waiting for some; empty at the end."""
        await self._wait_for(1)
        return self._take(len(self._arrived))

    async def read_exactly(self, count: int) -> bytes:
        """So many bytes.

        Raises:
            StreamClosedError: it ended before.
        """
        await self._wait_for(count)
        if len(self._arrived) < count:
            raise StreamClosedError
        return self._take(count)

    async def write(self, data: bytes) -> None:
        """Send bytes, in as many packets as they need.

        Raises:
            StreamClosedError: the host does not listen any more.
        """
        view = memoryview(data)
        async with self._writing:
            for start in range(0, len(view), self.payload_limit):
                await self._ready.wait()
                if self.closed:
                    raise StreamClosedError
                self._ready.clear()
                await self._connection.send(
                    _WRTE, self._local, self._remote, bytes(view[start : start + self.payload_limit])
                )

    # What the connection tells it.

    def has_arrived(self, data: bytes) -> None:
        """A packet of the host's; it sends no other before our OKAY."""
        self._arrived += data
        self._owes_okay = True
        self._news.set()

    def may_write(self) -> None:
        """The host took our last packet."""
        self._ready.set()

    def end(self) -> None:
        """Nothing comes or goes any more."""
        self.closed = True
        self._news.set()
        self._ready.set()

    async def _wait_for(self, count: int) -> None:
        while len(self._arrived) < count and not self.closed:
            self._news.clear()
            if self._owes_okay:
                self._owes_okay = False
                self._connection.post(_OKAY, self._local, self._remote)
            await self._news.wait()

    def _take(self, count: int) -> bytes:
        taken = bytes(self._arrived[:count])
        del self._arrived[:count]
        return taken


Service = Callable[[Stream], Awaitable[None]]


class Connection:
    """One adb server's connection to one phone."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        greeting: Greeting,
        service_of: Callable[[str], Service | None],
    ) -> None:
        """Nothing is read before `run`; `service_of` finds a service by the name that the host asks for."""
        self._reader, self._writer, self._greeting, self._service_of = reader, writer, greeting, service_of
        self._version, self.payload_limit = _OLD_VERSION, _OLD_PAYLOAD
        self._streams: dict[int, Stream] = {}
        self._last_number = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Serve it to its end."""
        try:
            while True:
                command, first, second, length, _, inverse = _HEADER.unpack(await self._take(_HEADER.size))
                if inverse != command ^ 0xFFFFFFFF or length > _MOST_PAYLOAD:
                    break
                payload = await self._take(length) if length else b""
                if not self._greeting.faults.mute:
                    await self._handle(command, first, second, payload)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            await self.cut()

    async def cut(self) -> None:
        """End it as a pulled cable does."""
        self._writer.transport.abort()
        for stream in self._streams.values():
            stream.end()
        own = asyncio.current_task()
        tasks = [task for task in self._tasks if task is not own]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def post(self, command: int, first: int, second: int, payload: bytes = b"") -> None:
        """Queue a packet."""
        if self._greeting.faults.mute:
            return
        checksum = sum(payload) & 0xFFFFFFFF if self._version < _VERSION else 0
        self._writer.write(_HEADER.pack(command, first, second, len(payload), checksum, command ^ 0xFFFFFFFF))
        if payload:
            self._writer.write(payload)

    async def send(self, command: int, first: int, second: int, payload: bytes = b"") -> None:
        """Queue a packet, late where the phone is slow, and wait until there is room for the next."""
        if latency_s := self._greeting.faults.latency_s:
            await asyncio.sleep(latency_s)
        self.post(command, first, second, payload)
        await self._writer.drain()

    async def _take(self, count: int) -> bytes:
        data = await self._reader.readexactly(count)
        faults = self._greeting.faults
        if faults.cut_after_bytes is not None:
            faults.cut_after_bytes -= count
            if faults.cut_after_bytes < 0:
                faults.cut_after_bytes = None
                raise ConnectionResetError
        return data

    async def _handle(self, command: int, first: int, second: int, payload: bytes) -> None:
        if command == _CNXN:
            self._version, self.payload_limit = min(first, _VERSION), min(second, _MOST_PAYLOAD)
            await (self._welcome() if self._greeting.faults.key == "unasked" else self._challenge())
        elif command == _AUTH and first == _PUBLIC_KEY:
            if self._greeting.faults.key == "accepted":
                await self._welcome()
        elif command == _AUTH and first == _SIGNATURE:
            await self._challenge()  # we know no key: the host offers its next, and at last its public one
        elif command == _OPEN:
            self._start(self._serve(first, payload.rstrip(b"\0").decode("utf-8", "surrogateescape")))
        elif (stream := self._streams.get(second)) is None:
            if command == _WRTE:
                await self.send(_CLSE, 0, first)
        elif command == _WRTE:
            stream.has_arrived(payload)
        elif command == _OKAY:
            stream.may_write()
        elif command == _CLSE:
            stream.end()

    async def _challenge(self) -> None:
        await self.send(_AUTH, _TOKEN, 0, os.urandom(20))

    async def _welcome(self) -> None:
        await self.send(_CNXN, _VERSION, _MOST_PAYLOAD, self._greeting.banner.encode())

    def _start(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, remote: int, name: str) -> None:
        service = self._service_of(name)
        if service is None:
            await self.send(_CLSE, 0, remote)
            return
        self._last_number += 1
        local = self._last_number
        stream = self._streams[local] = Stream(self, local, remote)
        try:
            await service(stream)
        except ConnectionError:
            pass
        finally:
            del self._streams[local]
            stream.end()
            if not self._writer.is_closing():
                with suppress(ConnectionError):
                    await self.send(_CLSE, local if stream.accepted else 0, remote)
