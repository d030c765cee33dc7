"""workers.models: zoos of operators, blocks and prefixes: names in every spelling, sizes in closed form."""

from __future__ import annotations

from importlib.util import find_spec
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.calls import Call
from workers.contract import ModelRequest
from workers.models.block_zoo import BlockZoo
from workers.models.op_zoo import OpZoo, stack_of
from workers.models.operators import MOST_ELEMENTS, OPERATORS, bytes_of, flops_of
from workers.models.parameters import Number, read_name, write_name
from workers.models.prefix_zoo import BACKBONES, PrefixZoo
from workers.models.source import ModelSource, UnknownModelError

needs_torch = pytest.mark.skipif(find_spec("torchvision") is None, reason="torch is not installed")
NUMBERS = {"h": Number(default=8), "w": Number(default=8), "in": Number(default=4), "depth": Number(default=1, high=9)}


@given(st.fixed_dictionaries({name: st.integers(1, 9) for name in NUMBERS}), st.randoms())
def test_a_name_has_one_text_whatever_its_spelling(values: dict[str, int], order: object) -> None:
    canonical = write_name("op/x", values, NUMBERS)
    shuffled = list(values.items())
    order.shuffle(shuffled)  # type: ignore[attr-defined]
    spelled = Call("op/x", (), {name: f"0{value}" for name, value in shuffled}).text
    for text in (canonical, spelled):
        assert read_name(text, {"op/x": NUMBERS}) == ("op/x", values)
    assert write_name(*read_name(spelled, {"op/x": NUMBERS}), NUMBERS) == canonical


@pytest.mark.parametrize(
    ("given_name", "known"),
    [
        ("op/linear(m=1,k=4096,n=4096)", "op/linear"),
        ("op/conv2d(depth=3,out=64,h=64,w=64,in=128)", "op/conv2d(hw=64,out=64,depth=3)"),
        ("op/conv2d( h=64, w=32 )", "op/conv2d(h=64)"),
        ("op/upsample-nearest(hw=16)", "op/upsample-nearest(hw=16)"),
    ],
)
def test_a_model_is_known_by_its_canonical_name(given_name: str, known: str) -> None:
    resolved = OpZoo().resolve(ModelRequest(name=given_name))
    assert resolved is not None
    assert (resolved.name, resolved.request.name) == (known, known)


