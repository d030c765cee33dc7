"""torch-compile and eager torch: what ran is read back, compiled code is kept, profiles name the model's layers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import needs_compiler
from tests.integration.torch_attempts import Attempts
from tests.warm import WarmTorch
from workers.contract import Measurement, Profile, Result
from workers.runtimes.torch_compile import TorchCompile

COMPILED = "workers.runtimes.torch_compile:TorchCompile"
EAGER = "workers.runtimes.torch_eager:TorchEager"
#: Multiply-accumulates of the model, two operations each: stem, body, head.
STEM, BODY, HEAD = 2 * 16 * 16 * 16 * 27, 2 * 16 * 16 * 16 * 144, 2 * 160


@pytest.fixture(scope="module")
def attempts(tmp_path_factory: pytest.TempPathFactory, warm_torch: WarmTorch) -> Attempts:
    return Attempts(tmp_path_factory.mktemp("attempts"), warm_torch)


@pytest.fixture(scope="module")
def residual(attempts: Attempts) -> dict[str, str]:
    return attempts.make("residual")


@pytest.fixture(scope="module")
def measured(attempts: Attempts, residual: dict[str, str]) -> list[Measurement]:
    """Two measurements of one program, one after the other."""
    results = [attempts.measure(residual, COMPILED, freezing="off") for _ in range(2)]
    return [_measurement(result) for result in results]


@needs_compiler
def test_compiling_is_timed_and_what_ran_is_fp32(measured: list[Measurement]) -> None:
    first = measured[0]
    assert first.compile_ms is not None
    assert first.runtime.precision == "fp32"
    assert first.runtime.quantised_flop_share == 0
    assert first.runtime.options["threads"] == 1
    assert first.runtime.options["fp32_precision"] == "ieee"
    assert first.fidelity is not None
    assert first.fidelity.snr_db is None or first.fidelity.snr_db > 60


@needs_compiler
def test_a_second_attempt_finds_what_the_first_compiled(measured: list[Measurement]) -> None:
    first, second = (item.runtime.options["compile_cache"] for item in measured)
    assert first.startswith("miss")
    assert second == "hit"


def test_a_profile_of_eager_torch_has_one_operation_per_node(attempts: Attempts, residual: dict[str, str]) -> None:
    profile = _profile(attempts.profile(residual, EAGER))
    kinds = [op.type for op in profile.ops]
    assert kinds[:3] == ["aten::conv2d", "aten::batch_norm", "aten::relu"]
    stem, norm = profile.ops[:2]
    assert (stem.layers, stem.flops, stem.precision) == (("stem",), STEM, "fp32")
    assert stem.bytes == 4 * (3 * 32 * 32 + 16 * 27 + 16 * 16 * 16)
    assert (norm.layers, norm.flops) == (("norm",), None)
    assert sum(op.flops or 0 for op in profile.ops) == STEM + BODY + HEAD
    assert profile.ops[-1].type == "overhead"


@needs_compiler
def test_a_profile_of_compiled_code_names_the_layers_of_each_kernel(
    attempts: Attempts, residual: dict[str, str]
) -> None:
    profile = _profile(attempts.profile(residual, COMPILED))
    # Inductor writes the small product of the head itself, where nobody counts.
    stem, body = [op for op in profile.ops if op.flops][:2]
    assert (stem.flops, body.flops) == (STEM, BODY)
    assert stem.layers == ("stem", "norm", "relu")  # folded and fused
    assert body.layers[0] == "body"
    assert any(op.type == "fused" for op in profile.ops)
    assert {layer for op in profile.ops for layer in op.layers} >= {"stem", "norm", "relu", "body", "head"}


def test_without_a_compiler_the_host_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("workers.runtimes.torch_compile._PATH", str(tmp_path))
    monkeypatch.setattr("platform.system", lambda: "Linux")
    assert TorchCompile().missing() == ("no C++ compiler", "apt-get install g++")
    monkeypatch.setattr("platform.system", lambda: "Darwin")
    assert TorchCompile().missing() == ("no C++ compiler", "xcode-select --install")


def _measurement(result: Result) -> Measurement:
    assert result.measurement is not None, result.failure
    return result.measurement


def _profile(result: Result) -> Profile:
    assert result.profile is not None, result.failure
    assert result.profile.runs >= 5
    assert result.profile.method.startswith("torch.profiler")
    assert all(op.time_us > 0 for op in result.profile.ops if op.flops)
    return result.profile
