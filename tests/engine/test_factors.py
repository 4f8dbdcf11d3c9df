"""Gradients in factors: multiplied out, they are the gradients."""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax

from saal_jax import max_perturbed_loss
from saal_jax.engine.factors import value_and_factors
from saal_jax.models import resnet18, small_cnn


def convolve(inputs, kernel, **options):
    numbers = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(inputs, kernel, (1, 1), "SAME", dimension_numbers=numbers, **options)


@jax.custom_vjp
def doubled_gradient(inputs, kernel):
    return convolve(inputs, kernel)


doubled_gradient.defvjp(
    lambda x, k: (convolve(x, k), (x, k)),
    lambda saved, cotangent: jax.tree.map(lambda g: 2 * g, jax.vjp(convolve, *saved)[1](cotangent)),
)


def params(**shapes):
    keys = jax.random.split(jax.random.key(0), len(shapes))
    return {name: jax.random.normal(key, shapes[name]) for name, key in zip(shapes, keys, strict=True)}


# function of params and one image [6, 6, 2], the params, and how many of its leaves are factored
NETWORKS = {
    "plain": (lambda p, x: convolve(x[None], p["k"]) + p["b"][None, None, None], params(k=(3, 3, 2, 4), b=(4,)), 1),
    "in jit": (lambda p, x: jax.jit(convolve)(x[None], p["k"]), params(k=(3, 3, 2, 4)), 1),
    "dense, from either side": (
        lambda p, x: (p["left"] @ x.ravel()) @ p["right"],
        params(left=(5, 72), right=(5, 3)),
        2,
    ),
    "depthwise": (lambda p, x: convolve(x[None], p["k"], feature_group_count=2), params(k=(3, 3, 1, 2)), 1),
    "used twice": (lambda p, x: convolve(convolve(x[None], p["k"]), p["k"]), params(k=(3, 3, 2, 2)), 0),
    "also an output": (lambda p, x: convolve(x[None], p["k"]).sum() + p["k"].sum(), params(k=(3, 3, 2, 2)), 0),
    "standardised": (lambda p, x: convolve(x[None], p["k"] / jnp.std(p["k"])), params(k=(3, 3, 2, 2)), 0),
    "custom derivative": (lambda p, x: doubled_gradient(x[None], p["k"]), params(k=(3, 3, 2, 2)), 0),
    "kernel made of an image": (lambda p, x: p["a"] @ (p["b"] @ x.reshape(2, -1)), params(a=(3, 2), b=(2, 2)), 2),
    "product of two leaves": (lambda p, x: (p["a"] @ p["b"]) * x.sum(), params(a=(3, 2), b=(2, 4)), 0),
    "in a loop": (
        lambda p, x: lax.fori_loop(0, 2, lambda _, y: convolve(y, p["k"]), x[None]),
        params(k=(3, 3, 2, 2)),
        0,
    ),
    "converted": (
        lambda p, x: convolve(x[None].astype(jnp.bfloat16), p["k"].astype(jnp.bfloat16)).astype(jnp.float32),
        params(k=(3, 3, 2, 4)),
        1,
    ),
    "converted, and used as it is": (
        lambda p, x: convolve(x[None].astype(jnp.bfloat16), p["k"].astype(jnp.bfloat16)).sum() + p["k"].sum(),
        params(k=(3, 3, 2, 4)),
        0,
    ),
    "not used": (lambda p, x: x.sum() * p["a"], params(a=(), b=(3,)), 0),
}


@pytest.mark.parametrize(("network", "weights", "num_factored"), NETWORKS.values(), ids=NETWORKS)
def test_multiplied_out_they_are_the_gradients(network, weights, num_factored):
    def fun(weights, image, scale):
        return scale * jnp.sin(network(weights, image)).sum(), {"twice": 2 * scale}

    images, scales = jax.random.normal(jax.random.key(1), (3, 6, 6, 2)), jnp.arange(3.0)
    factors_fn, gradients_fn = value_and_factors(fun, weights, images[0], scales[0])
    values, factors = jax.jit(jax.vmap(factors_fn, (None, 0, 0)))(weights, images, scales)
    assert len(factors[0]) == len(factors[1]) == num_factored
    expected = jax.jit(jax.vmap(jax.value_and_grad(fun, has_aux=True), (None, 0, 0)))(weights, images, scales)
    chex.assert_trees_all_close((values, jax.jit(jax.vmap(gradients_fn))(factors)), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("model", [pytest.param(resnet18(3, width=2), marks=pytest.mark.slow), small_cnn(3, width=2)])
def test_every_kernel_of_the_networks_is_factored(model):
    images = jax.random.normal(jax.random.key(0), (2, 8, 8, 1))
    weights = jax.jit(model.init)(jax.random.key(1), images)

    def fun(params, image):
        return jnp.sin(model.apply(weights._replace(params=params), image[None])).sum(), ()

    factors_fn, gradients_fn = value_and_factors(fun, weights.params, images[0])
    _, (entering, _, _) = jax.eval_shape(factors_fn, weights.params, images[0])
    assert len(entering) == sum(leaf.ndim > 1 for leaf in jax.tree.leaves(weights.params))
    _, factors = jax.jit(jax.vmap(factors_fn, (None, 0)))(weights.params, images)
    expected = jax.jit(jax.vmap(jax.grad(fun, has_aux=True), (None, 0)))(weights.params, images)[0]
    chex.assert_trees_all_close(jax.jit(jax.vmap(gradients_fn))(factors), expected, rtol=1e-3, atol=1e-4)


def test_the_first_half_makes_nothing_as_large_as_a_kernel():
    weights = params(k=(3, 3, 64, 64))

    def fun(weights, image):
        return convolve(image[None], weights["k"]).sum(), ()

    factors_fn, _ = value_and_factors(fun, weights, jnp.zeros((4, 4, 64)))
    _, factors = jax.eval_shape(factors_fn, weights, jnp.zeros((4, 4, 64)))
    assert sum(leaf.size for leaf in jax.tree.leaves(factors)) == 2 * 4 * 4 * 64


class InBfloat16(nn.Module):
    """Two convolutions and a linear layer of Flax, which computes in bfloat16 with weights in float32."""

    @nn.compact
    def __call__(self, images):
        hidden = nn.relu(nn.Conv(4, (3, 3), dtype=jnp.bfloat16)(images))
        hidden = nn.relu(nn.Conv(8, (3, 3), strides=2, dtype=jnp.bfloat16)(hidden))
        return nn.Dense(3, dtype=jnp.bfloat16)(hidden.reshape(len(hidden), -1)).astype(jnp.float32)


def test_kernels_of_a_network_in_bfloat16_are_factored_and_score_as_its_gradients_do():
    model, images = InBfloat16(), jax.random.normal(jax.random.key(1), (6, 8, 8, 1))
    weights = jax.jit(model.init)(jax.random.key(0), images)

    def fun(weights, image):
        logits = model.apply(weights, image[None])[0]
        return optax.softmax_cross_entropy_with_integer_labels(logits, logits.argmax()), ()

    factors_fn, gradients_fn = value_and_factors(fun, weights, images[0])
    _, factors = jax.jit(factors_fn)(weights, images[0])
    assert len(factors[0]) == 3
    gradients = jax.jit(gradients_fn)(factors)
    expected = jax.jit(jax.grad(fun, has_aux=True))(weights, images[0])[0]
    chex.assert_trees_all_equal_dtypes(gradients, expected)
    chex.assert_trees_all_close(gradients, expected, rtol=0.02, atol=1e-3)
    assert np.isfinite(max_perturbed_loss(model.apply, weights, images)).all()
