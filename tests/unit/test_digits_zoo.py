"""The models of digits: named, seeded, and never tested on what they learn from."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest

from workers.contract import ModelRequest
from workers.models.digits_zoo import DigitsZoo
from workers.models.source import UnknownModelError

if find_spec("torch") is None or find_spec("sklearn") is None:
    pytest.skip("torch is not installed", allow_module_level=True)

ZOO = DigitsZoo()


def test_a_model_has_its_data_and_its_weights_named() -> None:
    found = ZOO.resolve(ModelRequest(name="digits/cnn"))
    assert found is not None
    assert (found.weights, found.data, found.format) == ("trained", "digits", "pt2")
    assert len(found.identity["digits"]) == 64
    assert ZOO.resolve(ModelRequest(name="torchvision/resnet18")) is None
    with pytest.raises(UnknownModelError, match="did you mean digits/cnn"):
        ZOO.resolve(ModelRequest(name="digits/cnnn"))


@pytest.mark.parametrize("name", ZOO.names())
def test_layers_are_the_same_for_the_same_seed(name: str) -> None:
    first, again, other = (ZOO.build(ModelRequest(name=name, seed=seed)) for seed in (0, 0, 1))
    states = [built.module.state_dict() for built in (first, again, other)]
    weight = next(iter(states[0]))
    assert all((states[0][key] == states[1][key]).all() for key in states[0])
    assert not (states[0][weight] == states[2][weight]).all()
    inputs = first.make_inputs(np.random.default_rng(0), 3)
    assert inputs["image"].shape == (3, 1, 1, 8, 8)


def test_no_digit_is_learnt_and_asked() -> None:
    built = ZOO.build(ModelRequest(name="digits/mlp"))
    assert built.train is not None
    assert built.test is not None
    learnt, asked = built.train.inputs["image"], built.test.inputs["image"]
    assert (len(learnt), len(asked)) == (1198, 599)
    assert asked.min() == 0
    assert asked.max() == 1
    assert not {image.tobytes() for image in learnt} & {image.tobytes() for image in asked}
    shares = np.bincount(built.test.labels) / len(asked)
    assert np.abs(shares - np.bincount(built.train.labels) / len(learnt)).max() < 0.005


def test_the_teacher_is_ten_times_as_large() -> None:
    def size(name: str) -> int:
        return sum(weight.numel() for weight in ZOO.build(ModelRequest(name=name)).module.parameters())

    assert 8 < size("digits/wide_cnn") / size("digits/cnn") < 12


def test_the_smallest_learns_the_digits() -> None:
    built = ZOO.build(ModelRequest(name="digits/mlp"))
    assert built.learn is not None
    learnt = built.learn()
    assert learnt["training"]["accuracy"] > 0.95
