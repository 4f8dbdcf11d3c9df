"""Gradients of every example's own loss, kept as the factors they are products of.

The gradient of a kernel is bilinear in what enters its layer and in the gradient at what leaves it: two arrays of the
size of activations, where the gradient has the size of the weights. Computing the factors takes one forward and one
backward pass with weights that all examples share; only multiplying them out is work for each example alone.
"""

from collections import Counter
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.extend.core import Literal

from saal_jax.engine.convolution import as_matrix_products
from saal_jax.engine.jaxprs import bind, evaluate, trace
from saal_jax.typing import PyTree

_BILINEAR = ("conv_general_dilated", "dot_general")


def value_and_factors(fun: Callable, params: PyTree, *args: PyTree) -> tuple[Callable, Callable]:
    """Splits `jax.value_and_grad(fun, has_aux=True)` in two, the first half free of arrays as large as `params`.

    Factored are the leaves of `params` that enter one convolution or one product and nothing else, as they are or
    converted to another dtype (float32 weights of a network that computes in bfloat16); of the others the first half
    returns the gradient itself.

    Args:
      fun: `fun(params, *args) -> (value, aux)` of one example.
      params: pytree of weights; it and `args` are traced only.

    Returns:
      `factors_fn(params, *args) -> ((value, aux), factors)` and `gradients_fn(factors) -> gradients`, like `params`.
    """
    leaves, structure = jax.tree.flatten(params)
    closed, shapes = trace(fun, params, *args)
    layers = _layers(closed.jaxpr, len(leaves))
    others = [index for index in range(len(leaves)) if index not in layers]

    def factors_fn(params, *args):
        leaves = jax.tree.leaves(params)

        def tapped(others_now, taps):
            """`fun` with zeros added behind every factored layer: their gradients are what arrives there."""
            entering: dict = {}

            def replace(equation, inputs):
                index = layers_behind.get(equation.outvars[0]) if equation.outvars else None
                if index is None:
                    return None
                entering[index] = inputs[1 - layers[index][1]]
                (outputs,) = bind(equation, inputs)
                return [outputs + taps[index]]

            now = list(leaves)
            for index, leaf in zip(others, others_now, strict=True):
                now[index] = leaf
            outputs = evaluate(closed, [*now, *jax.tree.leaves(args)], replace)
            value, aux = jax.tree.unflatten(jax.tree.structure(shapes), outputs)
            return value, (aux, entering)

        layers_behind = {equation.outvars[0]: index for index, (equation, _) in layers.items()}
        taps = {index: jnp.zeros_like(equation.outvars[0].aval) for index, (equation, _) in layers.items()}
        differentiated = jax.value_and_grad(tapped, argnums=(0, 1), has_aux=True)
        (value, (aux, entering)), (gradients, arriving) = differentiated([leaves[index] for index in others], taps)
        return (value, aux), (entering, arriving, gradients)

    def gradients_fn(factors):
        entering, arriving, gradients = factors
        by_leaf = dict(zip(others, gradients, strict=True))
        for index, (equation, place) in layers.items():
            product = _product(equation, place, entering[index], arriving[index])
            by_leaf[index] = product.astype(closed.in_avals[index].dtype)
        return jax.tree.unflatten(structure, [by_leaf[index] for index in range(len(leaves))])

    return factors_fn, gradients_fn


def _layers(jaxpr, num_leaves):
    """`{index of a leaf: (the one equation it enters, as which operand)}`, for the leaves that are factored."""
    uses = Counter(atom for equation in jaxpr.eqns for atom in equation.invars if not isinstance(atom, Literal))
    uses.update(atom for atom in jaxpr.outvars if not isinstance(atom, Literal))
    numbers = {variable: index for index, variable in enumerate(jaxpr.invars[:num_leaves]) if uses[variable] == 1}
    layers = {}
    for equation in jaxpr.eqns:
        if equation.primitive.name == "convert_element_type" and uses[equation.outvars[0]] == 1:
            (before,) = equation.invars
            if not isinstance(before, Literal) and before in numbers:
                numbers[equation.outvars[0]] = numbers[before]
        if equation.primitive.name in _BILINEAR and len({atom.aval.dtype for atom in _ends(equation)}) == 1:
            places = [place for place, atom in enumerate(equation.invars) if not isinstance(atom, Literal)]
            kernels = [place for place in places if equation.invars[place] in numbers]
            if len(kernels) == 1:
                layers[numbers[equation.invars[kernels[0]]]] = (equation, kernels[0])
    return layers


def _ends(equation):
    return (*equation.invars, *equation.outvars)


def _product(equation, place, entering, arriving):
    """The gradient of operand `place` of a bilinear equation."""

    def layer(kernel):
        (outputs,) = bind(equation, [kernel, entering] if place == 0 else [entering, kernel])
        return outputs

    def transposed(arriving):
        (gradient,) = jax.linear_transpose(layer, equation.invars[place].aval)(arriving)
        return gradient

    return as_matrix_products(transposed)(arriving)
