"""A `.pt2` is hostile until proven otherwise: loading one can run code in four ways, and each is refused here first.

1. Tensors, constants and sample inputs may be pickles; torch unpickles some without `weights_only`.
2. Custom and opaque objects are unpickled, and compiled libraries (AOTInductor) are loaded, as they are.
3. The graph names its operators by dotted path from the torch module, through which any loaded module can be reached.
4. Symbolic shapes are strings that sympy evaluates.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from workers.errors import BadModelError, first_line

_CODE = "it could run code when loaded; benchfarm does not load it"
#: Operator namespaces made of tensor arithmetic only. `torch.ops.aten` has two operators that touch files.
_SAFE_TARGET = re.compile(
    r"torch\.ops\.(aten|prims|quantized_decomposed|quantized|torchvision|higher_order|torchao)\.\w+(\.\w+)?"
    r"|torch\._?sym_\w+|_operator\.\w+|math\.\w+"
)
_UNSAFE_OPERATORS = {"torch.ops.aten.save", "torch.ops.aten.from_file"}
#: Of the operator module, what takes no attribute names and calls nothing.
_SAFE_OPERATOR_FUNCTIONS = frozenset(
    [
        "add",
        "and_",
        "eq",
        "floordiv",
        "ge",
        "getitem",
        "gt",
        "le",
        "lt",
        "mod",
        "mul",
        "ne",
        "neg",
        "not_",
        "or_",
        "pos",
        "pow",
        "sub",
        "truediv",
    ]
)
_SAFE_EXPRESSION = re.compile(r"[\w\s+\-*/%(),.<>=&|~]*", re.ASCII)
_SAFE_SYMBOL = re.compile(
    r"[szuf]\d+|[su]\d*|\d+|True|False|And|Or|Not|Eq|Ne|Le|Lt|Ge|Gt|Max|Min|Mod|PythonMod|FloorDiv|CeilDiv|CleanDiv|IntTrueDiv|FloatTrueDiv|"
    r"ToFloat|TruncToInt|Abs|Pow|PowByNatural|FloatPow|Where|Identity|oo|int_oo|Integer|Symbol"
)


def refuse_code(path: Path) -> None:
    """Check every member of a `.pt2` before torch loads it.

    Raises:
        BadModelError: the file is damaged, of an old format, or holds something that could run code.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.testzip() is not None:
                raise BadModelError(f"{path.name} is damaged: a member's checksum is wrong")
            _check(archive, path.name)
    except (zipfile.BadZipFile, EOFError, OSError, ValueError, KeyError) as error:
        raise BadModelError(f"{path.name} is not a readable .pt2 file: {first_line(error)}") from error


def _check(archive: zipfile.ZipFile, name: str) -> None:
    names = archive.namelist()
    # torch's reader ignores case and takes another of two members of one name than Python's does: what is checked here
    # must be what is loaded there.
    if len({member.casefold() for member in names}) != len(names) or len({m.partition("/")[0] for m in names}) != 1:
        raise BadModelError(f"{name} holds two members of one name: {_CODE}")
    members = {member.partition("/")[2]: member for member in names}
    if "archive_format" not in members or archive.read(members["archive_format"]).strip() != b"pt2":
        raise BadModelError(
            f"{name} is not in today's .pt2 format; save it again with torch.export.save of torch 2.8 or newer"
        )
    pickled = {short for short in members if short.startswith("data/sample_inputs/")}
    for short, member in members.items():
        if short.startswith("data/aotinductor/") or "custom_obj_" in short or "opaque_obj_" in short:
            raise BadModelError(f"{name} holds {short}: {_CODE}")
        if short.endswith(".pt"):
            pickled.add(short)
        elif re.fullmatch(r"data/(weights|constants)/.*_config\.json", short):
            pickled |= _pickled_payloads(json.loads(archive.read(member)), short.rpartition("/")[0], name)
        elif short.startswith("models/"):
            _check_graph(json.loads(archive.read(member)), name)
    for short in sorted(pickled):
        _check_pickle(archive.read(members[short]), short, name)


def _pickled_payloads(config: dict[str, Any], folder: str, name: str) -> set[str]:
    found = set()
    for payload in config["config"].values():
        path = str(payload["path_name"])
        if not re.fullmatch(r"(weight|tensor)_\d+", path):
            raise BadModelError(f"{name} holds the payload {path!r}: {_CODE}")
        if payload.get("use_pickle"):
            found.add(f"{folder}/{path}")
    return found


def _check_pickle(data: bytes, member: str, name: str) -> None:
    import torch

    if not data:
        return
    try:
        torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")
    except Exception as error:
        raise BadModelError(f"{name} holds {member}, a pickle that is more than tensors: {_CODE}") from error


def _check_graph(document: Any, name: str) -> None:
    for key, value in _strings(document):
        if key == "target" and not _is_safe_target(value):
            raise BadModelError(f"{name} calls {value!r}: {_CODE}")
        if key == "expr_str" and not _is_safe_expression(value):
            raise BadModelError(f"{name} holds the symbolic expression {value!r}: {_CODE}")


def _is_safe_target(target: str) -> bool:
    # Targets without a dot are placeholders and attributes of the program itself (inputs, weights).
    module, _, function = target.partition(".")
    if not function or not target.startswith(("torch", "_operator", "math", "#")):
        return not target.startswith("#")
    if module == "_operator":
        return function in _SAFE_OPERATOR_FUNCTIONS
    return bool(_SAFE_TARGET.fullmatch(target)) and not any(
        target == unsafe or target.startswith(unsafe + ".") for unsafe in _UNSAFE_OPERATORS
    )


def _is_safe_expression(text: str) -> bool:
    if not _SAFE_EXPRESSION.fullmatch(text) or re.search(r"\.\s*[A-Za-z_]", text):
        return False
    return all(_SAFE_SYMBOL.fullmatch(word) for word in re.findall(r"[A-Za-z_]\w*", text, re.ASCII))


def _strings(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from _strings(item, name)
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item, key)
