"""The networks: their size, and batch normalisation that does not see padding."""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from saal_jax.models import MODELS
from saal_jax.models.layers import BatchNorm, max_pool


@pytest.mark.parametrize(
    ("name", "shape", "count"),
    [
        ("resnet18", (32, 32, 3), 11_173_962),
        ("small_cnn", (8, 8, 1), 6_090),
        ("center_net", (60, 80, 3), 84_414),
        ("unet", (60, 80, 3), 93_338),
    ],
)
def test_number_of_parameters(name, shape, count):
    weights = jax.eval_shape(MODELS[name](10).init, jax.random.key(0), jnp.zeros((1, *shape)))
    assert sum(leaf.size for leaf in jax.tree.leaves(weights.params)) == count


def drawn(model, images):
    """Weights drawn at random, without compiling their initialisation."""
    generator = np.random.default_rng(0)
    shapes = jax.eval_shape(model.init, jax.random.key(0), images)
    return jax.tree.map(lambda leaf: jnp.asarray(generator.uniform(0.1, 0.2, leaf.shape), leaf.dtype), shapes)


@pytest.mark.parametrize("name", MODELS)
def test_padded_rows_change_nothing(name):
    model = MODELS[name](3, width=4)
    images = jax.random.normal(jax.random.key(0), (4, 16, 16, 3))
    weights = drawn(model, images)
    outputs_train, mask = jax.jit(model.outputs_train), jnp.array([1, 1, 1, 0])
    (logits, *_), stats = outputs_train(weights, images, mask, jax.random.key(0))
    (padded_logits, *_), padded_stats = outputs_train(weights, images.at[3].set(1e3), mask, jax.random.key(0))
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[:3], b[:3]), padded_logits, logits)
    jax.tree.map(np.testing.assert_array_equal, padded_stats, stats)
    (alone, *_), stats_alone = outputs_train(weights, images[:3], jnp.ones(3), jax.random.key(0))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a[:3], b, rtol=1e-3, atol=1e-3), logits, alone)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), stats, stats_alone)


def test_running_variance_is_unbiased():
    inputs = jnp.array([[1.0], [3.0], [100.0]])
    layer = BatchNorm()
    variables = layer.init(jax.random.key(0), inputs, train=True)
    outputs, updated = layer.apply(variables, inputs, train=True, mask=jnp.array([1, 1, 0]), mutable=["batch_stats"])
    np.testing.assert_allclose(updated["batch_stats"]["mean"], [0.1 * 2.0], rtol=1e-6)
    np.testing.assert_allclose(updated["batch_stats"]["var"], [0.9 + 0.1 * 2.0], rtol=1e-6)  # biased would be 1
    np.testing.assert_allclose(outputs[:2, 0], [-1, 1], rtol=1e-5)  # normalised by the biased one


@pytest.mark.parametrize("name", MODELS)
def test_evaluation_looks_at_each_row_alone(name):
    model = MODELS[name](3, width=4)
    images = jax.random.normal(jax.random.key(0), (4, 16, 16, 3))
    weights = drawn(model, images)
    apply = jax.jit(model.apply)
    alone = jax.tree.map(lambda *rows: jnp.concatenate(rows), *[apply(weights, images[i : i + 1]) for i in range(4)])
    chex.assert_trees_all_close(apply(weights, images), alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [(4, 6), (5, 7), (2, 3)])
def test_max_pool_is_that_of_flax_with_its_gradient(size):
    images = jax.random.normal(jax.random.key(0), (2, *size, 3))
    fun = lambda pool: jax.value_and_grad(lambda images: jnp.sin(pool(images)).sum())(images)  # noqa: E731
    (value, gradient), (expected, expected_gradient) = fun(max_pool), fun(lambda x: nn.max_pool(x, (2, 2), (2, 2)))
    np.testing.assert_array_equal(value, expected)
    np.testing.assert_array_equal(gradient, expected_gradient)
