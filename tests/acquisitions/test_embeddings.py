"""Methods that look at where the examples lie: core-set, BADGE, SAAL on embeddings, SSLPM."""

import jax
import jax.numpy as jnp
import numpy as np

from saal_jax.acquisitions import ACQUISITIONS
from saal_jax.acquisitions.sslpm import first_of_each
from saal_jax.keys import named
from saal_jax.models import Weights
from saal_jax.scores import max_perturbed_loss
from saal_jax.select.selectors import kmeans_plusplus
from saal_jax.tasks.classification import classification

ROWS = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)


def linear(weights, images):
    return images @ weights.params


WEIGHTS = Weights(jax.random.normal(jax.random.key(0), (4, 3)), {})


def test_core_set_measures_from_the_labelled(query_of, rows_as_features):
    acquire = ACQUISITIONS["core_set"](rows_as_features)
    line = np.array([0, 1, 2, 10, 14, 20.0])[:, None]
    assert acquire(query_of(line, labelled=[0], k=3)).selection.indices.tolist() == [5, 3, 4]
    assert acquire(query_of(line, labelled=[0, 5], k=2)).selection.indices.tolist() == [3, 4]


def test_core_set_prefers_the_users_embeddings(query_of):
    def features(weights, images):
        raise AssertionError("no forward pass is needed")

    query = query_of(ROWS, labelled=[0], k=1, embeddings=np.arange(30.0)[:, None])
    assert ACQUISITIONS["core_set"](features)(query).selection.indices.tolist() == [29]


def test_badge_is_kmeans_plusplus_on_gradients(query_of, rows_as_features):
    """The embeddings as the paper defines them: derivatives of the loss by the last layer."""
    query = query_of(ROWS, labelled=[3, 4], k=6, weights=WEIGHTS)

    def loss(kernel, row):
        logits = row @ kernel
        return -jax.nn.log_softmax(logits)[jnp.argmax(logits)]

    gradients = jax.vmap(jax.grad(loss), (None, 0))(WEIGHTS.params, ROWS).reshape(30, -1)
    acquired = ACQUISITIONS["badge"](linear, rows_as_features)(query)
    expected = kmeans_plusplus(named(query.key, "selection"), gradients, query.pool.ids, query.available, 6)
    np.testing.assert_array_equal(acquired.selection.indices, expected.indices)
    norms = np.where(query.available, np.linalg.norm(gradients, axis=1), np.nan)
    np.testing.assert_allclose(acquired.scores, norms, rtol=1e-5)
    assert acquired.selection.indices[0] == np.nanargmax(norms)


def test_saal_embeddings_weighs_distances_by_the_score(query_of, rows_as_features):
    query = query_of(ROWS, labelled=[3, 4], k=6, weights=WEIGHTS)
    acquired = ACQUISITIONS["saal_embeddings"](linear, rows_as_features, classification(2), rho=0.1)(query)
    scores = max_perturbed_loss(lambda params, images: images @ params, WEIGHTS.params, ROWS, rho=0.1)
    np.testing.assert_allclose(acquired.scores[query.available], scores[query.available], rtol=1e-5)
    expected = kmeans_plusplus(named(query.key, "selection"), ROWS, query.pool.ids, query.available, 6, scores)
    np.testing.assert_array_equal(acquired.selection.indices, expected.indices)
    assert acquired.selection.indices[0] == np.nanargmax(acquired.scores)


def test_sslpm_takes_the_largest_loss_of_each_cluster(query_of):
    """Columns: a place, and the loss that is predicted there."""
    rows = np.array([[0, 1], [0.2, 3], [0.3, 2], [9, 5], [9.1, 4], [30, 0.5], [60, 0.1]])
    offers = (lambda weights, images: images[:, 1]), (lambda weights, images: images[:, :1])
    assert ACQUISITIONS["sslpm"](*offers)(query_of(rows, k=3)).selection.indices.tolist() == [3, 5, 6]
    few = ACQUISITIONS["sslpm"](*offers, candidates=5)  # the first five rows
    assert few(query_of(rows, k=3)).selection.indices.tolist() == [3, 1, 0]
    assert few(query_of(rows, k=7)).selection.indices.tolist() == [3, 4, 1, 2, 0, 5, 6]


def test_complete_linkage_by_brute_force():
    places, clusters = ROWS[:12], [[row] for row in range(12)]

    def apart(one, other):
        return np.linalg.norm(places[one][:, None] - places[other][None], axis=2).max()

    while len(clusters) > 4:
        pairs = [(apart(a, b), i, j) for i, a in enumerate(clusters) for j, b in enumerate(clusters) if i < j]
        _, i, j = min(pairs)
        clusters[i] += clusters.pop(j)
    assert first_of_each(places, 4).tolist() == sorted(min(cluster) for cluster in clusters)
