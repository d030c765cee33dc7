"""`package.module:factory`: the user's own code builds the model. Runs only with --allow-code, once, in a child.

The factory takes no arguments and returns a torch module, or a module and its example inputs (a tensor, a tuple or a
dict of name to tensor). A module without inputs needs a `calibration` file that gives them.
"""

from __future__ import annotations

import importlib
import re
import sys
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from workers.contract import ModelRequest
from workers.errors import AttemptError, Cause, first_line
from workers.examples import Array
from workers.models.source import BuiltModule, ModuleSource, Resolved, UnknownModelError, file_digest
from workers.plugins import package_versions

_NAME = re.compile(r"(?P<module>[A-Za-z_]\w*(\.[A-Za-z_]\w*)*):(?P<function>[A-Za-z_]\w*)")


class Factory(ModuleSource):
    """Identity is the whole package (or the module and its neighbours): code, configuration and checkpoints.

    What lies elsewhere (another package, a downloaded checkpoint) is not seen; change anything here to export again.
    """

    packages: ClassVar[tuple[str, ...]] = ("torch",)
    extra: ClassVar[str] = "torch"
    revision: ClassVar[int] = 2  # carries sources

    def names(self) -> list[str]:
        """Factories cannot be listed."""
        return []

    def resolve(self, request: ModelRequest) -> Resolved | None:
        """See `ModelSource.resolve`."""
        match = _NAME.fullmatch(request.name)
        if match is None:
            return None
        if not request.allow_code:
            raise UnknownModelError(f"{request.name} is code of yours: add --allow-code to run it")
        top = match["module"].partition(".")[0]
        spec = PathFinder.find_spec(top, [*request.search_path, *sys.path])
        if spec is None or spec.origin is None:
            raise UnknownModelError(
                f"no module {top!r} found from {', '.join(request.search_path) or 'the Python path'}"
            )
        source = Path(spec.origin)
        around = source.parent.rglob("*") if spec.submodule_search_locations else source.parent.glob("*")
        files = {str(file.relative_to(source.parent)): _mark(file) for file in sorted(around) if _counts(file)}
        identity = {"files": files, "versions": package_versions(self.packages)}
        return Resolved(request.name, "pt2", "fp32", identity, request, "of the factory")

    def build(self, request: ModelRequest) -> BuiltModule:
        """Call the factory."""
        import torch

        torch.manual_seed(request.seed)
        module, inputs = self._call(request)
        if inputs is None:
            raise AttemptError(
                Cause.USER, "no_inputs", f"{request.name} returned no example inputs; return (module, example inputs)"
            )
        named = {name: value.detach().numpy() for name, value in _named(inputs).items()}

        def make_inputs(generator: np.random.Generator, count: int) -> dict[str, Array]:
            return {name: _vary(value, generator, count, request.batch) for name, value in named.items()}

        return BuiltModule(module, make_inputs, {"task": "user code"})

    def _call(self, request: ModelRequest) -> tuple[Any, Any]:
        sys.path[:0] = request.search_path
        module_name, _, function = request.name.partition(":")
        try:
            made = getattr(importlib.import_module(module_name), function)()
        except MemoryError:
            raise
        except Exception as error:
            raise AttemptError(
                Cause.USER, "factory_failed", f"{request.name} raised {type(error).__name__}: {first_line(error)}"
            ) from error
        return (made[0], made[1]) if isinstance(made, tuple) else (made, None)


def _named(inputs: Any) -> dict[str, Any]:
    if isinstance(inputs, dict):
        return inputs
    values = inputs if isinstance(inputs, tuple | list) else (inputs,)
    return {f"input_{index}": value for index, value in enumerate(values)}


def _vary(value: Array, generator: np.random.Generator, count: int, batch: int) -> Array:
    """Examples around the user's own: its values in another order; the first is the user's itself.

    Raises:
        AttemptError: the user's example has another batch than was asked for.
    """
    if batch != 1 and len(value) == 1:
        value = np.repeat(value, batch, axis=0)
    if batch not in (1, len(value)):
        message = f"the factory's example inputs have a first dimension of {len(value)}, not a batch of {batch}"
        raise AttemptError(Cause.USER, "fixed_batch", message)
    out = np.repeat(value[np.newaxis], count, axis=0)
    for index in range(1, count):
        flat = out[index].reshape(-1)
        generator.shuffle(flat)
        out[index] = flat.reshape(value.shape)
    return out


def _counts(file: Path) -> bool:
    return file.is_file() and "__pycache__" not in file.parts and not file.name.startswith(".")


def _mark(file: Path) -> str:
    """What tells that a file changed: the text of code, size and time of anything else (checkpoints are large)."""
    if file.suffix == ".py":
        return file_digest(file)
    status = file.stat()
    return f"{status.st_size}-{status.st_mtime_ns}"
