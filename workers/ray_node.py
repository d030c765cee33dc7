"""A process whose whole life is one Ray node: the head of a farm, or a host that joins one.

`python -m workers.ray_node TASK` with the task as JSON. What it has to say is one JSON object per line on standard
output: `{"ready": {...}}`, `{"refused": "why"}` (never to be tried again as it is) or `{"failed": "why"}`. Ray's own
`ray start` would also open a port for clients and one for its autoscaler's metrics, and knows no loopback.
"""

from __future__ import annotations

import json
import os
import platform
import signal
import socket
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import version
from types import FrameType
from typing import Any

from workers.agent import AGENT_VERSION
from workers.ray_environment import NAMESPACE

#: Label of a Ray node: the name of the host.
HOST_LABEL = "benchfarm-host"
_VERSIONS_KEY = b"versions"
#: The least Ray accepts is 75 MiB; nothing of ours goes through the object store.
_OBJECT_STORE_BYTES = 80 * 2**20
_CALL_S = 10
_PERIOD_S = 0.5
#: A raylet that was killed is known dead after five refused calls, one that hangs after five times 10 s.
_HEALTH = {"health_check_period_ms": 2000, "health_check_timeout_ms": 10_000, "health_check_failure_threshold": 5}


class RefusedError(Exception):
    """This host cannot join, whatever is tried again."""


class UnreachableError(Exception):
    """Nothing answers where the head should be."""


def versions() -> dict[str, str]:
    """What must be equal on all hosts of a farm."""
    return {
        "benchfarm": version("benchfarm"),
        "agent": AGENT_VERSION,
        "Ray": version("ray"),
        "Python": platform.python_version(),
    }


def mismatch(theirs: Mapping[str, str], ours: Mapping[str, str]) -> str | None:
    """Why a host of our versions cannot join a head of theirs; None where it can."""
    wrong = [name for name in ours if theirs.get(name) != ours[name]]
    said = ", ".join(f"{name} is {ours[name]} here and {theirs.get(name)} on the head" for name in wrong)
    return f"this host cannot join: {said}; install the same versions" if wrong else None


def listens(host: str, port: int, timeout_s: float) -> bool | None:
    """Whether somebody listens there: True; False where the machine says that nobody does; None without an answer."""
    try:
        with socket.create_connection((host, port), timeout=timeout_s):
            return True
    except ConnectionRefusedError:
        return False
    except OSError:
        return None


def main() -> int:
    """Run a node until it dies, or until this process is told to end."""
    task: dict[str, Any] = json.loads(sys.argv[1])
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is for who started us, who ends us in order
    if task["with_parent"]:
        threading.Thread(target=_watch_parent, args=(os.getppid(),), name="parent-watch", daemon=True).start()
    node = None
    try:
        node = _start_head(task) if task["head"] else _join(task)
        _say("ready", {"raylet": _raylet_pid(node), "session": node.address_info["session_dir"]})
        while not (dead := node.dead_processes()):
            time.sleep(_PERIOD_S)
        _say("failed", f"Ray's {dead[0][0]} ended")
        return 1
    except RefusedError as error:
        _say("refused", str(error))
        return 2
    except UnreachableError as error:
        _say("failed", str(error))
        return 1
    except SystemExit:
        return 0
    except Exception as error:  # whatever Ray raises: the one who waits for us has to hear of it
        _say("failed", f"Ray did not come up: {type(error).__name__}: {str(error).strip().splitlines()[0]}")
        return 1
    finally:
        if node is not None:
            # In order: a raylet that is asked to end tells the head, which else takes it for alive for a while.
            node.kill_all_processes(check_alive=False, allow_graceful=True)


def _start_head(task: dict[str, Any]) -> Any:
    node = _node(task, gcs_server_port=task["port"], include_dashboard=False, no_monitor=True, _system_config=_health())
    note = json.dumps(versions()).encode()
    node.get_gcs_client().internal_kv_put(_VERSIONS_KEY, note, True, NAMESPACE.encode(), timeout=_CALL_S)
    return node


def _join(task: dict[str, Any]) -> Any:
    host, port = task["host"], task["port"]
    if listens(host, port, 5.0) is not True:
        raise UnreachableError(f"nothing answers at {host}:{port}: is the farm up (benchfarm up, benchfarm head)?")
    from ray._raylet import GcsClient  # type: ignore[attr-defined]  # its stub knows less than it has
    from ray.exceptions import AuthenticationError

    try:
        client = GcsClient(address=f"{host}:{port}")
        note = client.internal_kv_get(_VERSIONS_KEY, NAMESPACE.encode(), timeout=_CALL_S)
    except AuthenticationError as error:
        token = os.environ["RAY_AUTH_TOKEN_PATH"]
        raise RefusedError(f"the head at {host}:{port} does not accept the token in {token}: copy its own") from error
    if note is None:
        raise RefusedError(f"what answers at {host}:{port} is a Ray head that benchfarm did not start")
    if (why := mismatch(json.loads(note), versions())) is not None:
        raise RefusedError(why)
    _refuse_second(client, task["labels"][HOST_LABEL])
    return _node(task, gcs_address=f"{host}:{port}")


def _refuse_second(client: Any, name: str) -> None:
    for info in client.get_all_node_info(timeout=_CALL_S).values():
        if info.state == 0 and dict(info.labels).get(HOST_LABEL) == name:  # 0: alive, as far as the head knows
            address = info.node_manager_address
            if listens(address, info.node_manager_port, 2.0) is not False:
                raise RefusedError(f"a host named {name} is in the farm already, at {address}: give another --name")


def _node(task: dict[str, Any], **more: Any) -> Any:
    from ray._private.node import Node
    from ray._private.parameter import RayParams

    parameters = RayParams(
        node_ip_address=task["own_ip"] or _own_ip(task),
        num_cpus=0,
        num_gpus=0,
        object_store_memory=_OBJECT_STORE_BYTES,
        include_log_monitor=False,
        labels=task["labels"],
        temp_dir=task["folder"],
        **more,
    )
    return Node(parameters, head=task["head"], shutdown_at_exit=False, spawn_reaper=True)


def _health() -> dict[str, Any]:
    """Ray's settings of this farm; a variable of Ray's own goes first."""
    return {name: value for name, value in _HEALTH.items() if f"RAY_{name}" not in os.environ}


def _own_ip(task: dict[str, Any]) -> str:
    """The address of this machine that the head is reached from."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((task["host"], task["port"]))  # sends nothing
        return str(probe.getsockname()[0])


def _raylet_pid(node: Any) -> int:
    return int(node.all_processes["raylet"][0].process.pid)


def _say(kind: str, what: Any) -> None:
    with suppress(OSError):  # nobody listens any more
        print(json.dumps({kind: what}), flush=True)


def _watch_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_PERIOD_S)
    os.kill(os.getpid(), signal.SIGTERM)


def _end(signal_number: int, frame: FrameType | None) -> None:
    raise SystemExit


if __name__ == "__main__":
    sys.exit(main())
