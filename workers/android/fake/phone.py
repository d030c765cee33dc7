"""One played phone: its listener, its services, its cable."""

from __future__ import annotations

import asyncio
import shutil
from contextlib import suppress
from functools import partial
from pathlib import Path

from workers.android.fake.condition import PHONE_VARIABLE, Texts
from workers.android.fake.description import Description
from workers.android.fake.root import Base, Root
from workers.android.fake.shell import run_shell
from workers.android.fake.sync import SyncService
from workers.android.fake.wire import Connection, Faults, Greeting, Service, Stream
from workers.processes import end_marked

_SETPRIV = shutil.which("setpriv") or "setpriv"
_LIMIT_BYTES = 2 << 20
_BUS_PERIOD_S = 0.25
_SERVER_ANSWERS_S = 5.0
#: Ports that every adb server looks at by itself when it starts.
_SCANNED = range(5555, 5586)


class FakePhone:
    """Plugged in, it listens on loopback; unplugged, nobody does. Its processes live on meanwhile, as a phone's do."""

    def __init__(self, described: Description, folder: Path, base: Base) -> None:
        """Build it, unplugged.

        Args:
            described: what it is.
            folder: an empty one for its state.
            base: of its rack.

        Raises:
            RootError: see `Root`.
        """
        self.described, self._folder = described, folder
        self.faults = Faults(key=described.key)
        self.texts = Texts(described, folder)
        self.root = Root(base, folder, described.storage_mb)
        self._sync = SyncService(self.root.path, self.faults)
        self._connections: set[Connection] = set()
        self._server: asyncio.Server | None = None
        self._bus: asyncio.Task[None] | None = None
        self._restarting: asyncio.Task[None] | None = None
        #: Of 127.0.0.1; kept once it is known.
        self.port = 0
        #: Of the server on whose host's bus it hangs; None: it is reached by `adb connect`.
        self.adb_port: int | None = None

    async def plug(self) -> None:
        """Connect the cable; the adb server at `adb_port` is told, as the bus tells it of a device."""
        if self._server is not None:
            return
        while self._server is None:
            server = await asyncio.start_server(self._connected, "127.0.0.1", self.port, limit=_LIMIT_BYTES)
            port = int(server.sockets[0].getsockname()[1])
            if self.port == 0 and port in _SCANNED:
                server.close()
                continue
            self._server, self.port = server, port
        if self.adb_port is not None:
            self._bus = asyncio.create_task(self._announce(self.adb_port))

    async def unplug(self) -> None:
        """Pull the cable."""
        if self._server is not None:
            self._server.close()
            self._server = None
        if self._bus is not None:
            self._bus.cancel()
            self._bus = None
        await self.cut()

    async def cut(self) -> None:
        """End each connection; the cable stays."""
        await asyncio.gather(*(connection.cut() for connection in list(self._connections)))

    async def restart(self) -> None:
        """Restart it: whatever ran is gone, and the cable with it until it is up again."""
        await self.unplug()
        await asyncio.to_thread(self._kill)
        await asyncio.sleep(self.described.restart_s)
        self.texts.restart()
        await self.plug()

    async def close(self) -> None:
        """Unplug it, end what runs on it, throw its files away."""
        if self._restarting is not None:
            self._restarting.cancel()
        await self.unplug()
        await asyncio.to_thread(self._kill)
        self.root.close()

    async def _announce(self, adb_port: int) -> None:
        """Be found by the server whenever it is not connected: it may have been started again."""
        while True:
            if not self._connections:
                with suppress(OSError, TimeoutError):
                    async with asyncio.timeout(_SERVER_ANSWERS_S):
                        await _tell_server(adb_port, f"host:emulator:{self.port}")
            await asyncio.sleep(_BUS_PERIOD_S)

    def _kill(self) -> None:
        end_marked(PHONE_VARIABLE, str(self._folder))

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        properties = self.described.all_properties()
        named = "".join(
            f"ro.product.{part}={properties[f'ro.product.{part}']};" for part in ("name", "model", "device")
        )
        greeting = Greeting(f"device::{named}features={','.join(self.described.features)}", self.faults)
        connection = Connection(reader, writer, greeting, self._service)
        self._connections.add(connection)
        try:
            await connection.run()
        finally:
            self._connections.discard(connection)

    def _service(self, name: str) -> Service | None:
        kind, _, argument = name.partition(":")
        kind, *options = kind.split(",")
        match kind:
            case "shell":
                return partial(self._shell, script=argument, packets="v2" in options)
            case "exec":
                return partial(self._shell, script=argument, packets=False)
            case "sync":
                return self._sync.serve
            case "reboot":
                return self._reboot
        return None

    async def _shell(self, stream: Stream, *, script: str, packets: bool) -> None:
        self.texts.refresh()
        words = ["/system/bin/sh", *(["-c", script] if script else [])]
        if any(text is None for text in self.described.files.values()):
            # Root may read what nobody may, unless it gives that up.
            lacking = "-dac_override,-dac_read_search"
            words = [_SETPRIV, f"--inh-caps={lacking}", f"--bounding-set={lacking}", *words]
        environment = {
            "PATH": "/system/bin",
            "HOME": "/",
            "TMPDIR": "/data/local/tmp",
            "ANDROID_DATA": "/data",
            PHONE_VARIABLE: str(self._folder),
        }
        inside = self.root.inside(*words)
        await run_shell(stream, inside, environment, self.root.namespace, packets=packets)

    async def _reboot(self, stream: Stream) -> None:
        stream.accept()
        self._restarting = asyncio.create_task(self.restart())


async def _tell_server(port: int, request: str) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(f"{len(request):04x}{request}".encode())
        await writer.drain()
        await reader.read()
    finally:
        writer.close()
