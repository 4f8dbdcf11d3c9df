"""Gradient norm and the measured bound, beside what they are made of."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import pearsonr

from saal_jax import expected_gradient_length, gradient_norm, max_perturbed_loss, upper_bound_terms
from saal_jax.acquisitions import ACQUISITIONS
from saal_jax.engine.sweep import score_available
from saal_jax.loop import answers_for
from saal_jax.models import Weights
from saal_jax.pool import Pool, Query
from saal_jax.tasks.classification import classification

IMAGES = jnp.asarray(np.random.default_rng(0).integers(0, 256, (30, 3, 3, 1)), jnp.uint8)
POOL = Pool(IMAGES, np.arange(30, dtype=np.uint32), np.arange(30).astype(str))
WEIGHTS = Weights({"kernel": jax.random.normal(jax.random.key(0), (9, 4))}, {})
AVAILABLE = np.arange(30) % 5 != 0


def apply(weights, images):
    return images.reshape(len(images), -1) / 255.0 @ weights.params["kernel"]


def apply_fn(params, images):
    return apply(WEIGHTS._replace(params=params), images)


@cache
def made(name, **options):
    return ACQUISITIONS[name](apply, classification(4), **options)


def ask(name, pool=POOL, **options):
    sweep = partial(score_available, names=pool.names)
    query = Query(jax.random.key(7), pool, ~AVAILABLE, AVAILABLE, 6, WEIGHTS, sweep)
    acquire = made(name, **options)
    return acquire(query, **answers_for(acquire, lambda indices: indices % 4))


@pytest.mark.parametrize(("labels", "score"), [("pseudo", gradient_norm), ("expected", expected_gradient_length)])
def test_the_largest_gradients_are_picked(labels, score):
    expected = np.where(AVAILABLE, score(apply_fn, WEIGHTS.params, IMAGES), np.nan)
    acquired = ask("gradient_norm", labels=labels)
    np.testing.assert_allclose(acquired.scores, expected, rtol=1e-5)
    assert acquired.selection.indices.tolist() == np.argsort(np.nan_to_num(-expected))[:6].tolist()


OTHER = {"mode": "diff", "labels": "true", "adaptive": False, "rho": 0.2}


@pytest.mark.parametrize(
    ("sample", "options"),
    [(5, {}), (1000, OTHER), *(pytest.param(*case, marks=pytest.mark.slow) for case in [(5, OTHER), (1000, {})])],
)
def test_measuring_the_bound_changes_no_choice(options, sample):
    plain, measured = ask("saal", **options), ask("saal_bound", sample=sample, **options)
    np.testing.assert_array_equal(measured.selection.indices, plain.selection.indices)
    np.testing.assert_array_equal(measured.scores, plain.scores)


def test_means_and_correlations_of_terms_and_scores():
    told = ask("saal_bound", rho=0.1).metrics
    terms = upper_bound_terms(apply_fn, WEIGHTS.params, IMAGES[AVAILABLE], rho=0.1)
    score = partial(max_perturbed_loss, apply_fn, WEIGHTS.params, IMAGES[AVAILABLE], rho=0.1)
    columns = dict(zip(("loss", "gradient", "eigenvalue"), terms, strict=True))
    scores = {"adaptive": score(), "plain": score(adaptive=False)}
    expected = {f"mean_{name}": np.mean(values) for name, values in {**columns, **scores}.items()}
    for term, values in columns.items():
        expected |= {f"correlation_{term}_{form}": pearsonr(values, scores[form])[0] for form in scores}
    assert told.keys() == expected.keys()
    np.testing.assert_allclose([told[name] for name in expected], list(expected.values()), rtol=1e-4)


def test_a_sample_is_drawn_from_the_candidates():
    of_few, of_all = ask("saal_bound", sample=5).metrics, ask("saal_bound").metrics
    assert of_few == ask("saal_bound", sample=5).metrics
    assert of_few["mean_loss"] != of_all["mean_loss"]


def test_the_sample_has_nothing_to_do_with_the_second_pick():
    """Of equal scores the second pick of k-means++ is a random one, and in the sample as often as any other."""
    masks, everything = [], np.ones(30, bool)

    def sweep(score_fn, weights, arrays, mask, most=None, precision=None):
        masks.append(mask)
        return np.ones((30, 5) if most else 30, np.float32)

    def second_is_in_the_sample(seed):
        query = Query(jax.random.key(seed), POOL, ~everything, everything, 2, WEIGHTS, sweep)
        acquired = ACQUISITIONS["saal_bound"](apply, classification(4), sample=10)(query)
        return masks[-1][acquired.selection.indices[1]]

    assert 6 <= sum(map(second_is_in_the_sample, range(60))) <= 34  # 20 expected, within 4 standard deviations


def test_what_is_constant_has_no_correlation():
    told = ask("saal_bound", POOL._replace(images=jnp.full_like(IMAGES, 100))).metrics
    assert all(np.isnan(value) == name.startswith("correlation") for name, value in told.items())
