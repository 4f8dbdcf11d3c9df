"""Convolutions that stay fast when every example has weights of its own.

Under `vmap` over weights, XLA's convolution becomes a grouped one, which is slow on CPU and GPU alike. A matrix product
stays a (batched) matrix product. `as_matrix_products` rewrites the first into the second in any function, so that no
network has to be edited.
"""

import itertools

import jax
import jax.numpy as jnp
from jax.extend.core import Literal

_NESTED = ("jit", "pjit")


def as_matrix_products(fun):
    """Returns `fun` with its plain convolutions computed as matrix products; equal to rounding.

    Rewritten are `lax.conv_general_dilated` calls of any layout, stride, padding and kernel dilation, also inside
    nested `jit`. Grouped and transposed convolutions, and convolutions inside loops, branches or functions with custom
    derivatives, are left as they are.
    """

    def wrapped(*args):
        closed, shape = jax.make_jaxpr(fun, return_shape=True)(*args)
        outputs = _evaluate(closed.jaxpr, closed.consts, jax.tree.leaves(args))
        return jax.tree.unflatten(jax.tree.structure(shape), outputs)

    return wrapped


def _evaluate(jaxpr, consts, args):
    values = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *args], strict=True))

    def read(atom):
        return atom.val if isinstance(atom, Literal) else values[atom]

    for equation in jaxpr.eqns:
        inputs = [read(atom) for atom in equation.invars]
        primitive, params = equation.primitive, equation.params
        if primitive.name == "conv_general_dilated" and _is_plain(params) and equation.outvars[0].aval.size:
            outputs = [_convolution(*inputs, params)]
        elif primitive.name in _NESTED and _has_convolution(params["jaxpr"].jaxpr):
            outputs = _evaluate(params["jaxpr"].jaxpr, params["jaxpr"].consts, inputs)
        else:
            with equation.ctx.manager:
                outputs = primitive.bind(*inputs, **primitive.get_bind_params(params))
            outputs = outputs if primitive.multiple_results else [outputs]
        values.update(zip(equation.outvars, outputs, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _has_convolution(jaxpr):
    """Whether a convolution stands in `jaxpr` or in a jit nested in it: other calls (relu's, say) stay whole."""
    return any(
        equation.primitive.name == "conv_general_dilated"
        or (equation.primitive.name in _NESTED and _has_convolution(equation.params["jaxpr"].jaxpr))
        for equation in jaxpr.eqns
    )


def _is_plain(params):
    return (
        params["feature_group_count"] == params["batch_group_count"] == 1
        and all(dilation == 1 for dilation in params["lhs_dilation"])
        and all(edge >= 0 for edges in params["padding"] for edge in edges)
    )


def _convolution(inputs, kernel, params):
    """Gathers the shifted, strided views of `inputs` side by side and multiplies them with the kernel as one matrix."""
    numbers, strides, dilations = params["dimension_numbers"], params["window_strides"], params["rhs_dilation"]
    inputs = jnp.transpose(inputs, (numbers.lhs_spec[0], *numbers.lhs_spec[2:], numbers.lhs_spec[1]))
    kernel = jnp.transpose(kernel, (*numbers.rhs_spec[2:], numbers.rhs_spec[1], numbers.rhs_spec[0]))
    inputs = jnp.pad(inputs, ((0, 0), *params["padding"], (0, 0)))
    *sizes, in_features, out_features = kernel.shape

    def view(offsets):
        index = [slice(None)]
        for axis, (offset, size, stride, dilation) in enumerate(zip(offsets, sizes, strides, dilations, strict=True)):
            last = inputs.shape[1 + axis] - (size - 1) * dilation + offset * dilation
            index.append(slice(offset * dilation, last, stride))
        return inputs[tuple(index)]

    views = [view(offsets) for offsets in itertools.product(*map(range, sizes))]
    patches = views[0] if len(views) == 1 else jnp.concatenate(views, axis=-1)
    outputs = jnp.matmul(
        patches,
        kernel.reshape(-1, out_features),
        precision=params["precision"] and params["precision"][0],
        preferred_element_type=params["preferred_element_type"],
    )
    out_axes = (numbers.out_spec[0], *numbers.out_spec[2:], numbers.out_spec[1])
    return jnp.moveaxis(outputs, range(outputs.ndim), out_axes)
