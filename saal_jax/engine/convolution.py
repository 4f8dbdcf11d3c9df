"""Convolutions that stay fast when every example has weights of its own.

Under `vmap` over weights, XLA's convolution becomes a grouped one, which is slow on CPU and GPU alike; inside a loop it
is slow on CPU whatever its weights. A matrix product stays a (batched) matrix product. `as_matrix_products` rewrites
the first into the second in any function, so that no network has to be edited.
"""

import itertools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from saal_jax.engine.jaxprs import rewritten


def as_matrix_products(fun: Callable, *, shared: bool = True) -> Callable:
    """Returns `fun` with its convolutions computed as matrix products; equal to rounding.

    Rewritten is `lax.conv_general_dilated` with any layout, stride, padding, dilation and grouping, also inside nested
    `jit`. Convolutions inside loops, branches and functions with custom derivatives are left as they are.

    Args:
      fun: any traceable function of positional arguments.
      shared: whether to rewrite convolutions without groups too. XLA is the faster for those outside loops; a kernel
        of one's own for each example is a group under `vmap`.
    """

    def replace(equation, inputs):
        if equation.primitive.name != "conv_general_dilated" or not equation.outvars[0].aval.size:
            return None
        groups = equation.params["feature_group_count"] * equation.params["batch_group_count"]
        return (
            [_convolution(inputs[0], inputs[1], groups, equation.outvars[0].aval.shape, equation.params)]
            if shared or groups > 1
            else None
        )

    return rewritten(fun, replace)


def _convolution(inputs, kernel, groups, shape, params):
    """Gathers shifted, strided views of `inputs` side by side and multiplies them with the kernel as one matrix.

    `[groups, rows, window and features] x [groups, window and features, out]`. There is one view per offset in the
    window, or, where the output is the smaller (a kernel's gradient), one per position of the output.
    """
    numbers = params["dimension_numbers"]
    inputs = jnp.transpose(inputs, (numbers.lhs_spec[0], *numbers.lhs_spec[2:], numbers.lhs_spec[1]))
    kernel = jnp.transpose(kernel, (*numbers.rhs_spec[2:], numbers.rhs_spec[1], numbers.rhs_spec[0]))
    inputs = _split(inputs, 0 if params["batch_group_count"] > 1 else -1, groups)  # [groups, N, *space, features]
    kernel = _split(kernel, -1, groups)  # [groups, *window, features, out]
    edges = [(low, high, step - 1) for (low, high), step in zip(params["padding"], params["lhs_dilation"], strict=True)]
    inputs = jax.lax.pad(inputs, jnp.zeros((), inputs.dtype), [(0, 0, 0), (0, 0, 0), *edges, (0, 0, 0)])

    batch, features = inputs.shape[1], inputs.shape[-1]
    window, out = kernel.shape[1:-2], kernel.shape[-1]
    size = tuple(shape[axis] for axis in numbers.out_spec[2:])
    strides, dilations = params["window_strides"], params["rhs_dilation"]

    def views(offsets, steps, counts, between):
        """For each offset, every `between`-th value from `offset * step` on, `counts` of them, along each axis."""
        for offset in itertools.product(*map(range, offsets)):
            starts = [place * step for place, step in zip(offset, steps, strict=True)]
            spans = zip(starts, counts, between, strict=True)
            yield inputs[:, :, *(slice(start, start + (n - 1) * skip + 1, skip) for start, n, skip in spans)]

    over_window = math.prod(window) <= math.prod(size)
    if over_window:
        rows = [view.reshape(groups, -1, features) for view in views(window, dilations, size, strides)]
        patches = jnp.concatenate(rows, axis=2)
    else:
        rows = [view.reshape(groups, batch, -1) for view in views(size, strides, window, dilations)]
        patches = jnp.concatenate(rows, axis=1)
    outputs = jnp.matmul(
        patches,
        kernel.reshape(groups, -1, out),
        precision=params["precision"] and params["precision"][0],
        preferred_element_type=params["preferred_element_type"],
    )
    # One transposition at most: where groups are one and the order is right, it costs nothing.
    outputs = outputs.reshape(groups, *((batch, *size) if over_window else (*size, batch)), out)
    batch_axis, space_axis = (1, 2) if over_window else (1 + len(size), 1)
    sources = [(batch_axis,), (0, outputs.ndim - 1), *((space_axis + i,) for i in range(len(size)))]
    by_place = sorted(zip(numbers.out_spec, sources, strict=True))
    return jnp.transpose(outputs, [axis for _, axes in by_place for axis in axes]).reshape(shape)


def _split(array, axis, groups):
    """Moves the `groups` that `axis` holds one after the other to a new leading axis."""
    if groups == 1:
        return array[None]
    axis %= array.ndim
    shape = (*array.shape[:axis], groups, array.shape[axis] // groups, *array.shape[axis + 1 :])
    return jnp.moveaxis(array.reshape(shape), axis, 0)
