"""Calls agents through Ray: one actor per host. One of two files that import Ray."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from scheduler.executors.executor import HostLostError
from workers.spool import RAY_SESSION_VARIABLE, record_ray_session

_HOST = "embedded"
#: A call that takes longer than this beyond its own wait means a lost agent.
_CALL_S = 20.0
#: Bringing up an agent: a worker process, and the sweep of its predecessor's work.
_LAUNCH_S = 60.0
#: The least Ray accepts is 75 MiB; nothing of ours goes through the object store.
_OBJECT_STORE_BYTES = 80 * 2**20


class EmbeddedRayExecutor:
    """A Ray of this process's own: dashboard off, every socket on loopback, token authentication on.

    `RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0` is what puts every listener on 127.0.0.1, whatever the platform; it is read
    at import, so Ray must not have been imported before.
    """

    def __init__(self, home: Path, store_url: str, lease_s: float) -> None:
        """Bring up Ray and the agent of this host."""
        session = secrets.token_hex(16)
        # Short: the path of a unix socket below it must fit 107 bytes.
        self._folder = Path(tempfile.mkdtemp(prefix="bf-"))
        self._record = record_ray_session(home / "spool", session, self._folder)
        environment = {
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(_token_file(home)),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_prestart_worker_first_driver": "0",
            "RAY_enable_worker_prestart": "0",
            "RAY_enable_metrics_collection": "0",
            "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
            "RAY_DEDUP_LOGS": "0",
            RAY_SESSION_VARIABLE: session,
        }
        os.environ.update(environment)
        for stray in ("RAY_ADDRESS", "RAY_AUTH_TOKEN"):
            os.environ.pop(stray, None)
        import ray

        self._ray = ray
        # Ray puts a handler of its own in the place of ours, which would skip the clean end.
        before = signal.getsignal(signal.SIGTERM)
        ray.init(
            num_cpus=1,
            num_gpus=0,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            object_store_memory=_OBJECT_STORE_BYTES,
            namespace="benchfarm",
            _temp_dir=str(self._folder),
        )
        signal.signal(signal.SIGTERM, before)
        from workers.ray_agent import launch

        try:
            self._agent = launch(home, store_url, lease_s)
            self._call("hello", timeout_s=_LAUNCH_S)
        except BaseException:
            self._end_ray()
            raise

    def hosts(self) -> list[str]:
        """See `Executor.hosts`."""
        return [_HOST]

    def hello(self, host: str) -> dict[str, Any]:
        """See `Executor.hello`."""
        return dict(self._call("hello"))

    def start(self, host: str, order: dict[str, Any]) -> None:
        """See `Executor.start`."""
        self._call("start", order)

    def poll(self, host: str, since: int, wait_s: float) -> dict[str, Any]:
        """See `Executor.poll`."""
        return dict(self._call("poll", since, wait_s, timeout_s=wait_s + _CALL_S))

    def cancel(self, host: str, attempt_id: int, why: str) -> None:
        """See `Executor.cancel`."""
        self._call("cancel", attempt_id, why)

    def close(self) -> None:
        """See `Executor.close`."""
        with suppress(HostLostError):
            self._call("close")
        self._end_ray()

    def _end_ray(self) -> None:
        self._ray.shutdown()
        shutil.rmtree(self._folder, ignore_errors=True)
        self._record.unlink(missing_ok=True)

    def _call(self, method: str, *arguments: Any, timeout_s: float = _CALL_S) -> Any:
        try:
            return self._ray.get(getattr(self._agent, method).remote(*arguments), timeout=timeout_s)
        except (self._ray.exceptions.RayActorError, self._ray.exceptions.GetTimeoutError) as error:
            raise HostLostError(f"the host's agent does not answer ({type(error).__name__})") from error


def _token_file(home: Path) -> Path:
    """The farm's token, made once; readable by its owner only."""
    path = home / "ray-token"
    if not path.exists() or path.stat().st_size == 0:
        partial = path.with_name(f"{path.name}.{os.getpid()}.part")
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(32))
        partial.replace(path)
    path.chmod(0o600)
    return path
