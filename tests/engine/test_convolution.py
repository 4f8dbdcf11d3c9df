"""Convolutions as matrix products: equal to XLA's, and only where they should be."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from saal_jax.engine.convolution import as_matrix_products


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


KERNELS = [
    ((3, 3), ("NHWC", "HWIO", "NHWC")),
    ((1, 1), ("NHWC", "HWIO", "NHWC")),
    ((1, 1), ("NCHW", "OIHW", "NCHW")),
    ((2, 4), ("NHWC", "OIHW", "NCHW")),
]
EVERY_PAIR = [
    pytest.param(options, *kernel, marks=[] if kernel is KERNELS[0] or name == "uneven" else pytest.mark.slow, id=name)
    for name, options in PLAIN.items()
    for kernel in KERNELS
]


@pytest.mark.parametrize(("options", "kernel_size", "layout"), EVERY_PAIR)
def test_equals_xla_with_its_gradients(options, layout, kernel_size):
    inputs = random_array(0, *({"N": 2, "C": 3, "H": 9, "W": 11}[axis] for axis in layout[0]))
    sizes = dict(zip("HW", kernel_size, strict=True)) | {"I": 3, "O": 5}
    kernel = random_array(1, *(sizes[axis] for axis in layout[1]))

    def fun(inputs, kernel):
        return jnp.sin(lax.conv_general_dilated(inputs, kernel, dimension_numbers=layout, **options)).sum()

    assert "conv_general_dilated" not in primitives(as_matrix_products(fun), inputs, kernel)
    both = jax.jit(lambda *args: [jax.value_and_grad(f, (0, 1))(*args) for f in (fun, as_matrix_products(fun))])
    expected, found = both(inputs, kernel)
    chex.assert_trees_all_close(found, expected, rtol=2e-4, atol=2e-5)


def test_one_dimension():
    def fun(inputs, kernel):
        return lax.conv_general_dilated(inputs, kernel, (2,), "SAME", dimension_numbers=("NWC", "WIO", "NWC"))

    arguments = random_array(0, 2, 9, 3), random_array(1, 5, 3, 4)
    np.testing.assert_allclose(as_matrix_products(fun)(*arguments), fun(*arguments), rtol=1e-5, atol=1e-5)


GENERAL = {
    "depthwise": (random_array(0, 2, 8, 8, 4), random_array(1, 3, 3, 1, 4), dict(feature_group_count=4)),
    "grouped": (random_array(0, 2, 8, 8, 4), random_array(1, 3, 3, 2, 6), dict(feature_group_count=2)),
    "batches grouped": (random_array(0, 6, 8, 8, 4), random_array(1, 3, 3, 4, 6), dict(batch_group_count=3)),
    "transposed": (
        random_array(0, 2, 8, 8, 4),
        random_array(1, 3, 3, 4, 6),
        dict(lhs_dilation=(2, 2), padding=((1, 1), (1, 1))),
    ),
    "transposed, grouped, strided, dilated": (
        random_array(0, 2, 8, 7, 4),
        random_array(1, 3, 2, 2, 6),
        dict(
            lhs_dilation=(2, 3),
            rhs_dilation=(1, 2),
            window_strides=(3, 2),
            padding=((1, 0), (2, 1)),
            feature_group_count=2,
        ),
    ),
    "cropping": (random_array(0, 2, 8, 8, 4), random_array(1, 3, 3, 4, 6), dict(padding=((-1, 0), (0, -1)))),
    "a window larger than the output": (
        random_array(0, 3, 8, 8, 2),
        random_array(1, 7, 7, 2, 6),
        dict(padding="VALID"),
    ),
}


@pytest.mark.parametrize(("inputs", "kernel", "options"), GENERAL.values(), ids=GENERAL)
def test_groups_dilations_and_croppings_equal_xla(inputs, kernel, options):
    options = dict(padding="SAME", window_strides=(1, 1)) | options

    def fun(inputs, kernel):
        numbers = ("NHWC", "HWIO", "NHWC")
        return jnp.sin(lax.conv_general_dilated(inputs, kernel, dimension_numbers=numbers, **options)).sum()

    rewritten = as_matrix_products(fun)
    assert "conv_general_dilated" not in primitives(rewritten, inputs, kernel)
    of_the_gradient = as_matrix_products(jax.grad(fun, (0, 1)))  # the other way round: the gradient's own convolutions
    assert "conv_general_dilated" not in primitives(of_the_gradient, inputs, kernel)
    functions = [jax.value_and_grad(fun, (0, 1)), jax.value_and_grad(rewritten, (0, 1)), of_the_gradient]
    expected, found, gradient = jax.jit(lambda *args: [function(*args) for function in functions])(inputs, kernel)
    chex.assert_trees_all_close(found, expected, rtol=2e-4, atol=2e-5)
    chex.assert_trees_all_close(gradient, expected[1], rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_only_weights_of_ones_own_are_rewritten_where_shared_ones_are_not_asked_for(padding):
    def fun(inputs, kernel):
        return jnp.sin(lax.conv(inputs[None], kernel, (2, 1), padding)).sum()

    inputs, kernels = random_array(0, 5, 3, 8, 9), random_array(1, 5, 4, 3, 3, 2)
    shared = as_matrix_products(jax.vmap(fun, (0, None)), shared=False)
    assert "conv_general_dilated" in primitives(shared, inputs, kernels[0])
    np.testing.assert_array_equal(shared(inputs, kernels[0]), jax.vmap(fun, (0, None))(inputs, kernels[0]))

    own = jax.vmap(jax.value_and_grad(fun, 1))
    assert "conv_general_dilated" not in primitives(as_matrix_products(own, shared=False), inputs, kernels)
    found = jax.jit(as_matrix_products(own, shared=False))(inputs, kernels)
    chex.assert_trees_all_close(found, jax.jit(own)(inputs, kernels), rtol=1e-4, atol=1e-5)


def test_leaves_alone_what_has_no_output():
    def fun(inputs, kernel):
        return lax.conv(inputs, kernel, (1, 1), "VALID")

    arguments = random_array(0, 2, 4, 3, 3), random_array(1, 6, 4, 5, 5)
    assert as_matrix_products(fun)(*arguments).shape == fun(*arguments).shape == (2, 6, 0, 0)


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
