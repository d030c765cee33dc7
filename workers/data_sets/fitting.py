"""A data set's arrays as a model takes them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from workers.data_sets.data_set import Wanted
from workers.data_sets.labelled import Labelled, bad_data


def fitted(data: Labelled, wanted: Wanted) -> Labelled:
    """Labelled arrays under a model's names and in its types and order.

    Raises:
        AttemptError: the model takes others, or of another shape.
    """
    given = dict(data.inputs)
    if set(given) != set(wanted.inputs):
        if len(given) != len(wanted.inputs):
            raise bad_data(
                f"{data.name} holds the inputs {', '.join(given)}, and the model takes {', '.join(wanted.inputs)}"
            )
        given = dict(zip(wanted.inputs, given.values(), strict=True))
    inputs = {}
    for name, (kind, shape) in wanted.inputs.items():
        stack = given[name]
        if stack.shape[1:] != shape:
            raise bad_data(f"an example of {data.name} has the shape {stack.shape[1:]}, and {name} takes {shape}")
        if not (np.issubdtype(stack.dtype, np.number) or stack.dtype == np.bool_):
            raise bad_data(f"{data.name} holds {stack.dtype} for {name}, which takes {kind}")
        if np.issubdtype(kind, np.integer) and not np.issubdtype(stack.dtype, np.integer):
            raise bad_data(f"{data.name} holds {stack.dtype} for {name}, which takes whole numbers ({kind})")
        if not np.isfinite(stack).all():
            raise bad_data(f"{data.name} holds NaN or infinity for {name}")
        inputs[name] = stack.astype(kind, copy=False)
    return replace(data, inputs=inputs)
