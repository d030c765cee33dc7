"""Model files: `.onnx`, `.tflite`, `.pt2`, `.mlpackage`, `.keras`, a SavedModel's folder.

The file is the artifact, its own runtime the reference; Keras' files are exported as the SavedModel they describe.

Its recipe is called `original`: benchfarm promises nothing about arithmetic that somebody else chose; the result says
what the runtime reads back.
"""

from __future__ import annotations

import itertools
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from workers.contract import ModelRequest
from workers.coremltools_alone import import_coremltools
from workers.errors import AttemptError, BadModelError, UnsupportedError, first_line
from workers.models.file_inputs import Specs, made_of, make_examples
from workers.models.source import (
    Made,
    ModelSource,
    Resolved,
    UnknownModelError,
    file_digest,
)

#: Files beside a model that are looked at for its external data.
_MOST_NEIGHBOURS = 10_000
_FORMATS = {
    ".onnx": "onnx",
    ".tflite": "tflite",
    ".pt2": "pt2",
    ".mlpackage": "mlpackage",
    ".keras": "savedmodel",
}
#: Keras 2's files: their loader runs code that they hold, whatever it is told.
_LEGACY = (".h5", ".hdf5")


class ModelFile(ModelSource):
    """A path that ends in one of the formats' suffixes, or the folder of a SavedModel."""

    revision: ClassVar[int] = 2  # images with their channels last

    def names(self) -> list[str]:
        """Files cannot be listed."""
        return []

    def resolve(self, request: ModelRequest) -> Resolved | None:
        """See `ModelSource.resolve`."""
        path = Path(request.name).expanduser().absolute()
        if path.name == "..":  # no name that anything could be called by
            path = path.resolve()
        kind = "savedmodel" if _is_saved_model(path) else _FORMATS.get(path.suffix.lower())
        if kind is None:
            if ":" in request.name or (not path.exists() and not request.name.startswith((".", "/", "~"))):
                return None  # a name for another source, or unknown to all
            if path.suffix.lower() in _LEGACY:
                raise UnknownModelError(
                    f"{request.name}: HDF5 files of Keras 2 can run code when loaded; "
                    f"save the model again with model.save('{path.stem}.keras') of Keras 3"
                )
            suffixes = " ".join((*_FORMATS, "or the folder of a SavedModel"))
            raise UnknownModelError(f"{request.name}: not a model file benchfarm knows ({suffixes})")
        if not path.exists():
            raise UnknownModelError(f"no such file: {request.name}")
        try:
            size = path.stat().st_size if path.is_file() else 1
            digest = file_digest(path)
        except OSError as error:
            raise UnknownModelError(f"cannot read {request.name}: {error.strerror}") from error
        if size == 0:
            raise UnknownModelError(f"{request.name} is empty")
        identity: dict[str, Any] = {"sha256": digest}
        if kind == "onnx":
            identity["external"] = {name: file_digest(path.parent / name) for name in _external_files(path)}
        return Resolved(path.name, kind, "original", identity, replace(request, name=str(path)), "of the file")

    def materialise(self, request: ModelRequest, folder: Path) -> Made:
        """Check the file, take it into the store, and record its own runtime's outputs as the reference."""
        from workers.models.tf_files import take_keras, take_saved_model

        path = Path(request.name)
        if _is_saved_model(path):
            return take_saved_model(path, request, folder)
        take = {
            ".onnx": _take_onnx,
            ".tflite": _take_tflite,
            ".pt2": _take_pt2,
            ".mlpackage": _take_mlpackage,
            ".keras": take_keras,
        }
        return take[path.suffix.lower()](path, request, folder)


def _is_saved_model(path: Path) -> bool:
    return (path / "saved_model.pb").is_file()


def _external_files(path: Path) -> list[str]:
    """Files below the model's folder whose relative names stand in the model: its external data, by any name."""
    content = path.read_bytes()
    below = (file for file in path.parent.rglob("*") if file.is_file() and file != path)
    names = (file.relative_to(path.parent).as_posix() for file in itertools.islice(below, _MOST_NEIGHBOURS))
    return sorted(name for name in names if name.encode() in content)


