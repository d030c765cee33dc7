"""The shell and exec services: what the host asks for runs in the phone's own file system."""

from __future__ import annotations

import asyncio
import os
import signal
import struct
from collections.abc import Sequence
from contextlib import suppress

from workers.android.fake.wire import Stream, StreamClosedError

#: Packets of shell protocol 2: which, how long, what.
_PACKET = struct.Struct("<BI")
_STDIN, _STDOUT, _STDERR, _EXIT, _CLOSE_STDIN = range(5)
_CHUNK_BYTES = 64 * 1024


async def run_shell(
    stream: Stream, command: Sequence[str], environment: dict[str, str], descriptor: int, *, packets: bool
) -> None:
    """Run a command to its end, or until the host has gone; what it started and did not wait for lives on.

    Args:
        stream: the host's.
        command: what to execute.
        environment: its whole environment.
        descriptor: of the mount namespace; the command needs it.
        packets: shell protocol 2, which has an exit status and tells stderr apart; without it there is neither.
    """
    # Before it runs: a cable that is pulled as soon as the command shows must find an open shell.
    stream.accept()
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE if packets else asyncio.subprocess.STDOUT,
        env=environment,
        pass_fds=(descriptor,),
        start_new_session=True,
        umask=0,
        cwd="/",
    )
    assert process.stdout is not None
    feeder = asyncio.create_task(_feed(stream, process, packets))
    try:
        outputs = [_pump(stream, process.stdout, _STDOUT, packets)]
        if process.stderr is not None:
            outputs.append(_pump(stream, process.stderr, _STDERR, packets))
        await asyncio.gather(*outputs)
        status = await process.wait()
        if packets:
            await stream.write(_PACKET.pack(_EXIT, 1) + bytes([status if status >= 0 else 128 - status]))
    finally:
        feeder.cancel()
        _hang_up(process)
        # What outlives the shell may hold its pipes: asyncio would wait for them.
        process._transport.close()  # type: ignore[attr-defined]


async def _pump(stream: Stream, output: asyncio.StreamReader, which: int, packets: bool) -> None:
    while data := await output.read(_CHUNK_BYTES):
        await stream.write(_PACKET.pack(which, len(data)) + data if packets else data)


async def _feed(stream: Stream, process: asyncio.subprocess.Process, packets: bool) -> None:
    """What the host types; the shell is hung up on when the host goes."""
    assert process.stdin is not None
    with suppress(ConnectionError):
        while True:
            if packets:
                which, length = _PACKET.unpack(await stream.read_exactly(_PACKET.size))
                data = await stream.read_exactly(length)
                if which == _CLOSE_STDIN:
                    process.stdin.close()
                if which != _STDIN:
                    continue
            elif not (data := await stream.read()):
                raise StreamClosedError
            if not process.stdin.is_closing():
                process.stdin.write(data)
                await process.stdin.drain()
    if stream.closed:
        _hang_up(process)


def _hang_up(process: asyncio.subprocess.Process) -> None:
    """As adbd does when the host goes: the shell itself gets the signal, what it started does not."""
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGHUP)
