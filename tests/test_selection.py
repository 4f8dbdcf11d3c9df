"""The selector contract, over all selectors, and what each one is for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saal_jax import InputError, kmeans_plusplus, random, top_k

SELECTORS = {
    "top_k": top_k,
    "kmeans_plusplus": kmeans_plusplus,
    "kmeans_plusplus on embeddings": lambda key, scores, *rest: kmeans_plusplus(
        key, jnp.stack([scores, scores**2, -scores], 1), *rest
    ),
    "random": lambda key, scores, *rest: random(key, *rest),
}
SIZE = 12  # one shape, so that one compilation serves all examples
scores_with_ties = st.lists(st.sampled_from([0.0, -1.0, 1.0, 1.0, 2.5, 1e-30, 1e30]), min_size=SIZE, max_size=SIZE)
masks = st.lists(st.booleans(), min_size=SIZE, max_size=SIZE)


@pytest.mark.parametrize("select", SELECTORS.values(), ids=SELECTORS)
@pytest.mark.parametrize("k", [1, 5, SIZE, SIZE + 3])
@settings(max_examples=30, deadline=None)
@given(scores=scores_with_ties, mask=masks, seed=st.integers(0, 99))
def test_contract(select, k, scores, mask, seed):
    key, available = jax.random.key(seed), np.array(mask)
    scores, ids = np.array(scores, np.float32), np.arange(100, 100 + SIZE, dtype=np.uint32)
    indices, count = select(key, jnp.asarray(scores), ids, available, k)
    assert indices.shape == (k,) and indices.dtype == jnp.int32
    assert count == min(k, available.sum())
    chosen = np.asarray(indices)[: int(count)]
    assert len(set(chosen.tolist())) == count
    assert available[chosen].all()
    assert (np.asarray(indices)[int(count) :] == -1).all()

    again, _ = select(key, jnp.asarray(scores), ids, available, k)
    np.testing.assert_array_equal(again, indices)
    order = np.random.default_rng(seed).permutation(SIZE)  # another order of the pool: the same examples are chosen
    moved, _ = select(key, jnp.asarray(scores[order]), ids[order], available[order], k)
    np.testing.assert_array_equal(ids[order][np.asarray(moved)[: int(count)]], ids[chosen])


@given(scores=scores_with_ties, mask=masks)
@settings(max_examples=30, deadline=None)
def test_top_k_takes_the_largest(scores, mask):
    scores, available = np.array(scores, np.float32), np.array(mask)
    indices, count = top_k(jax.random.key(0), jnp.asarray(scores), np.arange(SIZE), available, 5)
    expected = np.sort(scores[available])[::-1][:5]
    np.testing.assert_array_equal(scores[np.asarray(indices)[: int(count)]], expected)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint32, np.int32, np.float16, bool])
def test_top_k_of_any_type(dtype):
    scores = np.array([3, 9, 0, 1]).astype(dtype)
    if np.issubdtype(dtype, np.signedinteger):
        scores[2] = np.iinfo(dtype).min
    indices = top_k(jax.random.key(0), scores, [7, 8, 9, 10], [1, 1, 1, 1], 4).indices
    assert (np.diff(scores[np.asarray(indices)].astype(float)) <= 0).all()


@pytest.mark.parametrize("select", SELECTORS.values(), ids=SELECTORS)
def test_nothing_to_choose(select):
    key, scores, ids = jax.random.key(0), jnp.arange(3.0), np.arange(3)
    assert select(key, scores, ids, np.ones(3, bool), 0).indices.shape == (0,)
    assert select(key, scores, ids, np.zeros(3, bool), 2).indices.tolist() == [-1, -1]
    assert select(key, scores[:0], ids[:0], np.ones(0, bool), 2).indices.tolist() == [-1, -1]


def test_not_a_number_outside_the_available_does_not_matter():
    scores = jnp.array([jnp.nan, 1.0, 2.0, jnp.nan, 0.5])
    available = np.array([False, True, True, False, True])
    for select in (top_k, kmeans_plusplus):
        indices, count = select(jax.random.key(0), scores, np.arange(5), available, 5)
        assert count == 3 and set(np.asarray(indices)[:3].tolist()) == {1, 2, 4}
        assert indices[0] == 2


def test_not_a_number_comes_last_and_infinity_first():
    scores = jnp.array([-jnp.inf, jnp.nan, 1.0, jnp.inf])
    for seed in range(8):
        assert top_k(jax.random.key(seed), scores, np.arange(4), np.ones(4, bool), 4).indices.tolist() == [3, 2, 0, 1]
        assert kmeans_plusplus(jax.random.key(seed), scores[1:], np.arange(3), np.ones(3, bool), 1).indices[0] == 2


@pytest.mark.parametrize(
    "arguments", [(np.ones(3), np.arange(2), np.ones(3, bool), 1), (np.ones(3), np.arange(3), np.ones(3, bool), -1)]
)
def test_what_does_not_fit_is_one_line(arguments):
    for select in (top_k, kmeans_plusplus):
        with pytest.raises(InputError, match="scores, ids and available have shapes"):
            select(jax.random.key(0), *arguments)


def test_equal_scores_are_drawn_uniformly():
    counts = np.zeros(6)
    for seed in range(600):
        counts[np.asarray(top_k(jax.random.key(seed), jnp.ones(6), np.arange(6), np.ones(6, bool), 2).indices)] += 1
    assert (abs(counts - 200) < 5 * np.sqrt(200 * 2 / 3)).all()  # five standard deviations


def test_kmeans_plusplus_draws_by_squared_distance():
    scores = jnp.array([10.0, 9.0, 7.0, 10.0])  # after 0 or 3: distances 0, 1, 3, 0
    counts = np.zeros(4)
    for seed in range(1000):
        first, second = kmeans_plusplus(jax.random.key(seed), scores, np.arange(4), np.ones(4, bool), 2).indices
        assert first in (0, 3)
        counts[second] += 1
    assert counts[0] == counts[3] == 0
    assert abs(counts[2] - 900) < 5 * np.sqrt(1000 * 0.9 * 0.1)


def test_kmeans_plusplus_starts_at_the_largest_norm():
    embeddings = jnp.array([[1.0, 1.0], [-3.0, 0.5], [2.0, 2.0]])
    assert kmeans_plusplus(jax.random.key(0), embeddings, np.arange(3), np.ones(3, bool), 1).indices[0] == 1
    assert (
        kmeans_plusplus(jax.random.key(0), jnp.array([1.0, -4.0, 2.0]), np.arange(3), np.ones(3, bool), 1).indices[0]
        == 1
    )


def test_kmeans_plusplus_is_uniform_where_no_distance_is_left():
    counts = np.zeros(4)
    for seed in range(800):
        counts[
            np.asarray(kmeans_plusplus(jax.random.key(seed), jnp.ones(4), np.arange(4), np.ones(4, bool), 2).indices[1])
        ] += 1
    assert (abs(counts - 200) < 5 * np.sqrt(200 * 3 / 4)).all()


def test_kmeans_plusplus_spreads_like_scikit_learn():
    """Mean squared distance to the nearest chosen point, over many draws, beside scikit-learn's seeding."""
    cluster = pytest.importorskip("sklearn.cluster")
    points = np.random.default_rng(0).normal(size=(60, 2)).astype(np.float32)

    def cost(centres):
        return np.square(points[:, None] - centres[None]).sum(2).min(1).mean()

    arguments = jnp.asarray(points), np.arange(60), np.ones(60, bool), 6
    ours = [cost(points[np.asarray(kmeans_plusplus(jax.random.key(seed), *arguments).indices)]) for seed in range(200)]
    theirs = [cost(cluster.kmeans_plusplus(points, 6, random_state=seed, n_local_trials=1)[0]) for seed in range(200)]
    spread = np.sqrt((np.var(ours) + np.var(theirs)) / 200)
    assert abs(np.mean(ours) - np.mean(theirs)) < 5 * spread + 0.1 * np.mean(theirs)  # our first centre is the farthest
