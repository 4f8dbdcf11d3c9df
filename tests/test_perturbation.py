"""The adversarial step: hand-worked values, its length, and optax's SAM as an oracle."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from optax import contrib

from saal_jax.perturbation import ascend


def test_hand_worked_values():
    params = {"a": jnp.array([2.0, -1.0]), "b": jnp.array(3.0)}
    gradients = {"a": jnp.array([1.0, 2.0]), "b": jnp.array(0.0)}
    plain = ascend(params, gradients, 0.5, adaptive=False)  # |g| = sqrt(5)
    chex.assert_trees_all_close(plain, {"a": jnp.array([2 + 0.5 / 5**0.5, -1 + 1 / 5**0.5]), "b": jnp.array(3.0)})
    adaptive = ascend(params, gradients, 0.5, adaptive=True)  # |w| g = (2, 2, 0), w^2 g = (4, 2, 0)
    chex.assert_trees_all_close(
        adaptive, {"a": jnp.array([2 + 0.5 * 4 / 8**0.5, -1 + 0.5 * 2 / 8**0.5]), "b": jnp.array(3.0)}
    )


def random_tree(seed):
    first, second = jax.random.split(jax.random.key(seed))
    return {"a": jax.random.normal(first, (5, 3)), "b": jax.random.normal(second, (4,))}


@pytest.mark.parametrize("rho", [0.0, 0.05, 2.0])
def test_the_step_has_length_rho_in_its_own_norm(rho):
    params, gradients = random_tree(0), random_tree(1)
    step = jax.tree.map(jnp.subtract, ascend(params, gradients, rho, adaptive=False), params)
    np.testing.assert_allclose(optax.tree.norm(step), rho, rtol=1e-4, atol=1e-6)
    step = jax.tree.map(jnp.subtract, ascend(params, gradients, rho, adaptive=True), params)
    scaled = jax.tree.map(lambda s, w: s / jnp.abs(w), step, params)
    np.testing.assert_allclose(optax.tree.norm(scaled), rho, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("adaptive", [True, False])
def test_nothing_moves_without_a_gradient(adaptive):
    params = random_tree(0)
    zero = jax.tree.map(jnp.zeros_like, params)
    chex.assert_trees_all_equal(ascend(params, zero, 0.05, adaptive=adaptive), params)


def test_a_plain_step_is_the_adversarial_step_of_optax():
    params = random_tree(0)

    def loss(params):
        return jnp.sum(jnp.sin(params["a"])) ** 2 + jnp.sum(params["b"] ** 3)

    adversary = optax.chain(contrib.normalize(), optax.sgd(0.05))
    transformation = contrib.sam(optax.sgd(1.0), adversary, sync_period=2, opaque_mode=True)
    state = transformation.init(params)
    updates, _ = transformation.update(
        jax.grad(loss)(params), state, params, grad_fn=lambda params, _: jax.grad(loss)(params)
    )
    ours = jax.grad(loss)(ascend(params, jax.grad(loss)(params), 0.05, adaptive=False))
    chex.assert_trees_all_close(updates, jax.tree.map(jnp.negative, ours), rtol=1e-4, atol=1e-5)
