"""`keras/<Application>`: any of keras.applications, with seeded random or pretrained weights."""

from __future__ import annotations

import re
import sys
from difflib import get_close_matches
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

import numpy as np

from workers.contract import ModelRequest
from workers.errors import AttemptError, Cause, first_line
from workers.examples import Array
from workers.models.channels_last import pixels
from workers.models.source import Made, MissingPackagesError, ModelSource, Resolved, UnknownModelError
from workers.plugins import package_versions

_PREFIX = "keras/"
#: The size of images where the application takes any.
_IMAGE_SIZE = 224


class KerasZoo(ModelSource):
    """Names are read from Keras' source, for importing it (and TensorFlow) costs seconds."""

    packages: ClassVar[tuple[str, ...]] = ("tensorflow", "keras")
    extra: ClassVar[str] = "tensorflow"

    def names(self) -> list[str]:
        """All applications of the installed Keras."""
        return [_PREFIX + name for name in _applications()]

    def resolve(self, request: ModelRequest) -> Resolved | None:
        """See `ModelSource.resolve`."""
        if not request.name.startswith(_PREFIX):
            return None
        name = request.name.removeprefix(_PREFIX)
        known = _applications()
        if not known:
            raise MissingPackagesError(f"{request.name}: Keras is not installed; pip install 'benchfarm[tensorflow]'")
        if name not in known:
            by_folded = {item.casefold(): item for item in known}
            matches = get_close_matches(name.casefold(), by_folded, n=3)
            close = ", ".join(_PREFIX + by_folded[match] for match in matches)
            raise UnknownModelError(
                f"unknown model {request.name}"
                + (f"; did you mean {close}?" if close else "; see benchfarm models list")
            )
        return Resolved(request.name, "savedmodel", "fp32", {"versions": package_versions(self.packages)}, request)

    def materialise(self, request: ModelRequest, folder: Path) -> Made:
        """Build the model and export it."""
        from workers.models.tf_export import export_canonical, import_keras

        keras = import_keras()
        keras.utils.set_random_seed(request.seed)
        build = getattr(keras.applications, request.name.removeprefix(_PREFIX))
        fresh = request.weights == "random"
        try:
            model = build(weights=None if fresh else "imagenet")
        except Exception as error:  # Keras raises a bare Exception for a download that failed
            if fresh:
                raise
            message = (
                f"pretrained weights of {request.name} are not cached and cannot be downloaded: {first_line(error)}"
            )
            raise AttemptError(Cause.USER, "no_weights", message) from error
        height, width, channels = (size or _IMAGE_SIZE for size in model.input_shape[1:])
        # What each application was trained on; those that preprocess inside take the pixels as they are.
        preprocess = sys.modules[build.__module__].preprocess_input

        def make_inputs(generator: np.random.Generator, count: int) -> dict[str, Array]:
            values = pixels(generator, count, (request.batch, height, width, channels))
            return {"image": np.asarray(preprocess(values), dtype=np.float32)}

        facts = {"task": "classification"}
        return export_canonical(model, make_inputs, request, folder, facts, fresh=fresh)


@cache
def _applications() -> list[str]:
    """Names exported from keras/src/applications/*.py as `keras.applications.<Name>`."""
    spec = find_spec("keras")
    if spec is None or spec.origin is None:
        return []
    exported = re.compile(r"^@keras_export\(([^)]*)\)\s*\ndef (\w+)\(", re.MULTILINE)
    found = []
    for file in sorted((Path(spec.origin).parent / "src" / "applications").glob("*.py")):
        for names, function in exported.findall(file.read_text(encoding="utf-8")):
            if f'"keras.applications.{function}"' in names:
                found.append(function)
    return sorted(found)
