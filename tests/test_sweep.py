"""The sweep over the pool: chunks must not show."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from saal_jax import InputError, max_perturbed_loss, score_pool
from saal_jax.models import Weights, small_cnn
from saal_jax.sweep import default_chunk_size, score_available


@pytest.mark.parametrize("chunk_size", [1, 2, 5, 7, 100])
def test_chunk_size_does_not_matter(chunk_size):
    model = small_cnn(10, width=4)
    images = jax.random.normal(jax.random.key(1), (7, 8, 8, 1))
    weights = model.init(jax.random.key(0), images)

    def score_fn(params, images):
        return max_perturbed_loss(lambda p, x: model.apply(weights._replace(params=p), x), params, images)

    scores = score_pool(score_fn, weights.params, np.asarray(images), chunk_size=chunk_size)
    assert scores.shape == (7,) and scores.dtype == np.float32
    np.testing.assert_allclose(scores, score_fn(weights.params, images), rtol=1e-5, atol=1e-6)


def test_compiles_once_for_all_weights_and_pool_sizes():
    score_fn = chex.assert_max_traces(lambda params, chunk: params * chunk.sum(1), n=1)
    chex.clear_trace_counter()
    for size in (5, 9, 13):
        score_pool(score_fn, float(size), np.ones((size, 2)), chunk_size=4)


def test_a_pytree_pool_keeps_its_rows_together():
    pool = {"x": np.arange(10.0, dtype=np.float32), "y": np.arange(10)}
    scores = score_pool(lambda params, chunk: chunk["x"] * params + chunk["y"], 100.0, pool, chunk_size=3)
    np.testing.assert_array_equal(scores, 101 * np.arange(10))


def test_random_scores_depend_on_the_example_not_on_the_chunk():
    def score_fn(params, chunk, keys):
        return jax.vmap(jax.random.uniform)(keys)

    scores = [score_pool(score_fn, (), np.zeros(10), key=jax.random.key(3), chunk_size=size) for size in (3, 10)]
    np.testing.assert_array_equal(*scores)
    assert len(set(scores[0].tolist())) == 10


def test_progress_and_an_empty_pool():
    done = []
    score_pool(lambda params, chunk: chunk, (), np.zeros(10), chunk_size=4, progress=done.append)
    assert done == [4, 8, 10]
    assert score_pool(lambda params, chunk: chunk, (), np.zeros((0, 3)), chunk_size=4).shape == (0,)


@pytest.mark.parametrize(
    ("pool", "score_fn", "message"),
    [
        ((np.ones(5), np.ones(3)), lambda params, chunk: chunk[0], "same leading axis"),
        ([1.0, 2.0], lambda params, chunk: chunk[0], "same leading axis"),
        (np.ones((5, 2)), lambda params, chunk: chunk.sum(), r"gave \(\) for a chunk of 2"),
        (np.ones((5, 3)), lambda params, chunk: chunk.sum(0), r"gave \(3,\) for a chunk of 2"),
    ],
)
def test_one_score_per_example_or_an_error(pool, score_fn, message):
    with pytest.raises(InputError, match=message):
        score_pool(score_fn, (), pool, chunk_size=2)


def test_chunk_size_follows_the_bytes_of_the_weights():
    small, large = {"w": np.zeros(10)}, {"w": np.zeros(2**27, np.uint8)}
    assert default_chunk_size(small) > default_chunk_size(large) == 4  # 1 GiB for two copies of 128 MiB each
    with pytest.raises(InputError, match="chunk_size is 0"):
        score_pool(lambda params, chunk: chunk, (), np.zeros(3), chunk_size=0)


def test_only_the_available_are_scored_and_a_score_that_is_not_finite_names_its_example():
    names = np.array([f"image_{i}" for i in range(6)])
    available = np.array([True, False, True, True, False, True])
    weights = Weights({"w": jnp.ones(())}, {})
    pool = np.array([0.0, np.inf, 1.0, 2.0, np.nan, 3.0], np.float32)
    scores = score_available(lambda weights, chunk: chunk * weights.params["w"], weights, pool, available, names)
    np.testing.assert_array_equal(scores, [0, np.nan, 1, 2, np.nan, 3])
    with pytest.raises(InputError, match="1 of 4 scores are not finite, of examples image_2:"):
        score_available(lambda weights, chunk: jnp.where(chunk == 1, jnp.nan, chunk), weights, pool, available, names)
