"""A `.pt2` that would run code when loaded is refused before torch sees it."""

from __future__ import annotations

import pickle
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

MAKE = """
import sys, torch
torch.manual_seed(0)
module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU())
torch.export.save(torch.export.export(module.eval(), (torch.randn(1, 3, 8, 8),)), sys.argv[1])
"""
#: Loads each file that it is told in a process of its own, forked: torch is imported once.
LOAD = """
import os, sys
from pathlib import Path
import torch
from workers.errors import AttemptError
from workers.models.torch_export import load_program

def load(path):
    try:
        load_program(Path(path))
    except AttemptError as error:
        return f"REFUSED {error.code} {error.message}"
    return "LOADED"

for line in sys.stdin:
    if (pid := os.fork()) == 0:
        print(load(line.rstrip()), flush=True)
        os._exit(0)
    print("END", os.waitpid(pid, 0)[1], flush=True)
"""

Load = Callable[[Path], str]


class Bomb:
    """Runs code when unpickled."""

    def __init__(self, mark: str) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str, ...]]:
        import os

        return os.system, (f"touch {self.mark}",)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("program") / "good.pt2"
    subprocess.run([sys.executable, "-c", MAKE, str(path)], check=True, capture_output=True)
    return path


@pytest.fixture(scope="module")
def load() -> Iterator[Load]:
    """Load a program, in a process of its own; what came of it."""
    with _loader() as loader:

        def run(path: Path) -> str:
            assert loader.stdin is not None
            assert loader.stdout is not None
            print(path, file=loader.stdin, flush=True)
            said = ""
            while not (line := loader.stdout.readline().rstrip()).startswith("END"):
                assert line, "the loader died"
                said = line
            assert line == "END 0", (said, line)
            return said

        yield run


@contextmanager
def _loader() -> Iterator[subprocess.Popen[str]]:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([sys.executable, "-c", LOAD], text=True, **pipes) as loader:  # type: ignore[call-overload]
        yield loader
        loader.stdin.close()


def rewritten(
    source: Path, target: Path, edit: Callable[[str, bytes], bytes], extra: dict[str, bytes] | None = None
) -> Path:
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for item in old.infolist():
            new.writestr(item.filename, edit(item.filename, old.read(item.filename)))
        root = old.namelist()[0].partition("/")[0]
        for name, data in (extra or {}).items():
            new.writestr(f"{root}/{name}", data)
    return target


def test_an_honest_program_loads(load: Load, program: Path) -> None:
    assert load(program) == "LOADED"


def test_a_pickle_in_the_sample_inputs_is_refused(load: Load, program: Path, tmp_path: Path) -> None:
    mark = tmp_path / "ran"

    def edit(name: str, data: bytes) -> bytes:
        return pickle.dumps(Bomb(str(mark))) if "sample_inputs" in name else data

    said = load(rewritten(program, tmp_path / "evil.pt2", edit))
    assert said.startswith("REFUSED bad_model")
    assert "pickle" in said
    assert not mark.exists()


def test_a_pickled_weight_is_refused(load: Load, program: Path, tmp_path: Path) -> None:
    mark = tmp_path / "ran"

    def edit(name: str, data: bytes) -> bytes:
        if name.endswith("weights_config.json"):
            return data.replace(b'"use_pickle": false', b'"use_pickle": true')
        return pickle.dumps(Bomb(str(mark))) if name.endswith("weights/weight_0") else data

    assert load(rewritten(program, tmp_path / "evil.pt2", edit)).startswith("REFUSED bad_model")
    assert not mark.exists()


@pytest.mark.parametrize(
    "target", ["torch.os.system", "torch.hub.load", "_operator.methodcaller", "torch.ops.aten.save.default", "#evil:op"]
)
def test_an_operator_outside_of_tensor_arithmetic_is_refused(
    load: Load, program: Path, tmp_path: Path, target: str
) -> None:
    def edit(name: str, data: bytes) -> bytes:
        return data.replace(b'"torch.ops.aten.relu.default"', f'"{target}"'.encode()) if "models/" in name else data

    said = load(rewritten(program, tmp_path / "evil.pt2", edit))
    assert said.startswith("REFUSED bad_model")
    assert target in said


def test_a_symbolic_expression_that_is_code_is_refused(load: Load, program: Path, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    code = f"__import__('os').system('touch {mark}')"

    def edit(name: str, data: bytes) -> bytes:
        evil = f'{{"as_expr": {{"expr_str": "{code}", "hint": null}}}}'.encode()
        return data.replace(b'{"as_int": 8}', evil, 1) if "models/" in name else data

    assert load(rewritten(program, tmp_path / "evil.pt2", edit)).startswith("REFUSED bad_model")
    assert not mark.exists()


@pytest.mark.parametrize("member", ["data/aotinductor/model/lib.so", "data/constants/custom_obj_0"])
def test_compiled_code_and_custom_objects_are_refused(load: Load, program: Path, tmp_path: Path, member: str) -> None:
    said = load(rewritten(program, tmp_path / "evil.pt2", lambda _, data: data, {member: b"\x7fELF"}))
    assert said.startswith("REFUSED bad_model")
    assert member in said


@pytest.mark.parametrize("rename", [str, str.upper])
@pytest.mark.filterwarnings("ignore:Duplicate name")  # the archive is meant to hold two members of one name
def test_a_second_member_of_one_name_is_refused(
    load: Load, program: Path, tmp_path: Path, rename: Callable[[str], str]
) -> None:
    mark = tmp_path / "ran"
    target = tmp_path / "evil.pt2"
    with zipfile.ZipFile(program) as old, zipfile.ZipFile(target, "w") as new:
        for item in old.infolist():
            if "sample_inputs" in item.filename:
                head, _, tail = item.filename.partition("/")
                new.writestr(f"{head}/{rename(tail)}", pickle.dumps(Bomb(str(mark))))
            new.writestr(item.filename, old.read(item.filename))
    assert load(target).startswith("REFUSED bad_model")
    assert not mark.exists()


@pytest.mark.parametrize("keep", [0.3, 0.9])
def test_a_truncated_program_is_refused(load: Load, program: Path, tmp_path: Path, keep: float) -> None:
    data = program.read_bytes()
    (tmp_path / "cut.pt2").write_bytes(data[: int(len(data) * keep)])
    assert load(tmp_path / "cut.pt2").startswith("REFUSED bad_model")
