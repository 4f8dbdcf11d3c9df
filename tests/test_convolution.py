"""Convolutions as matrix products: equal to XLA's, and only where they should be."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from saal_jax.convolution import as_matrix_products


def primitives(fun, *args):
    """Names of all primitives in the jaxpr of `fun`, nested ones included."""

    def walk(jaxpr):
        for equation in jaxpr.eqns:
            yield equation.primitive.name
            for value in equation.params.values():
                for inner in value if isinstance(value, (tuple, list)) else (value,):
                    inner = getattr(inner, "jaxpr", inner)
                    if hasattr(inner, "eqns"):
                        yield from walk(inner)

    return set(walk(jax.make_jaxpr(fun)(*args).jaxpr))


def random_array(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


PLAIN = {
    "same": dict(window_strides=(1, 1), padding="SAME"),
    "stride 2, same": dict(window_strides=(2, 2), padding="SAME"),
    "stride 2, padded by one": dict(window_strides=(2, 2), padding=((1, 1), (1, 1))),
    "uneven": dict(window_strides=(2, 3), padding=((0, 2), (1, 0))),
    "valid": dict(window_strides=(1, 1), padding="VALID"),
    "dilated": dict(window_strides=(1, 2), padding="SAME", rhs_dilation=(2, 3)),
}


@pytest.mark.parametrize("options", PLAIN.values(), ids=PLAIN)
@pytest.mark.parametrize("layout", [("NHWC", "HWIO", "NHWC"), ("NCHW", "OIHW", "NCHW"), ("NHWC", "OIHW", "NCHW")])
@pytest.mark.parametrize("kernel_size", [(3, 3), (1, 1), (2, 4)])
def test_equals_xla_with_its_gradients(options, layout, kernel_size):
    inputs = random_array(0, *({"N": 2, "C": 3, "H": 9, "W": 11}[axis] for axis in layout[0]))
    sizes = dict(zip("HW", kernel_size, strict=True)) | {"I": 3, "O": 5}
    kernel = random_array(1, *(sizes[axis] for axis in layout[1]))

    def fun(inputs, kernel):
        return jnp.sin(lax.conv_general_dilated(inputs, kernel, dimension_numbers=layout, **options)).sum()

    assert "conv_general_dilated" not in primitives(as_matrix_products(fun), inputs, kernel)
    expected = jax.value_and_grad(fun, (0, 1))(inputs, kernel)
    chex.assert_trees_all_close(
        jax.value_and_grad(as_matrix_products(fun), (0, 1))(inputs, kernel), expected, rtol=2e-4, atol=2e-5
    )


def test_one_dimension():
    def fun(inputs, kernel):
        return lax.conv_general_dilated(inputs, kernel, (2,), "SAME", dimension_numbers=("NWC", "WIO", "NWC"))

    arguments = random_array(0, 2, 9, 3), random_array(1, 5, 3, 4)
    np.testing.assert_allclose(as_matrix_products(fun)(*arguments), fun(*arguments), rtol=1e-5, atol=1e-5)


LEFT_ALONE = {
    "depthwise": (random_array(0, 2, 8, 8, 4), random_array(1, 3, 3, 1, 4), dict(feature_group_count=4)),
    "grouped": (random_array(0, 2, 8, 8, 4), random_array(1, 3, 3, 2, 6), dict(feature_group_count=2)),
    "transposed": (
        random_array(0, 2, 8, 8, 4),
        random_array(1, 3, 3, 4, 6),
        dict(lhs_dilation=(2, 2), padding=((1, 1), (1, 1))),
    ),
    "nothing comes out": (random_array(0, 2, 3, 3, 4), random_array(1, 5, 5, 4, 6), dict(padding="VALID")),
    "cropping": (random_array(0, 2, 8, 8, 4), random_array(1, 3, 3, 4, 6), dict(padding=((-1, 0), (0, -1)))),
}


@pytest.mark.parametrize(("inputs", "kernel", "options"), LEFT_ALONE.values(), ids=LEFT_ALONE)
def test_leaves_alone_what_it_does_not_know(inputs, kernel, options):
    options = dict(padding="SAME") | options

    def fun(inputs, kernel):
        return lax.conv_general_dilated(inputs, kernel, (1, 1), dimension_numbers=("NHWC", "HWIO", "NHWC"), **options)

    assert "conv_general_dilated" in primitives(as_matrix_products(fun), inputs, kernel)
    np.testing.assert_array_equal(as_matrix_products(fun)(inputs, kernel), fun(inputs, kernel))


def convolve(inputs, kernel):
    return lax.conv_general_dilated(inputs, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def test_descends_into_jit_and_keeps_custom_derivatives():
    def fun(inputs, kernel):
        return jax.nn.relu(jax.jit(convolve)(inputs, kernel)).sum()

    arguments = random_array(0, 1, 5, 5, 2), random_array(1, 3, 3, 2, 3)
    found = primitives(as_matrix_products(fun), *arguments)
    assert "conv_general_dilated" not in found
    assert "custom_jvp_call" in found
    # relu's custom derivative is 0 at 0, where that of a plain maximum is 1/2
    assert jax.grad(as_matrix_products(lambda x: jax.nn.relu(x)))(0.0) == 0.0
    expected = jax.grad(fun, (0, 1))(*arguments)
    chex.assert_trees_all_close(jax.grad(as_matrix_products(fun), (0, 1))(*arguments), expected, rtol=1e-4, atol=1e-5)


def test_convolutions_in_loops_and_custom_derivatives_keep_their_values():
    @jax.custom_vjp
    def scaled(inputs, kernel):
        return convolve(inputs, kernel)

    scaled.defvjp(lambda x, k: (convolve(x, k), (x, k)), lambda saved, cotangent: (3 * saved[0], 5 * saved[1]))

    def fun(inputs, kernel):
        looped = lax.fori_loop(0, 2, lambda _, x: convolve(x, kernel), inputs)
        return (scaled(inputs, kernel) + looped).sum()

    arguments = random_array(0, 1, 5, 5, 2), random_array(1, 3, 3, 2, 2)
    np.testing.assert_allclose(as_matrix_products(fun)(*arguments), fun(*arguments), rtol=1e-5)
    inputs, kernel = arguments
    gradient = jax.grad(as_matrix_products(lambda x: scaled(x, kernel).sum()))(inputs)
    np.testing.assert_array_equal(gradient, 3 * inputs)


def test_closed_over_tracers_and_pytrees():
    kernel = random_array(1, 3, 3, 2, 2)

    @jax.jit
    def fun(tree, kernel):
        return as_matrix_products(lambda tree: {"out": convolve(tree["in"], kernel)})(tree)

    inputs = random_array(0, 1, 5, 5, 2)
    np.testing.assert_allclose(fun({"in": inputs}, kernel)["out"], convolve(inputs, kernel), rtol=1e-5, atol=1e-5)
