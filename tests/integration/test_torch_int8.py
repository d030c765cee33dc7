"""Programs of torch in int8 and bf16: what is said of the arithmetic is what ran; what would run in fp32 is refused."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from tests.conftest import needs_compiler
from tests.integration.torch_attempts import Attempts
from tests.warm import WarmTorch
from workers.contract import Result
from workers.errors import UNSUPPORTED
from workers.runtimes.torch_eager import TorchEager

COMPILED = "workers.runtimes.torch_compile:TorchCompile"
EAGER = "workers.runtimes.torch_eager:TorchEager"
PT2E = "workers.converters.torch_quantize:TorchQuantize"
TORCHAO = "workers.converters.torchao_quantize:TorchAoQuantize"


@pytest.fixture(scope="module")
def attempts(tmp_path_factory: pytest.TempPathFactory, warm_torch: WarmTorch) -> Attempts:
    return Attempts(tmp_path_factory.mktemp("attempts"), warm_torch)


@pytest.fixture(scope="module")
def perceptron(attempts: Attempts) -> dict[str, str]:
    return attempts.make("perceptron")


@pytest.fixture(scope="module")
def dynamic(attempts: Attempts, perceptron: dict[str, str]) -> dict[str, str]:
    return attempts.converted(perceptron, TORCHAO, "int8-dynamic")


@pytest.fixture(scope="module")
def static(attempts: Attempts) -> dict[str, str]:
    return attempts.converted(attempts.make("residual"), PT2E, "int8-static")


def test_eager_torch_multiplies_dynamic_int8_in_integers(attempts: Attempts, dynamic: dict[str, str]) -> None:
    measured = attempts.measure(dynamic, EAGER, "int8-dynamic").measurement
    assert measured is not None
    assert measured.runtime.quantised_flop_share == 1
    assert measured.runtime.precision == "int8"
    assert measured.fidelity is not None
    assert measured.fidelity.snr_db is not None
    assert measured.fidelity.snr_db > 25


@needs_compiler
def test_compiled_dynamic_int8_multiplies_in_integers(attempts: Attempts, dynamic: dict[str, str]) -> None:
    measured = attempts.measure(dynamic, COMPILED, "int8-dynamic").measurement
    assert measured is not None
    assert measured.runtime.quantised_flop_share == 1


@needs_compiler
def test_compiled_static_int8_is_fused_into_integer_kernels(attempts: Attempts, static: dict[str, str]) -> None:
    result = attempts.profile(static, COMPILED, "int8-static")
    assert result.profile is not None, result.failure
    facts = result.profile.runtime
    assert facts.precision == "int8"
    # Of the small product of the head, which inductor writes itself, nobody tells: it does not count as integers.
    assert facts.quantised_flop_share is not None
    assert 0.999 < facts.quantised_flop_share <= 1
    products = [op for op in result.profile.ops if op.flops]
    assert {op.precision for op in products} == {"int8"}
    assert [op.layers[0] for op in products[:2]] == ["stem", "body"]


def test_a_program_in_bf16_multiplies_in_bf16(attempts: Attempts, perceptron: dict[str, str]) -> None:
    converted = attempts.converted(perceptron, "workers.converters.torch_cast:TorchCast", "bf16")
    measured = attempts.measure(converted, EAGER, "bf16").measurement
    assert measured is not None
    assert measured.runtime.precision == "bf16"
    assert measured.runtime.quantised_flop_share == 0
    assert measured.fidelity is not None
    assert measured.fidelity.snr_db is not None
    assert 10 < measured.fidelity.snr_db < 60


def test_weights_that_are_int8_only_are_multiplied_in_fp32(attempts: Attempts, perceptron: dict[str, str]) -> None:
    converted = attempts.converted(perceptron, TORCHAO, "int8-weight")
    measured = attempts.measure(converted, EAGER, "int8-weight").measurement
    assert measured is not None
    assert measured.runtime.precision == "fp32"
    assert measured.runtime.quantised_flop_share == 0


def test_quantised_files_hold_no_fp32_weights(perceptron: dict[str, str], dynamic: dict[str, str]) -> None:
    # A quarter of the weights' bytes, and the graph.
    weights = 4 * (64 * 128 + 128 * 16)
    assert _weights_of(perceptron) >= weights
    assert _weights_of(dynamic) < weights / 2


def test_eager_torch_refuses_static_int8_before_anything_runs() -> None:
    assert "torch-compile" in TorchEager().refuses["int8-static"]


def test_without_freezing_static_int8_is_refused(attempts: Attempts, static: dict[str, str]) -> None:
    failure = _failure(attempts.measure(static, COMPILED, "int8-static", freezing="off"))
    assert "freezing=on" in failure


def test_a_program_without_linear_layers_is_unsupported_by_torchao(attempts: Attempts) -> None:
    failure = _failure(attempts.convert(attempts.make("convolution"), TORCHAO, "int8-dynamic"))
    assert "linear" in failure


def _failure(result: Result) -> str:
    assert result.failure is not None
    assert result.failure.code == UNSUPPORTED
    return result.failure.message


def _weights_of(paths: dict[str, str]) -> int:
    with zipfile.ZipFile(Path(paths["artifact"])) as archive:
        return sum(item.file_size for item in archive.infolist() if "/data/" in item.filename)
