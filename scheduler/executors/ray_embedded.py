"""A Ray of this process's own, and one agent in it: what `benchfarm run` brings up."""

from __future__ import annotations

import secrets
import shutil
import signal
import tempfile
from contextlib import suppress
from pathlib import Path

from scheduler.executors.executor import Lost
from scheduler.executors.ray_calls import RayCalls
from workers.ray_environment import NAMESPACE, make_token, set_ray_environment
from workers.spool import record_ray_session

_HOST = "embedded"
#: Bringing up an agent: a worker process, and the sweep of its predecessor's work.
_LAUNCH_S = 60.0
#: Ending one: its attempts first.
_CLOSE_S = 20.0
#: The least Ray accepts is 75 MiB; nothing of ours goes through the object store.
_OBJECT_STORE_BYTES = 80 * 2**20


class EmbeddedRayExecutor(RayCalls):
    """Dashboard off, every socket on loopback, token authentication on.

    Ray reads its settings at import, so it must not have been imported before.
    """

    def __init__(self, home: Path, store_url: str, lease_s: float) -> None:
        """Bring up Ray and the agent of this host."""
        session = secrets.token_hex(16)
        # Short: the path of a unix socket below it must fit 107 bytes.
        self._folder = Path(tempfile.mkdtemp(prefix="bf-"))
        self._record = record_ray_session(home / "spool", session, self._folder)
        set_ray_environment(make_token(home), loopback=True, session=session)
        import ray

        super().__init__(ray, lease_s)
        # Ray puts a handler of its own in the place of ours, which would skip the clean end.
        before = signal.getsignal(signal.SIGTERM)
        ray.init(
            num_cpus=1,
            num_gpus=0,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            object_store_memory=_OBJECT_STORE_BYTES,
            namespace=NAMESPACE,
            _temp_dir=str(self._folder),
        )
        signal.signal(signal.SIGTERM, before)
        from workers.ray_agent import launch

        try:
            self._actor = launch(home, store_url, lease_s)
            ray.get(self._actor.hello.remote(), timeout=_LAUNCH_S)
        except BaseException:
            self._end_ray()
            raise
        self.greet(_HOST, self._actor)

    def close(self) -> None:
        """See `Executor.close`."""
        with suppress(self._ray.exceptions.RayError):
            self._ray.get(self._actor.close.remote(), timeout=_CLOSE_S)
        self._end_ray()

    def _gone(self, name: str, why: str) -> Lost:
        return self._drop(name, why, dead=True)

    def _end_ray(self) -> None:
        self._ray.shutdown()
        shutil.rmtree(self._folder, ignore_errors=True)
        self._record.unlink(missing_ok=True)
