"""Trainings that were interrupted: kept on their host until they are done. Imports torch: for children only."""

from __future__ import annotations

import hashlib
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from workers.errors import first_line
from workers.runtimes.runtime import CACHE_VARIABLE

if TYPE_CHECKING:
    from workers.data_sets.labelled import Labelled

#: Written so often, or seldom enough to cost no more than this share of the time.
_PERIOD_S = 5.0
_SHARE = 0.05
#: What nobody came back for is dropped.
_KEPT_S = 14 * 24 * 3600.0


class Checkpoints:
    """One file per training, named by all that it depends on, so that only the same training finds it."""

    def __init__(self, folder: Path | None) -> None:
        """Files of a folder; None: nothing is kept.

        What was left there long ago is removed.
        """
        self._folder = folder
        self._used: set[Path] = set()
        self._next_at = time.monotonic() + _PERIOD_S
        if folder is not None and folder.is_dir():
            for path in folder.glob("*.pt*"):
                with suppress(OSError):
                    if abs(time.time() - path.stat().st_mtime) > _KEPT_S:
                        path.unlink()

    @classmethod
    def of_host(cls) -> Checkpoints:
        """Those of the host that a child runs on, where its agent names a folder."""
        cache = os.environ.get(CACHE_VARIABLE)
        return cls(Path(cache) / "training" if cache else None)

    def load(self, key: str) -> dict[str, Any] | None:
        """The state of a training of this key; None where there is none that can be read."""
        path = self._path(key)
        if path is None or not path.exists():
            return None
        try:
            state = torch.load(path, weights_only=True)
        except Exception as error:  # whatever a damaged file raises: the training begins anew
            print(f"the checkpoint of this training cannot be read: {first_line(error)}; it begins anew", flush=True)
            path.unlink(missing_ok=True)
            return None
        return state if isinstance(state, dict) else None

    def is_due(self) -> bool:
        """Whether it is time to save."""
        return self._folder is not None and time.monotonic() >= self._next_at

    def save(self, key: str, state: dict[str, Any]) -> None:
        """Keep a state, atomically. Where that fails, the log says so and the training goes on."""
        path = self._path(key)
        if path is None:
            return
        began = time.monotonic()
        partial = path.with_name(path.name + ".part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("wb") as file:
                torch.save(state, file)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        except (OSError, RuntimeError) as error:
            print(f"no checkpoint: {first_line(error)}", flush=True)
            partial.unlink(missing_ok=True)
        self._used.add(path)
        now = time.monotonic()
        self._next_at = now + max(_PERIOD_S, (now - began) / _SHARE)

    def forget(self) -> None:
        """Drop the states that were saved or read here."""
        for path in self._used:
            path.unlink(missing_ok=True)
        self._used.clear()

    def _path(self, key: str) -> Path | None:
        if self._folder is None:
            return None
        path = self._folder / f"{key}.pt"
        self._used.add(path)
        return path


def key_of(module: torch.nn.Module, data: Labelled, *others: object) -> str:
    """A digest of a module's weights, of labelled data, and of whatever else a training depends on."""
    about = (torch.__version__, torch.get_num_threads(), digest_of(module), *others)
    digest = hashlib.sha256(repr(about).encode())
    for name, stack in (*data.inputs.items(), ("labels", data.labels)):
        digest.update(f"{name} {stack.dtype} {stack.shape}".encode())
        digest.update(np.ascontiguousarray(stack).data)
    return digest.hexdigest()


def digest_of(module: torch.nn.Module) -> str:
    """sha256 of a module's weights and statistics, with their names."""
    digest = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        array = tensor.detach().contiguous().cpu()
        digest.update(f"{name} {array.dtype} {tuple(array.shape)}".encode())
        digest.update(array.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
