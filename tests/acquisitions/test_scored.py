"""Methods that score each example for itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from saal_jax import kmeans_plusplus
from saal_jax.acquisitions import ACQUISITIONS
from saal_jax.acquisitions.st_conal import disagreement
from saal_jax.tasks.classification import classification

PROBABILITIES = np.array([[0.9, 0.05, 0.05], [0.5, 0.5, 0.0], [0.4, 0.3, 0.3], [0.6, 0.2, 0.2]])


def rows_as_logits(weights, images):
    return jnp.log(images)


@pytest.mark.parametrize(
    ("name", "expected"), [("entropy", [2, 3, 1, 0]), ("least_confidence", [2, 1, 3, 0]), ("margin", [1, 2, 3, 0])]
)
def test_the_most_uncertain_first(name, expected, query_of):
    acquired = ACQUISITIONS[name](rows_as_logits, classification(4))(query_of(PROBABILITIES, k=4))
    assert acquired.selection.indices.tolist() == expected
    assert (np.diff(acquired.scores[expected]) < 0).all()


def test_least_confidence_may_be_spread(query_of):
    query = query_of(PROBABILITIES, k=3)
    acquired = ACQUISITIONS["least_confidence"](rows_as_logits, classification(4), select="kmeans_plusplus")(query)
    expected = kmeans_plusplus(query.key, acquired.scores, query.pool.ids, query.available, 3)
    np.testing.assert_array_equal(acquired.selection.indices, expected.indices)


@pytest.mark.parametrize("name", ["bald", "variation_ratio"])
def test_samples_are_drawn_for_each_example_by_its_id(name, query_of):
    """Rows are how much the samples of an example differ; the same example gets the same score wherever it is."""

    def sample_logits(weights, images, keys, samples):
        noise = jax.vmap(lambda key: jax.random.normal(key, (samples, 3)))(keys)
        return 3 * jnp.eye(3)[:1][None] + images[:, :, None] * noise

    acquire = ACQUISITIONS[name](sample_logits, samples=50)
    rows = np.array([0, 0.5, 5, 1.5])[:, None]
    query = query_of(rows, k=4)
    acquired = acquire(query)
    assert acquired.selection.indices[0] == 2
    assert abs(acquired.scores[0]) < 1e-6
    order = np.array([2, 0, 3, 1])
    moved = query._replace(pool=query.pool._replace(images=query.pool.images[order], ids=query.pool.ids[order]))
    np.testing.assert_allclose(acquire(moved).scores, acquired.scores[order], atol=1e-6)
    other = acquire(query_of(rows, k=4, key=1)).scores
    assert (other != acquired.scores).any()


def test_ll4al_takes_the_largest_predicted_loss(query_of):
    acquire = ACQUISITIONS["ll4al"](lambda weights, images: images[:, 0])
    acquired = acquire(query_of([[1.0], [3.0], [2.0], [9.0]], labelled=[3], k=2))
    assert acquired.selection.indices.tolist() == [1, 2]
    np.testing.assert_array_equal(acquired.scores, [1, 3, 2, np.nan])


def test_disagreement_worked_by_hand():
    """q is proportional to p^2 at temperature 1/2: 0.8, 0.2 become 16/17, 1/17."""
    teacher = jnp.log(jnp.array([[0.8, 0.2]]))
    students = jnp.log(jnp.array([[[0.8, 0.2], [0.5, 0.5]]]))
    q = np.array([16 / 17, 1 / 17])
    expected = np.mean([np.sum(q * np.log(q / p)) for p in ([0.8, 0.2], [0.5, 0.5])])
    np.testing.assert_allclose(disagreement(teacher, students, 0.5), [expected], rtol=1e-5)
    np.testing.assert_allclose(disagreement(teacher, teacher[:, None], 1.0), [0], atol=1e-6)


def test_disagreement_where_probabilities_vanish():
    certain = jnp.array([[1000.0, 0.0]])
    found = disagreement(certain, -certain[:, None], 0.7)
    np.testing.assert_allclose(found, [-np.log(1e-14)], rtol=1e-5)
    np.testing.assert_allclose(disagreement(jnp.array([[0.0, -jnp.inf]]), jnp.array([[[0.0, -jnp.inf]]]), 0.7), [0])


def test_st_conal_chooses_where_students_differ(query_of):
    """A row is how far the second student is from the others."""
    teacher = lambda weights, images: jnp.tile(jnp.array([[1.0, 0.0]]), (len(images), 1))  # noqa: E731
    students = lambda weights, images: teacher(weights, images)[:, None] - images[:, :, None] * jnp.eye(2)[None]  # noqa: E731
    acquired = ACQUISITIONS["st_conal"](teacher, students, classification(2), temperature=1.0)(
        query_of([[0.0], [4.0], [2.0]], k=3)
    )
    assert acquired.selection.indices.tolist() == [1, 2, 0]
