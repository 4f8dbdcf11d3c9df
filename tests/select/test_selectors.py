"""The selector contract, over all selectors, and what each one is for."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skactiveml.pool import CoreSet

from saal_jax import InputError, kmeans_plusplus, random_k, top_k
from saal_jax.select.distances import nearest_of
from saal_jax.select.selectors import gradient_kmeans_plusplus, k_center


def plane(scores):
    return jnp.stack([scores, scores**2, -scores], 1)


def not_any(available):
    return np.zeros(len(available), bool)


SELECTORS = {
    "top_k": top_k,
    "kmeans_plusplus": kmeans_plusplus,
    "kmeans_plusplus on embeddings": lambda key, scores, *rest: kmeans_plusplus(key, plane(scores), *rest),
    "weighted kmeans_plusplus": lambda key, scores, *rest: kmeans_plusplus(key, scores, *rest, jnp.abs(scores)),
    "gradient_kmeans_plusplus": lambda key, scores, *rest: gradient_kmeans_plusplus(
        key, jnp.stack([scores, -scores], 1), plane(scores), *rest
    ),
    "k_center": lambda key, scores, ids, available, k: k_center(
        key, plane(scores), ids, available, not_any(available), k
    ),
    "k_center with labelled": lambda key, scores, ids, available, k: k_center(
        key, scores, ids, available, ~available, k
    ),
    "random": lambda key, scores, *rest: random_k(key, *rest),
}
SIZE = 12  # one shape, so that one compilation serves all examples
scores_with_ties = st.lists(st.sampled_from([0.0, -1.0, 1.0, 1.0, 2.5, 1e-30, 1e30]), min_size=SIZE, max_size=SIZE)
masks = st.lists(st.booleans(), min_size=SIZE, max_size=SIZE)


@pytest.mark.parametrize("select", [SELECTORS[name] for name in ("random", "weighted kmeans_plusplus")])
@pytest.mark.parametrize("impl", ["rbg", "unsafe_rbg"])
def test_the_order_of_the_pool_does_not_matter_whatever_the_generator(select, impl):
    """What these generators draw for one example depends on its neighbours."""
    key, ids, available = jax.random.key(3, impl=impl), np.arange(100, 100 + SIZE), np.ones(SIZE, bool)
    scores = np.array([1.0, 1.0, 2.0] * (SIZE // 3), np.float32)
    order = np.random.default_rng(0).permutation(SIZE)
    chosen = ids[np.asarray(select(key, jnp.asarray(scores), ids, available, 5).indices)]
    moved = ids[order][np.asarray(select(key, jnp.asarray(scores[order]), ids[order], available, 5).indices)]
    np.testing.assert_array_equal(chosen, moved)
    other = jax.random.key(4, impl=impl)
    assert any(
        ids[np.asarray(select(jax.random.fold_in(other, i), jnp.asarray(scores), ids, available, 5).indices)].tolist()
        != chosen.tolist()
        for i in range(5)
    )


def test_raw_keys_and_what_is_no_key():
    ids, available = np.arange(20), np.ones(20, bool)
    typed, raw = (random_k(key, ids, available, 5).indices for key in (jax.random.key(3), jax.random.PRNGKey(3)))
    np.testing.assert_array_equal(typed, raw)
    with pytest.raises(InputError, match="key is int: pass a key of JAX"):
        random_k(3, ids, available, 5)


@pytest.mark.parametrize("select", SELECTORS.values(), ids=SELECTORS)
@pytest.mark.parametrize("k", [pytest.param(1, marks=pytest.mark.slow), 5, SIZE + 3])
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
        with pytest.raises(InputError, match="ids, available have the shapes"):
            select(jax.random.key(0), *arguments)


def test_names_are_no_ids():
    with pytest.raises(InputError, match="ids are of dtype <U1: pass a whole number per example"):
        top_k(jax.random.key(0), np.ones(3), np.array(list("abc")), np.ones(3, bool), 1)
    assert top_k(jax.random.key(0), [1.0, 2.0], [0, 1], [True, True], 1).indices.tolist() == [1]


def test_negative_weights_are_refused():
    with pytest.raises(InputError, match="sample_weight goes down to -1"):
        kmeans_plusplus(jax.random.key(0), np.ones(3), np.arange(3), np.ones(3, bool), 1, np.array([1.0, -1.0, 0.0]))


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


def test_weighted_kmeans_plusplus_draws_like_scikit_learn():
    """The second example given the first: by hand in proportion to weight x D^2, and beside `sample_weight`."""
    cluster = pytest.importorskip("sklearn.cluster")
    points = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0], [3.0, 1.0], [0.0, 0.0]], np.float32)
    weights = np.array([5.0, 2.0, 1.0, 0.3, 4.0])
    mass = weights * np.square(points - points[0]).sum(1)
    ours, theirs = np.zeros(5), np.zeros(5)
    for seed in range(1000):
        chosen = kmeans_plusplus(jax.random.key(seed), points, np.arange(5), np.ones(5, bool), 2, weights).indices
        assert chosen[0] == 0
        ours[chosen[1]] += 1
        _, (first, second) = cluster.kmeans_plusplus(
            points, 2, sample_weight=weights, random_state=seed, n_local_trials=1
        )
        theirs[second] += first in (0, 4)  # the same place
    expected = mass / mass.sum()
    assert (abs(ours / 1000 - expected) <= 5 * np.sqrt(expected / 1000)).all()
    assert (abs(theirs / theirs.sum() - expected) <= 5 * np.sqrt(expected / theirs.sum())).all()


def test_equal_weights_change_nothing_but_the_first():
    points = np.random.default_rng(0).normal(size=(20, 2))
    points[3] *= 100
    weights = np.full(20, 1e-35)
    weights[3] = 2e-35
    for seed in range(5):
        arguments = jax.random.key(seed), points, np.arange(20), np.ones(20, bool), 8
        np.testing.assert_array_equal(kmeans_plusplus(*arguments, weights).indices, kmeans_plusplus(*arguments).indices)


def test_gradient_kmeans_plusplus_is_kmeans_plusplus_on_the_outer_products():
    generator = np.random.default_rng(0)
    features = generator.normal(size=(40, 7)).astype(np.float32)
    probabilities = np.asarray(jax.nn.softmax(3 * generator.normal(size=(40, 5)).astype(np.float32)))
    residuals = probabilities - np.eye(5, dtype=np.float32)[probabilities.argmax(1)]
    outer = (residuals[:, :, None] * features[:, None]).reshape(40, 35)
    available = np.arange(40) % 5 != 0
    for seed in range(20):
        arguments = jax.random.key(seed), np.arange(40), available, 12
        expected = kmeans_plusplus(arguments[0], outer, *arguments[1:]).indices
        found = gradient_kmeans_plusplus(arguments[0], residuals, features, *arguments[1:]).indices
        np.testing.assert_array_equal(found, expected)


def test_an_equal_of_a_chosen_gradient_is_never_drawn():
    generator = np.random.default_rng(0)
    features = 100 + generator.normal(size=(6, 33)).astype(np.float32) / 100  # where |x|^2 + |y|^2 - 2 x.y is noise
    residuals = generator.normal(size=(6, 5)).astype(np.float32)
    twice = np.tile(np.arange(6), 20)
    for seed in range(50):
        chosen = gradient_kmeans_plusplus(
            jax.random.key(seed), residuals[twice], features[twice], np.arange(120), np.ones(120, bool), 6
        ).indices
        assert sorted(twice[np.asarray(chosen)].tolist()) == [0, 1, 2, 3, 4, 5]


@given(seed=st.integers(0, 99), mask=masks, known=masks)
def test_k_center_takes_the_farthest(seed, mask, known):
    points = np.random.default_rng(seed).normal(size=(SIZE, 3)).astype(np.float32)
    labelled, available = np.array(known), np.array(mask) & ~np.array(known)
    indices, count = k_center(jax.random.key(seed), points, np.arange(SIZE), available, labelled, 5)
    distances = np.linalg.norm(points[:, None].astype(float) - points[None], axis=2)
    centres = np.flatnonzero(labelled).tolist()
    for chosen in np.asarray(indices)[: int(count)].tolist():
        if centres:
            assert chosen == np.where(available, distances[:, centres].min(1), -1).argmax()
        centres.append(chosen)
        available[chosen] = False


def test_k_center_chooses_like_scikit_activeml():
    points = np.random.default_rng(0).normal(size=(60, 4))
    labels = np.where(np.arange(60) < 7, 0.0, np.nan)
    expected = CoreSet(random_state=0).query(points, labels, batch_size=15)
    found = k_center(jax.random.key(0), points, np.arange(60), np.isnan(labels), ~np.isnan(labels), 15).indices
    np.testing.assert_array_equal(found, expected)


def test_k_center_begins_anywhere():
    first = {
        int(k_center(jax.random.key(seed), np.arange(4.0), range(4), np.ones(4), np.zeros(4), 1).indices[0])
        for seed in range(50)
    }
    assert first == {0, 1, 2, 3}


def test_nearest_of_needs_several_blocks_and_one_program():
    points = jnp.asarray(np.random.default_rng(0).normal(size=(300, 3)), jnp.float32)
    nearest = jax.jit(nearest_of)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("saal_jax.select.distances._HELD", 300 * 16)
        for count in (0, 1, 16, 50, 300):
            mask = np.random.default_rng(count).permutation(300) < count
            squared = np.square(np.asarray(points)[:, None] - np.asarray(points)[None]).sum(2)
            expected = np.where(mask[None], squared, np.inf).argmin(1) if count else np.zeros(300)
            np.testing.assert_array_equal(nearest(points, mask), expected)
        assert nearest._cache_size() == 1


@pytest.mark.slow
def test_gradient_kmeans_plusplus_of_a_million_in_less_than_a_gigabyte():
    """Beside the features, 2 GB; in a process of its own, whose peak is the operating system's."""
    program = """
import resource, jax, jax.numpy as jnp, numpy as np
from saal_jax.select.selectors import gradient_kmeans_plusplus
def wave(columns, rate):
    return jnp.sin(jnp.arange(1_000_000)[:, None] * jnp.arange(1.0, columns + 1)[None] * rate)
features = jax.jit(wave, static_argnums=0)(512, 0.37).block_until_ready()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
ids, available = np.arange(1_000_000, dtype=np.uint32), np.ones(1_000_000, bool)
chosen = gradient_kmeans_plusplus(jax.random.key(0), wave(10, 0.7), features, ids, available, 100).indices
assert len(set(chosen.tolist())) == 100
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**20)
"""
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert float(found.stdout) < 1
