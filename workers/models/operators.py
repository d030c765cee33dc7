"""Single operators as models, in numbers only: shapes, weights and FLOPs of each layer, in closed form.

Convolutions, batch norms, resizing and pixel shuffle take torch's layout, (batch, channels, height, width), where the
published studies write (batch, height, width, channels). Layer norm, transpose and reshape take the latter as it is.
A FLOP is one multiplication, addition or comparison; a multiply-accumulate is two. Products are counted as
`torch.utils.flop_counter` counts them, without biases; operators that it does not know, as their summaries say. FLOPs
are those of the model as written: an optimiser may leave some out (of ReLUs in a row all but one, of batch norms, too).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod

from workers.models.parameters import Number
from workers.models.source import UnknownModelError

PREFIX = "op/"
Shape = tuple[int, ...]
Values = Mapping[str, int]
#: Runtimes count elements with 32 bits; no tensor of a model may have more.
MOST_ELEMENTS = 1 << 31


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One layer of a stack."""

    inputs: tuple[Shape, ...]
    output: Shape
    #: Tensors of weights.
    weights: tuple[Shape, ...] = ()
    flops: int = 0


@dataclass(frozen=True, kw_only=True)
class Operator:
    """What one operator computes, for values of its parameters."""

    summary: str
    numbers: Mapping[str, Number]
    #: Shape of the input for these values at batch 1.
    start: Callable[[Values], Shape]
    #: The layer that takes an input of this shape; among the values is its number, `layer`, from 1.
    layer: Callable[[Values, Shape], Layer]


def layers_of(name: str, operator: Operator, values: Values, batch: int) -> list[Layer]:
    """The layers of a stack, each with the shapes it really has.

    Args:
        name: as messages call it.
        operator: what is stacked.
        values: of all its parameters.
        batch: multiplies the input's first dimension.

    Raises:
        UnknownModelError: a layer cannot be, or a tensor has too many elements.
    """
    first, *rest = operator.start(values)
    shape: Shape = (first * batch, *rest)
    layers: list[Layer] = []
    for at in range(1, values.get("depth", 1) + 1):
        layer = operator.layer({**values, "layer": at}, shape)
        for tensor in (*layer.inputs, layer.output, *layer.weights):
            if min(tensor) < 1:
                raise UnknownModelError(f"{name}: layer {at} has nothing left of its input {_text(shape)}")
            if prod(tensor) > MOST_ELEMENTS:
                raise UnknownModelError(
                    f"{name}: layer {at} has a tensor of {_text(tensor)}, more than 2^31 elements; make it smaller"
                )
        layers.append(layer)
        shape = layer.output
    weights = sum(prod(tensor) for layer in layers for tensor in layer.weights)
    if weights > MOST_ELEMENTS:
        raise UnknownModelError(f"{name} has {weights} weights, more than 2^31; make it smaller or less deep")
    return layers


def flops_of(layers: list[Layer]) -> int:
    """FLOPs of one inference."""
    return sum(layer.flops for layer in layers)


def bytes_of(layers: list[Layer]) -> int:
    """Bytes that every fp32 runtime must move for one inference: inputs and weights read, the output written, once.

    What passes between the layers of a stack is not counted, for runtimes that fuse layers never write it.
    """
    weights = [tensor for layer in layers for tensor in layer.weights]
    return 4 * sum(map(prod, (*layers[0].inputs, *weights, layers[-1].output)))


def _text(shape: Shape) -> str:
    return " x ".join(map(str, shape))


def _square(hw: int, **more: Number) -> dict[str, Number]:
    return {"h": Number(default=hw), "w": Number(default=hw), **more, "depth": Number(default=1, high=256)}


def _channels_first(channels: str = "channels") -> Callable[[Values], Shape]:
    return lambda values: (1, values[channels], values["h"], values["w"])


def _channels_last(values: Values) -> Shape:
    return (1, values["h"], values["w"], values["channels"])


