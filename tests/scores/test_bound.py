"""The terms of the bound: against dense Hessians, by hand, and plain gradients."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree
from sklearn.datasets import load_digits

from saal_jax import (
    InputError,
    expected_gradient_length,
    gradient_norm,
    max_perturbed_loss,
    score_pool,
    upper_bound_terms,
)
from saal_jax.models import Weights, small_cnn
from saal_jax.scores.lanczos import largest_eigenvalue
from tests.toys import convolved, convolved_params

MODEL = small_cnn(10, width=6)  # 1,210 parameters
DIGITS = (load_digits().images[..., None] / 16 - 0.3) / 0.4


@jax.jit
def apply_cnn(params, images):
    return MODEL.apply(Weights(params, {}), images)


def cnn_params():
    return jax.jit(MODEL.init)(jax.random.key(3), jnp.zeros((1, 8, 8, 1))).params


NETWORKS = {convolved: convolved_params, apply_cnn: cnn_params}
each_network = pytest.mark.parametrize("apply_fn", [convolved, pytest.param(apply_cnn, marks=pytest.mark.slow)])


def linear(params, images):
    return images @ params


def losses(apply_fn, params, images, labels):
    return optax.softmax_cross_entropy_with_integer_labels(apply_fn(params, images), labels)


@functools.cache
def trained(steps, apply_fn=convolved):
    """Weights after that many steps on 100 digits: sure to 1e-8 of some images after 1,000."""
    images, labels = jnp.float32(DIGITS[:100]), jnp.asarray(load_digits().target[:100])
    optimizer = optax.adam(3e-3)

    @jax.jit
    def step(params, opt_state):
        gradients = jax.grad(lambda params: losses(apply_fn, params, images, labels).mean())(params)
        updates, opt_state = optimizer.update(gradients, opt_state)
        return optax.apply_updates(params, updates), opt_state

    params = NETWORKS[apply_fn]()
    opt_state = optimizer.init(params)
    for _ in range(steps):
        params, opt_state = step(params, opt_state)
    return params


def in_float64(tree):
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), tree)


@functools.partial(jax.jit, static_argnums=0)
def hessian(apply_fn, params, image, label):
    flat, unravel = ravel_pytree(params)
    return jax.hessian(lambda flat: losses(apply_fn, unravel(flat), image[None], label[None])[0])(flat)


@pytest.mark.parametrize(
    ("apply_fn", "steps", "kind"),
    [
        (convolved, 0, "pseudo"),
        pytest.param(apply_cnn, 0, "pseudo", marks=pytest.mark.slow),
        *(pytest.param(apply_cnn, 1000, kind, marks=pytest.mark.slow) for kind in ("true", "argmin")),
    ],
)
def test_the_eigenvalue_is_the_largest_of_the_dense_hessian(apply_fn, steps, kind):
    single = jnp.float32(DIGITS[96:104])  # the first four are trained on
    with jax.enable_x64(True):
        params, images = in_float64((trained(steps, apply_fn), single))
        logits = apply_fn(params, images)
        labels = {"pseudo": logits.argmax(1), "true": load_digits().target[96:104], "argmin": logits.argmin(1)}[kind]
        labels = jnp.asarray(labels, jnp.int32)
        pairs = zip(images, labels, strict=True)
        expected = 0.005 * np.array([np.linalg.eigvalsh(hessian(apply_fn, params, *pair))[-1] for pair in pairs])
        found = upper_bound_terms(apply_fn, params, images, labels, rho=0.1)
        assert all(term.dtype == jnp.float64 for term in found)
    np.testing.assert_allclose(found[2], expected, rtol=1e-3)
    found = upper_bound_terms(apply_fn, trained(steps, apply_fn), single, labels, rho=0.1)
    assert all(term.dtype == jnp.float32 for term in found)
    np.testing.assert_allclose(found[2], expected, rtol=1e-3)


@functools.partial(jax.jit, static_argnums=0)
def loss_and_gradient_norm(apply_fn, params, image, label):
    loss, gradients = jax.value_and_grad(lambda p: losses(apply_fn, p, image[None], label[None])[0])(params)
    return loss, optax.tree.norm(gradients)


@pytest.mark.parametrize("steps", [1000, pytest.param(0, marks=pytest.mark.slow)])
@each_network
def test_loss_and_gradient_are_those_of_a_plain_loop(apply_fn, steps):
    with jax.enable_x64(True):
        params, images = in_float64(trained(steps, apply_fn)), in_float64(DIGITS[:12])
        labels = apply_fn(params, images).argmax(1)
        pairs = zip(images, labels, strict=True)
        loss, norm = np.array([loss_and_gradient_norm(apply_fn, params, *pair) for pair in pairs]).T
        found = upper_bound_terms(apply_fn, params, images, rho=0.2, iterations=1)
        np.testing.assert_allclose(found[0], loss, rtol=1e-6, atol=1e-12)
        np.testing.assert_allclose(found[1], 0.2 * norm, rtol=1e-6)
        np.testing.assert_allclose(gradient_norm(apply_fn, params, images), norm, rtol=1e-6)
        np.testing.assert_allclose(gradient_norm(apply_fn, params, images, labels), norm, rtol=1e-6)
    single = gradient_norm(apply_fn, trained(steps, apply_fn), jnp.float32(DIGITS[:12]))
    np.testing.assert_allclose(single, norm, rtol=1e-3)  # also where 1 - p is 1e-8


@each_network
def test_expected_gradient_length_is_the_mean_over_the_labels(apply_fn):
    with jax.enable_x64(True):
        params, images = in_float64(trained(1000, apply_fn)), in_float64(DIGITS[95:101])
        probabilities = jax.nn.softmax(apply_fn(params, images))
        norms = [[loss_and_gradient_norm(apply_fn, params, x, jnp.array(y, int))[1] for y in range(10)] for x in images]
        found = expected_gradient_length(apply_fn, params, images)
        np.testing.assert_allclose(found, (probabilities * np.array(norms)).sum(1), rtol=1e-6)


def test_a_linear_model_by_hand():
    """The Hessian is (diag(p) - pp') kron xx': the largest eigenvalue is |x|^2 times that of the first factor."""
    keys = jax.random.split(jax.random.key(0))
    params, images = jax.random.normal(keys[0], (4, 3)), jax.random.normal(keys[1], (6, 4))
    p = np.asarray(jax.nn.softmax(images @ params), np.float64)
    of_p = [np.linalg.eigvalsh(np.diag(row) - np.outer(row, row))[-1] for row in p]
    lengths = np.linalg.norm(images, axis=1)
    loss, gradient, eigenvalue = upper_bound_terms(linear, params, images, rho=0.5)
    np.testing.assert_allclose(loss, -np.log(p.max(1)), rtol=1e-5)
    residual = p - np.eye(3)[p.argmax(1)]
    np.testing.assert_allclose(gradient, 0.5 * lengths * np.linalg.norm(residual, axis=1), rtol=1e-5)
    np.testing.assert_allclose(eigenvalue, 0.125 * lengths**2 * of_p, rtol=1e-5)


def curved(params, images):
    """Logits (-5 |w|^2 + x'w, 0): at label 1 nearly all curvature is negative."""
    return jnp.stack([images @ params - 5 * params @ params, jnp.zeros(images.shape[0])], axis=1)


@pytest.mark.parametrize(("length", "sign"), [(5.0, 1), (1.0, -1)])
def test_the_largest_is_meant_not_the_largest_in_magnitude(length, sign):
    with jax.enable_x64(True):
        images = length * jnp.eye(7)[:1]
        found = upper_bound_terms(curved, jnp.zeros(7), images, jnp.array([1]), rho=1.0)[2][0]
    # At w = 0 and p = 1/2: p (1 - p) xx' - 10 p I, of eigenvalues length^2 / 4 - 5, once, and -5.
    eigenvalues = [length**2 / 4 - 5, -5]
    assert np.sign(eigenvalues[0]) == sign and abs(eigenvalues[0]) < 5
    np.testing.assert_allclose(found, eigenvalues[0] / 2, rtol=1e-9)


def test_a_start_that_exhausts_its_space_adds_no_eigenvalue():
    start = jnp.array([1.0, 0.0, 0.0])  # an eigenvector, exactly
    found = largest_eigenvalue(lambda vector: jnp.array([-3.0, -2.0, 4.0]) * vector, start, 5)
    assert found == -3.0
    np.testing.assert_array_equal(largest_eigenvalue(jnp.zeros_like, start, 5), 0.0)


def test_an_image_without_gradient_has_no_terms():
    def certain(params, images):
        return images @ params + jnp.array([[1e4, 0.0, 0.0]])

    terms = upper_bound_terms(certain, jnp.ones((2, 3)), jnp.ones((2, 2)))
    np.testing.assert_array_equal(terms, np.zeros((3, 2)))
    np.testing.assert_array_equal(gradient_norm(certain, jnp.ones((2, 3)), jnp.ones((2, 2))), [0, 0])
    np.testing.assert_array_equal(expected_gradient_length(certain, jnp.ones((2, 3)), jnp.ones((2, 2))), [0, 0])


def test_a_point_without_gradient_still_has_curvature():
    saddle = lambda params, images: jnp.stack([3 * params[0] ** 2 - params[1] ** 2, 0.0])[None]  # noqa: E731
    _, gradient, eigenvalue = upper_bound_terms(saddle, jnp.zeros(2), jnp.ones((1, 1)), jnp.array([1]), rho=1.0)
    np.testing.assert_allclose([gradient[0], eigenvalue[0]], [0, 1.5], rtol=1e-6)  # half of p 6


@each_network
def test_the_terms_predict_small_steps(apply_fn):
    """To second order the loss after a step along the gradient is below the sum of the terms, and close for small."""
    with jax.enable_x64(True):
        params, images = in_float64(trained(0, apply_fn)), in_float64(DIGITS[:20])
        terms = np.array(upper_bound_terms(apply_fn, params, images, rho=1e-3))
        exact = np.array(max_perturbed_loss(apply_fn, params, images, rho=1e-3, adaptive=False))
    assert (np.abs(exact - terms[0] - terms[1]) < 0.1 * terms[1]).all()
    assert (exact - terms.sum(0) < 1e-3 * terms[2]).all()


@each_network
def test_neither_order_nor_neighbours_matter(apply_fn):
    images, params = jnp.float32(DIGITS[:6]), trained(0, apply_fn)
    together = np.array(upper_bound_terms(apply_fn, params, images))
    alone = np.concatenate([np.array(upper_bound_terms(apply_fn, params, images[i : i + 1])) for i in range(6)], 1)
    np.testing.assert_allclose(alone, together, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(upper_bound_terms(apply_fn, params, images[::-1]), together[:, ::-1], rtol=1e-4)


def test_one_trace_for_all_weights_and_radii():
    chex.clear_trace_counter()
    traced = chex.assert_max_traces(linear, n=4)  # at the door, and within one trace: value, gradient and Hessian
    params = jnp.ones((4, 3))
    for rho in (0.05, 0.1, 0.2):
        upper_bound_terms(traced, params, jnp.ones((5, 4)), rho=rho)
        params = params + 1


def test_half_precision_is_computed_in_single():
    keys = jax.random.split(jax.random.key(0))
    params, images = jax.random.normal(keys[0], (4, 3)), jax.random.normal(keys[1], (6, 4))
    half = params.astype(jnp.bfloat16), images.astype(jnp.bfloat16)
    for score in (upper_bound_terms, gradient_norm, expected_gradient_length):
        found, exact = np.array(score(linear, *half)), np.array(score(linear, params, images))
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, exact, rtol=0.1, atol=0.02)


def test_a_pool_is_swept_for_all_terms():
    def score_fn(params, images):
        return jnp.stack(upper_bound_terms(linear, params, images), axis=-1)

    params, images = jnp.eye(3), np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
    expected = np.stack(upper_bound_terms(linear, params, jnp.asarray(images)), axis=-1)
    np.testing.assert_allclose(score_pool(score_fn, params, images, chunk_size=3), expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(rho=-0.1), "rho is -0.1"),
        (dict(labels=[0, 1]), "int64[2] for 6 images"),
        (dict(labels=jnp.array([0, 1, 2, 3, 0, 0])), "0 to 3, but the model has the classes 0..2"),
        (dict(iterations=0), "iterations is 0"),
        (dict(iterations=2.5), "iterations is 2.5"),
    ],
)
def test_the_door(arguments, message):
    with pytest.raises(InputError) as error:
        upper_bound_terms(linear, jnp.ones((4, 3)), jnp.ones((6, 4)), **arguments)
    assert message in str(error.value)
    if "labels" in arguments:
        with pytest.raises(InputError) as error:
            gradient_norm(linear, jnp.ones((4, 3)), jnp.ones((6, 4)), **arguments)
        assert message in str(error.value)