@pytest.mark.parametrize(
    ("zoo", "name", "message"),
    [
        (OpZoo(), "op/conv3d", "did you mean op/conv2d"),
        (OpZoo(), "op/conv2d(kernels=3)", "did you mean kernel?"),
        (OpZoo(), "op/conv2d(3)", "3 needs a name"),
        (OpZoo(), "op/conv2d(hw=64,h=32)", "hw and h are given"),
        (OpZoo(), "op/conv2d(hw=2)", "layer 1 has nothing left of its input 1 x 128 x 2 x 2"),
        (OpZoo(), "op/conv2d(hw=6,depth=3)", "layer 3 has nothing left"),
        (OpZoo(), "op/conv2d(groups=3)", "3 groups divide neither"),
        (OpZoo(), "op/linear(m=0)", "m=0 is no whole number from 1"),
        (OpZoo(), "op/linear(m=1.5)", "m=1.5 is no whole number"),
        (OpZoo(), "op/linear(m=1", "op/linear(m=1"),
        (OpZoo(), "op/linear(k=100000,n=100000)", "100000 x 100000, more than 2^31 elements"),
        (OpZoo(), "op/linear(depth=256)", "weights, more than 2^31"),
        (OpZoo(), "op/upsample-bilinear(depth=16)", "more than 2^31 elements"),
        (OpZoo(), "op/matmul(n=8,depth=2)", "square"),
        (OpZoo(), "op/pixelshuffle(channels=6)", "cannot be divided by 4"),
        (BlockZoo(), "block/mbcon", "did you mean block/mbconv"),
        (BlockZoo(), "block/mbconv(hw=100000)", "more than 2^31 elements"),
        (PrefixZoo(), "prefix/mobilenet_v2(blocks=21)", "no whole number from 1 to 20"),
        (PrefixZoo(), "prefix/mobilenet_v3", "did you mean prefix/mobilenet_v2"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(zoo: ModelSource, name: str, message: str) -> None:
    with pytest.raises(UnknownModelError) as refused:
        zoo.resolve(ModelRequest(name=name))
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("zoo", [OpZoo(), BlockZoo(), PrefixZoo()])
def test_names_of_other_sources_are_left_to_them_and_own_ones_resolve(zoo: ModelSource) -> None:
    assert zoo.resolve(ModelRequest(name="torchvision/resnet18")) is None
    assert [zoo.resolve(ModelRequest(name=name)).name for name in zoo.names()] == zoo.names()  # type: ignore[union-attr]


@given(st.sampled_from(sorted(OPERATORS)), st.integers(1, 3))
def test_a_stack_goes_on_from_layer_to_layer(name: str, batch: int) -> None:
    layers = stack_of(ModelRequest(name=name, batch=batch))
    assert all(after.inputs[0] == before.output for before, after in pairwise(layers))
    assert flops_of(stack_of(ModelRequest(name=name, batch=2 * batch))) == 2 * flops_of(layers)
    assert max(np.prod(layer.output) for layer in layers) <= MOST_ELEMENTS


#: The study compares each set at about equal FLOPs; within a sixth of the largest, as its own sizes are.
EQUAL = {
    "kernel sizes": [
        f"op/conv2d(hw={hw},in=512,out=512,kernel={kernel},padding={kernel // 2})"
        for hw, kernel in ((128, 1), (44, 3), (26, 5), (18, 7))
    ],
    "channel ratios": [
        f"op/conv2d(hw=64,in={ratio[0]},out={ratio[1]},padding=1)"
        for ratio in ((128, 128), (90, 180), (52, 312), (36, 432))
    ],
    "depths by channels": [
        f"op/conv2d(in={channels},out={channels},padding=1,depth={depth})"
        for depth, channels in ((1, 128), (2, 91), (3, 74), (4, 64), (6, 52), (8, 45))
    ],
    "depths by sides": [
        f"op/conv2d(hw={hw},padding=1,depth={depth})" for depth, hw in ((1, 32), (2, 23), (3, 18), (4, 16), (6, 13))
    ],
}


@pytest.mark.parametrize("name", sorted(EQUAL))
def test_the_studys_sets_have_about_equal_flops(name: str) -> None:
    flops = [flops_of(stack_of(ModelRequest(name=model))) for model in EQUAL[name]]
    assert min(flops) > 5 / 6 * max(flops)


@needs_torch
def test_closed_forms_are_what_torch_counts_and_shapes_what_it_computes() -> None:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    counted = ["op/conv2d(hw=9,in=4,out=6,stride=2,padding=1,groups=2,depth=2)", "op/linear(m=3,k=8,n=5,depth=3)"]
    counted.append("op/matmul(m=4,k=6,n=6,depth=2)")
    small = {"hw": 6, "channels": 4}
    others = [
        Call(name, (), {key: str(value) for key, value in small.items()}).text
        for name in OPERATORS
        if name not in ("op/conv2d", "op/linear", "op/matmul")
    ]
    others += ["op/transpose(h=6,w=5,channels=4,depth=3)", "op/upsample-bilinear(hw=3,channels=2,scale=3,depth=2)"]
    for name in counted + others:
        request = ModelRequest(name=name, batch=2)
        layers, built = stack_of(request), OpZoo().build(request)
        stacks = built.make_inputs(np.random.default_rng(0), 3)
        tensors = [torch.from_numpy(value[0]) for value in stacks.values()]
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            output = built.module(*tensors)
        assert tuple(output.shape) == layers[-1].output, name
        assert counter.get_total_flops() == (flops_of(layers) if name in counted else 0), name
        state = sum(tensor.numel() for key, tensor in built.module.state_dict().items() if "num_batches" not in key)
        moved = state + sum(tensor.numel() for tensor in tensors) + output.numel()
        assert bytes_of(layers) == 4 * moved, name
        assert 0.2 < float(output.std()) < 3, f"{name}: outputs neither vanish nor explode"


@needs_torch
def test_a_transposed_stack_is_no_single_permutation() -> None:
    import torch

    module = OpZoo().build(ModelRequest(name="op/transpose(h=2,w=3,channels=4,depth=3)")).module
    x = torch.arange(24.0).reshape(1, 2, 3, 4)
    once = x.permute(0, 3, 1, 2)
    assert torch.equal(module(x), once.reshape(x.shape).permute(0, 3, 1, 2).reshape(x.shape).permute(0, 3, 1, 2))
    assert not torch.equal(module(x).flatten(), x.flatten())


@needs_torch
@pytest.mark.parametrize("backbone", sorted(BACKBONES))
def test_all_blocks_and_the_linear_layer_are_the_whole_backbone(backbone: str) -> None:
    import torch
    import torchvision

    request = ModelRequest(name=backbone, seed=3)
    prefix = PrefixZoo().build(request).module.eval()
    torch.manual_seed(3)
    whole = torchvision.models.get_model(backbone.removeprefix("prefix/")).eval()
    image = torch.from_numpy(np.random.default_rng(0).standard_normal((1, 3, 32, 32), dtype=np.float32))
    with torch.no_grad():
        assert torch.equal(prefix(image), whole(image))
        stem = PrefixZoo().build(ModelRequest(name=f"{backbone}(blocks=1,linear=0)")).module.eval()
        assert stem(image).shape == (1, 32, 16, 16)
        cut = PrefixZoo().build(ModelRequest(name=f"{backbone}(blocks=2)")).module.eval()
        assert cut(image).shape == (1, 1000)


@needs_torch
def test_blocks_keep_their_shape() -> None:
    import torch

    for name in BlockZoo().names():
        built = BlockZoo().build(ModelRequest(name=f"{name}(hw=8,channels=8,depth=2)"))
        (stack,) = built.make_inputs(np.random.default_rng(0), 2).values()
        with torch.no_grad():
            assert built.module.eval()(torch.from_numpy(stack[0])).shape == (1, 8, 8, 8)
