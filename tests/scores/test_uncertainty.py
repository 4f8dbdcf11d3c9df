"""Uncertainty: values worked by hand, what must hold for any logits, and another library's opinion."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skactiveml.pool import uncertainty_scores

from saal_jax import InputError
from saal_jax.scores.uncertainty import entropy, least_confidence, margin, mutual_information, variation_ratio

OF_LOGITS = (entropy, least_confidence, margin)
OF_SAMPLES = (variation_ratio, mutual_information)


def logits_of(probabilities):
    return jnp.log(jnp.array(probabilities)) + 5  # a constant changes nothing


def test_worked_by_hand():
    logits = logits_of([[0.5, 0.25, 0.25], [0.8, 0.1, 0.1]])
    expected = [1.5 * np.log(2), -0.8 * np.log(0.8) - 0.2 * np.log(0.1)]
    np.testing.assert_allclose(entropy(logits), expected, rtol=1e-6)
    np.testing.assert_allclose(least_confidence(logits), [0.5, 0.2], rtol=1e-6)
    np.testing.assert_allclose(margin(logits), [-0.25, -0.7], rtol=1e-6)


def test_samples_worked_by_hand():
    samples = logits_of([[[0.9, 0.1], [0.1, 0.9], [0.8, 0.2], [0.8, 0.2]]])
    np.testing.assert_allclose(variation_ratio(samples), [0.25])
    mean = [0.65, 0.35]
    conditional = (2 * entropy(logits_of([[0.9, 0.1]])) + 2 * entropy(logits_of([[0.8, 0.2]]))) / 4
    np.testing.assert_allclose(mutual_information(samples), entropy(logits_of([mean])) - conditional, rtol=1e-5)


def test_like_scikit_activeml():
    probabilities = np.random.default_rng(0).dirichlet(np.ones(5), 50)
    for score, method in ((entropy, "entropy"), (least_confidence, "least_confident"), (margin, "margin_sampling")):
        expected = uncertainty_scores(probabilities, method=method)
        found = np.asarray(score(logits_of(probabilities)))
        np.testing.assert_allclose(found - found.mean(), expected - expected.mean(), atol=1e-6)  # up to a constant


@given(st.lists(st.floats(-1e4, 1e4, width=32), min_size=12, max_size=12))
def test_within_bounds_and_whatever_the_order_of_the_classes(values):
    logits = jnp.array(values).reshape(4, 3)
    for score, low, high in ((entropy, 0, np.log(3)), (least_confidence, 0, 2 / 3), (margin, -1, 0)):
        score = jax.jit(score)
        found = score(logits)
        assert (found >= low - 1e-6).all() and (found <= high + 1e-6).all()
        np.testing.assert_allclose(score(logits[:, ::-1]), found, atol=1e-6)
    samples, information, ratio = logits[None], jax.jit(mutual_information), jax.jit(variation_ratio)
    assert 0 <= information(samples)[0] <= np.log(3) + 1e-6
    assert 0 <= ratio(samples)[0] <= 0.75
    same = jnp.tile(logits[:, None], (1, 5, 1))
    np.testing.assert_allclose(information(same), 0, atol=1e-6)
    np.testing.assert_array_equal(ratio(same), 0)


def test_far_apart_logits_keep_their_order():
    """Where 1 - p is lost in rounding: p is 1 in float32 for both."""
    logits = jnp.array([[20.0, 0.0], [30.0, 0.0]])
    for score in (entropy, least_confidence):
        first, second = score(logits)
        assert first > second > 0
    assert jnp.isfinite(entropy(jnp.array([[0.0, -jnp.inf]]))).all()


@pytest.mark.parametrize("score", OF_LOGITS + OF_SAMPLES)
def test_one_class_is_certain(score):
    logits = jnp.ones((3, 1)) if score in OF_LOGITS else jnp.ones((3, 4, 1))
    np.testing.assert_array_equal(score(logits), -1 if score is margin else 0)


@pytest.mark.parametrize("score", OF_LOGITS + OF_SAMPLES)
def test_what_does_not_fit_is_one_line(score):
    for logits in (jnp.ones(3), jnp.ones((2, 3, 4, 5)), jnp.ones((2, 3) if score in OF_SAMPLES else (2, 3, 4))):
        with pytest.raises(InputError, match="logits have the shape"):
            score(logits)
    with jax.enable_x64(True):
        double = jnp.ones((2, 3, 4)[: 2 + (score in OF_SAMPLES)], jnp.float64)
        assert score(double).dtype == jnp.float64
