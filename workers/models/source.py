"""The seam of model sources: from a name to the one canonical program, example inputs and a fidelity reference."""

from __future__ import annotations

import hashlib
import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from device_registry.errors import UsageError
from workers.contract import ModelRequest
from workers.errors import AttemptError, Cause, UnsupportedError, first_line
from workers.examples import Array, Examples, load_user_calibration

if TYPE_CHECKING:
    import torch

    from workers.data_sets.labelled import Labelled

#: Makes the stacked inputs of so many examples: name to (count, *input shape).
MakeInputs = Callable[[np.random.Generator, int], dict[str, Array]]
#: Examples whose outputs are compared for fidelity, and examples for calibration.
FIDELITY_EXAMPLES = 8
CALIBRATION_EXAMPLES = 32


class UnknownModelError(UsageError):
    """No model of that name."""


class MissingPackagesError(UnknownModelError):
    """A model whose source lacks its packages here, so that nobody can say more of it."""


@dataclass(frozen=True)
class Resolved:
    """What is known of a model before anything heavy is imported."""

    #: Name as people write it, normalised.
    name: str
    format: str
    recipe: str
    #: Everything the canonical program depends on; part of its artifact's key.
    identity: dict[str, Any]
    #: The request as the child shall get it: paths absolute.
    request: ModelRequest
    #: Which weights results say they ran, where the source does not go by the request: of the file, of the factory.
    weights: str | None = None
    #: The labelled data that it has, given or its own; None: none.
    data: str | None = None


@dataclass(frozen=True)
class Made:
    """Files that a source or a converter made, in the attempt's folder."""

    artifact: Path
    examples: Path | None = None
    calibration: Path | None = None
    #: Layer of the model to the line of code that calls it (JSON).
    sources: Path | None = None
    #: Labelled data for training and for accuracy.
    train: Path | None = None
    test: Path | None = None
    #: Of a compression: the module's weights, and how its layers were cut (`workers.compressions.checkpoint`).
    checkpoint: Path | None = None
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class BuiltModule:
    """A torch module as its source builds it, and what exporting it needs."""

    module: torch.nn.Module
    make_inputs: MakeInputs
    #: Named facts: the task, ...
    facts: dict[str, Any] = field(default_factory=dict)
    #: Give batch norms statistics of seeded inputs; for fresh random weights only.
    calibrate_norms: bool = False
    #: Gives the module its weights where that takes training, and returns facts of it; not called where they are read
    #: back from the canonical program.
    learn: Callable[[], dict[str, Any]] | None = None
    #: Labelled data that comes with the model: for training, and for accuracy.
    train: Labelled | None = None
    test: Labelled | None = None


class ModelSource(ABC):
    """Knows a family of models. One file and one registration each; constructing one imports nothing heavy."""

    packages: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[str] = ""
    #: Formats of the canonical programs it makes; a source of files lists none, for it takes what it is given.
    formats: ClassVar[tuple[str, ...]] = ()
    #: Its models are made up: listed last, and named only to those who ask for them.
    simulated: ClassVar[bool] = False
    #: Whether `build` makes its models again, so that compressions can change them.
    builds_modules: ClassVar[bool] = False
    #: Raise it when the same request would be made differently: it is part of every artifact's key.
    revision: ClassVar[int] = 1

    def import_libraries(self) -> None:
        """Import what making needs, in the child; timed apart."""
        import_packages(self.packages)

    @abstractmethod
    def names(self) -> list[str]:
        """Names it can list; empty where they cannot be listed (files, factories)."""

    @abstractmethod
    def resolve(self, request: ModelRequest) -> Resolved | None:
        """What the request means to this source; None when the name is not of its kind.

        Raises:
            UnknownModelError: the name is of its kind, and there is no such model.
        """

    @abstractmethod
    def materialise(self, request: ModelRequest, folder: Path) -> Made:
        """Make the canonical program and its examples. Runs in a child; may import anything."""

    def build(self, request: ModelRequest) -> BuiltModule:
        """Build the torch module that `materialise` exports: the same layers for the same request.

        Raises:
            UnsupportedError: this source has no module, but a program.
        """
        raise UnsupportedError(f"{request.name} is a program, not a module of layers: nothing can change its structure")