def _conv2d(values: Values, shape: Shape) -> Layer:
    batch, channels, *sides = shape
    kernel, out, groups = values["kernel"], values["out"], values["groups"]
    if channels % groups or out % groups:
        raise UnknownModelError(f"{PREFIX}conv2d: {groups} groups divide neither {channels} nor {out} channels evenly")
    height, width = ((side + 2 * values["padding"] - kernel) // values["stride"] + 1 for side in sides)
    weight = (out, channels // groups, kernel, kernel)
    output = (batch, out, height, width)
    return Layer(inputs=(shape,), output=output, weights=(weight, (out,)), flops=2 * prod(output) * prod(weight[1:]))


def _linear(values: Values, shape: Shape) -> Layer:
    output = (shape[0], values["n"])
    weights = ((values["n"], shape[1]), (values["n"],))
    return Layer(inputs=(shape,), output=output, weights=weights, flops=2 * prod(output) * shape[1])


def _matmul(values: Values, shape: Shape) -> Layer:
    batch, rows, inner = shape
    if values["depth"] > 1 and values["k"] != values["n"]:
        raise UnknownModelError(f"{PREFIX}matmul: at a depth above 1 the second matrix is square: give k and n alike")
    other, output = (batch, inner, values["n"]), (batch, rows, values["n"])
    return Layer(inputs=(shape, other), output=output, flops=2 * prod(output) * inner)


def _elementwise(flops: int, weights: int = 0) -> Callable[[Values, Shape], Layer]:
    def layer(values: Values, shape: Shape) -> Layer:
        vectors = tuple((values["channels"],) for _ in range(weights))
        return Layer(inputs=(shape,), output=shape, weights=vectors, flops=flops * prod(shape))

    return layer


def _upsample(flops: int) -> Callable[[Values, Shape], Layer]:
    def layer(values: Values, shape: Shape) -> Layer:
        batch, channels, height, width = shape
        output = (batch, channels, height * values["scale"], width * values["scale"])
        return Layer(inputs=(shape,), output=output, flops=flops * prod(output))

    return layer


def _maxpool(values: Values, shape: Shape) -> Layer:
    batch, channels, *sides = shape
    height, width = ((side - values["kernel"]) // values["stride"] + 1 for side in sides)
    output = (batch, channels, height, width)
    return Layer(inputs=(shape,), output=output, flops=(values["kernel"] ** 2 - 1) * prod(output))


def _transpose(values: Values, shape: Shape) -> Layer:
    batch, height, width, channels = shape
    last = values["layer"] == values["depth"]  # what others put out is taken as (batch, h, w, channels) again
    return Layer(inputs=(shape,), output=(batch, channels, height, width) if last else shape)


def _reshape(values: Values, shape: Shape) -> Layer:
    return Layer(inputs=(shape,), output=(prod(shape), 1), flops=prod(shape))


def _pixelshuffle(values: Values, shape: Shape) -> Layer:
    batch, channels, height, width = shape
    factor = values["factor"]
    if channels % factor**2:
        raise UnknownModelError(f"{PREFIX}pixelshuffle: {channels} channels cannot be divided by {factor**2}")
    return Layer(inputs=(shape,), output=(batch, channels // factor**2, height * factor, width * factor))


_CHANNELS = Number(default=128)
_DEPTH = Number(default=1, high=256)
#: Operator to what it is; sizes by default are those of the published study: (1, 32, 32, 128), and (.., 4096).
OPERATORS: dict[str, Operator] = {
    PREFIX + "conv2d": Operator(
        summary="2-d convolution with bias; layers after the first take `out` channels",
        numbers=_square(
            32,
            **{"in": _CHANNELS, "out": _CHANNELS},
            kernel=Number(default=3, high=1024),
            stride=Number(default=1, high=1024),
            padding=Number(default=0, low=0, high=1024),
            groups=Number(default=1),
        ),
        start=_channels_first("in"),
        layer=_conv2d,
    ),
    PREFIX + "linear": Operator(
        summary="(m x k)(k x n) with constant weights and bias; layers after the first are n x n",
        numbers={"m": Number(default=1), "k": Number(default=4096), "n": Number(default=4096), "depth": _DEPTH},
        start=lambda values: (values["m"], values["k"]),
        layer=_linear,
    ),
    PREFIX + "matmul": Operator(
        summary="(m x k)(k x n) of two inputs",
        numbers={"m": Number(default=1024), "k": Number(default=1024), "n": Number(default=1024), "depth": _DEPTH},
        start=lambda values: (1, values["m"], values["k"]),
        layer=_matmul,
    ),
    PREFIX + "relu": Operator(
        summary="the larger of 0 and x: 1 FLOP an element",
        numbers=_square(32, channels=_CHANNELS),
        start=_channels_first(),
        layer=_elementwise(1),
    ),
    PREFIX + "batchnorm": Operator(
        summary="batch norm of inference: 2 FLOPs an element",
        numbers=_square(32, channels=_CHANNELS),
        start=_channels_first(),
        layer=_elementwise(2, weights=4),
    ),
    PREFIX + "layernorm": Operator(
        # sum; difference; square, sum; scaled, weighed, shifted
        summary="layer norm over the channels, which come last: 7 FLOPs an element",
        numbers=_square(32, channels=_CHANNELS),
        start=_channels_last,
        layer=_elementwise(7, weights=2),
    ),
    PREFIX + "upsample-bilinear": Operator(
        # three interpolations of a + t (b - a)
        summary="twice the height and width at each layer, corners not aligned: 9 FLOPs an element",
        numbers=_square(32, channels=_CHANNELS, scale=Number(default=2, high=64)),
        start=_channels_first(),
        layer=_upsample(9),
    ),
    PREFIX + "upsample-nearest": Operator(
        summary="twice the height and width at each layer; no arithmetic",
        numbers=_square(32, channels=_CHANNELS, scale=Number(default=2, high=64)),
        start=_channels_first(),
        layer=_upsample(0),
    ),
    PREFIX + "maxpool": Operator(
        summary="the largest of each window",
        numbers=_square(
            32, channels=_CHANNELS, kernel=Number(default=2, high=1024), stride=Number(default=2, high=1024)
        ),
        start=_channels_first(),
        layer=_maxpool,
    ),
    PREFIX + "transpose": Operator(
        summary="(1, h, w, channels) to (1, channels, h, w), really moved; no arithmetic",
        numbers=_square(32, channels=_CHANNELS),
        start=_channels_last,
        layer=_transpose,
    ),
    PREFIX + "reshape": Operator(
        summary="(1, h, w, channels), scaled by a constant, to (channels h w, 1): a bare reshape moves nothing",
        numbers={"h": Number(default=64), "w": Number(default=64), "channels": _CHANNELS},
        start=_channels_last,
        layer=_reshape,
    ),
    PREFIX + "pixelshuffle": Operator(
        summary="(1, channels, h, w) to (1, channels / factor^2, h factor, w factor); no arithmetic",
        numbers={
            "h": Number(default=64),
            "w": Number(default=64),
            "channels": _CHANNELS,
            "factor": Number(default=2, high=64),
        },
        start=_channels_first(),
        layer=_pixelshuffle,
    ),
    PREFIX + "copy": Operator(
        summary="each element times a constant: reads all, writes all (a bare copy is removed by some runtimes)",
        numbers={"h": Number(default=32), "w": Number(default=32), "channels": _CHANNELS},
        start=_channels_first(),
        layer=_elementwise(1),
    ),
}
