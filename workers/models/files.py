"""Model files: `.onnx`, `.tflite`, `.pt2`, `.mlpackage`. The file is the artifact, its own runtime the reference.

Its recipe is called `original`: benchfarm promises nothing about arithmetic that somebody else chose; the result says
what the runtime reads back.
"""

from __future__ import annotations

import itertools
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from workers.contract import ModelRequest
from workers.errors import AttemptError, BadModelError, Cause, UnsupportedError, first_line
from workers.examples import Array, Examples
from workers.models.source import (
    CALIBRATION_EXAMPLES,
    FIDELITY_EXAMPLES,
    Made,
    ModelSource,
    Resolved,
    UnknownModelError,
    file_digest,
    images,
    write_examples,
)

#: Name of an input to its shape (free dimensions are no whole numbers) and type.
Specs = dict[str, tuple[list[Any], np.dtype[Any]]]

#: Files beside a model that are looked at for its external data.
_MOST_NEIGHBOURS = 10_000
_FORMATS = {".onnx": "onnx", ".tflite": "tflite", ".pt2": "pt2", ".mlpackage": "mlpackage"}


class ModelFile(ModelSource):
    """A path that ends in one of the formats' suffixes."""

    def names(self) -> list[str]:
        """Files cannot be listed."""
        return []

    def resolve(self, request: ModelRequest) -> Resolved | None:
        """See `ModelSource.resolve`."""
        path = Path(request.name).expanduser().absolute()
        kind = _FORMATS.get(path.suffix.lower())
        if kind is None:
            if ":" in request.name or (not path.exists() and not request.name.startswith((".", "/", "~"))):
                return None  # a name for another source, or unknown to all
            suffixes = " ".join(_FORMATS)
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
        path = Path(request.name)
        take = {".onnx": _take_onnx, ".tflite": _take_tflite, ".pt2": _take_pt2, ".mlpackage": _take_mlpackage}
        return take[path.suffix.lower()](path, request, folder)


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
    examples, calibration = _make_examples(specs, request)
    outputs = [session.run(None, example) for example in examples.each()]
    return _made(artifact, request, folder, examples, outputs, calibration, {"opset": model.opset_import[0].version})


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
    examples, calibration = _make_examples(specs, request)
    outputs = []
    for example in examples.each():
        for name, value in example.items():
            interpreter.set_tensor(details[name]["index"], value)
        interpreter.invoke()
        outputs.append([interpreter.get_tensor(item["index"]).copy() for item in interpreter.get_output_details()])
    return _made(artifact, request, folder, examples, outputs, calibration, {})


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
    examples, calibration = _make_examples(specs, request)
    artifact = folder / "model.pt2"
    shutil.copyfile(path, artifact)
    with torch.no_grad():
        outputs = [flatten_outputs(module(*map(torch.from_numpy, values.values()))) for values in examples.each()]
    made = _made(artifact, request, folder, examples, outputs, calibration, {})
    return replace(made, sources=write_sources(program, folder))


def _take_mlpackage(path: Path, request: ModelRequest, folder: Path) -> Made:
    import coremltools

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
    examples, calibration = _make_examples(specs, request)
    artifact = folder / "model.mlpackage"
    shutil.copytree(path, artifact)
    return _made(
        artifact, request, folder, examples, [], calibration, {"reference": "none: Core ML runs on a Mac only"}
    )


def _made(
    artifact: Path,
    request: ModelRequest,
    folder: Path,
    examples: Examples,
    outputs: list[Any],
    calibration: Examples,
    facts: dict[str, Any],
) -> Made:
    stacks = tuple(np.stack([np.asarray(row[i]) for row in outputs]) for i in range(len(outputs[0]))) if outputs else ()
    examples = Examples(examples.inputs, stacks)
    examples_path, calibration_path = write_examples(folder, request, examples, calibration)
    facts = {"weights": "of the file", "inputs": examples.shapes(), **facts}
    return Made(artifact, examples_path, calibration_path, facts=facts)


def _make_examples(specs: Specs, request: ModelRequest) -> tuple[Examples, Examples]:
    """Seeded inputs of the model's shapes; a free first dimension becomes the batch.

    Raises:
        AttemptError: another dimension is free (a size made up here would be measured as if it were the user's), or the
            first is fixed and not the batch that was asked for.
    """
    shapes = {}
    for name, (shape, dtype) in specs.items():
        free = [index for index, size in enumerate(shape) if not isinstance(size, int) or size <= 0]
        if any(index > 0 for index in free):
            message = (
                f"{Path(request.name).name}: input {name} has the shape {shape}; fix all but the first when exporting"
            )
            raise AttemptError(Cause.USER, "free_dimensions", message)
        sizes = [request.batch if index in free else size for index, size in enumerate(shape)]
        if request.batch != 1 and (not sizes or sizes[0] != request.batch):
            raise AttemptError(
                Cause.USER,
                "fixed_batch",
                f"{Path(request.name).name}: input {name} has the fixed shape {sizes}, not a batch of {request.batch}",
            )
        shapes[name] = (tuple(sizes), dtype)

    def make(seed: int, count: int) -> Examples:
        generator = np.random.default_rng(seed)
        return Examples({name: _values(generator, count, shape, dtype) for name, (shape, dtype) in shapes.items()})

    return make(request.seed, FIDELITY_EXAMPLES), make(request.seed + 1, CALIBRATION_EXAMPLES)


def _values(generator: np.random.Generator, count: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    if np.issubdtype(dtype, np.floating):
        if len(shape) == 4 and shape[1] == 3 and min(shape[2:]) >= 8:
            return images(generator, count, shape).astype(dtype)
        return generator.standard_normal(size=(count, *shape)).astype(dtype)
    if dtype == np.bool_:
        return generator.integers(0, 2, size=(count, *shape)).astype(dtype)
    info = np.iinfo(dtype)
    low, high = (info.min, info.max + 1) if info.bits == 8 else (0, 1000)  # ids must fit unknown vocabularies
    return generator.integers(low, high, size=(count, *shape)).astype(dtype)