def _take_onnx(path: Path, request: ModelRequest, folder: Path) -> Made:
    import onnx
    import onnxruntime

    try:
        model = onnx.load(path)  # refuses external data outside the model's folder
        onnx.checker.check_model(model, full_check=False)
    except Exception as error:
        raise BadModelError(f"{path.name} is not a valid ONNX model: {first_line(error)}") from error
    newest = onnx.defs.onnx_opset_version()
    for opset in model.opset_import:
        if opset.domain in ("", "ai.onnx") and opset.version > newest:
            raise BadModelError(
                f"{path.name} uses opset {opset.version}; onnx {onnx.__version__} here knows up to {newest}"
            )
    artifact = folder / "model.onnx"
    onnx.save(model, artifact)  # one file, external data inside
    session_options = onnxruntime.SessionOptions()
    try:
        session = onnxruntime.InferenceSession(str(artifact), session_options, providers=["CPUExecutionProvider"])
    except Exception as error:
        reason = first_line(error).replace(str(artifact), path.name)
        raise BadModelError(f"onnxruntime does not load {path.name}: {reason}") from error
    from workers.runtimes.onnx_runtime import numpy_dtype

    specs: Specs = {item.name: (item.shape, numpy_dtype(item.type)) for item in session.get_inputs()}
    examples, calibration = make_examples(specs, request)
    outputs = [session.run(None, example) for example in examples.each()]
    return made_of(artifact, request, folder, examples, outputs, calibration, {"opset": model.opset_import[0].version})


def _take_tflite(path: Path, request: ModelRequest, folder: Path) -> Made:
    from ai_edge_litert.interpreter import Interpreter

    artifact = folder / "model.tflite"
    shutil.copyfile(path, artifact)
    if artifact.read_bytes()[4:8] != b"TFL3":
        raise BadModelError(f"{path.name} is not a TFLite flatbuffer")
    try:
        interpreter = Interpreter(str(artifact), num_threads=1)
        interpreter.allocate_tensors()
    except Exception as error:
        raise BadModelError(f"LiteRT does not load {path.name}: {first_line(error)}") from error
    details = _signature_inputs(interpreter)
    specs: Specs = {name: (item["shape"].tolist(), np.dtype(item["dtype"])) for name, item in details.items()}
    examples, calibration = make_examples(specs, request)
    outputs = []
    for example in examples.each():
        for name, value in example.items():
            interpreter.set_tensor(details[name]["index"], value)
        interpreter.invoke()
        outputs.append([interpreter.get_tensor(item["index"]).copy() for item in interpreter.get_output_details()])
    return made_of(artifact, request, folder, examples, outputs, calibration, {})


def _signature_inputs(interpreter: Any) -> dict[str, Any]:
    """Inputs by the names that the runtime and the quantiser know them by, in the signature's order."""
    signatures = interpreter.get_signature_list()
    if not signatures:
        return {item["name"]: item for item in interpreter.get_input_details()}
    return dict(interpreter.get_signature_runner(next(iter(signatures))).get_input_details())


def _take_pt2(path: Path, request: ModelRequest, folder: Path) -> Made:
    import torch

    from workers.models.torch_export import flatten_outputs, load_program, write_sources

    try:
        program = load_program(path)
        module = program.module()
        example = program.example_inputs[0] if program.example_inputs else None
    except AttemptError:
        raise
    except Exception as error:
        raise BadModelError(f"torch does not load {path.name}: {first_line(error)}") from error
    if not example or not all(isinstance(value, torch.Tensor) for value in example):
        raise BadModelError(f"{path.name} carries no example inputs; export it with tensors as inputs")
    specs: Specs = {f"input_{i}": (list(value.shape), value.numpy().dtype) for i, value in enumerate(example)}
    examples, calibration = make_examples(specs, request)
    artifact = folder / "model.pt2"
    shutil.copyfile(path, artifact)
    with torch.no_grad():
        outputs = [flatten_outputs(module(*map(torch.from_numpy, values.values()))) for values in examples.each()]
    made = made_of(artifact, request, folder, examples, outputs, calibration, {})
    return replace(made, sources=write_sources(program, folder))


def _take_mlpackage(path: Path, request: ModelRequest, folder: Path) -> Made:
    coremltools = import_coremltools()

    if any(item.is_symlink() for item in path.rglob("*")):
        raise BadModelError(f"{path.name} holds symbolic links, which could name any file of this machine")
    try:
        model = coremltools.models.MLModel(str(path), skip_model_load=True)
        spec = model.get_spec()
    except Exception as error:
        raise BadModelError(f"coremltools does not read {path.name}: {first_line(error)}") from error
    kinds = {65568: "float32", 65552: "float16", 131104: "int32"}  # MLMultiArrayDataType
    specs: Specs = {}
    for item in spec.description.input:
        array = item.type.multiArrayType
        if item.type.WhichOneof("Type") != "multiArrayType" or array.dataType not in kinds:
            raise UnsupportedError(f"{path.name}: input {item.name} is no array of numbers; benchfarm cannot make one")
        specs[item.name] = (list(array.shape), np.dtype(kinds[array.dataType]))
    examples, calibration = make_examples(specs, request)
    artifact = folder / "model.mlpackage"
    shutil.copytree(path, artifact)
    facts = {"reference": "none: Core ML runs on a Mac only"}
    return made_of(artifact, request, folder, examples, [], calibration, facts)
