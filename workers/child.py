"""The runner as a child: the environment it gets, and what its death says."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from workers.clock import handed_on
from workers.contract import Failure, Order
from workers.errors import EXIT_DISK_FULL, Cause, is_out_of_memory
from workers.memory import beyond_memory
from workers.runtimes.runtime import CACHE_VARIABLE
from workers.spool import ATTEMPT_VARIABLE

#: Caches and proxies that loading pretrained weights needs; nothing else of the user's environment reaches a child.
_WEIGHTS_VARIABLES = (
    *("HF_HOME", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "HF_ENDPOINT", "TORCH_HOME", "KERAS_HOME"),
    *("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"),
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
)
#: Signals that say what a runtime died of.
_CRASHES = {signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGABRT}
#: What runtimes that abort on a failed write leave as last words.
_DISK_FULL = ("No space left on device", "File too large", "PytorchStreamWriter failed writing", "PyTorchStreamWriter")


def child_environment(order: Order, folder: Path, cache: Path) -> dict[str, str]:
    """The runner's environment, built from nothing: no token, no database URL, no setting of the user's shell.

    Args:
        order: what the child shall do.
        folder: the attempt's.
        cache: where runtimes keep what they compiled, from one attempt to the next.
    """
    threads = str(order.on_device.options.threads if order.on_device is not None else os.cpu_count() or 1)
    scratch = str(folder / "tmp")
    task = order.convert
    models = [] if task is None else [task.model, task.teacher.model if task.teacher is not None else None]
    pretrained = any(model is not None and model.weights == "pretrained" for model in models)
    return {
        ATTEMPT_VARIABLE: folder.name,
        CACHE_VARIABLE: str(cache),
        **handed_on(),
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": scratch,
        "TMPDIR": scratch,
        "LANG": "C.UTF-8",
        "PYTHONHASHSEED": "0",
        "PYTHONUNBUFFERED": "1",
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "OPENBLAS_NUM_THREADS": threads,
        "CUDA_VISIBLE_DEVICES": "",
        "HF_HUB_OFFLINE": "1",
        "TF_CPP_MIN_LOG_LEVEL": "1",
        # Conversions share the cores: threads that spin while they wait made small trainings fifteen times as long.
        **({} if task is None else {"OMP_WAIT_POLICY": "PASSIVE"}),
        **(_weights_environment() if pretrained else {}),
    }


def _weights_environment() -> dict[str, str]:
    """Where pretrained weights are found: caches and proxies as the user of this host set them."""
    home = Path.home()
    defaults = {
        "HF_HOME": str(home / ".cache" / "huggingface"),
        "TORCH_HOME": str(home / ".cache" / "torch"),
        "KERAS_HOME": str(home / ".keras"),
        "HF_HUB_OFFLINE": "0",
    }
    return defaults | {name: os.environ[name] for name in _WEIGHTS_VARIABLES if name in os.environ}


def cause_of_death(returncode: int, log: Path, order: Order) -> Failure:
    """A runner that left no result: what its exit status and its last words say.

    Args:
        returncode: of the process; negative: the signal that ended it.
        log: what it printed.
        order: what it was to do, for the sentence.
    """
    last_words = log.read_bytes()[-4096:].decode(errors="replace")
    if returncode == EXIT_DISK_FULL or any(sign in last_words for sign in _DISK_FULL):
        message = "no space left: the process ended while writing"
        return Failure(cause=Cause.INFRASTRUCTURE, code="disk_full", message=message)
    if is_out_of_memory(RuntimeError(last_words)):
        message = "the runtime ran out of memory and ended the process"
        if order.convert is not None:
            message = beyond_memory(order.convert, order.limits)
        return Failure(cause=Cause.MODEL, code="out_of_memory", message=message)
    if returncode >= 0:
        return Failure(
            cause=Cause.BUG,
            code="no_result",
            message=f"the runner exited with {returncode} and left no result; see its log",
        )
    name = signal.Signals(-returncode).name
    if -returncode in _CRASHES:
        return Failure(cause=Cause.MODEL, code="crashed", message=f"the runtime crashed the process ({name})")
    return Failure(
        cause=Cause.INFRASTRUCTURE,
        code="killed",
        message=f"the runner was ended from outside ({name}: out of memory, or by hand)",
    )