class ModuleSource(ModelSource):
    """Models that are torch modules built by code: what is left to say is `build`."""

    formats: ClassVar[tuple[str, ...]] = ("pt2",)
    builds_modules: ClassVar[bool] = True

    @abstractmethod
    def build(self, request: ModelRequest) -> BuiltModule:
        """See `ModelSource.build`."""

    def materialise(self, request: ModelRequest, folder: Path) -> Made:
        """Build the module and export it."""
        from workers.models.torch_export import export_canonical

        return export_canonical(self.build(request), request, folder)


def import_packages(packages: tuple[str, ...]) -> None:
    """Import the modules of distributions that are called as their modules are."""
    for package in packages:
        with suppress(ImportError):  # scikit-learn and its like import under another name; they are no slow part
            importlib.import_module(package.replace("-", "_"))


@contextmanager
def finding_weights(request: ModelRequest) -> Iterator[None]:
    """Say of pretrained weights that are neither cached nor can be had that it is that.

    Raises:
        AttemptError: the library could not find or download them.
    """
    try:
        yield
    except OSError as error:
        if request.weights != "pretrained":
            raise
        message = f"pretrained weights of {request.name} are not cached and cannot be downloaded: {first_line(error)}"
        raise AttemptError(Cause.USER, "no_weights", message) from error


def write_examples(
    folder: Path, request: ModelRequest, examples: Examples, calibration: Examples | None
) -> tuple[Path, Path]:
    """Write examples and calibration inputs; the user's own calibration file wins over the source's."""
    if request.calibration is not None:
        calibration = load_user_calibration(Path(request.calibration), examples)
    examples_path, calibration_path = folder / "examples.npz", folder / "calibration.npz"
    examples.save(examples_path)
    (calibration or Examples(examples.inputs)).save(calibration_path)
    return examples_path, calibration_path


def file_digest(path: Path) -> str:
    """sha256 of a file's bytes; of a folder, of its files' names and bytes in order."""
    digest = hashlib.sha256()
    files = [path] if not path.is_dir() else sorted(item for item in path.rglob("*") if item.is_file())
    for file in files:
        if file != path:
            digest.update(f"{file.relative_to(path).as_posix()}\0{file.stat().st_size}\0".encode())
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def images(generator: np.random.Generator, count: int, shape: tuple[int, ...]) -> Array:
    """Seeded images, shape (count, batch, channels, height, width), float32, in the range of normalised photographs.

    Smooth random fields with a little noise: natural images are dominated by low frequencies, and white noise would
    calibrate quantisers to a range that photographs never have.
    """
    batch, channels, height, width = shape
    coarse = generator.uniform(0, 1, size=(count, batch, channels, 8, 8)).astype(np.float32)
    rows, columns = np.linspace(0, 7, height), np.linspace(0, 7, width)
    field_ = _interpolate(_interpolate(coarse, rows, axis=-2), columns, axis=-1)
    field_ = np.clip(field_ + generator.normal(0, 0.05, size=field_.shape), 0, 1)
    mean = np.array([0.485, 0.456, 0.406]).reshape(3, 1, 1)  # ImageNet's statistics, as torchvision's presets use
    std = np.array([0.229, 0.224, 0.225]).reshape(3, 1, 1)
    return np.asarray((field_ - mean) / std, dtype=np.float32)


def _interpolate(values: Array, at: Array, axis: int) -> Array:
    low = np.minimum(at.astype(np.int64), values.shape[axis] - 2)
    shape = [1] * values.ndim
    shape[axis] = len(at)
    weight = (at - low).reshape(shape).astype(np.float32)
    return np.asarray(np.take(values, low, axis) * (1 - weight) + np.take(values, low + 1, axis) * weight)
