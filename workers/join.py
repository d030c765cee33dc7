"""This machine as a host of a farm: one Ray node, kept up until told to end."""

from __future__ import annotations

import fcntl
import json
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from device_registry.errors import UsageError
from workers.errors import AttemptError
from workers.host import discover_devices
from workers.ray_environment import find_token, parse_address
from workers.ray_node import HOST_LABEL
from workers.ray_process import RayNode, RayNodeError, RayNodeRefusedError
from workers.spool import Spool, agent_of, leaving_note, sweep_ray_sessions

#: What Ray takes as the value of a label, and people can type.
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
_LABEL = re.compile(r"([a-z][a-z0-9_]*)=(.*)")
#: A node that died is started again after so long, doubled each time up to the longest.
_FIRST_AGAIN_S = 1.0
_LONGEST_AGAIN_S = 30.0
#: The head may take our dead node for a live one for a while.
_NAME_TAKEN_S = 120.0
#: An agent that leaves ends its attempts and tells the farm.
_LEAVE_S = 6.0


def check_name(name: str) -> str:
    """The name of a host.

    Raises:
        UsageError: it cannot be one.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(f"{name!r} is no host name: letters, digits, dots, dashes and underscores, at most 63")
    return name


def parse_labels(texts: Sequence[str]) -> dict[str, str]:
    """`key=value` each.

    Raises:
        UsageError: one is not.
    """
    labels = {}
    for text in texts:
        if (match := _LABEL.fullmatch(text)) is None:
            raise UsageError(f"--label {text!r}: write key=value, the key in small letters, digits and underscores")
        labels[match[1]] = match[2]
    return labels


def join(
    home: Path,
    address: str,
    name: str,
    token: Path,
    *,
    labels: Mapping[str, str],
    drivers: Sequence[str] | None,
    fleet: Path | None,
    own_ip: str | None,
    say: Callable[[str], None],
    stop: threading.Event,
) -> None:
    """Be a host until `stop` is set; a node that dies is started again.

    Args:
        home: data directory of this host.
        address: of the head.
        name: what the host is called.
        token: file of the farm's token.
        labels: what the lab says of the host.
        drivers: names of the device drivers to use; None: all.
        fleet: file of the simulated devices; None: none.
        own_ip: address of this machine that the others reach it at; None: the one the head is reached from.
        say: called with a line for each event that matters.
        stop: set to leave.

    Raises:
        UsageError: a name, the token, the fleet or the versions do not fit.
        RayNodeError: the node did not come up the first time.
    """
    head = parse_address(address)
    check_name(name)
    find_token(token)
    os.environ.update(
        BENCHFARM_HOME=str(home), BENCHFARM_HOST_NAME=name, BENCHFARM_HOST_LABELS=json.dumps(dict(labels))
    )
    _set("BENCHFARM_SIM", str(fleet.absolute()) if fleet is not None else None)
    _set("BENCHFARM_DRIVERS", ",".join(drivers) if drivers is not None else None)
    # What the agent would stumble over is said here, where somebody reads it.
    found = discover_devices(drivers, name)
    with _alone(home):
        sweep_ray_sessions(home / "spool")
        leaving_note(home).unlink(missing_ok=True)
        node = _start(home, token, head, name, own_ip)
        node.wait_ready()
        say(f"joined {head[0]}:{head[1]} as {name} with {len(found)} device{'s' if len(found) != 1 else ''}")
        try:
            while not stop.is_set():
                if (why := node.why_ended(0.5)) is not None:
                    say(f"the Ray node ended ({why}); joining again")
                    node.end()
                    node = _again(lambda: _start(home, token, head, name, own_ip), say, stop)
        finally:
            _take_leave(home)
            node.end()
            _sweep(home)


def _take_leave(home: Path) -> None:
    """Have the agent end its work and say goodbye, so that the farm waits for no lease."""
    if agent_of(home) is None:
        return
    note = leaving_note(home)
    note.touch()
    deadline = time.monotonic() + _LEAVE_S
    while note.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    note.unlink(missing_ok=True)


def _sweep(home: Path) -> None:
    """End what the agent could not: Ray may have ended it first, and nobody comes after it."""
    with suppress(AttemptError):  # another agent has the place: it has swept
        spool = Spool(home / "spool")
        spool.sweep()
        spool.close()


def _start(home: Path, token: Path, head: tuple[str, int], name: str, own_ip: str | None) -> RayNode:
    return RayNode(home, token, head, head=False, labels={HOST_LABEL: name}, own_ip=own_ip, log_name="join.log")


def _again(start: Callable[[], RayNode], say: Callable[[str], None], stop: threading.Event) -> RayNode:
    wait_s, since = _FIRST_AGAIN_S, time.monotonic()
    while True:
        stop.wait(wait_s)
        node = start()
        try:
            if not stop.is_set():
                node.wait_ready()
                say("joined again")
            return node
        except RayNodeRefusedError:
            if time.monotonic() - since > _NAME_TAKEN_S:
                raise
        except RayNodeError as error:
            say(str(error))
        wait_s = min(2 * wait_s, _LONGEST_AGAIN_S)


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    with (home / "join.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(f"another `benchfarm join` runs on {home}: give this one another BENCHFARM_HOME") from None
        yield


def _set(name: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value
